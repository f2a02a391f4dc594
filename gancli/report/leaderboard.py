"""Runs side by side: a ranked table for each way in which they were measured, their curves and their last grids.

Two numbers that do not compare are never in one column. Where runs differ in their seed, what is ranked is the setting,
by its mean over the seeds: the best of three seeds says most about luck.
"""

import csv
import io
import math
import os
import re
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont

from gancli.report.run_folder import MEASURERS, Run, Score, is_number, one_line, read_run
from gancli.report.run_page import (
    SCRIPT,
    chart,
    charts_html,
    data_script,
    document,
    duration,
    now,
    number,
    picture_uri,
    plain,
    write_text,
)

NOTE = "Numbers compare within a table, not between tables. Losses of different objectives never compare."
SPREAD = "± is the standard deviation (n−1) over those that finished and were measured"
GRIDS = 100  # on a contact sheet at most
CURVES = 8  # as many as there are colours
WIDTH = 100  # of a table for a terminal
# What begins so is better the higher it is, as is the inception score, `is`; anything else is better the lower.
HIGHER = (
    *("precision", "recall", "density", "coverage", "accuracy", "class_accuracy", "class_coverage", "diversity"),
    *("psnr", "hole_psnr", "naive_psnr", "naive_hole_psnr", "reconstruction_psnr", "ssim"),
    *("elbo", "importance_weighted", "score", "images_per_second"),
)
UNMEASURED = Score({}, {}, None, "objective")


@dataclass(frozen=True)
class Row:
    """A line of a table: a run, its place (None: not ranked), what was measured, and what makes the run differ.

    sort_by: the figure that ranks.
    """

    run: Run
    rank: int | None
    score: Score
    differs: dict[str, str]
    sort_by: str

    @property
    def value(self) -> float | None:
        """What ranks it."""
        return self.score.figures.get(self.sort_by)

    @property
    def error(self) -> str:
        """Why it failed, on one line; empty when it did not."""
        return one_line(self.run.message) if self.run.status == "failed" else ""


@dataclass(frozen=True)
class Setting:
    """What runs differ in beside the seed: those that finished and have a value, one a seed, of so many seeds."""

    rank: int | None
    differs: dict[str, str]
    rows: list[Row]
    seeds: int

    def values(self, figure: str) -> list[float]:
        found = (row.score.figures.get(figure) for row in self.rows)
        return [value for value in found if value is not None]

    def mean(self, figure: str) -> float | None:
        return _mean(self.values(figure))


@dataclass(frozen=True)
class Table:
    """Runs whose figures compare, ranked by the first of them. settings: over seeds, where runs differ in these.

    heading, details: the protocol for a person.
    """

    heading: str
    details: str
    figures: list[str]
    ascending: bool
    rows: list[Row]
    settings: list[Setting]

    @property
    def sort_by(self) -> str:
        return next(iter(self.figures), "")


class Column(NamedTuple):
    """Of a table: its name for programs, and what it holds line by line, plain and for a person.

    least: the higher, the sooner it is left out where there is no room; 0 stays.
    """

    key: str
    values: list[Any]
    shown: list[str]
    least: int = 0


def write_leaderboard(folders: Sequence[Path], out: Path, sort_by: str = "auto", ascending: bool | None = None) -> str:
    """Write leaderboard.csv, .md, .html and contact.png into `out`; gives the tables for a terminal.

    sort_by: a figure, or any key of metric rows; `auto`: of each table the first. ascending: None as suits the figure.
    A second table of single runs is leaderboard-2.csv, and so on: one file mixes no protocols either.
    """
    tables = ranked([read_run(folder) for folder in folders], sort_by, ascending)
    for old in out.glob("leaderboard-*.csv"):
        if re.fullmatch(r"leaderboard-[0-9]+\.csv", old.name):
            old.unlink()
    for i, table in enumerate(tables, 1):
        write_text(out / ("leaderboard.csv" if i == 1 else f"leaderboard-{i}.csv"), _csv(table))
    write_text(out / "leaderboard.md", _markdown(tables))
    write_text(out / "leaderboard.html", _html(tables, out))
    sheet = contact_sheet(_each_run(tables))
    if sheet:
        partial = out / ".contact.png.partial"
        sheet.save(partial, "PNG")
        partial.replace(out / "contact.png")
    return _text(tables)


