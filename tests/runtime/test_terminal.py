"""What a training shows on a terminal of any width, and elsewhere: a bar that moves, and lines that fit."""

import contextlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import TINY
from tqdm.utils import disp_len

from gancli.runtime import terminal
from gancli.runtime.terminal import Progress, Terminal, say, wrap
from gancli.training.loop import Trainer

pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
LONG = "warning: the data have 40 pairs and a batch has 64 of them; type data.batch_size=32, or gan data check pairs/"
VALUES = ["D/adversarial 0.435", "D(real) 0.878", "D(fake) 0.120"]


class Screen:
    """A terminal as standard error: what was written to it, and the rows as they were drawn."""

    def __init__(self, columns: int):
        self.ours, self.theirs = pty.openpty()
        self.resize(columns)
        self.written = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.theirs, (24, columns))

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux's sign that the other end is closed
            while part := os.read(self.ours, 65536):
                self.written += part

    @property
    def rows(self) -> list[str]:
        text = self.written.decode().replace("\x1b[K", "").replace("\x1b[A", "")
        return [row.rstrip() for row in re.split(r"[\r\n]+", text)]


@pytest.fixture
def on_screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], contextlib.AbstractContextManager[Screen]]]:
    """Return a context in which standard error is a terminal of so many columns."""

    @contextlib.contextmanager
    def use(columns: int) -> Iterator[Screen]:
        screen = Screen(columns)
        with monkeypatch.context() as patch, os.fdopen(screen.theirs, "w") as file:
            patch.setattr(sys, "stderr", file)
            yield screen
        screen.reader.join(timeout=10)
        os.close(screen.ours)

    yield use


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def half_done() -> Progress:
    return Progress(step=50, steps=100, images=3200, fraction=0.5)


@pytest.mark.parametrize(
    ("columns", "shown", "dropped"),
    [
        (30, ["job 3 of 6", " 50%|"], ["seed=1", "step", "images/s"]),
        (50, ["job 3 of 6", "seed=1", " 50%|", "left"], ["images/s"]),
        (80, ["job 3 of 6", "seed=1", " 50%|", "left", "step 50 of 100", "images/s"], VALUES),
        (160, ["job 3 of 6", "seed=1", " 50%|", "left", "step 50 of 100", "images/s", *VALUES], []),
    ],
)
def test_a_narrow_terminal_drops_fields_from_the_right(on_screen, columns, shown, dropped):
    with on_screen(columns) as screen, Terminal(quiet=True, title=["job 3 of 6", "seed=1"]) as shows:
        states = iter([Progress(0, 100, 0, 0.0)])
        shows.track(lambda: next(states, half_done()), seconds_left=60)
        shows.show(VALUES, 235.0)
    row = next(row for row in screen.rows if "%|" in row)
    assert all(text in row for text in shown) and not any(text in row for text in dropped), row
    assert max(map(disp_len, screen.rows)) <= columns


def test_a_resized_terminal_gets_rows_that_fit(on_screen):
    with on_screen(100) as screen, Terminal() as shows:
        shows.track(half_done, seconds_left=60)
        shows.show(VALUES, 235.0)
        wait(lambda: VALUES[0] in screen.rows[-1])
        before = len(screen.written)
        screen.resize(40)
        shows.say(LONG)
        shows.show(VALUES, 235.0)
    rows = [row.rstrip() for row in re.split(r"[\r\n]+", screen.written[before:].decode().replace("\x1b[K", ""))]
    assert max(map(len, rows)) <= 40 and " ".join("\n".join(rows).split()).find("of them; type data.batch_size=32") > 0


def test_the_bar_moves_while_nothing_else_does(on_screen, monkeypatch):
    monkeypatch.setattr(terminal, "TICK", 0.01)
    with on_screen(80) as screen, Terminal() as shows:
        with shows.doing("loading data=mnist"):
            wait(lambda: {"loading data=mnist 0:00", "loading data=mnist 0:01"} <= set(screen.rows))
        shows.track(half_done, seconds_left=60)
        wait(lambda: len({row for row in screen.rows if "left" in row}) > 1)  # the time is counted down


