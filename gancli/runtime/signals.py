"""Stopping on request: the current step is finished and saved first."""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

# Ctrl-C; kill, or the end of a scheduler's time; a terminal that is closed; Slurm's warning before the end of its time
# (sbatch --signal=USR1@60). Windows lacks the last two.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
# torchrun passes Ctrl-C on to processes that the terminal has sent it to: repeats within this time count once.
REPEAT_SECONDS = 1.0 if "TORCHELASTIC_RUN_ID" in os.environ else 0.0


class Stopped(KeyboardInterrupt):
    """A run has stopped on request, after saving. As a KeyboardInterrupt it also ends a sweep."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopRequest:
    """Context in which SIGNALS only set `signum`; a second Ctrl-C raises KeyboardInterrupt.

    Requests can be nested: each learns of the signals of the other.

    Args:
        at_once: nothing has to be finished, so the first signal raises Stopped, wherever Python is. With worker
            processes (sweep=joblib) it is passed on to them instead, and they save.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.signum: int | None = None
        self.at_once, self._interrupted = at_once, False
        self._outer: StopRequest | None = None
        self._time, self._pid = 0.0, os.getpid()
        self._before: dict[int, object] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        is_child = os.getpid() != self._pid
        if is_child and signum == signal.SIGTERM:  # a forked helper, which its parent ends
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        # A terminal sends Ctrl-C to the whole process group, and a child waits for its parent to pass it on.
        if is_child or (signum == signal.SIGINT and multiprocessing.parent_process()):
            return
        if self.signum is not None:
            if signum == signal.SIGINT and time.monotonic() - self._time > REPEAT_SECONDS:
                raise KeyboardInterrupt
            return
        workers = multiprocessing.active_children() if self.at_once else []
        self.signum, self._time = signum, time.monotonic()
        if self.at_once and not workers:
            self._interrupted = True
            raise Stopped(signum)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid or 0, signal.SIGTERM if signum == signal.SIGINT else signum)

    def __enter__(self) -> "StopRequest":
        self._outer = current()
        if self._outer:
            self.signum, self._time = self._outer.signum, self._outer._time
        with contextlib.suppress(ValueError):  # only the main thread can handle signals
            # `nohup gan train` ignores SIGHUP, and goes on.
            heeded = [s for s in SIGNALS if s == signal.SIGINT or signal.getsignal(s) != signal.SIG_IGN]
            self._before = {s: signal.signal(s, self._handle) for s in heeded}
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        if self._outer:
            self._outer.signum, self._outer._time = self.signum, self._time
        if self._interrupted and self.signum and isinstance(error, Exception):  # a library made it of Stopped
            raise Stopped(self.signum) from error


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Context in which SIGTERM and Ctrl-C raise Stopped, wherever Python is: no temporary file is left."""
    pid = os.getpid()
    received: list[int] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != pid:  # a forked helper, which its parent ends
            os._exit(128 + signum)
        received.append(signum)
        raise Stopped(signum)

    before: dict[int, object] = {}
    with contextlib.suppress(ValueError):  # only the main thread can handle signals
        before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        if received:  # a library made it of Stopped
            raise Stopped(received[0]) from error
        raise
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)  # type: ignore[arg-type]


def current() -> StopRequest | None:
    """Return the innermost request of this process, or None."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, StopRequest) else None


def of_worker() -> StopRequest:
    """Return the request of a launcher's worker process; one that is entered here lasts until it ends."""
    return current() or StopRequest().__enter__()