def ranked(runs: Sequence[Run], sort_by: str = "auto", ascending: bool | None = None) -> list[Table]:
    """The tables: of what gan evaluate measured, then of what trainings and their objectives did, most runs first.

    What objectives measure by the way is shown where nothing else is, or not of all that finished. Runs that are in no table
    come last in the first.
    """
    figures = dict.fromkeys(figure for run in runs for score in run.scores for figure in score.figures)
    keys = list(figures | dict.fromkeys(key for run in runs for key in run.keys))
    # Where no run got as far as a number there is nothing to misspell.
    if keys and sort_by not in ("auto", *keys):
        near = get_close_matches(sort_by, keys, 1, 0)[0]
        raise ValueError(f"no run here has the metric {sort_by!r}; sort by {near!r} or another of: {', '.join(keys)}")
    groups: dict[str, dict[int, Score]] = {}  # by protocol, of runs by their number
    for i, run in enumerate(runs):
        for score in _scores(run, sort_by, sort_by in figures):
            groups.setdefault(score.key, {})[i] = score
    chosen = sorted(groups.values(), key=lambda group: (MEASURERS.index(_measurer(group)), -len(group)))
    if sort_by == "auto":
        evaluated = {i for group in chosen if _measurer(group) != "objective" for i in group}
        left = {i for i, run in enumerate(runs) if run.status == "finished"} - evaluated
        chosen = [group for group in chosen if not evaluated or _measurer(group) != "objective" or left & group.keys()]
    homeless = [i for i in range(len(runs)) if not any(i in group for group in chosen)]
    chosen = chosen or [{}]
    chosen[0] = chosen[0] | dict.fromkeys(homeless, UNMEASURED)
    columns = differences(runs)
    differs = [{key: columns[key][i] for key in columns} for i in range(len(runs))]
    return [_table(runs, differs, group, sort_by, ascending) for group in chosen]


def _scores(run: Run, sort_by: str, is_figure: bool) -> list[Score]:
    """What is ranked of a run; where a key is typed that is no figure, a loss or a speed say, its last value."""
    if sort_by == "auto":
        return run.scores
    if is_figure:
        return [score for score in run.scores if score.figures.get(sort_by) is not None]
    value = run.latest(sort_by)
    return [] if value is None else [Score(run.conditions, {sort_by: value}, None, "objective")]


def _measurer(group: dict[int, Score]) -> str:
    return min((score.by for score in group.values()), key=MEASURERS.index)


def _table(
    runs: Sequence[Run],
    differs: Sequence[dict[str, str]],
    group: dict[int, Score],
    sort_by: str,
    ascending: bool | None,
) -> Table:
    """group: the numbers of the runs in it. differs: of all runs, for a seed that failed early is in no table."""
    # A figure that one run lacks must not fall behind because that run comes first.
    scores = sorted(group.values(), key=lambda score: -len(score.figures))
    told = {figure for score in scores for figure, value in score.figures.items() if value is not None}
    figures = dict.fromkeys(figure for score in scores for figure in score.figures if figure in told)
    ordered = sorted(figures, key=lambda figure: figure != sort_by)
    first = next(iter(ordered), "")
    ascending = not higher_is_better(first) if ascending is None else ascending
    rows = [Row(runs[i], None, group[i], differs[i], first) for i in sorted(group)]
    settings = over_seeds(rows, differs, ascending)
    rows.sort(key=lambda row: (row.run.status == "failed", row.value is None, _signed(row.value, ascending)))
    places = (i if row.run.status != "failed" and row.value is not None else None for i, row in enumerate(rows, 1))
    rows = [replace(row, rank=place) for row, place in zip(rows, places)]
    return Table(*scores[0].told, ordered, ascending, rows, settings)


