"""Leaderboards of runs whose names, settings and messages come from somebody else."""

import csv
import re
from pathlib import Path
from typing import Any

from run_fixtures import FAILED, add_score, metric_row, write_board, write_job, write_run

ATTACK = "</script><script>alert('x')</script><img src=x onerror=alert(1)>|\x1b[2J\n# "


def test_values_from_others_are_escaped(tmp_path: Path) -> None:
    folder = write_job(tmp_path / "0 \x1b[2J", None, FAILED | {"message": ATTACK})
    add_score(folder, {f"fd{ATTACK}": 1.0}, {"data": ATTACK, ATTACK: {ATTACK: [ATTACK]}, "surrogate": "\ud800"})
    assert "\x1b" not in write_board([folder], tmp_path)
    html = (tmp_path / "leaderboard.html").read_text()
    assert html.count("<script") == html.count("</script>") == 3  # data, charts and sorting
    assert "<img src=x" not in html and "&lt;img src=x" in html
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert "<img" not in markdown and "\n# " not in markdown.removeprefix("# Leaderboard")
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        assert [line["status"] for line in csv.DictReader(file)] == ["failed"]


def test_a_leaderboard_of_hostile_names_is_inert_from_end_to_end(gan: Any, tmp_path: Path) -> None:
    """Names of runs, settings and messages that are formulas, markup, code or control characters."""
    attacks = [
        "=cmd|' /C calc'!A0",
        "<script>alert(1)</script>".replace("/", "∕"),
        "[x](javascript:alert(1))",
        "`id`|x",
    ]
    rows = [metric_row(1, **{"<img src=x onerror=alert(1)>": 1.0, "=1+1": 2.0})]
    for i, name in enumerate(attacks):
        message = f"\x1b[2J{name} </td><script>alert({i})</script>"
        ending = {"event": "failed", "message": message, "resumable": True}
        overrides = ["model=dcgan", f"+note={name}"]
        write_run(tmp_path / "runs" / name, rows=rows, ending=ending, overrides=overrides)
    code, out, error = gan("report", "runs")
    assert code == 0, error
    html, markdown = ((tmp_path / "runs" / f"leaderboard.{kind}").read_text() for kind in ("html", "md"))
    board = html.replace(re.search(r"<script>\n(.*)</script>", html, re.S)[0], "")  # ours
    assert "<script>alert" not in board and "<img src=x" not in board and "onerror=alert(1)>" not in board
    escaped = re.sub(r"\\[`\]]", "", markdown)
    prose = re.sub(r"(`+).*?\1", "", escaped)  # what stands as code is inert
    assert "](javascript" not in prose and "<script>" not in prose and "<img" not in prose
    with (tmp_path / "runs" / "leaderboard.csv").open() as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"[=@\t\r]|[+-](?![\d.]+$)", cell)]
    assert all(c.isprintable() or c == "\n" for c in out + error)