def test_long_tasks_and_silence_get_lines_where_there_is_no_terminal(capfd, monkeypatch):
    monkeypatch.setattr(terminal, "TICK", 0.01)
    monkeypatch.setattr(terminal, "LONG_TASK", 0.0)
    read: list[str] = []

    def told() -> str:
        """Return all that was written: a line may come in parts."""
        read.append(capfd.readouterr().err)
        return "".join(read)

    with Terminal() as shows:
        with shows.doing("loading data=mnist"):
            wait(lambda: told() == "loading data=mnist ...\n")
        shows.track(half_done, seconds_left=65)
        monkeypatch.setattr(terminal, "SILENCE", 0.0)
        wait(lambda: re.search(r"^ 50%  step 50  \d:\d\d left$", told(), re.MULTILINE))
    capfd.readouterr()
    with Terminal(quiet=True) as shows, shows.doing("loading"):
        time.sleep(0.05)
    assert capfd.readouterr().err == ""


def test_long_lines_break_between_words_and_paths_and_commands_stay_whole():
    lines = wrap(LONG, 40).splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(" ".join(lines).split()) == LONG
    path = "outputs/" + "long" * 20
    assert path in wrap(f"open {path}/index.html to watch it", 40).splitlines()[1]
    command = "gan train resume=outputs/dcgan-mnist trainer.steps=400"
    assert f"  {command}" in wrap(f"gan: to resume, type {command}", 40).splitlines()


@pytest.mark.parametrize("columns", [80, 50, 30])
def test_a_training_fits_any_terminal_and_shows_its_first_step(gan, on_screen, columns):
    words = [word for word in TINY if "log_every" not in word]
    with on_screen(columns) as screen:
        code = gan("train", *words, "model=mlp", "run.dir=run", "trainer.preflight=true")[0]
    assert code == 0 and max(map(disp_len, screen.rows)) <= columns, screen.rows
    assert any("step 1" in row for row in screen.rows) or columns == 30
    assert any(row.startswith("100%|") for row in screen.rows) and "open run/index.html" in "\n".join(screen.rows)
    assert any("D/adversarial" in row for row in screen.rows) == (columns == 80)
    assert not any("min left" in row for row in screen.rows)


def test_the_first_step_gets_a_line_where_there_is_no_terminal_and_no_row(gan):
    words = [word for word in TINY if "log_every" not in word]
    code, _, error = gan("train", *words, "model=mlp", "run.dir=run")
    assert code == 0 and re.search(r"^ 16%  step 1  \S+ images/s  D/adversarial ", error, re.MULTILINE), error
    assert '"step": 1,' not in Path("run/metrics.jsonl").read_text()


@pytest.mark.parametrize("preflight", [True, False])
def test_the_page_is_there_before_the_first_step(gan, monkeypatch, preflight):
    """Before a trial it says that samples will come, and before the first step it shows those of the start."""
    pages = []
    train_step = Trainer.train_step

    def read_page(trainer, progress):
        pages.append(Path("run/index.html").read_text())
        train_step(trainer, progress)

    monkeypatch.setattr(Trainer, "train_step", read_page)
    code, _, error = gan("train", *TINY, "model=mlp", "run.dir=run", f"trainer.preflight={preflight}")
    assert code == 0 and error.count("open run/index.html") == 1
    waiting = ["appears here in a moment" in page for page in pages]
    assert waiting[0] == preflight and not waiting[-6], "the last six are those of the training"
    assert "appears here in a moment" not in Path("run/index.html").read_text()


@pytest.mark.slow
def test_the_jobs_of_a_sweep_have_a_bar_each_and_a_line_at_their_end(gan, on_screen):
    words = [word for word in TINY if "log_every" not in word]
    with on_screen(100) as screen:
        code = gan("train", "-m", *words, "model=mlp", "seed=0,1", "run.dir=s")[0]
    assert code == 0
    for job in ("job 1 of 2  seed=0", "job 2 of 2  seed=1"):
        assert any(row.startswith(f"{job}   16%|") and "step 1 of 6" in row for row in screen.rows), screen.rows
        assert any(row.startswith(f"{job}  done: s/") for row in screen.rows)
    assert "training: " not in screen.written.decode()


@pytest.mark.parametrize("ending", ["broken pipe", "closed", "none"])
def test_a_standard_error_that_nobody_reads_ends_no_run(gan, monkeypatch, ending):
    read, write = os.pipe()
    os.close(read)
    file = os.fdopen(write, "w", buffering=1)
    if ending == "closed":
        file.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None if ending == "none" else file)
        say("nobody reads this")
        code = gan("train", *TINY, "model=mlp", "run.dir=run")[0]
        assert code == 0 and Path("run/checkpoints/last.safetensors").exists()
        assert gan("train", *TINY, "model=none")[0] == 2
