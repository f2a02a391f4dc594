"""Every system call of a save fails once, and once the process dies there: a good checkpoint is always left."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gancli.checkpoint import format as checkpoint
from gancli.training import checkpoint_manager as keeper
from gancli.training.checkpoint_manager import CheckpointManager

CALLS = ("open", "fsync", "link", "replace", "mkdir")  # of os; io.open and a file's write are wrapped below


def content(step: int) -> dict[str, Any]:
    """What is enough of a checkpoint to be read."""
    network = {"config": {"_target_": "gancli.networks.mlp.Generator"}, "state": {"w": torch.full((3, 5), float(step))}}
    return {
        "config": {"data": {"name": "d"}, "model": {"name": "m", "classes": 0}, "trainer": {}, "seed": 0},
        "output": {"size": 8, "channels": 1, "class_names": []},
        **{"step": step, "images": 0, "seconds": 0.0, "networks": {"G": network}, "ema": {}, "optimizers": {}},
    }


class File:
    """A file that reports its writes."""

    def __init__(self, file: Any, tell: Callable[[str], None]):
        self.file, self.tell = file, tell

    def write(self, data: Any) -> int:
        self.tell("write")
        return self.file.write(data)

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Faults:
    """Counts the system calls of a save; does at the `at`-th what `strike` does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, strike: Callable[[str], object]):
        self.count, self.at, self.strike = 0, at, strike
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))
        opened = io.open
        monkeypatch.setattr(io, "open", lambda *a, **k: (self.tell("open"), File(opened(*a, **k), self.tell))[1])

    def tell(self, name: str) -> None:
        self.count += 1
        if self.count == self.at:
            self.strike(name)

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def told(*given: Any, **named: Any) -> Any:
            self.tell(name)
            return call(*given, **named)

        return told


def save(folder: Path, step: int) -> None:
    checkpoint.write(
        folder / "last.safetensors",
        content(step),
        previous="previous.safetensors",
        numbered=f"step-{step:07d}.safetensors",
    )


