"""The files of a leaderboard: csv, Markdown, HTML and a contact sheet; and the tables for a terminal."""

import csv
import io
import os
import re
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gancli.report.charts import chart
from gancli.report.columns import Column, caption, column, run_columns, seed_columns, settings_text, short_names
from gancli.report.contact_sheet import contact_sheet
from gancli.report.ranking import RunRow, Table, each_run, rank_runs
from gancli.report.rendering import render
from gancli.report.run_folder import Run, read_run
from gancli.report.thumbnails import thumbnail
from gancli.runtime import text
from gancli.runtime.files import write_atomically, write_text

NOTE = "Numbers compare within a table, not between tables. Losses of different objectives never compare."
DEVIATION = "± is the standard deviation (n−1) over the seeds that finished and were measured"
GRIDS = 100  # on the page at most
CURVES = 8  # in a chart at most, as many as there are colours
TERMINAL = 100  # characters
SHORTEST_NAME = 16  # to which names of runs are cut on a narrow terminal


def write_leaderboard(folders: Sequence[Path], out: Path, sort_by: str = "auto", ascending: bool | None = None) -> str:
    """Write leaderboard.csv, .md, .html and contact.png into `out`. Return the tables for a terminal.

    The second table goes to leaderboard-2.csv and so on: a file does not mix protocols either.
    """
    tables = rank_runs([read_run(folder) for folder in folders], sort_by, ascending)
    for old in out.glob("leaderboard-*.csv"):
        if re.fullmatch(r"leaderboard-[0-9]+\.csv", old.name):
            old.unlink()
    for i, table in enumerate(tables, 1):
        write_text(out / ("leaderboard.csv" if i == 1 else f"leaderboard-{i}.csv"), csv_text(table))
    write_text(out / "leaderboard.md", text.printable(markdown_text(tables)))
    write_text(out / "leaderboard.html", html_text(tables, out))
    sheet = contact_sheet(each_run(tables))
    if sheet:
        write_atomically(out / "contact.png", sheet.save)
    return terminal_text(tables)


def csv_text(table: Table) -> str:
    protocol = " · ".join(part for part in (table.heading, table.details) if part)
    protocols = column("protocol", [protocol if row.score.protocol else "" for row in table.rows])
    columns = [*run_columns(table), protocols, column("error", [row.error for row in table.rows])]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[c.key for c in columns], *zip(*(c.raw for c in columns))])
    return text.printable(buffer.getvalue())


def markdown_text(tables: Sequence[Table]) -> str:
    parts = ["# Leaderboard"]
    for table in tables:
        parts.append(f"## {escape(table.heading or 'Runs', quote=False)}")
        parts += [escape(line, quote=False) for line in (table.details, _summary(table)) if line]
        if table.setting_rows:
            parts += [_aligned(seed_columns(table), markdown=True), "### Runs"]
        columns = [*run_columns(table), column("error", [row.error for row in table.rows])]
        parts.append(_aligned(columns, markdown=True))
    return "\n\n".join([*parts, NOTE]) + "\n"


def terminal_text(tables: Sequence[Table], width: int = TERMINAL) -> str:
    """Return tables of at most `width` characters; columns and names that do not fit are cut, see `Column.drop`."""
    parts = []
    for table in tables:
        lines = (table.heading, table.details, _summary(table))
        parts.append("\n".join(part for line in lines for part in textwrap.wrap(line, width)))
        if table.setting_rows:
            parts += [_aligned(_fit(seed_columns(table), width)), "Runs"]
        parts.append(_aligned(_fit(run_columns(table), width)))
    failed = [f"{text.one_line(row.run.name)}: {row.error}" for row in each_run(tables) if row.error]
    if failed:
        parts.append("\n".join(["Failed", *(f"  {line}" for line in failed)]))
    return "\n\n".join([*parts, "\n".join(textwrap.wrap(NOTE, width))])


def html_text(tables: Sequence[Table], out: Path) -> str:
    """Return the page. Its links are relative to the folder `out`."""
    rows, charts = each_run(tables), [_charts(table) for table in tables]
    return render(
        "leaderboard.html",
        tables=[
            {
                "table": table,
                "summary": _summary(table),
                "seeds": _named(seed_columns(table)) if table.setting_rows else [],
                "runs": _named(run_columns(table)),
                "links": [_link(row.run, out) for row in table.rows],
                "charts": table_charts,
                "all_curves": sum(row.rank is not None for row in table.rows) <= CURVES,
            }
            for table, table_charts in zip(tables, charts)
        ],
        counts=f"{text.plural(len(rows), 'run')}, {text.plural(len(tables), 'table')}",
        curves=CURVES,
        failed=[{"name": row.run.name, "link": _link(row.run, out), "error": row.error} for row in rows if row.error],
        cards=_cards(rows, out),
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
    cells = [[text.one_line(cell) for cell in row] for row in _cells(columns)]
    if markdown:
        cells = [[escape(cell, quote=False).replace("|", "\\|") for cell in row] for row in cells]
    return text.table(cells, markdown, left=[i for i, column in enumerate(columns) if not column.numeric])


def _fit(columns: list[Column], width: int) -> list[Column]:
    """Return the columns that matter most in so many characters, names of runs cut in the middle if need be."""

    def excess() -> int:
        return sum(max(map(len, cells)) + 2 for cells in zip(*_cells(columns))) - 2 - width

    while excess() > 0 and (drop := max(column.drop for column in columns)):
        last = max(i for i, column in enumerate(columns) if column.drop == drop)
        columns = columns[:last] + columns[last + 1 :]
    job = next((i for i, column in enumerate(columns) if column.key == "job"), None)
    if excess() > 0 and job is not None:
        longest = max(map(len, columns[job].texts))
        names = [_cut_middle(name, max(SHORTEST_NAME, longest - excess())) for name in columns[job].texts]
        columns = [*columns[:job], columns[job]._replace(texts=names), *columns[job + 1 :]]
    return columns


def _cut_middle(name: str, width: int) -> str:
    """Return a name of at most `width` characters: names of runs differ at their ends."""
    if len(name) <= width:
        return name
    return f"{name[: width // 2]}…{name[len(name) - (width - width // 2 - 1) :]}"


def _charts(table: Table) -> list[dict[str, Any]]:
    """Return a chart of the ranking metric over time, if the trainings logged it."""
    # Curves are in the order of the table, so the best ones have the first colours.
    rows = [row for row in table.rows if row.rank and row.score.source != "evaluate"][:CURVES]
    lines = [(f"{row.rank}. {settings_text(row) or row.run.name}", *row.run.series(table.sort_by)) for row in rows]
    return [chart(table.sort_by, lines)] if any(len(steps) > 1 for _, steps, _ in lines) else []


def _link(run: Run, out: Path) -> str:
    """Return the relative address of a run's page; empty when it has none."""
    page = run.folder / "index.html"
    return quote(os.fsencode(Path(os.path.relpath(page, out)).as_posix())) if page.is_file() else ""


def _cards(rows: Sequence[RunRow], out: Path) -> list[dict[str, Any]]:
    shown = [(row, thumbnail(row.run.samples[-1][1], 320)) for row in rows if row.run.samples][:GRIDS]
    return [{"image": image, "caption": caption(row), "link": _link(row.run, out)} for row, image in shown if image]
