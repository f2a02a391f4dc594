"""What a run or a sweep stored in its folder, so that the folder alone continues it. Needs neither Hydra nor torch."""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gancli.config import QUOTED, UsageError, flatten, groups, literal_text, quote, unquote
from gancli.runtime.files import relative, typed_path, write_text

SWEEP = "sweep.json"  # in the folder of a sweep: the words that started it
BUDGET = ("trainer.steps", "trainer.minutes", "trainer.kimg")
Word = tuple[str, str, str]  # key, "=" or "", value


class Stored(NamedTuple):
    """A run or a sweep that is continued."""

    words: list[Word]  # that it was started with
    config: dict[str, Any]  # resolved; empty for a sweep
    options: dict[str, Any]  # of TrainCommand, for a sweep
    received: str  # its folder, if somebody else started it, else empty


def folder_of(typed: list[Word]) -> tuple[Path | None, list[Word]]:
    """Return the folder of resume=RUN, SWEEP or latest, and the words with run.dir= in its place."""
    given = [value for key, _, value in typed if key == "resume"]
    if not given:
        return None, typed
    if any(key == "run.dir" for key, _, _ in typed):
        raise UsageError("resume= and run.dir= both name the folder; leave one out")
    folder = Path(unquote(given[-1]))
    if given[-1] == "latest":
        from gancli.checkpoint.format import latest_run

        try:
            folder = latest_run()
        except ValueError as error:
            raise UsageError(str(error)) from None
    if folder.is_file() and folder.parent.name == "checkpoints":
        raise UsageError(f"resume={folder} is a checkpoint; type resume={relative(folder.parent.parent)}, its run")
    if not is_run(folder) and not (folder / SWEEP).is_file():
        raise UsageError(f"resume={folder} holds no run to continue; type resume=latest, or the folder of a run")
    path = quote(str(folder)) if QUOTED.fullmatch(str(folder)) else str(folder)
    return folder, [*(word for word in typed if word[0] != "resume"), ("run.dir", "=", path)]


def is_run(folder: Path) -> bool:
    """Return whether a training has begun in a folder."""
    return (folder / "metrics.jsonl").is_file() or (
        (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir()
    )


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds something to continue."""
    return any((folder / "checkpoints").glob("[!.]*.safetensors"))


def read_stored(folder: Path, split: Callable[[str], Word]) -> Stored:
    """Read what a run or a sweep was started with.

    Args:
        split: splits a word into its full key, "=" or "", and its value.
    """
    from gancli.runtime.cache import is_remembered_text

    if (folder / SWEEP).is_file():
        text = (folder / SWEEP).read_text(encoding="utf-8", errors="replace")
        typed, options = _read_sweep(folder, text)
        return Stored([split(word) for word in typed], {}, options, "" if is_remembered_text(text) else str(folder))
    from gancli.report.run_folder import read_run, records_of

    run = read_run(folder)
    given, cwd = run.started.get("overrides"), Path(str(run.started.get("cwd") or ""))
    words = [split(str(word)) for word in (given if isinstance(given, list) else [])]
    words = [word for word in words if not bare(word[0]).startswith(("run.", "resume.", "hydra"))]
    data = run.config.get("data")
    for key in ("path", "sources"):
        if isinstance(data, dict) and isinstance(old := data.get(key), str) and old:
            found = _reachable(old, cwd)
            for node in (data, data.get("source")):
                if isinstance(node, dict) and node.get(key) == old:
                    node[key] = found
            words = [("data." + key, "=", literal(found)) if word[0] == f"data.{key}" else word for word in words]
    is_own = all(map(is_remembered_text, records_of(folder, given)))
    return Stored(words, run.config, {}, "" if is_own else str(folder))


def _read_sweep(folder: Path, text: str) -> tuple[list[str], dict[str, Any]]:
    """Return the words and options of a sweep's file, which may be untrusted."""
    try:
        content = json.loads(text)
        words, options = [str(word) for word in content["words"]], content["options"]
        return words, {"sweep": True, **{key: str(options[key]) for key in ("config_name", "config_dir")}}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{folder / SWEEP} cannot be read; type the words of the sweep again, with run.dir=") from None


def _reachable(path: str, cwd: Path) -> str:
    """Return a path that was typed in the folder `cwd` as it is reached from here, where another may have its name."""
    here, there = typed_path(path), cwd / path
    return str(there) if there.exists() and not (here.exists() and here.samefile(there)) else path


def replaced_keys(stored: list[Word], typed: list[Word]) -> list[str]:
    """Return the keys whose stored values do not count: typed ones, and all of a group with another choice."""
    before = {key: value for key, _, value in stored}
    keys = []
    for key, _, value in typed:
        keys.append(bare(key))
        if bare(key) in groups() and before.get(key) != value:
            keys.append(bare(key).replace("/", "."))
    return keys


def bare(key: str) -> str:
    """Return a key without the + or ~ before it."""
    return key.lstrip("+~")


def is_within(key: str, parents: Collection[str]) -> bool:
    """Return whether a key or group is one of `parents` or below one."""
    return any(key == parent or key.startswith((f"{parent}.", f"{parent}/")) for parent in parents)


def other_budgets(stored: Stored, typed: list[Word]) -> list[str]:
    """Return the limits of a run's length that a typed new limit replaces: more minutes end a run of 100 steps too."""
    keys = {bare(key): value for key, _, value in typed}
    old = flatten(stored.config)
    changed = [key for key in BUDGET if key in keys and keys[key] != str(old.get(key))]
    if not changed or {"experiment", "trainer"} & keys.keys():
        return []
    return [key for key in BUDGET if key not in keys and old.get(key) is not None]


def literal(value: Any) -> str:
    """Return a value of a config as Hydra reads it."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{literal(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return quote(literal_text(value)) if isinstance(value, str) else str(value)


@contextlib.contextmanager
def stored_sweep(
    folder: Path, words: list[str], options: dict[str, Any], folders: Mapping[frozenset[tuple[str, str]], Path]
) -> Iterator[None]:
    """Store the words that a sweep was started with, and the overrides of its jobs and of those before, by folder.

    Words that Hydra refuses within `with` leave what was there before.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from gancli.runtime.cache import remember_text

    file = folder / SWEEP
    before = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    own = {path.name: job for job, path in folders.items() if path.parent == folder}
    jobs = {name: [f"{key}={value}" for key, value in sorted(job)] for name, job in own.items()}
    text = json.dumps({"words": words, "options": options, "jobs": jobs}, indent=1) + "\n"
    remember_text(text)  # before it is written, so that a kill leaves no file that is not known
    write_text(file, text, durable=True)
    try:
        yield
    except (HydraException, OmegaConfBaseException, UsageError):
        if before:
            write_text(file, before)
        else:
            for name in (SWEEP, "multirun.yaml"):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        raise
