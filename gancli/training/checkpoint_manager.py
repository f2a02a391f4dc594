"""The checkpoints folder of a run: last, previous, best and numbered checkpoints."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gancli.checkpoint import format as checkpoint
from gancli.runtime.files import PARTIAL
from gancli.runtime.serialization import map_tensors

# Of the time between two saves: what takes more is written beside the training, from a copy.
SHARE = 0.02


class CheckpointManager:
    """Saves a run when it is due, and says in the log what that takes.

    every, minutes: rounds and minutes of training between saves, whichever is over first; minutes of 0 are never over.
    keep_every: rounds between those that are kept; 0 keeps none. keep_last: how many of these; 0 keeps all.
    seconds: of training, when this session began.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        minutes: float,
        keep_every: int,
        keep_last: int,
        seconds: float = 0.0,
        log: Callable[[str], None] = print,
    ):
        if minutes < 0 or keep_last < 0 or keep_every < 0:
            raise ValueError(
                f"trainer.checkpoint_minutes={minutes}, trainer.keep_every={keep_every} and "
                f"trainer.keep_last={keep_last} are not negative; type 0 for none, and trainer.keep_last=0 for all"
            )
        self.folder, self.every, self.minutes, self.log = folder, every, minutes, log
        self.keep_every, self.keep_last = keep_every, keep_last
        self.seconds, self.begun, self.took = seconds, time.perf_counter(), 0.0
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        self.lines: list[str] = []

    def clean(self, good: Path | None) -> None:
        """Before the first save: what a killed session left half written is removed, and `good` becomes the last one.

        A last.safetensors that could not be read would else be the one before the next, in the place of the good one.
        """
        for partial in self.folder.glob(PARTIAL):
            with contextlib.suppress(OSError):
                partial.unlink()
        last = self.folder / "last.safetensors"
        if good and good != last:
            if last.exists():
                last.replace(self.folder / "damaged.safetensors")
            checkpoint.link(good, last)

    def due(self, step: int, seconds: float) -> bool:
        """Whether to save after this round; seconds: of training."""
        return step % self.every == 0 or 0 < 60 * self.minutes <= seconds - self.seconds

    def save(self, content: dict[str, Any], step: int, seconds: float) -> None:
        """Write `content`, at once or beside the training; ValueError where that fails, or where the last one did."""
        self.wait()
        begun = time.perf_counter()
        since, self.begun, self.seconds = begun - self.begun, begun, seconds
        if self.took <= SHARE * since:
            self._write(content, step, since)
            self.wait()
            return
        copy = map_tensors(content, lambda x: x.detach().to("cpu", copy=True))
        self.thread = threading.Thread(target=self._write, args=(copy, step, since, "; beside the training"))
        self.thread.start()

    def save_best(self, content: dict[str, Any]) -> None:
        """Write `content` as best.safetensors, at once: ValueError where that fails."""
        self.wait()
        checkpoint.write(self.folder / "best.safetensors", content)

    def wait(self) -> None:
        """Until what was saved is on the disk."""
        if self.thread:
            self.thread.join()
            self.thread = None
        for line in self.lines:
            self.log(line)
        self.lines, error, self.error = [], self.error, None
        if error:
            raise error

    def _write(self, content: dict[str, Any], step: int, since: float, where: str = "") -> None:
        kept = f"step-{step:07d}.safetensors" if self.keep_every and step and step % self.keep_every == 0 else ""
        try:
            checkpoint.write(self.folder / "last.safetensors", content, previous="previous.safetensors", numbered=kept)
            self.took = time.perf_counter() - self.begun
            share = f", {self.took / since:.1%} of the time since the one before" if step else ""
            self.lines.append(f"step {step:,} saved in {self.took:.2f} s{share}{where}")
            if kept:
                self._remove_old()
        except Exception as error:  # it is raised where somebody waits for this
            self.error = error

    def _remove_old(self) -> None:
        """Only after the new one is safe, and not at the price of the training."""
        for file in checkpoint.numbered_files(self.folder)[self.keep_last :] if self.keep_last else []:
            try:
                file.unlink()
            except OSError as error:
                self.lines.append(f"warning: {file.name} could not be removed ({error.strerror}) and stays")
