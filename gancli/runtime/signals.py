"""Stopping on request: the step in hand is finished and saved first."""

import contextlib
import multiprocessing
import os
import signal
import time
from types import FrameType

# Ctrl-C; kill, and a scheduler's end; Slurm's warning before it (sbatch --signal=USR1@60), which Windows does not know.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
# torchrun passes on the Ctrl-C that its processes have had from the terminal: there only a later one is a second one.
AGAIN = 1.0 if "TORCHELASTIC_RUN_ID" in os.environ else 0.0  # seconds


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and has saved. A KeyboardInterrupt, so that the rest of a sweep does not start."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopRequest:
    """Within `with`, SIGNALS only raise a flag, `signum`; a second Ctrl-C leaves at once.

    at_once: with nothing in hand to finish, the first one leaves already; where there are workers (sweep=joblib) it is
    passed on to them, who save, and waited for. One request may lie within another: either knows what both have heard.
    """

    def __init__(self, at_once: bool = False) -> None:
        self.signum: int | None = None
        self.at_once = at_once
        self._outer: StopRequest | None = None
        self._heard, self._pid = 0.0, os.getpid()
        self._before: dict[int, object] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        child = os.getpid() != self._pid
        if child and signum == signal.SIGTERM:  # a forked helper, which its parent ends
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        # A terminal tells a whole family of Ctrl-C, and a child waits to be told by its parent.
        if child or (signum == signal.SIGINT and multiprocessing.parent_process()):
            return
        if self.signum is not None:
            if signum == signal.SIGINT and time.monotonic() - self._heard > AGAIN:
                raise KeyboardInterrupt
            return
        workers = multiprocessing.active_children() if self.at_once else []
        if self.at_once and not workers:
            raise Stopped(signum)
        self.signum, self._heard = signum, time.monotonic()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid or 0, signal.SIGTERM if signum == signal.SIGINT else signum)

    def __enter__(self) -> "StopRequest":
        self._outer = current()
        if self._outer:
            self.signum, self._heard = self._outer.signum, self._outer._heard
        with contextlib.suppress(ValueError):  # signals reach the main thread only; in another, its owner decides
            self._before = {s: signal.signal(s, self._handle) for s in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        if self._outer:
            self._outer.signum, self._outer._heard = self.signum, self._heard


def current() -> StopRequest | None:
    """The innermost request that this process is within."""
    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if isinstance(owner, StopRequest) else None


def of_worker() -> StopRequest:
    """In a worker that a launcher started: the request that holds for all of its life."""
    return current() or StopRequest().__enter__()
