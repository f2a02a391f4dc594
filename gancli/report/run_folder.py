"""A run folder as a value: what it was asked to do, what was measured of it and how, how it ended.

Reading forgives: a run that failed early has hardly any file, and one that was killed has half a last line.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

# What every metric row carries beside the losses and the watched values.
BOOKKEEPING = ("step", "kimg", "minutes", "images_per_second", "lr", "evaluate_seconds")
STATUS_OF = {
    "started": "running",
    "resumed": "running",
    "stopped": "stopped",
    "failed": "failed",
    "finished": "finished",
}
# What a protocol holds that changes no number's meaning: which program wrote it and when, which weights of the run were
# measured and where they lay, why a figure is missing.
INCIDENTAL = ("versions", "command", "time", "weights", "step", "untold")
HEADING = ("data", "split", "made", "real")  # what a reader looks for first
# Settings of data that do not change the images that a objective's own measures look at.
UNSEEN = ("name", "source", "root", "cache", "strict", "batch_size", "flip", "classes")
# What is asked of a model that is given images: the PSNR of one task is no PSNR of another.
ASKED = ("task", "scale", "degrade", "between")
HEADLINES = ("sliced_wasserstein", "elbo", "psnr")  # of a objective's own figures, those to rank by, in this order
WATCHED = ("augment_p",)  # named like a measure, but it tells what a training did and not how well
MEASURERS = (
    "evaluate",
    "training",
    "objective",
)  # gan evaluate; the same within a training; a objective, at every grid


@dataclass(frozen=True)
class Score:
    """Figures that were measured in one way, None where one could not be told.

    protocol: that way, as who measured wrote it. step: of the weights. by: one of MEASURERS.
    """

    protocol: dict[str, Any]
    figures: dict[str, float | None]
    step: float | None
    by: str

    @property
    def key(self) -> str:
        """Alike where figures compare, and only there."""
        return repr(sorted((str(key), repr(value)) for key, value in self.protocol.items() if key not in INCIDENTAL))

    @property
    def told(self) -> tuple[str, str]:
        """The protocol for a person: `mnist · split test · made 10,000`, and all the rest of it."""
        first = [_told(key, self.protocol.get(key)) for key in HEADING]
        rest = [_told(key, value) for key, value in self.protocol.items() if key not in (*HEADING, *INCIDENTAL)]
        heading, details = (one_line(" · ".join(part for part in parts if part)) for parts in (first, rest))
        return heading, details


@dataclass(frozen=True)
class Run:
    """One run: its folder, its resolved config, metric rows and events in the order of steps, its grids over time.

    evaluations: the lines of scores.jsonl, which gan evaluate writes.
    """

    folder: Path
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    events: list[dict[str, Any]]
    samples: list[tuple[int, Path]]
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def ending(self) -> dict[str, Any]:
        """The last event that changed the status; empty when none was written."""
        return next((e for e in reversed(self.events) if e["event"] in STATUS_OF), {})

    @property
    def status(self) -> str:
        """One of finished, stopped, failed, running."""
        return STATUS_OF[self.ending.get("event", "started")]

    @property
    def message(self) -> str:
        """Why it stopped or failed, in the run's own sentence; empty otherwise."""
        return str(self.ending.get("message") or "") if self.status in ("stopped", "failed") else ""

    @property
    def started(self) -> dict[str, Any]:
        """The last event that says how the run was called: command, overrides, machine, versions, parameters."""
        # A job that failed before it began has told at least what was typed.
        kinds = ("started", "resumed", "failed")
        calls = [e for e in self.events if e["event"] in kinds and ("command" in e or "overrides" in e)]
        calls = [e for e in calls if e["event"] != "failed"] or calls
        return calls[-1] if calls else {}

    @property
    def overrides(self) -> dict[str, str]:
        """What was typed: `["model=dcgan", "+x=1"]` as `{"model": "dcgan", "x": "1"}`."""
        given = self.started.get("overrides")
        pairs = (str(o).lstrip("+~").partition("=") for o in (given if isinstance(given, list) else []))
        return {key: value for key, _, value in pairs}

    @property
    def last(self) -> dict[str, Any]:
        """The last metric row; empty before the first."""
        return self.rows[-1] if self.rows else {}

    @cached_property
    def keys(self) -> list[str]:
        """Every numeric key of the metric rows, in the order of appearance."""
        seen: dict[str, None] = {}
        for row in self.rows:
            for key, value in row.items():
                # null is how some writers say NaN, so it counts as a number that went wrong.
                if key not in seen and (value is None or is_number(value)):
                    seen[key] = None
        return list(seen)

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a key. Rows without the key are left out; null, NaN and Infinity are NaN."""
        pairs = [(row["step"], row[key]) for row in self.rows if key in row]
        pairs = [(step, value) for step, value in pairs if value is None or is_number(value)]
        steps = np.array([step for step, _ in pairs], float)
        values = np.array([np.nan if value is None else value for _, value in pairs], float)
        values[~np.isfinite(values)] = np.nan
        return steps, values

    def latest(self, key: str, until: float = np.inf) -> float | None:
        """The last finite value of a key, up to a step: a metric taken every 1,000 steps is not in the last row."""
        steps, values = self.series(key)
        values = values[np.isfinite(values) & (steps <= until)]
        return float(values[-1]) if values.size else None

    @cached_property
    def scores(self) -> list[Score]:
        """What was measured of it, one Score a protocol: the last, and that of gan evaluate where there are others."""
        found: dict[str, Score] = {}
        for entry in self.evaluations:
            figures, protocol = entry.get("figures"), entry.get("protocol")
            if isinstance(figures, dict) and isinstance(protocol, dict):
                values = {one_line(k): _finite(v) for k, v in figures.items() if v is None or is_number(v)}
                score = Score(protocol, values, _finite(entry.get("step")), "evaluate")
                found[score.key] = score
        told = [e for e in self.events if e["event"] == "protocol" and isinstance(e.get("figures"), list)]
        told = [e for e in told if isinstance(e.get("protocol"), dict)]
        own = [self._last([str(name) for name in e["figures"]], e["protocol"], "training") for e in told[-1:]]
        for score in [*own, *self._by_game({str(name) for e in told for name in e["figures"]})]:
            found.setdefault(score.key, score)
        return [score for score in found.values() if any(value is not None for value in score.figures.values())]

    @property
    def conditions(self) -> dict[str, Any]:
        """The protocol of what the objective measures at every grid: the data, and what is asked of the model."""
        data, model = self.config.get("data"), self.config.get("model")
        settings = {k: v for k, v in data.items() if k not in UNSEEN} if isinstance(data, dict) else {}
        asked = {k: v for k, v in model.items() if k in ASKED} if isinstance(model, dict) else {}
        return {"data": self.choice("data"), **settings, **asked, "measured": "while training"}

    def _by_game(self, others: set[str]) -> list[Score]:
        """The figures of grids: what rows hold beside losses, D's opinions, norms, bookkeeping and `others`."""
        aside = {*BOOKKEEPING, *WATCHED, *others}
        keys = [key for key in self.keys if key not in aside and not {"/", "("} & set(key)]
        keys = sorted(keys, key=lambda key: _place(key, HEADLINES))
        # How near samples are to images is the same question to any model; a bound depends on what is likely by it.
        model = self.config.get("model")
        model = model if isinstance(model, dict) else {}
        likely = {"likelihood": model.get("likelihood"), "classes": "told" if model.get("classes") else "none"}
        return [
            self._last([key for key in keys if key != "elbo"], self.conditions, "objective"),
            self._last([key for key in keys if key == "elbo"], self.conditions | likely, "objective"),
        ]

    def _last(self, keys: list[str], protocol: dict[str, Any], by: str) -> Score:
        """The last finite values: of the weights at the end, not of the luckiest."""
        steps = [row["step"] for row in self.rows if any(_finite(row.get(key)) is not None for key in keys)]
        return Score(protocol, {one_line(key): self.latest(key) for key in keys}, max(steps, default=None), by)

    def choice(self, group: str) -> str:
        """What was chosen in a config group, e.g. `dcgan` for model; empty when nothing says so."""
        node = self.config.get(group)
        if isinstance(node, dict):
            target = str(node.get("_target_") or "").rpartition(".")[2]
            return str(node.get("name") or self.overrides.get(group) or target)
        return str(node or self.overrides.get(group, ""))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def one_line(text: str) -> str:
    """Text of others without line breaks and without what a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _finite(value: Any) -> float | None:
    return float(value) if is_number(value) and np.isfinite(value) else None


def _place(key: str, order: Sequence[str]) -> int:
    """A sort key that puts those of `order` first."""
    return order.index(key) if key in order else len(order)


def _told(key: Any, value: Any) -> str:
    """An entry of a protocol for a person; empty where nothing is known."""
    name = str(key).replace("_", " ")
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, dict):
        target = str(value.get("_target_") or "").rpartition(".")[2]
        inner = [target, *(_told(k, v) for k, v in value.items() if k != "_target_")]
        value = ", ".join(part for part in inner if part)
    elif isinstance(value, list):
        value = ", ".join(str(v) for v in value)
    elif is_number(value):
        value = f"{value:,}"
    return str(value) if key == "data" else f"{name} {value}"


def read_run(folder: Path) -> Run:
    """What a run folder holds; whatever is missing is empty."""
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for entry in _lines(folder / "metrics.jsonl"):
        step = entry.get("step")
        has_step = step is not None and is_number(step) and np.isfinite(step)
        if has_step and entry.get("event") in (None, "resumed"):
            # A resumed run repeats the steps since its checkpoint: the second telling replaces the first.
            while rows and rows[-1]["step"] > step:
                rows.pop()
        if isinstance(entry.get("event"), str):
            events.append(entry)
        elif has_step:
            rows.append(entry)
    config = _config(folder / "config.yaml")
    if config is None:
        config = {}
        events.append({"event": "warning", "message": "config.yaml cannot be read as YAML"})
    return Run(folder, config, rows, events, _samples(folder / "samples"), list(_lines(folder / "scores.jsonl")))


def find_runs(path: Path) -> list[Path]:
    """The run folders at or under a path: a run itself, a sweep, or a folder of both; jobs in natural order."""
    if not path.is_dir():
        what = "is a file" if path.is_file() else "does not exist"
        raise ValueError(f"{str(path)!r} {what}; give a run folder or a sweep folder, such as outputs/<run>")
    # Three levels reach outputs/sweeps/<sweep>/<job>.
    found = list(_walk(path, depth=3))
    if not found:
        raise ValueError(
            f"there is no run in {str(path)!r} (a run folder holds config.yaml or metrics.jsonl); "
            f"give a run folder or a sweep folder, such as outputs/<run>"
        )
    return sorted(found, key=lambda p: [natural(part) for part in p.relative_to(path).parts])


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key that puts job 10 after job 9."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts) if part]


def _walk(path: Path, depth: int) -> Iterator[Path]:
    if (path / "config.yaml").is_file() or (path / "metrics.jsonl").is_file():
        yield path
    elif depth:
        for child in path.iterdir():
            # Hydra keeps a config.yaml in .hydra; a link such as `latest` would count a run twice.
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _walk(child, depth - 1)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:  # a line cut off by a kill
                continue
            if isinstance(entry, dict):
                yield entry


def _config(path: Path) -> dict[str, Any] | None:
    """The config; empty when there is no file, None when it is not YAML."""
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except yaml.YAMLError:
        return None
    return config if isinstance(config, dict) else {}


def _samples(folder: Path) -> list[tuple[int, Path]]:
    """Grids by step; history.png is a strip of them and no grid itself."""
    if not folder.is_dir():
        return []
    named = ((re.fullmatch(r"step-(\d+)\.png", path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match)