def over_seeds(rows: Sequence[Row], differs: Sequence[dict[str, str]], ascending: bool) -> list[Setting]:
    """The settings of rows, best mean first; none where of no setting two seeds were asked for by `differs`."""
    seeds: dict[tuple[tuple[str, str], ...], set[str]] = {}
    for line in differs:
        if "seed" in line:
            seeds.setdefault(_but_seed(line), set()).add(line["seed"])
    found: dict[tuple[tuple[str, str], ...], dict[str, Row]] = {_but_seed(row.differs): {} for row in rows}
    if all(len(seeds.get(setting, ())) < 2 for setting in found):
        return []
    for row in rows:
        if row.run.status == "finished" and row.value is not None:
            found[_but_seed(row.differs)][row.differs["seed"]] = row  # of a seed that was run twice the later
    lines = [Setting(None, dict(key), list(by_seed.values()), len(seeds[key])) for key, by_seed in found.items()]
    lines.sort(key=lambda line: (not line.rows, _signed(line.mean(rows[0].sort_by), ascending)))
    return [replace(line, rank=i if line.rows else None) for i, line in enumerate(lines, 1)]


def higher_is_better(figure: str) -> bool:
    """Of a figure by its name. A bound in bits is how many a picture costs."""
    return (figure.startswith(HIGHER) or figure == "is") and not figure.endswith("_bits")


def _signed(value: float | None, ascending: bool) -> float:
    """A sort key."""
    return 0.0 if value is None else value if ascending else -value


