"""Nothing needs a forked process, a symlink or a module of Unix: what starts processes is tried with spawned ones."""

import multiprocessing
import os
import re
import signal
import sys
import time
import types

import numpy as np
import pytest
import spawned
import torch
from helpers import ROOT, TINY, assert_same, free_port, learned
from PIL import Image

from gancli.runtime import locks
from gancli.runtime.locks import RunBusy, RunLock

spawn = multiprocessing.get_context("spawn")
ENDLESS = ["train", *TINY, "model=mlp", "trainer.steps=1000000", "trainer.sample_every=1000000", "run.dir=run"]


@pytest.mark.slow
def test_a_spawned_process_trains_holds_the_lock_of_its_run_and_saves_when_it_is_stopped(tmp_path):
    child = spawn.Process(target=spawned.train, args=(tmp_path, ENDLESS))
    child.start()
    log = tmp_path / "run" / "metrics.jsonl"
    for _ in range(2400):
        if log.exists() and '"step": 4' in log.read_text():
            break
        time.sleep(0.05)
    with pytest.raises(RunBusy, match=f"process {child.pid}"), RunLock(tmp_path / "run"):
        pass
    os.kill(child.pid, signal.SIGTERM)
    child.join(60)
    assert child.exitcode == 143 and learned(tmp_path / "run")["step"] >= 4
    with RunLock(tmp_path / "run"):
        pass


@pytest.mark.slow
def test_spawned_processes_decode_one_cache_and_train_one_model(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)).save(tmp_path / "images" / f"{i}.png")
    port = free_port()
    pair = [spawn.Process(target=spawned.decode_and_train, args=(rank, port, tmp_path)) for rank in (0, 1)]
    for child in pair:
        child.start()
    for child in pair:
        child.join(120)
    assert [child.exitcode for child in pair] == [0, 0]
    assert_same(torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt"))


def test_no_module_forks_makes_symlinks_or_imports_modules_of_unix_when_it_is_imported():
    unix = r"os\.fork|[\"']fork[\"']|os\.symlink|symlink_to|os\.sep\b"
    unix += r"|^(?:import|from) (?:fcntl|resource|pwd|grp|termios|tty|pty)\b"
    for file in [*(ROOT / "gancli").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]:
        assert not re.search(unix, file.read_text("utf-8"), re.M), file


class WindowsLocks(types.ModuleType):
    """Locks of bytes, as Windows has them: those of one open file keep out all others."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: dict[tuple[int, int], int] = {}

    def locking(self, file: int, mode: int, count: int) -> None:
        place = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
        if self.held.get(place, file) != file:
            raise PermissionError(13, "Permission denied")
        self.held[place] = file


def test_the_lock_of_windows_keeps_a_second_process_out_and_can_be_read(tmp_path, monkeypatch):
    windows = WindowsLocks()
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.setattr(locks.sys, "platform", "win32")
    with RunLock(tmp_path):
        with pytest.raises(RunBusy, match=f"process {os.getpid()}"), RunLock(tmp_path):
            pass
        ((_, place),) = windows.held
        assert place > (tmp_path / ".lock").stat().st_size, "locked bytes of Windows cannot be read"
        windows.held.clear()
