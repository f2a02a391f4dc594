"""Standard streams that end no run: they may be closed, or nobody may read them any more."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # the reader has ended, the terminal was closed, the stream too


class Unbroken:
    """Text stream that drops what nobody can read. Everything else is as with the stream itself."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:  # a full disk, say
                raise
            with contextlib.suppress(OSError, ValueError):  # what is still buffered would fail again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Context in which standard output and standard error can be closed at any time."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:  # >&-: the next file that is opened would take its place
        pass
    os.close(file)
    before = sys.stdout, sys.stderr
    streams = [stream or open(os.devnull, "w") for stream in before]  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = (Unbroken(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
