"""Runs as ranked tables, one table per protocol: numbers that do not compare are never in one column.

Runs that differ in their seed only are ranked by their mean too: the best of three seeds is mostly luck.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gancli.config import flatten
from gancli.metrics.terms import higher_is_better
from gancli.report.formatting import yaml_value
from gancli.report.run_folder import SOURCES, Run, Score
from gancli.runtime.checks import check_choice
from gancli.runtime.text import one_line

NO_SCORE = Score({}, {}, None, "quick")
CONFIG_COLUMNS = 6  # at most, when nothing was typed and runs are distinguished by their configs
# Keys that begin so change nothing that is learned: no settings.
PLUMBING = (
    *("run.", "hydra", "resume", "data.root", "data.source.root", "data.cache", "data.source.cache"),
    *("trainer.log", "trainer.sample_", "trainer.checkpoint_", "trainer.keep_", "trainer.evaluate_"),
    "trainer.preflight",
)
Settings = dict[str, str]  # in which runs differ: override and value


@dataclass(frozen=True)
class RunRow:
    """A run in a table."""

    run: Run
    rank: int | None  # None for a run that failed or has no value
    score: Score
    settings: Settings
    sort_by: str  # metric that ranks

    @property
    def value(self) -> float | None:
        return self.score.metrics.get(self.sort_by)

    @property
    def error(self) -> str:
        """The message of a failed run, and what is damaged, on one line; empty when all is well."""
        message = self.run.message if self.run.status == "failed" else ""
        return one_line("; ".join(filter(None, [message, self.run.damage])))


@dataclass(frozen=True)
class SettingRow:
    """Runs that differ in their seed only."""

    rank: int | None  # None without rows
    settings: Settings  # without the seed
    rows: list[RunRow]  # one per seed, of runs that finished and have a value
    seeds: int  # number of seeds that were started

    def values(self, metric: str) -> list[float]:
        return [value for row in self.rows if (value := row.score.metrics.get(metric)) is not None]

    def mean(self, metric: str) -> float | None:
        return mean(self.values(metric))

    def holds(self, row: RunRow) -> bool:
        """Return whether a run has this setting, whichever its seed and its status."""
        return self.settings == {key: value for key, value in row.settings.items() if key != "seed"}


@dataclass(frozen=True)
class Table:
    """Runs that were measured by one protocol."""

    heading: str
    details: str
    metrics: list[str]  # columns; the first one ranks
    ascending: bool  # the lowest value comes first
    rows: list[RunRow]
    setting_rows: list[SettingRow]  # empty when no setting was run with two seeds

    @property
    def sort_by(self) -> str:
        return next(iter(self.metrics), "")


def rank_runs(runs: Sequence[Run], sort_by: str = "auto", ascending: bool | None = None) -> list[Table]:
    """Return the tables: scores of gan evaluate first, then those of trainings, then quick metrics.

    Quick metrics are shown when there is nothing else, or when a finished run has nothing else. Runs without any score
    come last in the first table.

    Args:
        sort_by: a metric or any key of metric rows; `auto` is the first metric of each table.
        ascending: None ranks by what is better for the metric.
    """
    metrics = list(dict.fromkeys(metric for run in runs for score in run.scores for metric in score.metrics))
    keys = list(dict.fromkeys([*metrics, *(key for run in runs for key in run.keys)]))
    if keys:  # otherwise no run got as far as a number, and any name is as good
        check_choice("sort", sort_by, ["auto", *keys])
    groups: dict[str, dict[int, Score]] = {}  # protocol, then index of the run
    for i, run in enumerate(runs):
        for score in _scores(run, sort_by, sort_by in metrics):
            groups.setdefault(score.key, {})[i] = score
    shown = sorted(groups.values(), key=lambda group: (SOURCES.index(_source(group)), -len(group)))
    if sort_by == "auto":
        evaluated = {i for group in shown if _source(group) != "quick" for i in group}
        missing = {i for i, run in enumerate(runs) if run.status == "finished"} - evaluated
        shown = [group for group in shown if not evaluated or _source(group) != "quick" or missing & group.keys()]
    shown = shown or [{}]
    unscored = [i for i in range(len(runs)) if not any(i in group for group in shown)]
    shown[0] = shown[0] | dict.fromkeys(unscored, NO_SCORE)
    columns = differences(runs)
    settings = [{key: values[i] for key, values in columns.items()} for i in range(len(runs))]
    return [_table(runs, settings, group, sort_by, ascending) for group in shown]


def _scores(run: Run, sort_by: str, is_metric: bool) -> list[Score]:
    """Return the scores to rank a run by; for a key that is no metric, such as a loss, its last value."""
    if sort_by == "auto":
        return run.scores
    if is_metric:
        return [score for score in run.scores if score.metrics.get(sort_by) is not None]
    value = run.latest(sort_by)
    return [] if value is None else [Score(run.quick_protocol, {sort_by: value}, None, "quick")]


def _source(group: dict[int, Score]) -> str:
    return min((score.source for score in group.values()), key=SOURCES.index)


def _table(
    runs: Sequence[Run], settings: Sequence[Settings], group: dict[int, Score], sort_by: str, ascending: bool | None
) -> Table:
    """Return the table of a group of scores by index of the run. `settings` are those of all runs."""
    # The order of metrics is that of the run that has most of them.
    scores = sorted(group.values(), key=lambda score: -len(score.metrics))
    measured = {metric for score in scores for metric, value in score.metrics.items() if value is not None}
    metrics = [m for m in dict.fromkeys(m for score in scores for m in score.metrics) if m in measured]
    metrics.sort(key=lambda metric: metric != sort_by)
    first = next(iter(metrics), "")
    ascending = not higher_is_better(first) if ascending is None else ascending
    rows = [RunRow(runs[i], None, group[i], settings[i], first) for i in sorted(group)]
    setting_rows = average_seeds(rows, settings, ascending)
    rows.sort(key=lambda row: (row.run.status == "failed", _sort_key(row.value, ascending)))
    ranked = sum(row.run.status != "failed" and row.value is not None for row in rows)
    rows = [replace(row, rank=i) if i <= ranked else row for i, row in enumerate(rows, 1)]
    return Table(scores[0].heading, scores[0].details, metrics, ascending, rows, setting_rows)


def average_seeds(rows: Sequence[RunRow], settings: Sequence[Settings], ascending: bool) -> list[SettingRow]:
    """Return the settings of rows, best mean first; none when no setting was run with two seeds.

    `settings` are those of all runs: a seed that failed early is in no table and counts all the same.
    """
    seeds: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for values in settings:
        if values.get("seed"):
            seeds.setdefault(_without_seed(values), set()).add(values["seed"])
    rows = [row for row in rows if row.run.is_known]
    groups: dict[tuple[tuple[str, str], ...], dict[str, RunRow]] = {_without_seed(row.settings): {} for row in rows}
    if all(len(seeds.get(setting, ())) < 2 for setting in groups):
        return []
    for row in rows:
        if row.run.status == "finished" and row.value is not None:
            groups[_without_seed(row.settings)][row.settings["seed"]] = row  # the later of two runs of one seed
    averaged = [SettingRow(None, dict(key), list(group.values()), len(seeds[key])) for key, group in groups.items()]
    averaged.sort(key=lambda row: _sort_key(row.mean(rows[0].sort_by), ascending))
    return [replace(row, rank=i) if row.rows else row for i, row in enumerate(averaged, 1)]


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the settings in which runs differ, with their value in every run.

    Only what was typed counts: model=mlp changes a hundred keys of the resolved config and is one decision. Runs
    without typed overrides are distinguished by their configs, and there too by one choice instead of its keys.
    """
    configs = [{key: yaml_value(value) for key, value in flatten(run.config).items()} for run in runs]
    typed = dict.fromkeys(key for run in runs for key in run.overrides if not key.startswith(PLUMBING))
    groups = dict.fromkeys(key for run in runs for key, value in run.config.items() if isinstance(value, dict))
    untyped = [*groups, *(key for config in configs for key in config if "_target_" not in key)]
    columns: dict[str, list[str]] = {}
    for key in typed or dict.fromkeys(key for key in untyped if not key.startswith(PLUMBING)):
        if not typed and key.partition(".")[0] in columns:
            continue  # follows from another choice
        # The config's spelling wins, so that lr=2e-4 and lr=0.0002 are equal. A group such as model has none.
        values = [
            config.get(key) or (run.choice(key) if key in run.config else run.overrides.get(key, ""))
            for run, config in zip(runs, configs)
        ]
        if len({value for value, run in zip(values, runs) if run.is_known}) > 1:
            columns[key] = values
    return columns if typed else dict(sorted(columns.items(), key=lambda item: item[0].count("."))[:CONFIG_COLUMNS])


def each_run(tables: Sequence[Table]) -> list[RunRow]:
    """Return every run once, as it is in the first table that has it."""
    rows: dict[Path, RunRow] = {}
    for table in tables:
        for row in table.rows:
            rows.setdefault(row.run.folder, row)
    return list(rows.values())


def mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return statistics.fmean(given) if given else None


def _sort_key(value: float | None, ascending: bool) -> float:
    return math.inf if value is None else value if ascending else -value


def _without_seed(settings: Settings) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in settings.items() if key != "seed")
