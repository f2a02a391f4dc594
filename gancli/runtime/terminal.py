"""Standard error of a training: lines of text and, on a terminal, a bar below them that moves all the time."""

import contextlib
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm
from tqdm.utils import disp_len, disp_trim

from gancli.runtime.signals import current

TICK = 0.5  # seconds between two drawings of the bar
SILENCE = 60.0  # seconds after which a line follows where there is no terminal, and so no bar
MOMENT = 1.0  # seconds after which the bar names a task; sooner it would only flicker
LONG_TASK = 5.0  # seconds after which a line names it where there is no terminal
SPARE = 2  # columns right of the bar, for the ^C that a terminal writes there
MIN_BAR = 6  # columns
RATE_SECONDS = 3.0  # shortest time over which images per second are measured
COMMAND = re.compile(r"(?<=type )gan .*?(?=[;,] |$)")  # in a message


def on_terminal() -> bool:
    """Return whether standard error is a terminal."""
    with contextlib.suppress(ValueError):  # it is closed
        return bool(sys.stderr) and sys.stderr.isatty()
    return False


def say(text: str) -> None:
    """Print a text on standard error, above any bar. On a terminal long lines are broken between words.

    A standard error that is closed, or that nobody reads any more, ends no training: the text is dropped.
    """
    if sys.stderr is None:
        return
    try:
        if on_terminal():
            text = wrap(text, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):  # what is still buffered would fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def wrap(text: str, columns: int) -> str:
    """Return a text whose lines are no longer than `columns`, except for a long word: a path must be copied whole.

    A command after "type" counts as one word for the same reason.
    """
    text = COMMAND.sub(lambda match: match[0].replace(" ", "\0"), text)
    wrapped = [
        textwrap.fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return "\n".join(wrapped).replace("\0", " ")


class Progress(NamedTuple):
    """State of a training: steps so far and in all (0: not known), images so far, used fraction of the budget."""

    step: int
    steps: int
    images: int
    fraction: float


class Pace:
    """Speed of a training since it was started or resumed.

    Args:
        seconds_left: forecast that is used until the first step is done; 0: none.
    """

    def __init__(self, progress: Progress, seconds_left: float = 0.0):
        self.start = self._seen_at = self._rate_start = time.perf_counter()
        self.first = self.last = self._rate_first = progress
        self.images_per_second = 0.0
        self._left = seconds_left

    def add(self, progress: Progress, paused: bool) -> None:
        """Add the state of this moment; paused: something else than steps takes the time."""
        now = time.perf_counter()
        if progress.step < self.last.step:  # a rollback
            self.start, self.first, self._rate_start, self._rate_first = now, progress, now, progress
        elif progress.fraction > self.last.fraction:
            done = progress.fraction - self.first.fraction
            self._left, self._seen_at = (now - self.start) * (1 - progress.fraction) / done, now
        if paused:
            self._rate_start, self._rate_first = now, progress
        elif progress.step > self.last.step and now - self._rate_start >= RATE_SECONDS:
            self.images_per_second = (progress.images - self._rate_first.images) / (now - self._rate_start)
            self._rate_start, self._rate_first = now, progress
        self.last = progress

    def time(self) -> str:
        """Return the time left, counted down between steps; before the first and after the last step, that passed."""
        now = time.perf_counter()
        if self._left and self.last.fraction < 1:
            return f"{clock(max(self._left - (now - self._seen_at), 1))} left"
        return clock(now - self.start)


class Terminal:
    """Context in which a training prints its lines and, on a terminal, shows what it does and how far it is.

    A thread draws the bar twice a second, so that it moves while a step, an evaluation or a download takes long. Where
    there is no terminal it prints a line after a minute without one.

    Args:
        quiet: print no lines. With a title there is still a bar.
        title: of the bar, such as ["job 3 of 6", "seed=1"]; a narrow terminal shows the first part only.
    """

    def __init__(self, quiet: bool = False, title: Sequence[str] = ()):
        self.quiet, self.title = quiet, list(title)
        self._lines = not quiet and not on_terminal()
        self._has_bar = on_terminal() and (not quiet or bool(title))
        self._bar: _Bar | None = None
        self._task, self._task_start, self._task_named = "", 0.0, False
        self._progress: Callable[[], Progress] | None = None
        self._pace: Pace | None = None
        self._values: list[str] = []
        self._last_line = time.perf_counter()
        self._ended, self._stop_named = threading.Event(), False

    def __enter__(self) -> "Terminal":
        if self._has_bar:
            self._bar = _Bar(self._compose)
        if self._has_bar or self._lines:
            self._thread = threading.Thread(target=self._run, daemon=True, name="terminal")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._has_bar or self._lines:
            self._thread.join(timeout=2 * TICK)  # no longer: Ctrl-S may have stopped the terminal
        if self._bar:
            self._bar.leave = bool(self._pace) and not self.quiet
            self._bar.close()

    def say(self, text: str) -> None:
        """Print a line, unless quiet."""
        if not self.quiet:
            self._last_line = time.perf_counter()
            say(text)

    @contextlib.contextmanager
    def doing(self, task: str) -> Iterator[None]:
        """Name a task while the body of `with` runs, if it takes more than a moment."""
        before = self._task, self._task_start, self._task_named
        self._task, self._task_start, self._task_named = task, time.perf_counter(), False
        try:
            yield
        finally:
            self._task, self._task_start, self._task_named = before

    def track(self, progress: Callable[[], Progress], seconds_left: float = 0.0) -> None:
        """Show from now on how far a training is; the thread calls `progress`.

        Args:
            seconds_left: forecast; 0: none.
        """
        self._progress, self._pace = progress, Pace(progress(), seconds_left)

    def show(self, values: list[str], images_per_second: float) -> None:
        """Show values, the most important first: in the bar, or as a line where there is none."""
        self._values = values
        if self._pace:
            self._pace.images_per_second = images_per_second
        if self._bar:
            self._bar.refresh()
        elif self._lines:
            self._print_progress(values, images_per_second)

    def _print_progress(self, values: list[str], images_per_second: float) -> None:
        if pace := self._look():
            rate = [rate_text(images_per_second)] if images_per_second else []
            self.say("  ".join([percent(pace), f"step {pace.last.step:,}", *rate, *values, pace.time()]))

    def _look(self) -> Pace | None:
        """Return the pace with the progress of this moment, or None before the training."""
        if self._pace and self._progress:
            self._pace.add(self._progress(), paused=bool(self._task))
        return self._pace

    # --- the thread

    def _run(self) -> None:
        while not self._ended.wait(TICK):
            self._tick(time.perf_counter())

    def _tick(self, now: float) -> None:
        """Draw the bar; without one, print a line where nothing was printed for long."""
        request = current()
        if self._pace and request and request.signum and not self._stop_named:
            self._stop_named = True
            self.say("stopping: this step is finished and saved first; Ctrl-C again stops at once, without saving")
        if self._bar:
            self._bar.refresh()
        elif self._task and not self._task_named and now - self._task_start > LONG_TASK:
            self._task_named = True
            self.say(f"{self._task} ...")
        elif now - self._last_line > SILENCE:
            task = [self._task] if self._task else []
            self._print_progress(task, self._pace.images_per_second if self._pace else 0.0)

    def _compose(self, columns: int) -> tuple[float, str, str]:
        """Return what the bar shows in so many columns: the fraction, or -1 for no bar, and the texts beside it."""
        pace, seconds = self._look(), time.perf_counter() - self._task_start
        named = self._task and (not pace or seconds >= MOMENT)
        task = [f"{self._task} {clock(seconds)}"] if named else []
        if not pace:
            return -1.0, disp_trim("  ".join([*self.title[:1], *task, *self.title[1:]]), columns), ""
        step = f"step {pace.last.step:,}" + (f" of {pace.last.steps:,}" if pace.last.steps else "")
        rate = [rate_text(pace.images_per_second)] if pace.images_per_second else []
        left, right = self.title[:1], list[str]()
        room = columns - len(f"{percent(pace)}||") - MIN_BAR - sum(disp_len(text) + 2 for text in left)
        # The most important first; those that do not fit are left out.
        texts = [(right, pace.time()), *((left, word) for word in self.title[1:])]
        texts += [(right, text) for text in (*task, step, *rate, *self._values)]
        for side, text in texts:
            room -= disp_len(text) + (2 if side else 1)
            if room < 0:
                break
            side.append(text)
        return pace.last.fraction, "  ".join([*left, percent(pace)]), " " + "  ".join(right)


class _Bar(tqdm):
    """Last row of the terminal.

    Args:
        compose: returns the fraction, or -1 for no bar, and the texts left and right of it, for a number of columns.
    """

    def __init__(self, compose: Callable[[int], tuple[float, str, str]]):
        self.compose = compose
        super().__init__(total=1.0, file=sys.stderr, dynamic_ncols=True)

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        columns = max((values["ncols"] or 80) - SPARE, 1)
        fraction, left, right = self.compose(columns)
        form = "{left}" if fraction < 0 else "{left}|{bar}|{right}"
        return {**values, "ncols": columns, "n": fraction, "bar_format": form, "left": left, "right": right}

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """Return a function that replaces the row. tqdm's own pads it as if no window were ever made narrower."""
        if os.name == "nt":
            return tqdm.status_printer(file)

        def print_row(text: str) -> None:
            file.write(f"\r{text}\x1b[K")
            file.flush()

        return print_row


def percent(pace: Pace) -> str:
    """Return the used fraction of the budget; only the end is 100 %."""
    return f"{int(100 * pace.last.fraction):3d}%"


def clock(seconds: float) -> str:
    """Return a duration such as 0:07, 12:34 or 1:02:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def rate_text(images_per_second: float) -> str:
    """Return images per second, with two digits where they are few."""
    return f"{images_per_second:,.0f} images/s" if images_per_second >= 10 else f"{images_per_second:.2g} images/s"
