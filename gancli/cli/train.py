"""`gan train`: Hydra composes the config of one run, or its sweepers and launchers start many."""

import contextlib
import copy
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any

from gancli.checkpoint.trust import trusting
from gancli.cli.jobs import Job, assign, claim, has_subdir, identity, list_jobs, listed
from gancli.cli.overrides import TrainCommand, keys_of_choices, read_train, unknown_key
from gancli.cli.received import check_config, targets
from gancli.cli.stored import SWEEP, is_within, literal, stored_sweep
from gancli.config import (
    CONFIGS,
    ON_CPU,
    UsageError,
    flatten,
    literal_text,
    nearest,
    own_configs,
    quote,
    register_resolvers,
    search_path,
    stamp,
)
from gancli.runtime.files import check_writable
from gancli.runtime.publish import publishing
from gancli.runtime.signals import Stopped, StopRequest, current, of_worker
from gancli.runtime.text import one_line

LAUNCHERS = ("joblib", "submitit", "ray")  # each an extra


def train(words: list[str]) -> int:
    """Train one model or a sweep of them, or print a config; return the exit code."""
    command = read_train(words)
    with own_configs(*command.places), trusting(command.trust):
        return start(command)


def start(command: TrainCommand) -> int:
    """Do what was typed after `gan train`."""
    rank, size = process()
    if command.cfg:
        with hydra_of(command) as engine:
            package = command.package or None
            words = [*hydra_overrides(command), *restored(command)]
            engine.show_cfg(command.config_name, words, command.cfg, package, command.resolve)
    elif size > 1:
        train_together(command, rank, size)
    elif command.sweep:
        sweep(command)
    else:
        with StopRequest(at_once=True):
            train_one(command)
    return 0


def process() -> tuple[int, int]:
    """Return the rank of this process and the number of them, where torchrun or srun started several for one model."""
    for rank, size in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and int(os.environ.get(size, 1)) > 1:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


def train_together(command: TrainCommand, rank: int, size: int) -> None:
    """Train in one of several processes that train the same model."""
    if command.sweep:
        raise UsageError(f"these {size} processes train one model, and a sweep trains several; leave out -m")
    if "MASTER_ADDR" not in os.environ:  # torchrun sets it
        raise UsageError(
            f"srun started {size} processes which do not know where to meet; before it type export "
            f"MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) MASTER_PORT=29500"
        )
    from gancli.training.distributed import joined

    with StopRequest(at_once=True), joined(rank, size) as name:
        train_one(command, name)


def train_one(command: TrainCommand, name: str = "") -> Path:
    """Compose the config, train and return the run's folder; several processes agreed on the `name` of their run."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    with hydra_of(command, name):
        words = [*hydra_overrides(command), *restored(command), "hydra.mode=RUN"]
        cfg = hydra.compose(command.config_name, words, True)
        folder = Path(cfg.hydra.run.dir).absolute()
        with read_write(cfg.hydra.runtime):
            cfg.hydra.runtime.output_dir = literal_text(str(folder))
        HydraConfig.instance().set_config(cfg)  # for ${hydra:...} in the config
    job = copy.deepcopy(cfg)
    with read_write(job), open_dict(job):
        del job["hydra"]
    try:
        check_of(command)(job)
        with published_by(job):
            training(quiet=process()[0] > 0)(job, folder, command.words)
    finally:
        HydraConfig.instance().cfg = None
    return folder


def check_of(command: TrainCommand) -> Callable[[Any], None]:
    """Return what checks a composed config before anything is built of it."""
    typed = command.words[command.stored :]
    return partial(check_config, folder=command.received, typed=typed, classes=targets() if command.received else ())


def published_by(cfg: Any) -> contextlib.AbstractContextManager[None]:
    """Return a context in which pages and tables show what publish.paths of a config allows."""
    from omegaconf import OmegaConf

    return publishing(bool(OmegaConf.select(cfg, "publish.paths")))


def training(quiet: bool) -> Callable[..., float | None]:
    """Return the function that trains; importing it imports PyTorch, which the terminal names if it takes long."""
    from gancli.runtime.terminal import Terminal

    with Terminal(quiet) as terminal, terminal.doing("loading PyTorch"):
        from gancli.commands.train import main
    return main


@contextlib.contextmanager
def hydra_of(command: TrainCommand, name: str = "") -> Iterator[Any]:
    """Yield Hydra's engine for the configs; within `with` its errors become usage errors."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register_resolvers(name)
    check_grammar(command)
    try:
        with hydra.initialize_config_dir(str(CONFIGS), job_name="train", version_base="1.3"):
            yield GlobalHydra.instance().hydra
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error)) from error


