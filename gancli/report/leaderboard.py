"""Runs side by side: a ranked table (text, CSV, Markdown, HTML), their curves and their last grids."""

import csv
import io
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont

from gancli.report.page import (
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
from gancli.report.read import Run, is_number, read_run

NOTE = "Losses of different games do not compare: a lower one says nothing about which samples are better."
GRIDS = 100  # on a contact sheet at most
CURVES = 8  # as many as there are colours
WIDTH = 100  # of the table for a terminal


@dataclass(frozen=True)
class Row:
    """A line of the table: a run, its place (None: not ranked), its sort value, and what makes it differ."""

    run: Run
    rank: int | None
    value: float | None
    differs: dict[str, str]

    @property
    def error(self) -> str:
        """Why it failed, on one line; empty when it did not."""
        return " ".join(self.run.message.split()) if self.run.status == "failed" else ""


@dataclass(frozen=True)
class Seeds:
    """Mean and standard deviation (n - 1) of the sort value over the n seeds of one setting."""

    settings: dict[str, str]
    n: int
    mean: float
    sd: float

    @property
    def shown(self) -> str:
        """`32.64 ± 0.98`: the deviation to two digits, the mean as far as the deviation goes."""
        places = max(0, min(8, 1 - math.floor(math.log10(self.sd)))) if self.sd > 0 else 4
        return f"{self.mean:,.{places}f} ± {self.sd:,.{places}f}"


def write_leaderboard(folders: Sequence[Path], out: Path, sort_by: str, ascending: bool) -> str:
    """Write leaderboard.csv, .md, .html and contact.png into `out`; gives the table for a terminal.

    Ranked by the last finite value of `sort_by`; runs without one come after, failed runs last.
    """
    rows = rank([read_run(folder) for folder in folders], sort_by, ascending)
    seeds = over_seeds(rows, ascending)
    header, cells = _cells(rows, sort_by)
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *([_raw(v) for v in line] for line in cells)])
    write_text(out / "leaderboard.csv", buffer.getvalue())
    write_text(out / "leaderboard.md", _markdown(rows, seeds, sort_by, ascending))
    write_text(out / "leaderboard.html", _html(rows, seeds, out, sort_by, ascending))
    sheet = contact_sheet(rows, sort_by)
    if sheet:
        partial = out / ".contact.png.partial"
        sheet.save(partial, "PNG")
        partial.replace(out / "contact.png")
    return _text(rows, seeds, sort_by)


def rank(runs: Sequence[Run], sort_by: str, ascending: bool) -> list[Row]:
    """Runs as rows in the order of the table."""
    keys = list(dict.fromkeys(key for run in runs for key in run.keys))
    # Where no run got as far as a number there is nothing to misspell.
    if keys and sort_by not in keys:
        near = get_close_matches(sort_by, keys, 1, 0)[0]
        raise ValueError(f"no run here has the metric {sort_by!r}; sort by {near!r} or another of: {', '.join(keys)}")
    values = [run.latest(sort_by) for run in runs]

    def order(i: int) -> tuple[bool, bool, float]:
        value = values[i]
        return runs[i].status == "failed", value is None, 0 if value is None else value if ascending else -value

    columns = differences(runs)
    rows: list[Row] = []
    for place, i in enumerate(sorted(range(len(runs)), key=order), 1):
        ranked = runs[i].status != "failed" and values[i] is not None
        rows.append(Row(runs[i], place if ranked else None, values[i], {key: columns[key][i] for key in columns}))
    return rows


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


def over_seeds(rows: Sequence[Row], ascending: bool) -> list[Seeds]:
    """The sort value over finished runs that differ in seed only, best mean first."""
    groups: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for row in rows:
        if row.value is not None and row.run.status == "finished" and "seed" in row.differs:
            settings = tuple((key, value) for key, value in row.differs.items() if key != "seed")
            groups.setdefault(settings, {})[row.differs["seed"]] = row.value
    found = [
        Seeds(dict(settings), len(v), statistics.fmean(v.values()), statistics.stdev(v.values()))
        for settings, v in groups.items()
        if len(v) > 1
    ]
    return sorted(found, key=lambda line: line.mean, reverse=not ascending)


def contact_sheet(rows: Sequence[Row], sort_by: str, side: int = 240) -> Image.Image | None:
    """The last grid of each run in the order of the table, with captions; None when there is no grid."""
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
        for j, (text, ink) in enumerate(zip(_caption(row, sort_by), ("#1c1e21", "#666c75"))):
            while pen.textlength(text, font) > side:
                text = f"{text[:-2]}…"
            pen.text((left, top + side + 3 + 16 * j), text, ink, font)
    return sheet


# ---- the table


