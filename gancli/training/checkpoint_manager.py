"""The checkpoints folder of a run: the last, the one before it, the best, and numbered ones."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.format import SUFFIX
from gancli.runtime.files import partial_path, remove_partials
from gancli.runtime.serialization import map_tensors

LAST, PREVIOUS, BEST = f"last{SUFFIX}", f"previous{SUFFIX}", f"best{SUFFIX}"
# A save that takes more than this fraction of the time since the one before is written in a thread, from a copy.
MAX_FRACTION = 0.02


class CheckpointManager:
    """Checkpoints of a run: saved when one is due, with a line in the log on how long that takes.

    Args:
        every, minutes: steps and minutes of training between saves, whichever is reached first; 0 minutes count steps
            alone.
        keep_every: steps between numbered checkpoints; 0 keeps none.
        keep_last: number of numbered checkpoints to keep, the newest; 0 keeps all.

    Attributes:
        saved_seconds: seconds of training at the last save.
    """

    def __init__(self, folder: Path, every: int, minutes: float = 0.0, keep_every: int = 0, keep_last: int = 0):
        self.folder, self.every, self.minutes = folder, every, minutes
        self.keep_every, self.keep_last = keep_every, keep_last
        self.log: Callable[[str], None] = print
        self.saved_seconds = 0.0
        self._started, self._save_seconds = time.perf_counter(), 0.0  # of the last save
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._lines: list[str] = []

    def clean(self, good: Path | None, content: dict[str, Any]) -> None:
        """Remove half-written files, and complete the save of `good`, from whose content the run continues.

        It becomes the last checkpoint: an unreadable one would else become the previous one and replace the good one.
        """
        for folder in (self.folder.parent, self.folder.parent / "samples", self.folder):
            remove_partials(folder)
        last = self.folder / LAST
        if good and good != last:
            if last.exists():
                last.replace(self.folder / f"damaged{SUFFIX}")
            checkpoint.link(good, last)
        names = self._names(content) if good else []
        for name in names:  # a kill may have come before
            if not ((self.folder / name).exists() and (self.folder / name).samefile(last)):
                checkpoint.link(last, self.folder / name)
        if names:
            self._remove_old()

    def _names(self, content: dict[str, Any]) -> list[str]:
        """Return the further names of a checkpoint: by its step, and as the best one."""
        step = content["step"]
        numbered = self.keep_every and step and step % self.keep_every == 0
        is_best = step and step == (content.get("best") or {}).get("step")
        return [f"step-{step:07d}{SUFFIX}"] * bool(numbered) + [BEST] * bool(is_best)

    def is_due(self, step: int, seconds: float) -> bool:
        """Return whether to save after this step; seconds: of training so far."""
        return step % self.every == 0 or 0 < 60 * self.minutes <= seconds - self.saved_seconds

    def save(self, content: dict[str, Any], step: int, seconds: float) -> None:
        """Write a checkpoint, in a thread if slow; raise ValueError if it or the one before cannot be written.

        The best checkpoint is another name of the last one, so that no kill leaves it ahead of the run.
        """
        self.wait()
        now = time.perf_counter()
        since, self._started, self.saved_seconds = now - self._started, now, seconds
        if self._save_seconds <= MAX_FRACTION * since:
            self._write(content, step, since)
            self.wait()
            return
        copy = map_tensors(content, lambda t: t.detach().to("cpu", copy=True))
        self._thread = threading.Thread(target=self._write, args=(copy, step, since, "; in a thread"))
        self._thread.start()

    def try_save(self, content: dict[str, Any]) -> int:
        """Write a checkpoint and remove it; return its bytes."""
        path = partial_path(self.folder / f"preflight{SUFFIX}")
        try:
            return checkpoint.write(path, content).stat().st_size
        finally:
            path.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until everything is on the disk; raise what a thread has raised."""
        if self._thread:
            self._thread.join()
            self._thread = None
        for line in self._lines:
            self.log(line)
        self._lines, error, self._error = [], self._error, None
        if error:
            raise error

    def _write(self, content: dict[str, Any], step: int, since: float, where: str = "") -> None:
        names = self._names(content)
        try:
            checkpoint.write(self.folder / LAST, content, PREVIOUS, names)
            self._save_seconds = time.perf_counter() - self._started
            fraction = f", {self._save_seconds / since:.1%} of the time since the one before" if step else ""
            self._lines.append(f"step {step:,} saved in {self._save_seconds:.2f} s{fraction}{where}")
            if names:
                self._remove_old()
        except Exception as error:  # `wait` raises it in the main thread
            self._error = error

    def _remove_old(self) -> None:
        """Remove numbered checkpoints, now that the new one is safe; a file that stays must not end the training."""
        for file in checkpoint.numbered_files(self.folder)[self.keep_last :] if self.keep_last else []:
            try:
                file.unlink()
            except OSError as error:
                self._lines.append(f"warning: {file.name} could not be removed ({error.strerror}) and stays")