def hydra_overrides(command: TrainCommand) -> list[str]:
    """Return the overrides, with the folders of other configs as more places to look."""
    return [*command.overrides, *search_path()]


def restored(command: TrainCommand) -> list[str]:
    """Return overrides for what the words of a continued run, without typed ones, give otherwise than its own config.

    The run's own config wins over defaults that have changed since, and over words that are lost.
    """
    if not command.config:
        return []
    import hydra
    from omegaconf import OmegaConf

    from gancli.training.config_diff import LOCAL, changes

    words = hydra_overrides(command._replace(overrides=command.overrides[: command.stored]))
    cfg = hydra.compose(command.config_name, [*words, "run.dir=none"])
    values = {key: old for key, (old, _) in changes(command.config, cfg, free=LOCAL).items()}
    # A run that goes on with device=cuda keeps what a CPU chose.
    raw, old = flatten(OmegaConf.to_container(cfg)), flatten(command.config)
    values |= {key: old[key] for key, value in raw.items() if key in old and ON_CPU.fullmatch(str(value))}
    overrides = []
    for key in [key.rpartition(".")[0] for key in values if key.endswith("._target_")]:  # objects of another class
        values = {name: value for name, value in values.items() if not is_within(name, [key])}
        if not is_within(key, command.replaced):
            there = [f"~{key}"] if OmegaConf.select(cfg, key) is not None else []
            node = reduce(lambda parent, part: parent[part], key.split("."), command.config)
            overrides += [*there, f"+{key}={literal(node)}"]
    values = {key: value for key, value in values.items() if not is_within(key, command.replaced)}
    return [*overrides, *(f"++{key}={literal(value)}" for key, value in values.items())]


def check_grammar(command: TrainCommand) -> None:
    """Raise UsageError for an override that Hydra cannot read, and for several values without -m."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    for word in command.overrides:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([word])
        except OverrideParseException as error:
            reason = error.message.splitlines()[0]
            hint = "gan train --help shows how overrides are written"
            raise UsageError(f"{word} cannot be read ({reason}); {hint}") from error
        if parsed.is_sweep_override() and not command.sweep:
            raise UsageError(f"{word} gives several values; add -m to sweep over them, as in gan train -m seed=0,1,2")


def explain(error: BaseException) -> str:
    """Return Hydra's error as one sentence, with the nearest key or choice where one was misspelt."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    cause = error.__cause__ or error
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        return unknown_key(str(cause.full_key))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        there = list(error.options or [])
        extra = choice.partition("_")[0]
        if group == "hydra/launcher" and extra in LAUNCHERS and not any(name.startswith(extra) for name in there):
            return f"{group}={choice} needs a package that is not installed; type pip install 'gancli[{extra}]'"
        return f"there is no {group or 'config'} {choice!r}{nearest(choice, there)}; there are: {', '.join(there)}"
    return f"{str(error).strip().splitlines()[0]}; gan train --help says what each key takes"


