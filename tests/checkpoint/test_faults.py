"""Every system call of a save fails once, and once the process dies there: a good checkpoint is always left."""

import errno
import io
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_generator

from gancli.checkpoint import format as checkpoint
from gancli.training import checkpoint_manager
from gancli.training.checkpoint_manager import CheckpointManager

CALLS = ("open", "fsync", "link", "replace", "mkdir")  # of os; io.open and a file's write are wrapped below
CONFIG = {"_target_": "gancli.networks.mlp.Generator"}
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a child process")


def state(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 5), float(step))}


def save(folder: Path, step: int) -> None:
    names = {"previous": "previous.safetensors", "numbered": f"step-{step:07d}.safetensors"}
    write_generator(folder / "last.safetensors", CONFIG, state(step), names, step=step)


def content(step: int, folder: Path) -> dict[str, Any]:
    return checkpoint.read(write_generator(folder / "a" / "content.safetensors", CONFIG, state(step), step=step))


def step_of(folder: Path, name: str = "last") -> int:
    return checkpoint.read(folder / f"{name}.safetensors")["step"]


def check_all(folder: Path) -> None:
    """Assert that every file with a final name can be read, and that last is the first or the second save."""
    for file in folder.glob("[!.]*.safetensors"):
        checkpoint.read(file)
    assert step_of(folder) in (1, 2)


class ReportingFile:
    """A file that reports its writes."""

    def __init__(self, file: Any, report: Callable[[str], None]):
        self.file, self.report = file, report

    def write(self, data: Any) -> int:
        self.report("write")
        return self.file.write(data)

    def __enter__(self) -> "ReportingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Faults:
    """Counts system calls and calls `strike` at the call number `at`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, strike: Callable[[str], object]):
        self.count, self.at, self.strike = 0, at, strike
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        opened = io.open
        monkeypatch.setattr(
            io, "open", lambda *a, **k: (self.report("open"), ReportingFile(opened(*a, **k), self.report))[1]
        )

    def report(self, name: str) -> None:
        self.count += 1
        if self.count == self.at:
            self.strike(name)

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *a, **k: (self.report(name), call(*a, **k))[1]


def number_of_calls(folder: Path) -> int:
    save(folder, 1)
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, 0, print)
        save(folder, 2)
    assert faults.count > 10
    return faults.count


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_whichever_call_fails_the_one_before_stays_and_nothing_is_left(number, tmp_path):
    for at in range(1, number_of_calls(tmp_path / "counted") + 1):
        folder, failed = tmp_path / str(at), list[str]()
        save(folder, 1)

        def fail(name: str, failed: list[str] = failed) -> None:
            failed.append(name)
            raise OSError(number, os.strerror(number))

        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, at, fail)
            try:
                save(folder, 2)
            except ValueError as error:
                assert "could not be written" in str(error) and os.strerror(number) in str(error), error
                assert " MB are free there" in str(error)
            else:  # a file system without links takes copies: that is no error
                assert failed in (["link"], ["mkdir"]), failed
        check_all(folder)
        assert not [*folder.glob(".*")], (at, failed)


@needs_fork
def test_killed_at_whichever_call_a_whole_checkpoint_stays(tmp_path):
    partials, third = 0, content(3, tmp_path)
    for at in range(1, number_of_calls(tmp_path / "counted") + 1):
        folder = tmp_path / str(at)
        save(folder, 1)
        child = os.fork()
        if not child:
            with pytest.MonkeyPatch.context() as patch:
                Faults(patch, at, lambda name: os._exit(9))  # no `finally` is run, as after a SIGKILL
                save(folder, 2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        check_all(folder)
        partials += len([*folder.glob(".*.partial*")])
        newest = checkpoint.newest(folder)
        assert newest and newest[2] == ""
        manager = CheckpointManager(folder, 1, 0, 1, 0)
        manager.clean(newest[1])
        assert not [*folder.glob(".*")]
        manager.save(third, 3, 0.0)
        assert step_of(folder) == 3 and step_of(folder, "previous") == newest[0]["step"]
    assert partials > 3


class ShortWrites(io.FileIO):
    """A file of which the system writes the first half of what it is given."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data)[: max(1, len(data) // 2)])


def test_short_writes_are_continued(tmp_path, monkeypatch):
    opened = io.open
    monkeypatch.setattr(
        io,
        "open",
        lambda f, mode="r", *a, **k: io.BufferedWriter(ShortWrites(f, mode)) if "w" in mode else opened(f, mode),
    )
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert step_of(tmp_path) == 2


