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
    """Context in which no other process trains in `folder`; entering raises RunBusy if one does.

    The system releases the lock when the process ends, however it ends. The text of the file only names the holder.

    Attributes:
        warning: the reason on file systems without locks, else empty.
    """

    def __init__(self, folder: Path):
        self.path = folder / ".lock"
        self.warning = ""
        self._file: int | None = None

    def __enter__(self) -> "RunLock":
        while self._file is None:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                lock_file(file)
            except (BlockingIOError, PermissionError):
                holder = os.read(file, 200).decode(errors="replace").strip()
                os.close(file)
                raise RunBusy(
                    f"another process trains in {self.path.parent} ({holder or 'it has just started'}); wait for it, "
                    f"stop it, or type another run.dir="
                ) from None
            except OSError as error:
                self.warning = f"this file system has no locks ({error.strerror}): train in this folder only once"
            if self._is_current(file):
                self._file = file
            else:  # its holder has just ended and removed the file
                os.close(file)
        os.ftruncate(self._file, 0)
        text = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.write(self._file, text.encode())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        with contextlib.suppress(OSError):  # Windows does not remove open files
            self.path.unlink()
        os.close(self._file)

    def _is_current(self, file: int) -> bool:
        """Return whether an open file is the one at the path."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), self.path.stat())
        return False


def lock_file(file: int) -> None:
    """Lock an open file for this process; raise BlockingIOError or PermissionError if another one holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, 1 << 20, os.SEEK_SET)  # locked bytes cannot be read: far behind the text
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
