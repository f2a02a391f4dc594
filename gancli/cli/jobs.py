"""The jobs of a sweep and their folders: a job is known by its overrides, whatever its number is this time."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

from gancli.config import UsageError, choices, groups, unquote

Job = frozenset[tuple[str, str]]  # its overrides: key and value


def list_jobs(engine: Any, cfg: Any) -> list[list[str]]:
    """Return the overrides of every job, or none where the sweeper chooses them as it goes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweeper = cfg.hydra.sweeper
    if not sweeper._target_.endswith("BasicSweeper"):
        return []
    words = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(cfg.hydra.overrides.task)
    parsed = OverridesParser.create(config_loader=engine.config_loader).parse_overrides(words)
    for one in parsed:
        key, text = one.get_key_element(), one.input_line
        if one.is_sweep_override() and not one.is_discrete_sweep():
            raise UsageError(f"{text} is a range to search, not a list; type sweep=optuna, or {key}=choice(...)")
        if one.is_sweep_override() and not any(True for _ in one.sweep_iterator()):
            raise UsageError(f"{text} gives no value; gan list shows the choices")
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    return jobs


def listed(word: str) -> str:
    """Return an override with glob() of a group as the choices that it matches: no base of others is one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, _, value = word.partition("=")
    group = key.lstrip("+~").partition("@")[0]
    if group not in groups() or not value.startswith("glob("):
        return word
    glob: Any = OverridesParser.create().parse_override(word).value()
    names = glob.filter(choices(group))
    if not names:
        raise UsageError(f"{word} gives no value; there are: {', '.join(choices(group))}")
    return f"{key}=choice({','.join(names)})"


def has_subdir(cfg: Any, jobs: int) -> bool:
    """Return whether hydra.sweep.subdir= was typed; raise UsageError where it cannot name the folders of the jobs."""
    from omegaconf import OmegaConf

    typed: Any = OmegaConf.to_container(cfg.hydra.sweep)  # resolved for each job
    subdir = str(typed["subdir"])
    advice = "type 'hydra.sweep.subdir=job-${hydra.job.num}', or leave it out"
    if Path(subdir).is_absolute() or ".." in Path(subdir).parts:
        raise UsageError(f"hydra.sweep.subdir={subdir} leads out of the folder of the sweep; {advice}")
    if subdir != "." and "${" not in subdir and jobs > 1:
        raise UsageError(f"hydra.sweep.subdir={subdir} is one folder for {jobs} jobs; {advice}")
    return subdir != "."


def identity(words: list[str]) -> Job:
    """Return what tells a job from others."""
    pairs = (word.partition("=") for word in map(str, words))
    return frozenset((key, unquote(value)) for key, _, value in pairs if not key.startswith(("run.", "hydra")))


def assign(folder: Path, jobs: list[list[str]]) -> dict[Job, Path]:
    """Return a folder for every job: that of an equal or continued job of an earlier sweep, else a new one."""
    from gancli.training.config_diff import FREE

    earlier = earlier_jobs(folder)
    wanted = [identity(job) for job in jobs]
    shared = frozenset.intersection(*wanted) if wanted else frozenset()
    free = {key for key, _ in shared if key.startswith(FREE)}  # a run may change them, as its length
    folders = {job: path for path, (job, _) in earlier.items()}
    left = {job: run for job, run in earlier.values() if job not in wanted}
    numbers = (path for i in itertools.count() if (path := folder / str(i)) not in earlier)
    for job in wanted:
        if job not in folders:
            old = next((old for old, run in left.items() if _continues(job, old, run, free)), None)
            folders[job] = left.pop(old).folder if old is not None else next(numbers)
    return folders


def earlier_jobs(folder: Path) -> dict[Path, tuple[Job, Any]]:
    """Return the folder of each run of a sweep that was started before, with its job and what it stored."""
    from gancli.report.run_folder import read_run
    from gancli.report.sweep_folder import find_runs, planned_jobs

    planned, earlier = planned_jobs(folder), {}
    with contextlib.suppress(ValueError, OSError):  # there is none
        for path in find_runs(folder):
            run = read_run(path)
            # A job whose log was damaged is known by what the sweep planned.
            earlier[path] = identity(list(run.started.get("overrides") or planned.get(path.name) or [])), run
    return earlier


def _continues(job: Job, old: Job, run: Any, free: set[str]) -> bool:
    """Return whether a job is an old one, apart from free keys and from keys that are typed now at their old values."""
    now, before = dict(job), dict(old)
    for key in free:
        now.pop(key, None)
        before.pop(key, None)
    config = run.config
    return before.items() <= now.items() and all(_has(config, *pair) for pair in now.items() - before.items())


def _has(config: dict[str, Any], key: str, value: str) -> bool:
    """Return whether a resolved config has a value that was typed."""
    import yaml

    node: Any = config
    for part in key.replace("/", ".").split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if key in groups():
        node = node.get("name") if isinstance(node, dict) else None
    return node is not None and node == yaml.safe_load(value)


def claim(folder: Path, number: int) -> Path:
    """Return a new folder for a job that nobody knew in advance; several processes may ask at once."""
    for i in itertools.count(number):
        with contextlib.suppress(FileExistsError):
            (folder / str(i)).mkdir(parents=True)
            return folder / str(i)
    raise AssertionError
