"""Every system call of a save fails once, and once the process dies there: a good checkpoint is always left."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import write_generator

from gancli.checkpoint import format as checkpoint
from gancli.training import checkpoint_manager
from gancli.training.checkpoint_manager import CheckpointManager


def state(step: int) -> dict[str, torch.Tensor]:
    return {"w": torch.full((3, 5), float(step))}


def save(folder: Path, step: int) -> Path:
    config = {"_target_": "gancli.networks.mlp.Generator"}
    names = {"previous": "previous.safetensors", "names": [f"step-{step:07d}.safetensors"]}
    return write_generator(folder / "last.safetensors", config, state(step), names, step=step)


def content(step: int, folder: Path) -> dict[str, Any]:
    return checkpoint.read(save(folder / "a", step))


def step_of(folder: Path, name: str = "last") -> int:
    return checkpoint.read(folder / f"{name}.safetensors")["step"]


def check_all(folder: Path) -> None:
    """Assert that every file with a final name can be read, and that last is the first or the second save."""
    for file in folder.glob("[!.]*.safetensors"):
        checkpoint.read(file)
    assert step_of(folder) in (1, 2)


def save_again(folder: Path, strike: Callable[[int, str], object]) -> None:
    """Save step 2 where `strike(number, name)` is called before each system call; each write writes the first half."""
    count = 0

    def report(name: str) -> None:
        nonlocal count
        count += 1
        strike(count, name)

    def reporting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *a, **k: (report(name), call(*a, **k))[1]

    class ShortWrites(io.FileIO):
        def write(self, data: Any) -> int:
            report("write")
            return super().write(bytes(data)[: max(1, len(data) // 2)])

    def opened(file: Any, mode: str = "r", *a: Any, **k: Any) -> Any:
        return io.BufferedWriter(ShortWrites(file, mode)) if "w" in mode else original(file, mode, *a, **k)

    with pytest.MonkeyPatch.context() as patch:
        original = io.open
        for name in ("open", "fsync", "link", "replace", "mkdir"):
            patch.setattr(os, name, reporting(name, getattr(os, name)))
        patch.setattr(io, "open", reporting("open", opened))
        save(folder, 2)


def count_calls(folder: Path) -> int:
    """Return the number of system calls of a save, which succeeds although every write is short."""
    names = list[str]()
    save(folder, 1)
    save_again(folder, lambda number, name: names.append(name))
    assert len(names) > 10 and names.count("write") > 3 and step_of(folder) == 2
    return len(names)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_failing_call_leaves_the_previous_checkpoint_and_nothing_else(code, tmp_path):
    for at in range(1, count_calls(tmp_path / "counted") + 1):
        folder, failed = tmp_path / str(at), list[str]()

        def fail(number: int, name: str, at: int = at, failed: list[str] = failed) -> None:
            if number == at:
                failed.append(name)
                raise OSError(code, os.strerror(code))

        save(folder, 1)
        try:
            save_again(folder, fail)
        except ValueError as error:
            assert "could not be written" in str(error) and os.strerror(code) in str(error), error
            assert " MB are free there" in str(error)
        else:  # a file system without links takes copies: that is no error
            assert failed in (["link"], ["mkdir"]), failed
        check_all(folder)
        assert not [*folder.glob(".*")], (at, failed)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="ends a child process")
def test_a_process_killed_at_any_call_leaves_a_good_checkpoint(tmp_path):
    partials, third = 0, content(3, tmp_path)
    for at in range(1, count_calls(tmp_path / "counted") + 1):
        folder = tmp_path / str(at)
        save(folder, 1)
        child = os.fork()
        if not child:
            save_again(folder, lambda number, name, at=at: number == at and os._exit(9))  # type: ignore[misc]
            os._exit(0)  # the line above runs no `finally`, as after a SIGKILL
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        check_all(folder)
        partials += len([*folder.glob(".*.partial*")])
        newest = checkpoint.newest(folder)
        assert newest and newest[2] == ""
        manager = CheckpointManager(folder, 1, 0, 1, 0)
        manager.clean(newest[1], newest[0])
        assert not [*folder.glob(".*")]
        manager.save(third, 3, 0.0)
        assert step_of(folder) == 3 and step_of(folder, "previous") == newest[0]["step"]
    assert partials > 3


@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "empty", "foreign", "gone"])
def test_the_previous_checkpoint_replaces_a_damaged_last_one(damage, tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    last = tmp_path / "last.safetensors"
    data = bytearray(last.read_bytes())
    last.unlink()  # its other name, step-0000002, stays as it is
    data[-5] ^= damage == "flipped bit"
    if damage != "gone":
        last.write_bytes({"cut short": data[:-100], "empty": b"", "foreign": b"cos\nsystem\n."}.get(damage, data))
    newest = checkpoint.newest(tmp_path)
    assert newest and newest[0]["step"] == 1 and newest[1].stem == "previous"
    assert "last.safetensors" in newest[2] and "went on from previous.safetensors, of step 1" in newest[2]
    manager = CheckpointManager(tmp_path, 1, 0, 0, 0)
    manager.clean(newest[1], newest[0])
    assert step_of(tmp_path) == 1
    manager.save(content(3, tmp_path), 3, 0.0)
    assert step_of(tmp_path) == 3 and step_of(tmp_path, "previous") == 1


def test_numbered_checkpoints_replace_damaged_ones(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path / "nothing") is None
    for name in ("last", "previous"):
        (tmp_path / f"{name}.safetensors").unlink()
        (tmp_path / f"{name}.safetensors").write_bytes(b"x")
    newest = checkpoint.newest(tmp_path)
    assert newest and newest[1].stem == "step-0000002"


def test_the_newest_numbered_checkpoints_stay_and_a_failed_removal_is_a_warning(tmp_path, monkeypatch):
    lines: list[str] = []
    manager = CheckpointManager(tmp_path, 1, keep_every=2, keep_last=2)
    manager.log = lines.append
    (tmp_path / "best.safetensors").write_text("untouched")
    saved, unlink = content(0, tmp_path), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("step-"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    for steps, numbered in ((range(10), [8, 6]), ([10], [10, 8, 6])):
        for step in steps:
            manager.save({**saved, "step": step}, step, 0.0)
            manager.wait()
        assert [file.stem for file in checkpoint.numbered_files(tmp_path)] == [f"step-{n:07d}" for n in numbered]
        monkeypatch.setattr(Path, "unlink", refuse)
    assert (tmp_path / "best.safetensors").read_text() == "untouched"
    assert "step-0000006.safetensors could not be removed (Permission denied)" in lines[-1]


def test_a_save_is_due_after_steps_or_minutes():
    manager = CheckpointManager(Path("nowhere"), every=500, minutes=10)
    manager.saved_seconds = 60.0
    assert manager.is_due(500, 61.0) and not manager.is_due(501, 659.0) and manager.is_due(501, 660.0)
    assert not CheckpointManager(Path("nowhere"), every=500).is_due(501, 1e9)


def test_a_slow_save_runs_in_a_thread_from_a_copy(tmp_path, monkeypatch):
    lines: list[str] = []
    manager = CheckpointManager(tmp_path, 1)
    manager.log = lines.append
    first, second = (content(step, tmp_path) for step in range(2))
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
    manager.save(first, 2, 0.0)
    with pytest.raises(ValueError, match="could not be written"):
        manager.wait()
    check_all(tmp_path)