def _but_seed(differs: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in differs.items() if key != "seed")


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which runs differ, each with its value in every run.

    What was typed decides which settings count: model=mlp changes a hundred entries of the resolved config
    and is one decision. Only runs that recorded nothing typed are told apart by their configs.
    """
    configs = [_flat(run.config) for run in runs]
    typed = dict.fromkeys(key for run in runs for key in run.overrides)
    keys = typed or dict.fromkeys(key for config in configs for key in config if "_target_" not in key)
    columns: dict[str, list[str]] = {}
    for key in keys:
        if key.startswith(("run.", "hydra.")):
            continue  # where a run was written is not what it did
        # The config's spelling wins, so that lr=2e-4 and lr=0.0002 are the same; a group (model) has none.
        values = [
            config.get(key) or (run.choice(key) if key in run.config else run.overrides.get(key, ""))
            for run, config in zip(runs, configs)
        ]
        if len(set(values)) > 1:
            columns[key] = values
    return columns if typed else dict(sorted(columns.items(), key=lambda item: item[0].count("."))[:6])


def _each_run(tables: Sequence[Table]) -> list[Row]:
    """Every run once, as it stands in the first table that it is in."""
    rows: dict[Path, Row] = {}
    for table in tables:
        for row in table.rows:
            rows.setdefault(row.run.folder, row)
    return list(rows.values())


def contact_sheet(rows: Sequence[Row], side: int = 240) -> Image.Image | None:
    """The last grid of each run in the order of the tables, with captions; None when there is no grid."""
    shown = [row for row in rows if row.run.samples][:GRIDS]
    pictures = []
    for row in shown:
        try:
            with Image.open(row.run.samples[-1][1]) as opened:
                picture = opened.convert("RGB")
        except OSError:
            continue  # a picture that cannot be read is missing here as it is on the page
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        pictures.append((row, picture))
    if not pictures:
        return None
    font, gap, caption = ImageFont.load_default(13), 12, 38
    columns = min(6, math.ceil(math.sqrt(len(pictures))))
    lines = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, lines * (side + gap + caption) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (row, picture) in enumerate(pictures):
        left, top = gap + i % columns * (side + gap), gap + i // columns * (side + gap + caption)
        sheet.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
        for j, (text, ink) in enumerate(zip(_caption(row), ("#1c1e21", "#666c75"))):
            while pen.textlength(text, font) > side:
                text = f"{text[:-2]}…"
            pen.text((left, top + side + 3 + 16 * j), text, ink, font)
    return sheet


# ---- the tables


def run_columns(table: Table) -> list[Column]:
    """The table of single runs."""
    rows = table.rows
    counts = [_parameters(row.run) for row in rows]
    return [
        _column("rank", [row.rank for row in rows]),
        _column("job", [row.run.name for row in rows]),
        *_differing([row.differs for row in rows]),
        *(_column(key, [row.score.figures.get(key) for row in rows], least) for key, least in _figures(table)),
        _column("status", [row.run.status for row in rows]),
        *(_column(key, [_reached(row, key) for row in rows], least) for key, least in _costs(table, "step")),
        *(_column(f"parameters {p}", [count.get(p) for count in counts], 6) for p in _players(rows)),
    ]


def setting_columns(table: Table) -> list[Column]:
    """The table over seeds."""
    lines = table.settings
    numbers = [len(line.rows) for line in lines]
    told = [str(n) if n == line.seeds else f"{n} of {line.seeds}" for n, line in zip(numbers, lines)]

    def over(key: str, least: int) -> Column:
        shown = [_spread(line.values(key), n) for line, n in zip(lines, numbers)]
        return Column(key, [line.mean(key) for line in lines], shown, least)

    return [
        _column("rank", [line.rank for line in lines]),
        *_differing([line.differs for line in lines]),
        Column("seeds", numbers, told),
        *(over(key, least) for key, least in _figures(table)),
        *(
            _column(key, [_mean(_reached(row, key) for row in line.rows) for line in lines], least)
            for key, least in _costs(table)
        ),
        *(
            _column(f"parameters {p}", [_mean(_parameters(row.run).get(p) for row in line.rows) for line in lines], 6)
            for p in _players(table.rows)
        ),
    ]


def _column(key: str, values: list[Any], least: int = 0) -> Column:
    return Column(key, values, [_shown(key, value) for value in values], least)


def _differing(lines: Sequence[dict[str, str]]) -> list[Column]:
    """What makes lines differ; in some of it all of this table may be alike."""
    columns = {key: [line[key] for line in lines] for key in (lines[0] if lines else {})}
    return [_column(key, values, 2 * (len(set(values)) == 1)) for key, values in columns.items()]


def _figures(table: Table) -> list[tuple[str, int]]:
    """What was measured, and how little each matters in a narrow table."""
    return [(key, 0 if key == table.sort_by else 3) for key in table.figures]


def _costs(table: Table, *others: str) -> list[tuple[str, int]]:
    """What figures are bought with, and how little each matters in a narrow table."""
    costs = [*((key, 0) for key in others), ("minutes", 1), ("kimg", 5), ("images_per_second", 4)]
    return [(key, least) for key, least in costs if key not in table.figures]


def _reached(row: Row, key: str) -> float | None:
    """How far a run had come when it was measured; one that was not, when it ended."""
    until = math.inf if row.score.step is None else row.score.step
    if key != "step":
        return row.run.latest(key, until)
    ends = (row.run.ending.get("step"), row.run.latest("step"))
    places = [value for value in ends if value is not None and is_number(value)]
    return max(places, default=None) if row.score.step is None else until


def _parameters(run: Run) -> dict[str, Any]:
    counts = run.started.get("parameters")
    return counts if isinstance(counts, dict) else {}


def _players(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(player for row in rows for player in _parameters(row.run)))


def _raw(value: Any) -> str:
    """A value for another program: all its digits, whole numbers without a point, nothing for None."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _shown(column: str, value: Any) -> str:
    """A value for a person."""
    if is_number(value):
        if column.startswith("parameters "):
            return f"{value / 1e6:.2f} M"
        if column == "minutes":
            return duration(value)
        return f"{value:,.0f}" if column in ("step", "kimg") else number(value)
    return "–" if value is None or value == "" else str(value)


