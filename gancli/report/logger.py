"""The files that a run writes while it trains: log.txt, metrics.jsonl, grids of samples and the page."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from gancli import images
from gancli.report.formatting import short_number
from gancli.report.history import write_history
from gancli.report.loggers import Loggers, MetricLogger
from gancli.report.run_folder import is_number, read_run
from gancli.report.run_page import write_page
from gancli.runtime.files import append_line, flush_file, flush_folder, write_text
from gancli.runtime.terminal import Terminal, rate_text
from gancli.runtime.text import one_line

Row = dict[str, Any]  # a line of metrics.jsonl

# The page embeds every grid: writing it at each log line would take longer than the steps of a small model.
PAGE_SECONDS = 15.0
PAGE_INTERVAL = 100.0  # times the duration of the last writing: a page takes at most a hundredth of a long run


class RunLogger:
    """Writer of a run folder. What people follow is also shown on the terminal.

    Args:
        loggers: that write metrics and grids for other programs too.

    Attributes:
        rows: number of metric rows in metrics.jsonl.
    """

    def __init__(self, folder: Path, terminal: Terminal, loggers: Sequence[MetricLogger] = ()):
        self.folder, self.terminal, self.rows = folder, terminal, 0
        self._next_page = 0.0
        self.others = Loggers(loggers, lambda message: self.event("warning", message=message))

    def event(self, name: str, **values: Any) -> None:
        """Write an event, such as started or a warning, to metrics.jsonl and log.txt."""
        self.fact(name, **values)
        self.log(f"{name}: {values['message']}" if "message" in values else name)

    def fact(self, name: str, **values: Any) -> None:
        """Write an event to metrics.jsonl alone."""
        append_row(self.folder, {"event": name, **values})

    def rewind(self, step: int, rows: int | None = None) -> list[Row]:
        """Remove from metrics.jsonl what will be logged again; return the rows and events that are left.

        Args:
            step: step from which the run continues; what was logged after it is removed.
            rows: number of metric rows when this step was saved. Later ones of the same step, and the warnings about
                them, are those of a session that was killed before it saved; None: not known.
        """
        self.others.call("rewind", step)
        file = self.folder / "metrics.jsonl"
        lines, left, self.rows = [], [], 0
        for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the last line of a run that was killed while it wrote
            if not isinstance(row, dict):
                continue
            is_metric = "event" not in row
            self.rows += is_metric
            is_later = rows is not None and self.rows > rows and (is_metric or "finding" in row)
            if not is_later and not (is_number(row.get("step")) and row["step"] > step):
                lines.append(line + "\n")
                left.append(row)
        self.rows = sum("event" not in row for row in left)
        if file.exists():
            write_text(file, "".join(lines), durable=True)
        return left

    def log(self, text: str) -> None:
        """Write a line to log.txt and to the terminal."""
        self.note(text)
        self.terminal.say(text)

    def note(self, text: str) -> None:
        """Write a line to log.txt alone."""
        append_line(self.folder / "log.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}")

    def metrics(self, step: int, values: dict[str, float]) -> Row:
        """Append a row to metrics.jsonl and return it."""
        row = {"step": step, **values}
        append_row(self.folder, row)
        self.rows += 1
        self.others.call("metrics", step, values)
        return row

    def start_clock(self, images: int) -> None:
        """Measure images per second from now on; images: of the whole run."""
        self._clock = (time.perf_counter(), images)

    def progress(self, step: int, images: int, seconds: float, values: dict[str, float]) -> Row:
        """Log how far the run is, as a row and on the terminal. Return the row.

        Args:
            images, seconds: of the whole run, including what came before a resume.
        """
        rate = self._rate(images)
        self.start_clock(images)
        self._show(step, rate, values)
        return self.metrics(step, {"kimg": images / 1000, "minutes": seconds / 60, "images_per_second": rate, **values})

    def first_step(self, step: int, images: int, values: dict[str, float]) -> None:
        """Show the first step of a session, which has no row of its own."""
        self._show(step, self._rate(images), values)

    def _rate(self, images: int) -> float:
        start, images_before = self._clock
        return (images - images_before) / max(time.perf_counter() - start, 1e-9)

    def _show(self, step: int, rate: float, values: dict[str, float]) -> None:
        hidden = ("lr", "gradient_norm")  # these are in metrics.jsonl and on the page
        shown = [f"{name} {short_number(value)}" for name, value in values.items() if not name.startswith(hidden)]
        self.note("  ".join([f"step {step:,}", rate_text(rate), *shown]))
        self.terminal.show(shown, rate)

    def grid(self, step: int, image: Image.Image) -> Path:
        """Write a grid of samples to samples/step-N.png."""
        path = images.write(image, self.folder / "samples" / f"step-{step:07d}.png", durable=True)
        self.others.call("image", step, image)
        return path

    def real_images(self, grid: Image.Image) -> None:
        """Write a grid of real images to samples/real.png."""
        images.write(grid, self.folder / "samples" / "real.png", durable=True)

    def history(self) -> None:
        """Write samples/history.gif; a failure is only a warning, unless the disk refuses it."""
        try:
            write_history(read_run(self.folder))
        except OSError:
            raise
        except Exception as error:
            self.event("warning", message=f"samples/history.gif was not written: {one_line(error)}")

    def page(self, now: bool = False) -> None:
        """Write index.html, unless it was written a short while ago; with `now` in any case."""
        begin = time.perf_counter()
        if now or begin > self._next_page:
            try:
                write_page(self.folder)
            except Exception as error:  # no page is worth a training
                self.log(f"warning: index.html was not written: {one_line(error)}")
            end = time.perf_counter()
            self._next_page = end + max(PAGE_SECONDS, PAGE_INTERVAL * (end - begin))

    def finish(self, step: int, minutes: float, message: dict[str, str]) -> None:
        """Write the history, the page and log.txt and flush them; the event "finished", on which all rely, is last."""
        self.history()
        ending = {"event": "finished", "step": step, "minutes": minutes, **message}
        write_page(self.folder, ending)
        self.note(": ".join(["finished", *message.values()]))
        self.others.close()
        self.flush()
        append_row(self.folder, ending, durable=True)
        self.terminal.say(": ".join(["finished", *message.values()]))

    def flush(self) -> None:
        """Flush the rows and the log to the disk, as a checkpoint requires that is about to be written."""
        for name in ("metrics.jsonl", "log.txt"):
            flush_file(self.folder / name)
        flush_folder(self.folder)

    def close(self) -> None:
        self.others.close()


def append_row(folder: Path, row: Row, durable: bool = False) -> None:
    """Append a line to metrics.jsonl, floats with six decimals."""
    text = json.dumps({key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()})
    append_line(folder / "metrics.jsonl", text, durable)