def _cells(rows: Sequence[Row], sort_by: str) -> tuple[list[str], list[list[Any]]]:
    """The header and the lines of the table, with plain values."""
    settings = list(rows[0].differs) if rows else []
    measured = [key for key in ("step", "minutes", "kimg", "images_per_second") if key != sort_by]
    players = list(dict.fromkeys(p for row in rows for p in _parameters(row.run)))
    header = ["rank", "job", *settings, sort_by, "status", *measured, *(f"parameters {p}" for p in players), "error"]
    lines = []
    for row in rows:
        counts = _parameters(row.run)
        lines.append(
            [
                row.rank,
                row.run.name,
                *row.differs.values(),
                row.value,
                row.run.status,
                *(_reached(row.run, key) for key in measured),
                *(counts.get(p) for p in players),
                row.error,
            ]
        )
    return header, lines


def _reached(run: Run, key: str) -> Any:
    """How far a run came: its last event or its last row, whichever is further."""
    if key not in ("step", "minutes"):
        return run.latest(key)
    places = [value for value in (run.ending.get(key), run.latest(key)) if value is not None and is_number(value)]
    return max(places, default=None)


def _parameters(run: Run) -> dict[str, Any]:
    counts = run.started.get("parameters")
    return counts if isinstance(counts, dict) else {}


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


def _names(columns: Iterable[str]) -> list[str]:
    """Headers for a person: model.lr is lr where no other column is."""
    columns = list(columns)
    renamed = {"step": "steps", "images_per_second": "images/s", "minutes": "time"}
    short = [renamed.get(key) or (key.rpartition(".")[2] if "/" not in key else key) for key in columns]
    return [name if short.count(name) == 1 else key for name, key in zip(short, columns)]


def _seed_table(seeds: Sequence[Seeds], sort_by: str) -> list[list[str]]:
    header = [*_names(seeds[0].settings), "n", f"{sort_by}, mean ± sd"]
    return [header, *([*line.settings.values(), str(line.n), line.shown] for line in seeds)]


def _text(rows: Sequence[Row], seeds: Sequence[Seeds], sort_by: str) -> str:
    header, cells = _cells(rows, sort_by)
    shown = [[_shown(key, value) for key, value in zip(header, line)] for line in cells]
    columns = {key: [name, *column] for key, name, *column in zip(header, _names(header), *shown)}
    del columns["error"]

    def over() -> int:
        return sum(max(map(len, column)) + 2 for column in columns.values()) - 2 - WIDTH

    # What matters least goes first where the terminal is too narrow; the files have all of it.
    for least in ("parameters ", "kimg", "images_per_second", "minutes"):
        if over() > 0:
            columns = {k: column for k, column in columns.items() if k == sort_by or not k.startswith(least)}
    longest = max(map(len, columns["job"]))
    if over() > 0:
        columns["job"] = [_middle(name, max(16, longest - over())) for name in columns["job"]]
    parts = [_aligned(list(columns.values()))]
    failed = [f"{row.run.name}: {row.error}" for row in rows if row.error]
    if failed:
        parts.append("\n".join(["Failed", *(f"  {line}" for line in failed)]))
    if seeds:
        parts.append("Over seeds, finished runs\n" + _aligned([list(c) for c in zip(*_seed_table(seeds, sort_by))]))
    return "\n\n".join([*parts, NOTE])


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


def _markdown(rows: Sequence[Row], seeds: Sequence[Seeds], sort_by: str, ascending: bool) -> str:
    header, cells = _cells(rows, sort_by)
    parts = [
        f"# Leaderboard\n\n{_sentence(rows, sort_by, ascending)}",
        _pipes([_names(header), *([_shown(key, value) for key, value in zip(header, line)] for line in cells)]),
    ]
    if seeds:
        parts.append(
            f"## Over seeds\n\nFinished runs that differ in seed only.\n\n{_pipes(_seed_table(seeds, sort_by))}"
        )
    return "\n\n".join([*parts, NOTE]) + "\n"


