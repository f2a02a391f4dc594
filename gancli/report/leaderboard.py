"""The files of a leaderboard: csv, Markdown, HTML and a contact sheet; and the tables for a terminal."""

import csv
import io
import os
import re
import shutil
import sys
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from gancli.report.charts import band_chart
from gancli.report.columns import (
    NEVER,
    Column,
    caption,
    column,
    comparison,
    run_columns,
    seed_columns,
    settings_text,
    short_names,
)
from gancli.report.contact_sheet import contact_sheet, tile_shape
from gancli.report.ranking import RunRow, Table, each_run
from gancli.report.rendering import render
from gancli.report.run_folder import Run, resume_command
from gancli.report.run_page import commands
from gancli.report.thumbnails import thumbnail
from gancli.runtime import text
from gancli.runtime.files import remove_partials, write_atomically, write_text
from gancli.runtime.publish import is_shown, published

NOTE = "Numbers compare within a table, not between tables. Losses of different objectives never compare."
DEVIATION = "± is the standard deviation (n−1) over the seeds that finished and were measured"
BROKEN = "Failed or damaged"
DIFFERS, SAME = "What differs", "Nothing that was typed differs between these runs."
NEXT = "What to type next"
COMPARED = 4  # runs at most whose settings are compared in a table of their own
CHARTS = 4  # of a table at most
RESUMED = 3  # runs at most for which a command is shown
GRIDS = 100  # on the page at most
CURVES = 8  # in a chart at most, as many as there are colours
TERMINAL = 100  # characters
SHORTEST_NAME = 16  # to which names of runs are cut on a narrow terminal


def write_leaderboard(tables: Sequence[Table], out: Path) -> None:
    """Write leaderboard.csv, .md, .html and contact.png into `out`.

    The csv of every further table is named by its protocol: a file does not mix protocols either.
    """
    remove_partials(out)
    _remove_old_tables(out)
    for name, table in zip(csv_names(tables), tables):
        write_text(out / name, csv_text(table))
    write_text(out / "leaderboard.md", text.printable(markdown_text(tables)))
    write_text(out / "leaderboard.html", html_text(tables, out))
    sheet = contact_sheet(each_run(tables))
    if sheet:
        write_atomically(out / "contact.png", sheet.save)


def csv_names(tables: Sequence[Table]) -> list[str]:
    """Return a file name per table: leaderboard.csv, then by protocol, such as leaderboard-mnist-fd_mnist-n2000.csv."""
    names = ["leaderboard.csv"]
    for table in tables[1:]:
        score = next(row.score for row in table.rows if row.score.protocol)
        generated = score.protocol.get("generated")
        parts = ["leaderboard", score.protocol.get("data", ""), table.sort_by, f"n{generated}" if generated else ""]
        name = "-".join(clean for part in parts if (clean := re.sub(r"[^A-Za-z0-9_]+", "_", published(str(part)))[:60]))
        if f"{name}.csv".lower() in map(str.lower, names):
            name += f"-{zlib.crc32(score.key.encode(errors='backslashreplace')):08x}"
        names.append(f"{name}.csv")
    return names


def _remove_old_tables(out: Path) -> None:
    """Remove the csv files that an earlier leaderboard.md names, and no other file of a person."""
    report = out / "leaderboard.md"
    old = report.read_text(encoding="utf-8", errors="replace") if report.is_file() else ""
    for name in re.findall(r"^\[(leaderboard-[\w-]+\.csv)\]", old, re.M):
        (out / name).unlink(missing_ok=True)
    for path in out.glob("leaderboard-*.csv"):  # as earlier versions named them
        if re.fullmatch(r"leaderboard-[0-9]+\.csv", path.name):
            path.unlink()


