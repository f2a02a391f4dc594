"""gan train: one run, from a composed config to what is printed at its end."""

import contextlib
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from gancli.report.run_folder import resume_command
from gancli.runtime import ranks
from gancli.runtime.determinism import deterministic
from gancli.runtime.files import check_writable, make_folder, relative
from gancli.runtime.hardware import is_out_of_memory
from gancli.runtime.links import refuse_links
from gancli.runtime.locks import RunBusy, RunLock
from gancli.runtime.terminal import Terminal, say
from gancli.runtime.text import sentence
from gancli.training.run import TrainingRun
from gancli.training.run_log import NonFinite, record_failure


def main(cfg: DictConfig, folder: Path, overrides: list[str], job: Sequence[str] = ()) -> float | None:
    """Train one run and return the score that a sweeper minimises; errors are raised and logged in the run folder.

    Args:
        overrides: as they were typed.
        job: such as ["job 3 of 6", "seed=1"] in a sweep, where each job prints one line; empty for a run alone.
    """
    name, run = "  ".join(job), None
    worker = multiprocessing.parent_process() is not None  # whose bar would overwrite those of the others
    terminal = Terminal(quiet=bool(job) or not ranks.is_first(), title=() if worker else job)
    try:
        _make_folder(folder)
        refuse_links(folder)
        lock = RunLock(folder) if ranks.is_first() else contextlib.nullcontext()
        with deterministic(cfg.deterministic), lock, terminal:
            run = TrainingRun(cfg, folder, overrides, terminal)
            run.warnings += [lock.warning] if isinstance(lock, RunLock) and lock.warning else []
            score = run.train()
    except BaseException as error:
        failure = _with_advice(error, run)
        if ranks.is_first():
            _clean_up(failure, folder, overrides, started=bool(job or run))
            if run and run.began and not job and not isinstance(failure, NonFinite):
                with contextlib.suppress(OSError):  # the terminal was closed
                    say(f"gan: to resume, type {resume_command(folder)}")
            if isinstance(failure, Exception) and job:
                outcome = "skipped" if isinstance(failure, RunBusy) else "failed"
                say(f"{name}  {outcome}: {sentence(failure)}")
        raise failure from failure.__cause__
    if job:
        say(f"{name}  {'was done' if run.finished else 'done'}: {relative(folder)}")
    elif ranks.is_first():
        print(folder)
    return score


def _make_folder(folder: Path) -> None:
    """Make the folder of a run; raise ValueError where it cannot be written."""
    check_writable("run.dir", folder)
    try:
        make_folder(folder)
    except FileExistsError:
        raise ValueError(f"run.dir={folder} is a file; type another run.dir=") from None


def _with_advice(error: BaseException, run: TrainingRun | None) -> BaseException:
    """Return the error to raise: sys.exit would end a whole sweep, and an allocator does not say what to type."""
    if isinstance(error, SystemExit):
        return RuntimeError(f"the job called sys.exit({error.code})")
    if is_out_of_memory(error):
        early = "the networks or the data do not fit into memory; type a smaller model.width= or data.size="
        advice = ValueError(run.out_of_memory() if run else early)
        advice.__cause__ = error
        return advice
    return error


def _clean_up(error: BaseException, folder: Path, overrides: list[str], started: bool) -> None:
    """Record a failure in the folder, or remove a folder in which nothing was written."""
    if isinstance(error, Exception) and not isinstance(error, RunBusy) and started:
        record_failure(folder, error, overrides)
    else:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()