def _spread(values: Sequence[float], n: int) -> str:
    """`32.64 ± 0.98`: the deviation to two digits, the mean as far as it goes; of fewer than n values it says so."""
    if len(values) < 2:
        shown = number(values[0]) if values else "–"
    else:
        mean, sd = statistics.fmean(values), statistics.stdev(values)
        places = max(0, min(8, 1 - math.floor(math.log10(sd)))) if sd else 0
        shown = f"{mean:,.{places}f} ± {sd:,.{places}f}" if sd else f"{number(mean)} ± 0"
    return shown if len(values) in (0, n) else f"{shown} (n = {len(values)})"


def _names(keys: Iterable[str]) -> list[str]:
    """Headers for a person: model.lr is lr where no other column is."""
    keys = list(keys)
    renamed = {"step": "steps", "images_per_second": "images/s", "minutes": "time"}
    short = [renamed.get(key) or (key.rpartition(".")[2] if "/" not in key else key) for key in keys]
    return [name if short.count(name) == 1 else key for name, key in zip(short, keys)]


def _sentence(table: Table) -> str:
    which = "lowest" if table.ascending else "highest"
    of, n = ("setting", len(table.settings)) if table.settings else ("run", len(table.rows))
    over = f"mean {table.sort_by} over seeds" if table.settings else table.sort_by
    told = f"{n} {of}{'s' * (n != 1)}" + (f", ranked by {over}, {which} first" if table.sort_by else "")
    return f"{told}; {SPREAD}." if table.settings else f"{told}."


def _csv(table: Table) -> str:
    protocol = " · ".join(part for part in (table.heading, table.details) if part)
    columns = [
        *run_columns(table),
        _column("protocol", [protocol if row.score.protocol else "" for row in table.rows]),
        _column("error", [row.error for row in table.rows]),
    ]
    buffer = io.StringIO()
    lines = zip(*([_raw(value) for value in column.values] for column in columns))
    csv.writer(buffer, lineterminator="\n").writerows([[column.key for column in columns], *lines])
    return buffer.getvalue()


def _text(tables: Sequence[Table]) -> str:
    parts = []
    for table in tables:
        lines = (table.heading, table.details, _sentence(table))
        parts.append("\n".join(part for line in lines for part in textwrap.wrap(line, WIDTH)))
        if table.settings:
            parts += [_narrow(setting_columns(table)), "Runs"]
        parts.append(_narrow(run_columns(table)))
    failed = [f"{row.run.name}: {row.error}" for row in _each_run(tables) if row.error]
    if failed:
        parts.append("\n".join(["Failed", *(f"  {line}" for line in failed)]))
    return "\n\n".join([*parts, NOTE])


def _narrow(columns: list[Column]) -> str:
    """The table, without what matters least where the terminal is too narrow; the files have all of it."""

    def over() -> int:
        cells = ([name, *column.shown] for name, column in zip(_names(column.key for column in columns), columns))
        return sum(max(map(len, column)) + 2 for column in cells) - 2 - WIDTH

    while over() > 0 and (least := max(column.least for column in columns)):
        last = max(i for i, column in enumerate(columns) if column.least == least)
        columns = columns[:last] + columns[last + 1 :]
    job = next((i for i, column in enumerate(columns) if column.key == "job"), None)
    if over() > 0 and job is not None:
        longest = max(map(len, columns[job].shown))
        names = [_middle(name, max(16, longest - over())) for name in columns[job].shown]
        columns[job] = Column("job", columns[job].values, names)
    return _aligned([[name, *column.shown] for name, column in zip(_names(column.key for column in columns), columns)])


def _aligned(columns: Sequence[Sequence[str]]) -> str:
    """Columns of text as lines: numbers to the right, words to the left."""
    padded = []
    for column in columns:
        width = max(map(len, column))
        numeric = all(cell[:1].isdigit() or cell[:1] in "–-" for cell in column[1:])
        padded.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded))


def _middle(text: str, width: int) -> str:
    """Text cut in the middle: names of runs differ at their ends."""
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - width // 2 - 1) :]}"


def _markdown(tables: Sequence[Table]) -> str:
    parts = ["# Leaderboard"]
    for table in tables:
        parts.append(f"## {escape(table.heading or 'Runs', quote=False)}")
        parts += [escape(line, quote=False) for line in (table.details, _sentence(table)) if line]
        if table.settings:
            parts += [_pipes(setting_columns(table)), "### Runs"]
        parts.append(_pipes([*run_columns(table), _column("error", [row.error for row in table.rows])]))
    return "\n\n".join([*parts, NOTE]) + "\n"