def csv_text(table: Table) -> str:
    protocol = " · ".join(part for part in (table.heading, table.details) if part)
    protocols = column("protocol", [protocol if row.score.protocol else "" for row in table.rows])
    columns = [*run_columns(table), protocols, column("error", [row.error for row in table.rows])]
    buffer = io.StringIO()
    rows = [[c.key for c in columns], *zip(*(c.raw for c in columns))]
    cells = [[text.csv_cell(published(cell)) for cell in row] for row in rows]
    csv.writer(buffer, lineterminator="\n").writerows(cells)
    return text.printable(buffer.getvalue())


def markdown_text(tables: Sequence[Table]) -> str:
    parts = ["# Leaderboard"]
    if lines := _comparison(tables):
        parts += [f"## {DIFFERS}", text.table(_escaped(lines), True, range(len(lines[0])))] if lines[1:] else [SAME]
    for name, table in zip(csv_names(tables), tables):
        parts.append(f"## {_markdown(table.heading or 'Runs')}")
        parts += [_markdown(line) for line in (table.details, _summary(table)) if line]
        parts.append(f"[{name}]({name})")
        if table.setting_rows:
            parts += [_aligned(seed_columns(table), markdown=True), "### Runs"]
        columns = [*run_columns(table), column("error", [row.error for row in table.rows])]
        parts.append(_aligned(columns, markdown=True))
    if found := next_commands(tables):
        parts += [
            f"## {NEXT}",
            "\n".join(f"- {_markdown(label)}: {text.code_span(published(command))}" for label, command in found),
        ]
    return "\n\n".join([*parts, NOTE]) + "\n"


def terminal_text(tables: Sequence[Table], width: int = 0) -> str:
    """Return tables as wide as the terminal; columns and names that do not fit are cut, see `Column.drop`.

    Args:
        width: characters instead.
    """
    if not width:
        width = shutil.get_terminal_size((TERMINAL, 24)).columns if sys.stdout.isatty() else TERMINAL
    parts = []
    if lines := _comparison(tables):
        parts += (
            [DIFFERS, text.table(_fit_comparison(lines, width), left=range(len(lines[0])))] if lines[1:] else [SAME]
        )
    for table in tables:
        heading = (table.heading, table.details, _summary(table))
        parts.append("\n".join(part for line in heading for part in textwrap.wrap(line, width)))
        if table.setting_rows:
            parts += [_aligned(_fit(seed_columns(table), width)), "Runs"]
        parts.append(_aligned(_fit(run_columns(table), width)))
    failed: dict[str, list[str]] = {}  # names of runs by their error
    for row in each_run(tables):
        if row.error:
            failed.setdefault(row.error, []).append(text.one_line(row.run.name))
    if failed:
        errors = (textwrap.wrap(f"{', '.join(names)}: {error}", width - 2) for error, names in failed.items())
        parts.append("\n".join([BROKEN, *(f"  {line}" for wrapped in errors for line in wrapped)]))
    parts.append("\n".join(textwrap.wrap(NOTE, width)))
    if found := next_commands(tables):
        parts.append("\n".join([NEXT, *_command_lines(found, width)]))
    return "\n\n".join(parts)