def _pipes(lines: Sequence[Sequence[str]]) -> str:
    safe = [[escape(cell, quote=False).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [safe[0], ["---"] * len(safe[0]), *safe[1:]])


def _sentence(rows: Sequence[Row], sort_by: str, ascending: bool) -> str:
    which = "lowest" if ascending else "highest"
    return f"{len(rows)} run{'s' * (len(rows) != 1)}, ranked by the last {sort_by}, {which} first."


# ---- the page


def _html(rows: Sequence[Row], seeds: Sequence[Seeds], out: Path, sort_by: str, ascending: bool) -> str:
    header, cells = _cells(rows, sort_by)
    # A sentence makes a poor column: errors are told below the table.
    header, cells = header[:-1], [line[:-1] for line in cells]
    # Numbers stand in the order of the table, so the best curves have the first colours.
    ranked = [row for row in rows if row.rank]
    lines = [(f"{row.rank}. {_settings(row) or row.run.name}", *row.run.series(sort_by)) for row in ranked[:CURVES]]
    charts = [chart(sort_by, lines)] if any(len(steps) > 1 for _, steps, _ in lines) else []
    numeric = {key for line in cells for key, value in zip(header, line) if is_number(value)}
    heads = "".join(
        f'<th class="{"number" if key in numeric else "words"}" aria-sort="{"ascending" if key == "rank" else "none"}">'
        f"<button>{escape(name)}</button></th>"
        for key, name in zip(header, _names(header))
    )
    body = "".join(_html_row(row, header, line, out, sort_by, numeric) for row, line in zip(rows, cells))
    parts = [
        f"<header><h1>Leaderboard</h1><p class=fine>{escape(_sentence(rows, sort_by, ascending))} "
        "Click on a column to sort by it.</p></header>",
        f'<section class="wide"><table id="board"><thead><tr>{heads}</tr></thead>',
        f'<tbody>{body}</tbody></table></section><p class="fine under">{NOTE}</p>',
    ]
    errors = [(_link(row.run, out, escape(row.run.name)), escape(row.error)) for row in rows if row.error]
    failed = "".join(f"<dt>{link}</dt><dd>{error}</dd>" for link, error in errors)
    if failed:
        parts.append(f'<section><h2>Failed</h2><dl class="table">{failed}</dl></section>')
    if seeds:
        first, *others = _seed_table(seeds, sort_by)
        table = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in others)
        parts.append(
            '<section class="wide"><h2>Over seeds <span class="fine">finished runs that differ in seed only; '
            f"sd with n − 1</span></h2><table><thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in first)}</tr></thead>"
            f"<tbody>{table}</tbody></table></section>"
        )
    if charts:
        top = f'<span class="fine">the first {CURVES}</span>' if len(ranked) > CURVES else ""
        parts.append(f"<section><h2>Curves {top}</h2>{charts_html(charts)}</section>")
    parts.append(_contact_html(rows, out, sort_by))
    parts.append(f"<footer>written {now()}</footer>")
    parts.append(data_script({"charts": charts, "running": False, "written": 0}))
    parts.append(f"<style>{BOARD_STYLE}</style><script>{SCRIPT}</script><script>{SORT_SCRIPT}</script>")
    return document("Leaderboard", "\n".join(parts))


def _html_row(row: Row, header: Sequence[str], line: Sequence[Any], out: Path, sort_by: str, numeric: set[str]) -> str:
    cells = []
    for key, value in zip(header, line):
        text = escape(_shown(key, value))
        if key == "job":
            text = _link(row.run, out, text)
        elif key == "status":
            text = f'<span class="status {row.run.status}">{text}</span>'
        kind = "number" if key in numeric else "words"
        mark = " sorted" if key == sort_by else ""
        cells.append(f'<td class="{kind}{mark}" data-value="{escape(_raw(value))}">{text}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _link(run: Run, out: Path, inner: str) -> str:
    """The inner HTML, linked to the run's page where there is one."""
    if not (run.folder / "index.html").is_file():
        return inner
    return f'<a href="{escape(quote(Path(os.path.relpath(run.folder / "index.html", out)).as_posix()))}">{inner}</a>'


def _contact_html(rows: Sequence[Row], out: Path, sort_by: str) -> str:
    cards = []
    for row in [row for row in rows if row.run.samples][:GRIDS]:
        picture = picture_uri(row.run.samples[-1][1], 320)
        if picture is None:
            continue
        uri, width, height = picture
        name, told = (escape(text) for text in _caption(row, sort_by))
        image = f'<img src="{uri}" width="{width}" height="{height}" alt="{name}">'
        text = f"{name}<br><span class=fine>{told}</span>"
        cards.append(f"<figure>{_link(row.run, out, image)}<figcaption>{text}</figcaption></figure>")
    if not cards:
        return ""
    return f'<section><h2>Last samples</h2><div class="cards">{"".join(cards)}</div></section>'


def _caption(row: Row, sort_by: str) -> tuple[str, str]:
    """Two lines under a picture: which run it is, and what makes it differ."""
    name = f"rank {row.rank} · {row.run.name}" if row.rank else f"{row.run.name} ({row.run.status})"
    value = f"{sort_by} {number(row.value)}" if row.value is not None else ""
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
.wide { overflow-x: auto; margin-top: 28px; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 400; font-size: 12.5px; border-color: var(--soft); }
th button { all: unset; cursor: pointer; } th button:focus-visible { outline: 2px solid var(--c0); }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
th.number, td.number { text-align: right; } .under { margin-top: 10px; }
td.sorted { font-weight: 600; }
td:first-child { color: var(--soft); }
tbody tr:hover td { background: var(--wash); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(190px, 44%), 1fr)); gap: 22px 20px; }
.cards figure { margin: 0; min-width: 0; } .cards figcaption { font-size: 13px; margin-top: 6px;
  overflow-wrap: anywhere; line-height: 1.4; }
.cards img { width: 100%; height: auto; display: block; border-radius: 3px; }
"""

SORT_SCRIPT = r"""
(() => {
const heads = [...document.querySelectorAll("#board th")], body = document.querySelector("#board tbody");
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
})();
"""