def _pipes(columns: Sequence[Column]) -> str:
    lines = [_names(column.key for column in columns), *zip(*(column.shown for column in columns))]
    safe = [[escape(cell, quote=False).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [safe[0], ["---"] * len(safe[0]), *safe[1:]])


# ---- the page


def _html(tables: Sequence[Table], out: Path) -> str:
    rows = _each_run(tables)
    told = f"{len(rows)} run{'s' * (len(rows) != 1)}, {len(tables)} table{'s' * (len(tables) != 1)}. "
    parts = [
        f"<header><h1>Leaderboard</h1><p class=fine>{told}Click on a column to sort by it.</p></header>",
    ]
    charts: list[dict[str, Any]] = []
    for table in tables:
        drawn = _charts(table)
        charts += drawn
        parts.append(_section(table, out, drawn))
    parts.append(f'<p class="fine under">{NOTE}</p>')
    errors = [(_link(row.run, out, escape(row.run.name)), escape(row.error)) for row in rows if row.error]
    failed = "".join(f"<dt>{link}</dt><dd>{error}</dd>" for link, error in errors)
    if failed:
        parts.append(f'<section><h2>Failed</h2><dl class="table">{failed}</dl></section>')
    parts.append(_contact_html(rows, out))
    parts.append(f"<footer>written {now()}</footer>")
    parts.append(data_script({"charts": charts, "running": False, "written": 0}))
    parts.append(f"<style>{BOARD_STYLE}</style><script>{SCRIPT}</script><script>{SORT_SCRIPT}</script>")
    return document("Leaderboard", "\n".join(parts))


def _charts(table: Table) -> list[dict[str, Any]]:
    """The first figure over time, where the training wrote it."""
    # Numbers stand in the order of the table, so the best curves have the first colours.
    rows = [row for row in table.rows if row.rank and row.score.by != "evaluate"][:CURVES]
    lines = [(f"{row.rank}. {_settings(row) or row.run.name}", *row.run.series(table.sort_by)) for row in rows]
    return [chart(table.sort_by, lines)] if any(len(steps) > 1 for _, steps, _ in lines) else []


def _section(table: Table, out: Path, charts: Sequence[dict[str, Any]]) -> str:
    """A protocol, its tables and its curves."""
    parts = [f"<h2>{escape(table.heading or 'Runs')}</h2>"]
    parts += [f'<p class="fine protocol">{escape(line)}</p>' for line in (table.details, _sentence(table)) if line]
    if table.settings:
        parts.append(_table_html(setting_columns(table), table.sort_by) + "<h3>Runs</h3>")
    parts.append(_table_html(run_columns(table), table.sort_by, [(row.run, out) for row in table.rows]))
    if charts:
        top = f"the first {CURVES}" if sum(row.rank is not None for row in table.rows) > CURVES else ""
        parts.append(f'<h3>Curves <span class="fine">{top}</span></h3>{charts_html(charts)}')
    return f"<section>{''.join(parts)}</section>"


def _table_html(columns: Sequence[Column], sort_by: str, runs: Sequence[tuple[Run, Path]] = ()) -> str:
    """A table that a click on a column sorts. runs: of the lines, where these are runs, and whence they are linked."""
    heads, cells = [], []
    for column, name in zip(columns, _names(column.key for column in columns)):
        kind = "number" if any(is_number(value) for value in column.values) else "words"
        sort = "ascending" if column.key == "rank" else "none"
        heads.append(f'<th class="{kind}" aria-sort="{sort}"><button>{escape(name)}</button></th>')
        kind += " sorted" * (column.key == sort_by)
        texts = [escape(text) for text in column.shown]
        if column.key == "job":
            texts = [_link(run, out, text) for (run, out), text in zip(runs, texts)]
        elif column.key == "status":
            texts = [f'<span class="status {text}">{text}</span>' for text in texts]
        values = [escape(_raw(value)) for value in column.values]
        cells.append([f'<td class="{kind}" data-value="{value}">{t}</td>' for value, t in zip(values, texts)])
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in zip(*cells))
    table = f'<table class="board"><thead><tr>{"".join(heads)}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _link(run: Run, out: Path, inner: str) -> str:
    """The inner HTML, linked to the run's page where there is one."""
    if not (run.folder / "index.html").is_file():
        return inner
    return f'<a href="{escape(quote(Path(os.path.relpath(run.folder / "index.html", out)).as_posix()))}">{inner}</a>'