def _command_lines(found: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return labels with their commands: next to each other where all fit. A command is never cut."""
    wide, longest = (max(map(len, column)) for column in zip(*found))
    if wide + longest + 4 <= width:
        return [f"  {label.ljust(wide)}  {command}" for label, command in found]
    return [line for label, command in found for line in (f"  {label}", f"    {command}")]


def html_text(tables: Sequence[Table], out: Path) -> str:
    """Return the page. Its links are relative to the folder `out`."""
    rows = each_run(tables)
    # The quick metrics next to the numbers of gan evaluate are the same for each of its protocols.
    charts = [[] if i and _is_evaluated(table) else _charts(table) for i, table in enumerate(tables)]
    cards = _cards(rows, out)
    return render(
        "leaderboard.html",
        tables=[
            {
                "table": table,
                "file": name,
                "summary": _summary(table),
                "seeds": _named(seed_columns(table)) if table.setting_rows else [],
                "runs": _named(run_columns(table)),
                "links": [_link(row.run, out) for row in table.rows],
                "charts": table_charts,
                "all_curves": len(_curve_rows(table)) <= CURVES,
            }
            for name, table, table_charts in zip(csv_names(tables), tables, charts)
        ],
        counts=f"{text.plural(len(rows), 'run')}, {text.plural(len(tables), 'table')}",
        curves=CURVES,
        failed=[{"name": row.run.name, "link": _link(row.run, out), "error": row.error} for row in rows if row.error],
        comparison=_comparison(tables),
        broken=BROKEN,
        differs=DIFFERS,
        same=SAME,
        commands=next_commands(tables),
        cards=cards,
        shape=tile_shape([(card["image"].width, card["image"].height) for card in cards]) if cards else 1,
        note=NOTE,
        refresh=0,
        data={"charts": [chart for table_charts in charts for chart in table_charts]},
    )


def _summary(table: Table) -> str:
    order = f", {'lowest' if table.ascending else 'highest'} first"
    if not table.setting_rows:
        return f"{text.plural(len(table.rows), 'run')}{f', ranked by {table.sort_by}{order}' * bool(table.sort_by)}."
    settings = text.plural(len(table.setting_rows), "setting")
    return f"{settings}, ranked by mean {table.sort_by} over seeds{order}; {DEVIATION}."


def _named(columns: Sequence[Column]) -> list[tuple[str, Column]]:
    return list(zip(short_names(column.key for column in columns), columns))


def _cells(columns: Sequence[Column]) -> list[Sequence[str]]:
    return [short_names(column.key for column in columns), *zip(*(column.texts for column in columns))]


def _aligned(columns: Sequence[Column], markdown: bool = False) -> str:
    cells = _escaped(_cells(columns)) if markdown else [[text.one_line(c) for c in row] for row in _cells(columns)]
    return text.table(cells, markdown, left=[i for i, column in enumerate(columns) if not column.numeric])


def _escaped(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return cells as Markdown."""
    return [[_markdown(cell) for cell in row] for row in cells]


def _markdown(value: str) -> str:
    return text.markdown(published(text.one_line(value)))


def _fit(columns: list[Column], width: int) -> list[Column]:
    """Return the columns that matter most in so many characters, long texts cut in the middle if need be."""

    def excess() -> int:
        return sum(max(map(len, cells)) + 2 for cells in zip(*_cells(columns))) - 2 - width

    columns = [column for column in columns if column.drop < NEVER]
    while excess() > 0 and (drop := max(column.drop for column in columns)):
        last = max(i for i, column in enumerate(columns) if column.drop == drop)
        columns = columns[:last] + columns[last + 1 :]
    for i, wide in enumerate(columns):
        longest = max(map(len, wide.texts), default=0)
        if wide.key not in ("rank", "status") and excess() > 0 and longest > SHORTEST_NAME:
            texts = [_cut_middle(cell, max(SHORTEST_NAME, longest - excess())) for cell in wide.texts]
            columns[i] = wide._replace(texts=texts)
    return columns


def _comparison(tables: Sequence[Table]) -> list[list[str]]:
    """Return what differs between the runs, in their order; empty where they are many or one."""
    rows = each_run(tables)
    return comparison(rows) if 1 < len(rows) <= COMPARED else []


def _fit_comparison(lines: list[list[str]], width: int) -> list[list[str]]:
    """Return the lines with cells that fit the width, cut in the middle."""
    key = max(len(line[0]) for line in lines)
    cell = max(8, (width - key) // (len(lines[0]) - 1) - 2)
    return [[line[0], *(_cut_middle(text.one_line(value), cell) for value in line[1:])] for line in lines]


def _cut_middle(name: str, width: int) -> str:
    """Return a name of at most `width` characters: names of runs differ at their ends."""
    if len(name) <= width:
        return name
    return f"{name[: width // 2]}…{name[len(name) - (width - width // 2 - 1) :]}"


def _curve_rows(table: Table) -> list[tuple[str, list[RunRow]]]:
    """Return the curves of a table, best first: a setting with all its seeds, or a run."""
    if not table.setting_rows:
        rows = [row for row in table.rows if row.rank]
        return [(f"{row.rank}. {settings_text(row.settings, row.run) or row.run.name}", [row]) for row in rows]
    # A seed that is still running has a curve too, though no part in the mean.
    return [
        (f"{setting.rank}. {settings_text(setting.settings, setting.rows[0].run) or 'all seeds'}", seeds)
        for setting in table.setting_rows
        if setting.rank and (seeds := [row for row in table.rows if row.rank and setting.holds(row)])
    ]


def _charts(table: Table) -> list[dict[str, Any]]:
    """Return charts of the metrics over time that the trainings logged, the ranking one first."""
    # Curves are in the order of the table, so the best ones have the first colours.
    groups = [(label, [row.run for row in rows]) for label, rows in _curve_rows(table)[:CURVES]]
    charts = []
    for key in _logged_metrics(table)[:CHARTS]:
        series = [(label, [run.series(key) for run in runs if key in run.keys]) for label, runs in groups]
        series = [(label, runs) for label, runs in series if any(np.isfinite(values).any() for _, values in runs)]
        if any(len(steps) > 1 for _, runs in series for steps, _ in runs):
            charts.append(band_chart(key, series))
    return charts


def _logged_metrics(table: Table) -> list[str]:
    """Return the metrics of a table that the trainings logged, or where gan evaluate measured them the quick ones."""
    if not _is_evaluated(table):
        return table.metrics
    quick = {score.key: score for row in table.rows for score in row.run.scores if score.source == "quick"}
    return list(next(iter(quick.values())).metrics) if len(quick) == 1 else []  # several protocols: no common chart


def _is_evaluated(table: Table) -> bool:
    return any(row.score.source == "evaluate" for row in table.rows)


def next_commands(tables: Sequence[Table]) -> list[tuple[str, str]]:
    """Return the commands that a person may type next, each with its label: for the best run, then for broken ones."""
    table, rows = tables[0], each_run(tables)
    means = [setting for setting in table.setting_rows if setting.rank == 1]
    best = min((row for row in table.rows if row.rank and (not means or means[0].holds(row))), key=_rank, default=None)
    found = [(f"the best: {label}", command) for label, command in commands(best.run)[:3]] if best else []
    broken = [row.run for row in rows if row.run.status in ("failed", "stopped") and row.run.is_resumable]
    found += [(f"resume {run.name}, which {run.status}", resume_command(run.folder)) for run in broken[:RESUMED]]
    if len(broken) > RESUMED:
        found.append((f"and {len(broken) - RESUMED} more", resume_command(broken[RESUMED].folder)))
    return [(text.one_line(label), text.one_line(command)) for label, command in found]


def _rank(row: RunRow) -> int:
    return row.rank or 0


def _link(run: Run, out: Path) -> str:
    """Return the relative address of a run's page; empty when it has none, or one with names that are not shown."""
    page = run.folder / "index.html"
    if not page.is_file():
        return ""
    way = Path(os.path.relpath(page, out)).as_posix()
    near = os.path.commonpath((page.absolute(), out.absolute())) != Path(page.absolute().anchor).as_posix()
    return quote(os.fsencode(way)) if is_shown() or (near and way == published(way)) else ""


def _cards(rows: Sequence[RunRow], out: Path) -> list[dict[str, Any]]:
    shown = [(row, thumbnail(row.run.samples[-1][1], 320)) for row in rows if row.run.samples][:GRIDS]
    return [{"image": image, "caption": caption(row), "link": _link(row.run, out)} for row, image in shown if image]
