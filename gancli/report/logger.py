"""The files that a run writes while it trains: log.txt, metrics.jsonl, grids of samples, the page; and the terminal."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from gancli import images
from gancli.report.history import write_history
from gancli.report.run_folder import read_run
from gancli.report.run_page import write_page
from gancli.runtime.files import write_text
from gancli.runtime.text import one_line

Row = dict[str, Any]  # a line of metrics.jsonl

# The page embeds every grid: writing it at each log line would take longer than the steps of a small model.
PAGE_SECONDS = 15.0
PAGE_INTERVAL = 100.0  # times the duration of the last writing: a page takes at most a hundredth of a long run


class RunLogger:
    """Writer of a run folder. Shows a bar on a terminal, a line per log row elsewhere, and nothing when `quiet`.

    Args:
        step: step from which the run continues. Rows after it are removed, because they will be logged again.
        progress: fraction of the budget that is used at `step`.
        tensorboard: write metrics and grids for TensorBoard too.
    """

    def __init__(
        self, folder: Path, step: int = 0, progress: float = 0.0, quiet: bool = False, tensorboard: bool = False
    ):
        self.folder, self.quiet = folder, quiet
        self.rewind(step)
        self._next_page = 0.0
        on_terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(
            total=100.0,
            initial=100 * progress,
            disable=not on_terminal,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
            dynamic_ncols=True,
        )
        self.lines = not on_terminal and not quiet
        self.board = _tensorboard_writer(folder, step) if tensorboard else None

    def event(self, name: str, **values: Any) -> None:
        """Write an event, such as started or a warning, to metrics.jsonl and log.txt."""
        self.fact(name, **values)
        self.log(f"{name}: {values['message']}" if "message" in values else name)

    def fact(self, name: str, **values: Any) -> None:
        """Write an event to metrics.jsonl alone."""
        append_row(self.folder, {"event": name, **values})

    def rewind(self, step: int) -> list[Row]:
        """Remove the rows and events after `step` from metrics.jsonl; return those that are left."""
        self._last: tuple[float, int] | None = None  # clock and images at the last call of `progress`
        file = self.folder / "metrics.jsonl"
        lines, rows = [], []
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed while it wrote
            if row.get("step", 0) <= step:
                lines.append(line + "\n")
                rows.append(row)
        if file.exists():
            write_text(file, "".join(lines))
        return rows

    def log(self, text: str) -> None:
        """Write a line to log.txt and, unless the run is quiet, to the terminal."""
        self.note(text)
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """Write a line to log.txt alone."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def metrics(self, step: int, values: dict[str, float]) -> Row:
        """Append a row to metrics.jsonl and return it."""
        row = {"step": step, **values}
        append_row(self.folder, row)
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
        return row

    def progress(
        self, step: int, images: int, seconds: float, progress: float, values: dict[str, float], evaluation: str = ""
    ) -> Row:
        """Log how far the run is, as a row and on the terminal. Return the row.

        Args:
            images, seconds: of the whole run, including what came before a resume.
            progress: fraction of the budget that is used.
            evaluation: result of the last evaluation, for the terminal only.
        """
        now = time.perf_counter()
        last_time, last_images = self._last or (now - max(seconds, 1e-9), 0)
        rate = (images - last_images) / max(now - last_time, 1e-9)
        self._last = (now, images)
        row = self.metrics(step, {"kimg": images / 1000, "minutes": seconds / 60, "images_per_second": rate, **values})
        hidden = ("lr", "gradient_norm")  # these are in metrics.jsonl and on the page
        shown = [f"{name} {value:.3f}" for name, value in values.items() if not name.startswith(hidden)]
        text = "  ".join([f"step {step:,}", f"{rate:,.0f} images/s", *shown])
        self.note(text)
        text += f"  {evaluation}" if evaluation else ""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(100 * progress - self.bar.n)
        if self.lines:
            left = seconds * (1 - progress) / max(progress, 1e-9) / 60
            print(f"{100 * progress:3.0f}%  {text}  {left:.1f} min left", file=sys.stderr, flush=True)
        return row

    def grid(self, step: int, image: Image.Image) -> Path:
        """Write a grid of samples to samples/step-N.png."""
        path = images.write(image, self.folder / "samples" / f"step-{step:07d}.png")
        if self.board:
            self.board.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")
        return path

    def history(self) -> None:
        """Write samples/history.gif. The run has ended well, so a failure is only a warning."""
        try:
            write_history(read_run(self.folder))
        except Exception as error:
            self.event("warning", message=f"samples/history.gif was not written: {one_line(error)}")

    def page(self, now: bool = False) -> None:
        """Write index.html, unless it was written a short while ago; with `now` in any case."""
        begin = time.perf_counter()
        if now or begin > self._next_page:
            write_page(self.folder)
            end = time.perf_counter()
            self._next_page = end + max(PAGE_SECONDS, PAGE_INTERVAL * (end - begin))

    def close(self) -> None:
        self.bar.close()
        if self.board:
            self.board.close()


def append_row(folder: Path, row: Row) -> None:
    """Append a line to metrics.jsonl, floats with six decimals."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()}) + "\n")


def _tensorboard_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "trainer.tensorboard=true needs the tensorboard package; type pip install 'gancli[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