def _contact_html(rows: Sequence[Row], out: Path) -> str:
    cards = []
    for row in [row for row in rows if row.run.samples][:GRIDS]:
        picture = picture_uri(row.run.samples[-1][1], 320)
        if picture is None:
            continue
        uri, width, height = picture
        name, told = (escape(text) for text in _caption(row))
        image = f'<img src="{uri}" width="{width}" height="{height}" alt="{name}">'
        text = f"{name}<br><span class=fine>{told}</span>"
        cards.append(f"<figure>{_link(row.run, out, image)}<figcaption>{text}</figcaption></figure>")
    if not cards:
        return ""
    return f'<section><h2>Last samples</h2><div class="cards">{"".join(cards)}</div></section>'


def _caption(row: Row) -> tuple[str, str]:
    """Two lines under a picture: which run it is, and what makes it differ."""
    name = f"rank {row.rank} · {row.run.name}" if row.rank else f"{row.run.name} ({row.run.status})"
    value = f"{row.sort_by} {number(row.value)}" if row.value is not None else ""
    return name, " · ".join(part for part in (value, _settings(row)) if part)


def _settings(row: Row) -> str:
    """`mlp, seed 0, lr 0.0002`: what was chosen in a config group speaks for itself, a number needs its name."""
    shown = zip(_names(row.differs), row.differs.items())
    groups = {key for key, value in row.run.config.items() if isinstance(value, dict)}
    return ", ".join(value if key in groups else f"{name} {value}" for name, (key, value) in shown if value)


def _flat(node: Any, path: str = "") -> dict[str, str]:
    """A nested config as dotted keys with values written plainly."""
    if not isinstance(node, dict):
        return {path: plain(node)}
    return {k: v for key, value in node.items() for k, v in _flat(value, f"{path}.{key}" if path else str(key)).items()}


BOARD_STYLE = """
.wide { overflow-x: auto; }
.protocol { margin-bottom: 10px; max-width: 130ch; overflow-wrap: anywhere; }
h2 + .protocol { margin: -8px 0 2px; }
section > h3 { margin: 22px 0 8px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 400; font-size: 12.5px; border-color: var(--soft); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--c0); }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
th.number, td.number { text-align: right; } .under { margin-top: 28px; }
td.sorted { font-weight: 600; }
td:first-child { color: var(--soft); }
tbody tr:hover td { background: var(--wash); }
h3 + .wide .board { font-size: 13px; } h3 + .wide th, h3 + .wide td { padding: 3px 14px 3px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(190px, 44%), 1fr)); gap: 22px 20px; }
.cards figure { margin: 0; min-width: 0; } .cards figcaption { font-size: 13px; margin-top: 6px;
  overflow-wrap: anywhere; line-height: 1.4; }
.cards img { width: 100%; height: auto; display: block; border-radius: 3px; }
"""

SORT_SCRIPT = r"""
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.querySelectorAll("th")], body = table.tBodies[0];
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach(h => h.setAttribute("aria-sort", h === head ? (down > 0 ? "ascending" : "descending") : "none"));
    const value = row => row.cells[i].dataset.value;
    const compare = (a, b) => {
      const x = value(a), y = value(b);
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing stays at the end
      const numbers = !isNaN(x) && !isNaN(y);
      return down * (numbers ? x - y : x.localeCompare(y, undefined, {numeric: true}));
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
"""
