"""A run folder as a value: config, metric rows, events, samples, scores and how the run ended.

Reading never fails: a run that failed early has few files, a run that was killed has half a last line, and a file may
be damaged or refused to this user.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from gancli.config import typed
from gancli.runtime.files import relative
from gancli.runtime.links import is_inside, links_out
from gancli.runtime.text import one_line, plural, shell_join

BOOKKEEPING = ("step", "kimg", "minutes", "images_per_second", "lr", "evaluate_seconds")  # in rows, never metrics
NOT_METRICS = ("augment_p",)  # named like a metric, but says nothing about quality
STATUS = {"started": "running", "resumed": "running"} | {name: name for name in ("stopped", "failed", "finished")}
# Who measured a score: gan evaluate, the evaluations of a training run, or the quick metrics of each grid.
SOURCES = ("evaluate", "training", "quick")
NOT_PROTOCOL = ("versions", "command", "time", "weights", "step", "skipped")  # entries that change no meaning
HEADING_KEYS = ("data", "split", "generated", "real")  # entries of a protocol that a reader looks for first
QUICK_ORDER = ("sliced_wasserstein", "elbo", "psnr")  # quick metrics to rank by, in this order
# Settings of data that do not change the real images of quick metrics.
TRAINING_DATA_KEYS = ("name", "source", "root", "cache", "strict", "batch_size", "flip", "classes")
TASK_KEYS = ("task", "scale", "degrade", "between")  # settings of a model without which its PSNR means nothing


@dataclass(frozen=True)
class Score:
    """Metrics that were measured by one protocol."""

    protocol: dict[str, Any]  # as the evaluation wrote it
    metrics: dict[str, float | None]  # None for a metric that could not be computed
    step: float | None  # of the weights
    source: str  # one of SOURCES

    @property
    def key(self) -> str:
        """Text that is equal for scores that compare, and only for these."""
        return repr(sorted((str(key), repr(value)) for key, value in self.protocol.items() if key not in NOT_PROTOCOL))

    @property
    def heading(self) -> str:
        """The protocol's main entries for a person: `mnist · split test · generated 10,000`."""
        return self._describe([key for key in HEADING_KEYS if key in self.protocol])

    @property
    def details(self) -> str:
        """The protocol's other entries for a person."""
        return self._describe([key for key in self.protocol if key not in (*HEADING_KEYS, *NOT_PROTOCOL)])

    def _describe(self, keys: list[str]) -> str:
        entries = (describe_entry(key, self.protocol[key]) for key in keys)
        return one_line(" · ".join(entry for entry in entries if entry))


