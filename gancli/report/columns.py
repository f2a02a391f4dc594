"""The columns of leaderboard tables, with each value for programs and for people."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from gancli.report.formatting import duration, number
from gancli.report.ranking import RunRow, Settings, Table, mean
from gancli.report.run_folder import Run, is_number

SHORT = {"step": "steps", "images_per_second": "images/s", "minutes": "time"}
NEVER = 6  # columns of at least this `drop` follow from others: not on a terminal


class Column(NamedTuple):
    """A column of a table."""

    key: str  # name for programs
    values: list[Any]  # None when missing
    texts: list[str]  # the values for a person
    drop: int = 0  # 0 stays on a narrow terminal; of the others, the highest is left out first

    @property
    def numeric(self) -> bool:
        return any(is_number(value) for value in self.values)

    @property
    def raw(self) -> list[str]:
        """The values for programs: all digits, whole numbers without a point, empty when missing."""
        whole = (int(v) if isinstance(v, float) and v.is_integer() else v for v in self.values)
        return ["" if value is None else str(value) for value in whole]


def run_columns(table: Table) -> list[Column]:
    """Return the columns of the table of runs."""
    rows, status = table.rows, [row.run.status for row in table.rows]
    return [
        column("rank", [row.rank for row in rows]),
        column("job", [row.run.name for row in rows]),
        *_setting_columns([row.settings for row in rows]),
        *(column(key, [row.score.metrics.get(key) for row in rows], drop) for key, drop in _metrics(table)),
        column("status", status, 0 if len(set(status)) > 1 else 3),
        *_cost_columns(table, [[row] for row in rows], step=True),
    ]


def seed_columns(table: Table) -> list[Column]:
    """Return the columns of the table of settings: means over seeds."""
    rows = table.setting_rows
    counts = [len(row.rows) for row in rows]
    count_texts = [str(n) if n == row.seeds else f"{n} of {row.seeds}" for n, row in zip(counts, rows)]

    def average(key: str, drop: int) -> Column:
        texts = [mean_and_deviation(row.values(key), n) for row, n in zip(rows, counts)]
        return Column(key, [row.mean(key) for row in rows], texts, drop)

    return [
        column("rank", [row.rank for row in rows]),
        *_setting_columns([row.settings for row in rows], keep=1),
        Column("seeds", counts, count_texts),
        *(average(key, drop) for key, drop in _metrics(table)),
        *_cost_columns(table, [row.rows for row in rows]),
    ]


def column(key: str, values: list[Any], drop: int = 0) -> Column:
    return Column(key, values, [_text(key, value) for value in values], drop)


def mean_and_deviation(values: Sequence[float], n: int) -> str:
    """Return `32.64 ± 0.98`: the deviation with two digits, the mean with as many decimals.

    Args:
        n: expected number of values; the text says so when there are fewer.
    """
    if len(values) < 2:
        text = number(values[0]) if values else "–"
    else:
        average, deviation = statistics.fmean(values), statistics.stdev(values)
        decimals = max(0, min(8, 1 - math.floor(math.log10(deviation)))) if deviation else 0
        text = f"{average:,.{decimals}f} ± {deviation:,.{decimals}f}" if deviation else f"{number(average)} ± 0"
    return text if len(values) in (0, n) else f"{text} (n = {len(values)})"


def short_names(keys: Iterable[str]) -> list[str]:
    """Return headers for a person: `lr` for model.lr when no other key ends so."""
    keys = list(keys)
    short = [SHORT.get(key) or (key if "/" in key else key.rpartition(".")[2]) for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys)]


def caption(row: RunRow) -> tuple[str, str]:
    """Return two lines for an image: the settings of the run, and its rank, value and job."""
    settings = settings_text(row.settings, row.run)
    parts = [
        f"rank {row.rank}" if row.rank else row.run.status,
        f"{row.sort_by} {number(row.value)}" if row.value is not None else "",
        f"job {row.run.name}" if settings else "",
    ]
    return settings or row.run.name, " · ".join(part for part in parts if part)


def settings_text(settings: Settings, run: Run) -> str:
    """Return the settings of a run as `mlp, seed 0, lr 0.0002`: choices of config groups need no name."""
    named = zip(short_names(settings), settings.items())
    groups = {key for key, value in run.config.items() if isinstance(value, dict)}
    return ", ".join(value if key in groups else f"{name} {value}" for name, (key, value) in named if value)


def comparison(rows: Sequence[RunRow]) -> list[list[str]]:
    """Return a table of what differs between a few runs: a line per setting, a column per run; the first names them."""
    keys = list(rows[0].settings)
    lines = [[key, *(_text(key, row.settings[key]) for row in rows)] for key in keys]
    return [["", *(row.run.name for row in rows)], *lines]


def _setting_columns(rows: Sequence[Settings], keep: int = 0) -> list[Column]:
    """Return a column per setting, of which `keep` stay. One that is equal in all rows of this table goes early."""
    columns = {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}
    drops = [0 if i < keep else 3 if len(set(values)) == 1 else 1 for i, values in enumerate(columns.values())]
    return [column(key, values, drop) for (key, values), drop in zip(columns.items(), drops)]


def _metrics(table: Table) -> list[tuple[str, int]]:
    return [(key, 0 if key == table.sort_by else 4) for key in table.metrics]


def _cost_columns(table: Table, groups: Sequence[Sequence[RunRow]], step: bool = False) -> list[Column]:
    """Return the costs of scores and the sizes of networks, means over each group of runs."""
    costs = [*[("step", 2)] * step, ("minutes", 2), ("kimg", NEVER), ("images_per_second", 5)]
    networks = dict.fromkeys(name for row in table.rows for name in _parameters(row.run))
    return [
        *(
            column(key, [mean(_value_at_score(row, key) for row in group) for group in groups], drop)
            for key, drop in costs
            if key not in table.metrics
        ),
        *(
            column(f"parameters {n}", [mean(_parameters(row.run).get(n) for row in group) for group in groups], NEVER)
            for n in networks
        ),
    ]


def _value_at_score(row: RunRow, key: str) -> float | None:
    """Return a key's value at the step that was measured, or at the end of a run that was not."""
    step = row.score.step
    if key == "step":
        return row.run.last_step if step is None else step
    return row.run.latest(key, math.inf if step is None else step)


def _parameters(run: Run) -> dict[str, float]:
    counts = run.started.get("parameters")
    return {name: n for name, n in counts.items() if is_number(n)} if isinstance(counts, dict) else {}


def _text(key: str, value: Any) -> str:
    if is_number(value):
        if key.startswith("parameters "):
            return f"{value / 1e6:.2f} M"
        if key == "minutes":
            return duration(value)
        return f"{value:,.0f}" if key in ("step", "kimg") else number(value)
    return "–" if value is None or value == "" else str(value)
