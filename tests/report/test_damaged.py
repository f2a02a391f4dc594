"""Damaged runs are named next to the others, and runs that may only be read lose no results."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import broken_png
from PIL import Image
from run_fixtures import write_job, write_run

from gancli.report.run_folder import read_run
from gancli.report.sweep_folder import absent_jobs

JOBS = {"0": ["model=dcgan"], "1": ["model=mlp"], "2": ["model=vae"], "../x": []}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5])


def without_log_and_config(run: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "garbled config": (lambda run: (run / "config.yaml").write_bytes(bytes(range(256))), "config.yaml is not the con"),
    "a list for a config": (lambda run: (run / "config.yaml").write_text("[1]"), "config.yaml is not the config"),
    "no config": (lambda run: (run / "config.yaml").unlink(), "config.yaml is missing"),
    "binary metrics": (lambda run: (run / "metrics.jsonl").write_bytes(bytes(range(256)) * 9), "metrics.jsonl is miss"),
    "no metrics": (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
    "checkpoints alone": (without_log_and_config, "metrics.jsonl is missing"),
    "half a checkpoint": (
        lambda run: cut(run / "checkpoints/last.safetensors"),
        "checkpoints/last.safetensors cannot",
    ),
    "vanished": (shutil.rmtree, "has not begun, or its folder was removed"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_job_is_named_on_the_page_and_the_others_are_shown(what: str, gan, tmp_path: Path) -> None:
    damage, message = DAMAGES[what]
    for name, model, fid in (("0", "dcgan", 30.5), ("1", "mlp", 10.5), ("2", "vae", 20.5)):
        write_job(tmp_path / "S" / name, fid, model=model)
    (tmp_path / "S" / "sweep.json").write_text(json.dumps({"words": [], "options": {}, "jobs": JOBS}))
    damage(tmp_path / "S" / "1")
    code, out, error = gan("report", "S", "sort=fid")
    assert code == 0 and f"S/1: {message}" in error and "Traceback" not in error, error
    files = [(tmp_path / "S" / f"leaderboard.{suffix}").read_text() for suffix in ("html", "md", "csv")]
    for text in (out, *files):
        assert message[:20] in " ".join(text.split()) and "dcgan" in text and "30.5" in text and "20.5" in text, text
    assert [path.name for path in (tmp_path / "S").glob("*.csv")] == ["leaderboard.csv"], "no table of its own"
    if (tmp_path / "S" / "1").exists():
        code, out, error = gan("report", "S/0", "S/1", "sort=fid")
        assert code == 0 and "30.5" in out and message[:20] in " ".join(out.split()), "named one by one"
        assert message in (tmp_path / "S" / "1" / "index.html").read_text()


def test_a_grid_that_cannot_be_decoded_is_left_out_of_pages_animations_and_sheets(gan, tmp_path: Path) -> None:
    for name in ("0", "1"):
        write_job(tmp_path / "S" / name, 1.0)
    last = sorted((tmp_path / "S" / "0" / "samples").glob("step-*.png"))[-1]
    last.write_bytes(broken_png())
    code, _, error = gan("report", "S")
    assert code == 0 and "Traceback" not in error, error
    with Image.open(tmp_path / "S" / "contact.png") as sheet:
        assert sheet.width == 252 + 12, "one tile, that of the whole grid"
    code, _, error = gan("report", "S/0", "gif=true")
    assert code == 0, error
    with Image.open(tmp_path / "S" / "0" / "samples" / "history.gif") as gif:
        assert gif.n_frames == 2


def test_whole_runs_are_not_damaged(tmp_path: Path) -> None:
    failed = write_run(tmp_path / "S" / "0", [], config={}, steps=(), ending={"event": "failed", "message": "x"})
    for run in (write_job(tmp_path / "S" / "1", 1.0), write_job(tmp_path / "S" / "2", 1.0, None), failed):
        assert not read_run(run).damage
    (failed / "config.yaml").unlink()  # it failed before there was one
    (failed / "metrics.jsonl").write_text('{"event": "failed", "message": "x", "overrides": []}\n')
    assert not read_run(failed).damage
    assert not absent_jobs(tmp_path / "S"), "a sweep of an earlier version planned nothing"


def test_a_job_that_may_not_be_read_is_named_and_the_others_are_shown(gan, read_only) -> None:
    folder, close = read_only
    for i, model in enumerate(("dcgan", "mlp", "vae")):
        write_job(folder / "S" / str(i), i + 1.5, model=model)
    close(folder / "S", hidden=folder / "S" / "2")
    code, out, error = gan("report", "S", "sort=fid")
    assert code == 0 and "1.5" in out and "2.5" in out, error
    assert "S/2: its folder cannot be read (Permission denied)" in error


def test_reports_on_what_is_read_only_are_on_the_screen_or_where_out_says(gan, read_only) -> None:
    folder, close = read_only
    for name in ("0", "1"):
        write_job(folder / "S" / name, float(name) + 1.5, model="dcgan", seed=name)
    close(folder / "S")
    before = sorted((folder / "S").rglob("*"))
    code, out, error = gan("report", "S/0", "sort=fid")
    assert code == 0 and "1.5" in out and "type out=DIR" in error, error
    code, out, error = gan("report", "S", "sort=fid")
    assert code == 0 and "1.5" in out and "2.5" in out and "leaderboard.html" not in out, error
    code, out, error = gan("report", "S", "sort=fid", "out=tables")
    assert code == 0 and "2.5" in (folder / "tables" / "leaderboard.csv").read_text(), error
    code, out, error = gan("report", "S/0", "gif=true")
    assert code == 1 and "out=x.gif" in error and "1.5" not in error, error
    code, out, error = gan("report", "S/0", "out=x.gif")
    assert code == 0 and (folder / "x.gif").stat().st_size > 100, error
    code, out, error = gan("report", "S", "out=S/tables")
    assert code == 1 and "out=S/tables cannot be written" in error, error
    assert before == sorted((folder / "S").rglob("*"))