def sweep(command: TrainCommand) -> None:
    """Run every job, then rank them. Raise ValueError if jobs failed, Stopped if the sweep was stopped."""
    from hydra.types import RunMode

    from gancli.report.run_folder import resume_command

    named = any(word.startswith("run.dir=") for word in command.words)
    words = [] if named else [f"run.dir=outputs/sweeps/{stamp()}"]
    overrides = [*keys_of_choices(hydra_overrides(command)), *words, "hydra.mode=MULTIRUN"]
    folder: Path | None = None
    cfg: Any = None
    stopped: KeyboardInterrupt | None = None
    died = ""
    stop = StopRequest(at_once=True)
    try:
        with stop, hydra_of(command) as engine:
            overrides = list(map(listed, overrides))
            cfg = engine.compose_config(command.config_name, overrides, RunMode.MULTIRUN)
            folder, jobs = Path(cfg.hydra.sweep.dir), list_jobs(engine, cfg)
            # One folder for all jobs, also where it is named by something that differs between them.
            overrides.append(f"hydra.sweep.dir={quote(literal_text(str(folder)))}")
            options = {"sweep": True, "config_name": command.config_name, "config_dir": command.config_dir}
            own = [word for word in command.words if not word.startswith("run.dir=")]
            check_writable("run.dir", folder / SWEEP)
            folders = {} if has_subdir(cfg, len(jobs)) else assign(folder, jobs)
            job = partial(run_job, command=command, jobs=len(jobs), folders=folders, check=check_of(command))
            with stored_sweep(folder, own, options, folders):
                died = launch(engine, command.config_name, job, overrides)
    except KeyboardInterrupt as error:
        stopped = error
    if stop.signum:  # its jobs got the signal too and have ended
        stopped = Stopped(stop.signum)
    failed = ""
    if folder:
        with published_by(cfg):
            failed = report_sweep(folder)  # also of a sweep that was stopped
    if stopped and folder:
        with contextlib.suppress(OSError):  # the terminal was closed
            print(f"gan: to resume, type {resume_command(folder)}", file=sys.stderr)
    if stopped:
        raise stopped
    if died and folder:
        failed = f"a job's process died, and with it the sweep ({died}); to resume, type {resume_command(folder)}"
    if failed:
        raise ValueError(failed)


def launch(engine: Any, config_name: str, job: Callable[..., Any], overrides: list[str]) -> str:
    """Run every job; return what the launcher says of a worker process that died, or an empty string."""
    try:
        engine.multirun(config_name, job, overrides)
    except RuntimeError as error:  # jobs keep their own errors in their folders
        return one_line(error, 160)
    return ""


def run_job(
    cfg: Any, command: TrainCommand, jobs: int, folders: dict[Job, Path], check: Callable[[Any], None]
) -> float:
    """Train one job of a sweep; return the value that the sweeper minimises, infinity for a job that failed.

    Args:
        command: that all jobs share; the title of a job leaves out what it sets.
        jobs: their number; 0: not known.
        folders: of known jobs.
        check: raises an error for a config that must not be built.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, read_write

    check(cfg)
    worker = multiprocessing.parent_process() is not None
    stop = of_worker() if worker else current()
    hydra: Any = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    runtime: Any = OmegaConf.to_container(hydra.runtime)
    folder = Path(runtime["output_dir"])  # resolved by Hydra: ${...} in it is a name
    if folder == Path(hydra.sweep.dir).absolute():  # hydra.sweep.subdir was not typed
        folder = (folders.get(identity(overrides)) or claim(folder, hydra.job.num)).absolute()
        with read_write(hydra.runtime):
            hydra.runtime.output_dir = literal_text(str(folder))
    try:
        if stop and stop.signum:
            raise Stopped(stop.signum)
        main = training(quiet=worker)
        number = f"job {hydra.job.num + 1}" + (f" of {jobs}" if jobs else "")
        own = [word for word in overrides if word not in command.words and not word.startswith("run.dir=")]
        with published_by(cfg), trusting(command.trust):  # a worker is a new process
            value = main(cfg, folder, overrides, [number, *own])
        if value is not None:
            return value
    except Stopped:
        if not worker:  # in a worker, an error would end the others, which are saving
            raise
    except Exception:  # would end the sweep; the job's folder has its message and traceback
        pass
    return math.inf


def report_sweep(folder: Path) -> str:
    """Write and print the leaderboard; return a sentence on the jobs that failed, or an empty string."""
    from gancli.commands import report
    from gancli.report.run_folder import read_run
    from gancli.report.sweep_folder import absent_jobs, find_runs

    try:
        find_runs(folder)
    except ValueError:
        return f"no job of the sweep in {folder} has begun, so it has no leaderboard; the same command starts them"
    report.main([str(folder)])
    runs = [*(read_run(job) for job in find_runs(folder)), *absent_jobs(folder)]
    failed = [run for run in runs if run.status in ("failed", "damaged", "absent")]
    if not failed:
        return ""
    first = f"{failed[0].name}: {failed[0].message or failed[0].damage}"
    more = "; log.txt in each has its traceback" if failed[0].folder.is_dir() else ""
    return f"{len(failed)} of {len(runs)} jobs failed, the first, {first}{more}"
