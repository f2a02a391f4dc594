"""A lock on a run folder: one process trains in it at a time."""

import contextlib
import os
import socket
import sys
import time
from pathlib import Path


class RunBusy(ValueError):
    """Another process trains in this folder."""


class RunLock:
    """Within `with`, no other process trains in `folder`: RunBusy where one does.

    The system holds it and lets go of it when the process ends, however it ends, so a lock cannot be left behind;
    what stands in the file only says who holds it. remark: why there is none, on file systems that know no locks.
    """

    def __init__(self, folder: Path):
        self.path = folder / ".lock"
        self.remark = ""
        self._file: int | None = None

    def __enter__(self) -> "RunLock":
        while self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                hold(file)
            except (BlockingIOError, PermissionError):
                holder = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise RunBusy(
                    f"another process trains in {self.path.parent} ({holder or 'it has just begun'}); wait for it, "
                    f"stop it, or type another run.dir="
                ) from None
            except OSError as error:
                self.remark = f"this file system knows no locks ({error.strerror}): train in this folder only once"
            if self._there(file):
                self._file = file
            else:  # its holder has just ended and taken the file away
                os.close(file)
        os.truncate(self._file, 0)
        text = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.write(self._file, text.encode())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            self.path.unlink()
        os.close(self._file)

    def _there(self, file: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), self.path.stat())
        return False


def hold(file: int) -> None:
    """RunLock an open file for this process. BlockingIOError or PermissionError where another one holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 20, os.SEEK_SET)  # what is locked cannot be read: far behind the text
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