def number_of_calls(folder: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        save(folder, 1)
        faults = Faults(patch, 0, print)
        save(folder, 2)
    return faults.count


def good(folder: Path) -> int:
    """The step of last.safetensors, where all that is there by its final name can be read."""
    for file in folder.glob("[!.]*"):
        checkpoint.read(file)
    return checkpoint.read(folder / "last.safetensors")["step"]


def test_whichever_call_fails_the_one_before_is_there_and_nothing_is_left(tmp_path):
    calls = number_of_calls(tmp_path / "counted")
    assert calls > 10
    for number in (errno.ENOSPC, errno.EIO):
        for at in range(1, calls + 1):
            folder = tmp_path / f"{number}-{at}"
            save(folder, 1)
            told: list[str] = []

            def fail(name: str, number: int = number, told: list[str] = told) -> None:
                told.append(name)
                raise OSError(number, os.strerror(number))

            with pytest.MonkeyPatch.context() as patch:
                Faults(patch, at, fail)
                # A file system without links takes copies: that is no error.
                if at == calls or not told:
                    try:
                        save(folder, 2)
                    except ValueError as error:
                        assert "could not be written" in str(error) and os.strerror(number) in str(error), error
                    else:
                        assert told in (["link"], ["mkdir"]), told
            assert good(folder) in (1, 2), (at, told)
            assert not [*folder.glob(".*")], (at, told)


class Halves(io.FileIO):
    """A file of which the system writes the first half of what it is given."""

    def write(self, data: Any) -> int:
        return super().write(bytes(data)[: max(1, len(data) // 2)])


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    opened = io.open
    monkeypatch.setattr(
        io, "open", lambda f, mode="r", *a, **k: io.BufferedWriter(Halves(f, mode)) if "w" in mode else opened(f, mode)
    )
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert good(tmp_path) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sets a limit in a child process")
@pytest.mark.parametrize("limit", [0, 1, 500])
def test_a_file_that_may_not_grow_is_a_sentence(limit, tmp_path):
    """The system's own: a short write, then an error."""
    import resource

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
    assert good(tmp_path) == 1 and not [*tmp_path.glob(".*")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a child process")
def test_killed_at_whichever_call_a_whole_checkpoint_is_there(tmp_path):
    partials = 0
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
        assert good(folder) in (1, 2), at
        partials += len([*folder.glob(".*.partial*")])
        found = checkpoint.newest(folder)
        assert found and found[2] == ""
        kept = CheckpointManager(folder, 1, 0, 1, 0)
        kept.clean(found[1])
        assert not [*folder.glob(".*")]
        kept.save(content(3), 3, 0.0)
        assert good(folder) == 3 and checkpoint.read(folder / "previous.safetensors")["step"] == found[0]["step"]
    assert partials > 3


@pytest.mark.parametrize("harm", ["flipped bit", "cut short", "empty", "a payload", "gone"])
def test_the_one_before_is_used_where_the_last_is_damaged(harm, tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.safetensors"
    data = bytearray(last.read_bytes())
    last.unlink()  # its other name, step-0000002.safetensors, stays as it is
    if harm == "flipped bit":
        data[data.index(torch.full((3, 5), 2.0).numpy().tobytes()) + 7] ^= 4
    if harm != "gone":
        last.write_bytes({"cut short": data[:-100], "empty": b"", "a payload": b"cos\nsystem\n."}.get(harm, data))
    found = checkpoint.newest(tmp_path)
    assert found and found[0]["step"] == 1 and found[1].name == "previous.safetensors"
    assert "last.safetensors" in found[2] and "went on from previous.safetensors, of step 1" in found[2]
    kept = CheckpointManager(tmp_path, 1, 0, 0, 0)
    kept.clean(found[1])
    assert good_but(tmp_path, "damaged.safetensors") == 1
    kept.save(content(3), 3, 0.0)
    assert (
        good_but(tmp_path, "damaged.safetensors") == 3
        and checkpoint.read(tmp_path / "previous.safetensors")["step"] == 1
    )


def good_but(folder: Path, damaged: str) -> int:
    (folder / damaged).unlink(missing_ok=True)
    return good(folder)


def test_where_all_are_damaged_one_sentence_says_so(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path / "nothing") is None
    for name in ("last.safetensors", "previous.safetensors"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"x")
    assert checkpoint.newest(tmp_path)[1].name == "step-0000002.safetensors"
    for file in tmp_path.glob("step-*"):
        file.unlink()
    with pytest.raises(ValueError, match="no checkpoint of this run can be read"):
        checkpoint.newest(tmp_path)


def test_the_newest_are_kept_and_a_failed_removal_stops_nothing(tmp_path, monkeypatch):
    lines: list[str] = []
    kept = CheckpointManager(tmp_path, 1, 0, keep_every=2, keep_last=2, log=lines.append)
    (tmp_path / "best.safetensors").write_text("another's")
    for step in range(9):
        kept.save(content(step), step, 0.0)
        kept.wait()
    steps = [file.name for file in checkpoint.numbered_files(tmp_path)]
    assert (
        steps == ["step-0000008.safetensors", "step-0000006.safetensors"]
        and (tmp_path / "best.safetensors").read_text() == "another's"
    )
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("step-"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    kept.save(content(10), 10, 0.0)
    kept.wait()
    assert "step-0000006.safetensors could not be removed (Permission denied)" in lines[-1]
    assert len(checkpoint.numbered_files(tmp_path)) == 3


def test_minutes_are_due_too():
    kept = CheckpointManager(Path("nowhere"), every=500, minutes=10, keep_every=0, keep_last=0, seconds=60.0)
    assert kept.due(500, 61.0) and not kept.due(501, 659.0) and kept.due(501, 660.0)
    assert not CheckpointManager(Path("nowhere"), every=500, minutes=0, keep_every=0, keep_last=0).due(501, 1e9)
    with pytest.raises(ValueError, match="not negative"):
        CheckpointManager(Path("nowhere"), 1, -1, 0, 0)


def test_what_takes_long_is_written_beside_the_training_from_a_copy(tmp_path, monkeypatch):
    lines: list[str] = []
    kept, state = CheckpointManager(tmp_path, 1, 0, 0, 0, log=lines.append), content(0)
    monkeypatch.setattr(keeper, "SHARE", 0.0)
    kept.save(state, 0, 0.0)  # the first: it is not known yet
    assert kept.thread is None
    state = content(1)
    kept.save(state, 1, 0.0)
    assert kept.thread is not None
    state["networks"]["G"]["state"]["w"].fill_(-1)  # the training goes on
    kept.wait()
    assert checkpoint.read(tmp_path / "last.safetensors")["networks"]["G"]["state"]["w"].unique().tolist() == [1.0]
    assert "step 1 saved in" in lines[-1] and "beside the training" in lines[-1]
    monkeypatch.setattr(checkpoint, "encode", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    kept.save(content(2), 2, 0.0)
    with pytest.raises(ValueError, match="could not be written"):
        kept.wait()
    assert good(tmp_path) == 1