@needs_fork
@pytest.mark.parametrize("limit", [0, 1, 500])
def test_a_file_that_must_not_grow_is_an_error_of_one_sentence(limit, tmp_path):
    save(tmp_path, 1)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            save(tmp_path, 2)
        except ValueError as error:
            os._exit(7 if "File too large" in str(error) else 8)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert step_of(tmp_path) == 1 and not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("harm", ["flipped bit", "cut short", "empty", "foreign", "gone"])
def test_the_one_before_is_used_if_the_last_is_damaged(harm, tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.safetensors"
    data = bytearray(last.read_bytes())
    last.unlink()  # its other name, step-0000002, stays as it is
    if harm == "flipped bit":
        data[data.index(state(2)["w"].numpy().tobytes()) + 7] ^= 4
    if harm != "gone":
        last.write_bytes({"cut short": data[:-100], "empty": b"", "foreign": b"cos\nsystem\n."}.get(harm, data))
    newest = checkpoint.newest(tmp_path)
    assert newest and newest[0]["step"] == 1 and newest[1].stem == "previous"
    assert "last.safetensors" in newest[2] and "went on from previous.safetensors, of step 1" in newest[2]
    manager = CheckpointManager(tmp_path, 1, 0, 0, 0)
    manager.clean(newest[1])
    assert step_of(tmp_path) == 1
    manager.save(content(3, tmp_path), 3, 0.0)
    assert step_of(tmp_path) == 3 and step_of(tmp_path, "previous") == 1


def test_numbered_checkpoints_come_last_and_without_any_one_sentence_says_so(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path / "nothing") is None
    for name in ("last", "previous"):
        (tmp_path / f"{name}.safetensors").unlink()
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    newest = checkpoint.newest(tmp_path)
    assert newest and newest[1].stem == "step-0000002"
    for file in tmp_path.glob("step-*"):
        file.unlink()
    with pytest.raises(ValueError, match="no checkpoint of this run can be read"):
        checkpoint.newest(tmp_path)


def test_the_newest_are_kept_and_a_failed_removal_stops_nothing(tmp_path, monkeypatch):
    lines: list[str] = []
    manager = CheckpointManager(tmp_path, 1, keep_every=2, keep_last=2)
    manager.log = lines.append
    (tmp_path / "best.safetensors").write_text("untouched")
    contents = {step: content(step, tmp_path) for step in range(11)}
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("step-"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    for step, numbered in ((range(10), [8, 6]), (range(10, 11), [10, 8, 6])):
        for n in step:
            manager.save(contents[n], n, 0.0)
            manager.wait()
        assert [file.stem for file in checkpoint.numbered_files(tmp_path)] == [f"step-{n:07d}" for n in numbered]
        monkeypatch.setattr(Path, "unlink", refuse)
    assert (tmp_path / "best.safetensors").read_text() == "untouched"
    assert "step-0000006.safetensors could not be removed (Permission denied)" in lines[-1]


def test_minutes_are_due_too():
    manager = CheckpointManager(Path("nowhere"), every=500, minutes=10)
    manager.saved_seconds = 60.0
    assert manager.is_due(500, 61.0) and not manager.is_due(501, 659.0) and manager.is_due(501, 660.0)
    assert not CheckpointManager(Path("nowhere"), every=500).is_due(501, 1e9)


def test_a_slow_save_runs_in_a_thread_from_a_copy(tmp_path, monkeypatch):
    lines: list[str] = []
    manager = CheckpointManager(tmp_path, 1)
    manager.log = lines.append
    first, second, third = (content(step, tmp_path) for step in range(3))
    monkeypatch.setattr(checkpoint_manager, "MAX_FRACTION", 0.0)
    manager.save(first, 0, 0.0)  # its time is not known yet
    assert manager._thread is None
    manager.save(second, 1, 0.0)
    assert manager._thread is not None
    second["networks"]["G"]["state"]["w"].fill_(-1)  # the training goes on
    manager.wait()
    saved = checkpoint.read(tmp_path / "last.safetensors")["networks"]["G"]["state"]["w"]
    assert saved.equal(state(1)["w"])
    assert "step 1 saved in" in lines[-1] and "in a thread" in lines[-1]
    monkeypatch.setattr(checkpoint, "encode", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    manager.save(third, 2, 0.0)
    with pytest.raises(ValueError, match="could not be written"):
        manager.wait()
    check_all(tmp_path)
