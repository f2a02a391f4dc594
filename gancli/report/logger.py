"""What a run leaves behind while it goes: log.txt, metrics.jsonl, grids, the page, and the line on the terminal."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from gancli import images
from gancli.report.run_page import write_page
from gancli.training.monitor import Monitor

# The page embeds every grid: rewriting it at each log line would cost more than a small model's rounds.
PAGE_SECONDS = 15.0
PAGE_SHARE = 100.0  # ... and a long run's page, which takes seconds, at most a hundredth of the time
HISTORY_ROWS = 10


class RunLogger:
    """Writes a run folder. A bar on a terminal, a line per log entry elsewhere, and neither when `quiet`.

    step, done: where the run continues, and the share of its budget that is used by then; what was logged after that
    step will be logged again, and is cut off.
    """

    def __init__(self, folder: Path, step: int = 0, done: float = 0.0, quiet: bool = False, tensorboard: bool = False):
        self.folder, self.quiet = folder, quiet
        self.rewind(step)
        self._page_due = 0.0
        on_terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(
            total=100.0,
            initial=100 * done,
            disable=not on_terminal,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
            dynamic_ncols=True,
        )
        self.lines = not on_terminal and not quiet
        self.board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise ValueError(
                    "trainer.tensorboard=true needs the tensorboard package; type pip install 'gancli[tensorboard]'"
                ) from None
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def event(self, name: str, **facts: Any) -> None:
        """Something that happens once: started, resumed, stopped, failed, finished."""
        self.fact(name, **facts)
        self.log(f"{name}: {facts['message']}" if "message" in facts else name)

    def fact(self, name: str, **facts: Any) -> None:
        """As an event, but for programs: no line of the log."""
        append_row(self.folder, {"event": name, **facts})

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: it will be logged again."""
        self.monitor = Monitor()
        for row in cut_back(self.folder, step):
            self.monitor.add(row)  # what it finds in them was told when they were written
        self._last: tuple[float, int] | None = None  # clock and images at the last call of `progress`

    def log(self, text: str) -> None:
        """A line for log.txt, and for the terminal unless the run is quiet."""
        self.note(text)
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """A line for log.txt alone."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """A row of metrics.jsonl, and what it tells of the run's health."""
        row = {"step": step, **values}
        append_row(self.folder, row)
        for seen in self.monitor.add(row):
            self.event(seen.kind, step=seen.step, finding=seen.finding, message=seen.message)
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def progress(
        self, step: int, seen: int, seconds: float, progress: float, values: dict[str, float], told: str = ""
    ) -> None:
        """How the run is doing, as a row and on the terminal; `seen` images and `seconds` are of the whole run.

        told: on the terminal alone, of the last evaluation.
        """
        now = time.perf_counter()
        before = self._last or (now - max(seconds, 1e-9), 0)
        rate = (seen - before[1]) / max(now - before[0], 1e-9)
        self._last = (now, seen)
        self.metrics(step, {"kimg": seen / 1000, "minutes": seconds / 60, "images_per_second": rate, **values})
        aside = ("lr", "gradient_norm")  # in metrics.jsonl and on the page
        shown = [f"{name} {value:.3f}" for name, value in values.items() if not name.startswith(aside)]
        text = "  ".join([f"step {step:,}", f"{rate:,.0f} images/s", *shown])
        self.note(text)
        text += f"  {told}" if told else ""
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(100 * progress - self.bar.n)
        if self.lines:
            left = seconds * (1 - progress) / max(progress, 1e-9) / 60
            print(f"{100 * progress:3.0f}%  {text}  {left:.1f} min left", file=sys.stderr, flush=True)
        self.page()

    def grid(self, step: int, picture: Image.Image) -> Path:
        """Keep a grid of samples as samples/step-N.png."""
        path = images.write(picture, self.folder / "samples" / f"step-{step:07d}.png")
        if self.board:
            import numpy as np

            self.board.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        return path

    def history(self, rows: int) -> Path | None:
        """samples/history.png: the same noise over time, the top row of up to ten grids one below the other."""
        paths = sorted((self.folder / "samples").glob("step-*.png"))
        if not paths:
            return None
        spread = min(HISTORY_ROWS, len(paths))
        chosen = [paths[round(i * (len(paths) - 1) / max(1, spread - 1))] for i in range(spread)]
        tops = []
        for path in chosen:
            with Image.open(path) as picture:
                tops.append(picture.crop((0, 0, picture.width, picture.height // rows)))
        return images.write(images.stack(tops, gap=2), self.folder / "samples" / "history.png")

    def page(self, now: bool = False) -> None:
        """Rewrite index.html, if it is a while since, or at once."""
        begun = time.perf_counter()
        if now or begun > self._page_due:
            write_page(self.folder)
            done = time.perf_counter()
            self._page_due = done + max(PAGE_SECONDS, PAGE_SHARE * (done - begun))

    def close(self) -> None:
        self.bar.close()
        if self.board:
            self.board.close()


def append_row(folder: Path, row: dict[str, Any]) -> None:
    """One more line of metrics.jsonl."""
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()}) + "\n")


def cut_back(folder: Path, step: int) -> list[dict[str, Any]]:
    """Leave in metrics.jsonl what was logged up to `step`; gives the rows that are left."""
    file = folder / "metrics.jsonl"
    if not file.exists():
        return []
    kept, rows = [], []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed while writing it
        if row.get("step", 0) <= step:
            kept.append(line + "\n")
            rows.append(row)
    partial = file.with_name(".metrics.jsonl.partial")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(file)
    return rows
