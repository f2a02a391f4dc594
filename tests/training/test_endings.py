"""A run that ends, ends whole: however it dies, the same command again leaves what an undisturbed run leaves."""

import errno
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, assert_same_runs, start, stop
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from gancli.checkpoint import format as checkpoint
from gancli.report import logger
from gancli.report.logger import RunLogger
from gancli.report.run_folder import read_run
from gancli.runtime import files
from gancli.training import checkpoint_manager
from gancli.training.checkpoint_manager import BEST, LAST
from gancli.training.run import TrainingRun

FORKS = sys.platform == "linux" and not torch.cuda.is_available()  # where torch may train in the fork of a training
MLP = ["train", "model=mlp", *TINY, "run.dir=run"]
EVALUATED = ["data.channels=1", "data.n=80", "trainer.evaluate_n=80"]


def names(run: Path) -> list[str]:
    """Return the names of all files of a run."""
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def last_step(run: Path) -> int:
    return checkpoint.read(run / "checkpoints" / LAST)["step"]


class Died(BaseException):
    """The process dies here."""


def die(*_: object, **__: object) -> None:
    raise Died


# --- kills


@pytest.fixture
def kills(monkeypatch):
    """The bench of kills, which composes a config once."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks" / "attack")
    import kills

    remembering = kills.remembering(ConfigLoaderImpl.load_configuration)
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", remembering)
    return kills


@pytest.mark.slow
@pytest.mark.skipif(not FORKS, reason="forks a process that has trained")
@pytest.mark.parametrize(("scenario", "cases"), [("best", 2), ("sweep", 1)])
def test_a_run_killed_at_a_file_event_of_its_end_is_completed(scenario, cases, kills, tmp_path):
    bench = kills.Bench(tmp_path, kills.SCENARIOS[scenario])
    assert bench.events > 200 and 50 < bench.events - bench.first < 200
    bench.rng = random.Random(4)
    assert kills.events(bench, cases)["failures"] == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, as Linux does well")
def test_kills_power_cuts_and_full_disks_anywhere_lose_no_bit():
    bench = [sys.executable, "benchmarks/attack/kills.py", "--cases", "1", "--seed", "1"]
    done = subprocess.run(bench, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "4 cases, 0 failures" in done.stdout, done.stdout + done.stderr


def test_a_row_that_a_stopped_session_owed_has_the_rate_of_its_step(tmp_path):
    start(tmp_path / "whole", "srgan", "trainer.steps=5").train()  # its rate drops to a tenth
    stop(start(tmp_path / "run", "srgan", "trainer.steps=5"), 5)  # saves the last step, which has no row yet
    start(tmp_path / "run", "srgan", "trainer.steps=5").train()
    assert_same_runs(tmp_path / "whole", tmp_path / "run")


def test_every_session_that_dies_in_the_last_seconds_leaves_them_to_the_next(tmp_path, monkeypatch):
    words = [f"trainer.{task}_every=4" for task in ("evaluate", "log", "sample")]
    words = [*EVALUATED, *words, "trainer.checkpoint_every=100"]
    monkeypatch.setattr(checkpoint_manager, "MAX_FRACTION", float("inf"))  # no save in a thread
    start(tmp_path / "whole", "mlp", *words).train()
    run, best = tmp_path / "run", tmp_path / "run/checkpoints" / BEST
    link = checkpoint.link
    with monkeypatch.context() as patch:  # before the best of step 4 gets its name
        patch.setattr(checkpoint, "link", lambda path, to: die() if to == best else link(path, to))
        with pytest.raises(Died):
            start(run, "mlp", *words).train()
    assert last_step(run) == 4 and not best.exists(), "it is never ahead of the last one"
    stop(start(run, "mlp", *words), 6)  # saves before the tasks of the end
    assert last_step(run) == 6 and best.exists()
    with monkeypatch.context() as patch:  # after these tasks, before they are saved
        patch.setattr(TrainingRun, "save", die)
        with pytest.raises(Died):
            start(run, "mlp", *words).train()
    with monkeypatch.context() as patch:  # after the last save
        patch.setattr(RunLogger, "history", die)
        with pytest.raises(Died):
            start(run, "mlp", *words).train()
    assert read_run(run).status == "running"
    start(run, "mlp", *words).train()
    assert_same_runs(tmp_path / "whole", run)
    assert names(tmp_path / "whole") == names(run) and read_run(run).status == "finished"
    for file in (tmp_path / "whole/samples").iterdir():
        assert file.read_bytes() == (run / "samples" / file.name).read_bytes()


# --- full disks and lost names


def test_a_full_disk_names_the_file_and_what_to_do_and_the_same_command_completes(gan, monkeypatch):
    append, rows = logger.append_line, []

    def fill(path: Path, line: str, durable: bool = False) -> None:
        rows.append(line)
        if '"step": 2' in line:
            with files.naming(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(path, line, durable)

    with monkeypatch.context() as patch:
        patch.setattr(logger, "append_line", fill)
        code, _, error = gan(*MLP, "trainer.steps=2")
    assert code == 1 and "run/metrics.jsonl: No space left on device; what is saved is safe: make room there" in error
    assert gan(*MLP, "trainer.steps=2")[0] == 0 and read_run(Path("run")).status == "finished"


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path):
    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"page\.html") as raised:
        files.write_atomically(tmp_path / "page.html", fail)
    assert raised.value.filename == str(tmp_path / "page.html") and not [*tmp_path.iterdir()]


def test_new_folders_are_flushed_into_their_parents(tmp_path, monkeypatch):
    flushed: list[Path] = []
    monkeypatch.setattr(files, "flush_folder", flushed.append)
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir() and sorted(flushed) == [tmp_path, tmp_path / "a"]


@pytest.mark.slow
def test_files_that_a_dead_process_left_go_with_the_next_start(gan):
    sweep, name = [*MLP, "trainer.steps=1", "-m", "seed=0"], ".999999999-0123abcd.partial.csv"
    assert gan(*sweep)[0] == 0
    partials = [Path("run", place, name) for place in ("", "0", "0/samples", "0/checkpoints")]
    for partial in partials:
        partial.write_text("half")
    Path("run/0/metrics.jsonl").unlink()  # so that it is not finished
    assert gan(*sweep)[0] == 0 and not [partial for partial in partials if partial.exists()]


# --- streams


@pytest.fixture
def broken():
    """A stream that nobody reads any more, as of `gan train | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True)
    yield stream
    stream.close()


@pytest.mark.parametrize("closed", [False, True])
def test_streams_that_are_closed_or_unread_end_no_run(closed, broken, gan, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if closed else broken)
    assert gan(*MLP, "trainer.steps=1")[0] == 0
    assert read_run(Path("run")).status == "finished" and read_run(Path("run")).last_step == 1


@pytest.mark.slow
@pytest.mark.parametrize("pipe", ["2>&1 | head -n 1", "<&- >&- 2>/dev/full"])
def test_a_shell_that_stops_reading_ends_no_run(pipe, tmp_path):
    command = f"'{sys.executable}' -m gancli {' '.join(MLP)} {pipe}"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True)
    assert read_run(tmp_path / "run").status == "finished"
