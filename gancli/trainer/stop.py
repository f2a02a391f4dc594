"""Stopping on request: the step in hand is finished and saved first."""

import contextlib
import signal
from types import FrameType


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and has saved. A KeyboardInterrupt, so that the rest of a sweep does not start."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopRequest:
    """Within `with`, SIGINT and SIGTERM only raise a flag, `signum`; a second Ctrl-C leaves at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, object] = {}

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum

    def __enter__(self) -> "StopRequest":
        with contextlib.suppress(ValueError):  # signals reach the main thread only; in another, its owner decides
            self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