@dataclass(frozen=True)
class Run:
    """One run."""

    folder: Path
    config: dict[str, Any]  # resolved
    rows: list[dict[str, Any]]  # metric rows in the order of steps
    events: list[dict[str, Any]]  # lines of metrics.jsonl that have an `event`
    samples: list[tuple[int, Path]]  # grids with their steps, oldest first
    evaluations: list[dict[str, Any]]  # lines of scores.jsonl, which gan evaluate writes
    skipped: tuple[str, ...] = ()  # what was not read, such as "2 lines of metrics.jsonl"
    damage: str = ""  # what is missing of a run that has begun, or is no file of a run

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def ending(self) -> dict[str, Any]:
        """The last event that changed the status; empty when there is none."""
        return next((event for event in reversed(self.events) if event["event"] in STATUS), {})

    @property
    def is_resumable(self) -> bool:
        """False for a run that would fail again at the same step."""
        return self.ending.get("resumable") is not False

    @property
    def status(self) -> str:
        """One of finished, stopped, failed, running; damaged or absent where no file says which of these."""
        if self.damage and not self.ending:
            return "damaged" if self.folder.is_dir() else "absent"
        return STATUS[self.ending.get("event", "started")]

    @property
    def message(self) -> str:
        """The reason of a run that stopped or failed; empty otherwise."""
        return str(self.ending.get("message") or "") if self.status in ("stopped", "failed") else ""

    @property
    def started(self) -> dict[str, Any]:
        """The last event that says how the run was called: command, overrides, machine, versions, parameters."""
        names = ("started", "resumed", "failed", "planned")
        calls = [e for e in self.events if e["event"] in names and ("command" in e or "overrides" in e)]
        # A job that failed before its start has logged its overrides only.
        calls = [e for e in calls if e["event"] not in ("failed", "planned")] or calls
        return calls[-1] if calls else {}

    @property
    def overrides(self) -> dict[str, str]:
        """The typed overrides: `["model=dcgan", "+x=1"]` as `{"model": "dcgan", "x": "1"}`. Resuming needs no other."""
        calls = [*(event for event in self.events if event["event"] in ("started", "resumed")), self.started]
        given = [call["overrides"] for call in calls if isinstance(call.get("overrides"), list)]
        pairs = (str(o).lstrip("+~").partition("=") for overrides in given for o in overrides)
        return {key: value for key, _, value in pairs}

    @property
    def is_known(self) -> bool:
        """Whether anything says how the run was trained."""
        return bool(self.config or self.overrides)

    @property
    def has_checkpoint(self) -> bool:
        with contextlib.suppress(OSError):  # this user may not look
            return any((self.folder / "checkpoints").glob("[!.]*.safetensors"))
        return False

    @property
    def last_step(self) -> float | None:
        """The step that the run reached, None when no file says so."""
        steps = (self.ending.get("step"), self.latest("step"))
        return max((step for step in steps if step is not None and is_number(step)), default=None)

    @cached_property
    def keys(self) -> list[str]:
        """Every numeric key of the metric rows, in the order of appearance."""
        # Some writers write null for NaN, so null counts as a number.
        numeric = (key for row in self.rows for key, value in row.items() if value is None or is_number(value))
        return list(dict.fromkeys(numeric))

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values of a key. Rows without it are left out; null and infinite values are NaN."""
        rows = [row for row in self.rows if key in row and (row[key] is None or is_number(row[key]))]
        steps = np.array([row["step"] for row in rows], float)
        values = np.array([row[key] for row in rows], float)  # NaN for None
        values[~np.isfinite(values)] = np.nan
        return steps, values

    def latest(self, key: str, until: float = np.inf) -> float | None:
        """Return the last finite value of a key up to step `until`: the last row need not hold every metric."""
        steps, values = self.series(key)
        values = values[np.isfinite(values) & (steps <= until)]
        return float(values[-1]) if values.size else None

    def _node(self, group: str) -> dict[str, Any]:
        node = self.config.get(group)
        return node if isinstance(node, dict) else {}

    def choice(self, group: str) -> str:
        """Return the choice in a config group, such as `dcgan` for model; empty when nothing says so."""
        node = self.config.get(group)
        if isinstance(node, dict):
            return str(node.get("name") or self.overrides.get(group) or class_name(node))
        return str(node or self.overrides.get(group, ""))

    @cached_property
    def scores(self) -> list[Score]:
        """The newest score of each protocol. A score of gan evaluate replaces one that the training wrote."""
        newest: dict[str, Score] = {}
        for line in self.evaluations:
            metrics, protocol = line.get("metrics"), line.get("protocol")
            if isinstance(metrics, dict) and isinstance(protocol, dict):
                values = {one_line(k): _finite(v) for k, v in metrics.items() if v is None or is_number(v)}
                score = Score(protocol, values, _finite(line.get("step")), "evaluate")
                newest[score.key] = score
        for score in (*self._training_scores(), *self._quick_scores()):
            newest.setdefault(score.key, score)
        return [score for score in newest.values() if any(value is not None for value in score.metrics.values())]

    @property
    def quick_protocol(self) -> dict[str, Any]:
        """The protocol of the quick metrics: the data, and the task of the model."""
        data, model = self._node("data"), self._node("model")
        settings = {key: value for key, value in data.items() if key not in TRAINING_DATA_KEYS}
        name, files = self.choice("data"), self.started.get("files")
        if isinstance(files, dict):  # the same files by another path are the same data
            name = str(files.get("name"))
            settings = {key: value for key, value in settings.items() if key not in ("path", "sources")}
            settings["content"] = str(files.get("content"))
        task = {key: value for key, value in model.items() if key in TASK_KEYS}
        return {"data": name, **settings, **task, "measured": "while training"}

    def _protocol_events(self) -> list[dict[str, Any]]:
        events = [e for e in self.events if e["event"] == "protocol" and isinstance(e.get("metrics"), list)]
        return [e for e in events if isinstance(e.get("protocol"), dict)]

    def _training_scores(self) -> list[Score]:
        last = self._protocol_events()[-1:]  # which holds for all evaluations
        return [self._last_values([str(name) for name in e["metrics"]], e["protocol"], "training") for e in last]

    def _quick_scores(self) -> list[Score]:
        """Return the quick metrics: everything in rows but losses, D outputs, norms, bookkeeping and evaluations.

        Without its config a run has none: of what data they are is unknown.
        """
        if "config.yaml" in self.damage:
            return []
        evaluated = {str(name) for event in self._protocol_events() for name in event["metrics"]}
        other = {*BOOKKEEPING, *NOT_METRICS, *evaluated}
        keys = [key for key in self.keys if key not in other and not {"/", "("} & set(key)]
        keys.sort(key=lambda key: QUICK_ORDER.index(key) if key in QUICK_ORDER else len(QUICK_ORDER))
        # Samples of any model compare. A bound on the likelihood compares between equal likelihoods only.
        model = self._node("model")
        likelihood = {"likelihood": model.get("likelihood"), "classes": "given" if model.get("classes") else "none"}
        return [
            self._last_values([key for key in keys if key != "elbo"], self.quick_protocol, "quick"),
            self._last_values([key for key in keys if key == "elbo"], self.quick_protocol | likelihood, "quick"),
        ]

    def _last_values(self, keys: list[str], protocol: dict[str, Any], source: str) -> Score:
        """Return the last finite values, not the best ones: the score of the weights at the end."""
        steps = [row["step"] for row in self.rows if any(_finite(row.get(key)) is not None for key in keys)]
        return Score(protocol, {one_line(key): self.latest(key) for key in keys}, max(steps, default=None), source)


def records_of(folder: Path, overrides: Any) -> list[str]:
    """Return what decides what a resumed run does: the words that it was started with, and its config file if any."""
    file = folder / "config.yaml"
    return [json.dumps(overrides), *([file.read_text("utf-8", "replace")] if is_inside(file) else [])]


def resume_command(folder: Path) -> str:
    """Return the command that continues a run or a sweep, quoted for a shell; its folder holds all other settings."""
    path = relative(folder)
    return shell_join(["gan", "train", typed("resume", path)])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def class_name(node: dict[Any, Any]) -> str:
    """Return the class that a config node builds, without its module; empty when it builds none."""
    return str(node.get("_target_") or "").rpartition(".")[2]


def describe_entry(key: Any, value: Any) -> str:
    """Return an entry of a protocol for a person, empty for an empty value."""
    name = str(key).replace("_", " ")
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, dict):
        inner = [class_name(value), *(describe_entry(k, v) for k, v in value.items() if k != "_target_")]
        value = ", ".join(part for part in inner if part)
    elif isinstance(value, list):
        value = ", ".join(str(v) for v in value)
    elif is_number(value):
        value = f"{value:,}"
    return str(value) if key == "data" else f"{name} {value}"


def read_run(folder: Path) -> Run:
    """Read a run folder, which may be untrusted. Everything that is missing is empty.

    Links that lead out of the folder are not followed, and lines that are no JSON objects are skipped and counted.
    """
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    damage: list[str] = []
    try:
        skipped = [f"{path.relative_to(folder)}, a link out of the folder" for path in links_out(folder)]
    except OSError as error:
        return Run(folder, {}, [], [], [], [], damage=f"its folder cannot be read ({error.strerror})")
    for line in _json_lines(folder / "metrics.jsonl", skipped, damage):
        step = line.get("step")
        has_step = step is not None and is_number(step) and np.isfinite(step)
        if has_step and line.get("event") in (None, "resumed"):
            # A resumed run repeats the steps since its checkpoint: the new rows replace the old ones.
            while rows and rows[-1]["step"] > step:
                rows.pop()
        if isinstance(line.get("event"), str):
            events.append(line)
        elif has_step:
            rows.append(line)
    config = _config(folder / "config.yaml", damage)
    evaluations = list(_json_lines(folder / "scores.jsonl", skipped, damage))
    run = Run(folder, config, rows, events, _samples(folder / "samples"), evaluations, tuple(skipped))
    return replace(run, damage="; ".join([*damage, *_missing(run)]))


def _config(path: Path, damage: list[str]) -> dict[str, Any]:
    """Return the config in a file; append to `damage` why there is none."""
    if not (text := _text(path, damage)):
        return {}
    if not isinstance(config := _parsed(text), dict):
        damage.append(f"{path.name} is not the config of a run")
        return {}
    return config


@lru_cache(maxsize=16)  # a run's page is written again with every grid
def _parsed(text: str) -> Any:
    with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(text, WithoutAliases)


def _missing(run: Run) -> list[str]:
    """Return what a run lacks that it must have had, or what is no longer whole."""
    begun = any(event["event"] in ("started", "resumed") for event in run.events)
    found = ["config.yaml is missing"] if begun and not (run.folder / "config.yaml").exists() else []
    if not run.events and not run.rows and (run.has_checkpoint or run.skipped):
        found.append("metrics.jsonl is missing or has no line that can be read")
    last = run.folder / "checkpoints" / "last.safetensors"
    try:
        if is_inside(last):
            with safe_open(last, "numpy"):  # compares the header with the size
                pass
    except (OSError, SafetensorError):
        found.append("checkpoints/last.safetensors cannot be read or is cut off")
    return found


class WithoutAliases(yaml.SafeLoader):
    """Loader that refuses aliases, by which a kilobyte stands for gigabytes; a run's config has none."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def _text(path: Path, damage: list[str]) -> str:
    """Return the text of a file, empty where there is none; append to `damage` why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") if is_inside(path) else ""
    except OSError as error:
        damage.append(f"{path.name} cannot be read ({error.strerror})")
        return ""


def _json_lines(path: Path, skipped: list[str], damage: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file, one a line; append to `skipped` how many lines are none."""
    odd = 0
    for line in _text(path, damage).split("\n"):
        try:
            value = json.loads(line, parse_int=_whole_number) if line.strip() else {}
        except (ValueError, RecursionError):  # such as the last line of a run that was killed while it wrote
            value = None
        if not isinstance(value, dict):
            odd += 1
        elif value:
            yield value
    if odd:
        skipped.append(f"{plural(odd, 'line')} of {path.name}")


def _whole_number(text: str) -> int | float:
    """Return a whole number, as a float where it has more digits than any step or count."""
    return int(text) if len(text) < 16 else float(text)


def _samples(folder: Path) -> list[tuple[int, Path]]:
    paths: list[Path] = []
    with contextlib.suppress(OSError):  # this user may not look
        if folder.resolve().is_relative_to(folder.parent.resolve()):
            paths = [path for path in folder.glob("step-*.png") if is_inside(path)]
    matches = ((re.fullmatch(r"step-([0-9]{1,15})\.png", path.name), path) for path in paths)
    return sorted((int(match[1]), path) for match, path in matches if match)


def _finite(value: Any) -> float | None:
    return float(value) if is_number(value) and np.isfinite(value) else None
