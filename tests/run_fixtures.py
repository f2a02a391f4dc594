"""Run folders as a training and gan evaluate write them, without training anything."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from safetensors.numpy import save_file

from gancli.report.leaderboard import terminal_text, write_leaderboard
from gancli.report.ranking import rank_runs
from gancli.report.run_folder import read_run

FINISHED = {"event": "finished", "step": 200, "minutes": 0.2}
FAILED = {"event": "failed", "step": 50, "message": "D/adversarial became NaN <b>|</b>; lower model.lr"}
STARTED = {
    "event": "started",
    "time": "2026-11-21T06:00:00",
    "command": "gan train model=dcgan",
    "machine": "AMD EPYC, 2 cores",
    "device": "cpu",
    "versions": {"gancli": "0.1.0", "torch": "2.15.0"},
    "parameters": {"G": 1234567, "D": 765432},
    "images": 50000,
    "budget": "5 minutes",
}
CONFIG = {"seed": 0, "model": {"name": "dcgan", "lr": 2e-4}, "data": {"name": "mnist", "size": 28}}


def metric_row(step: int, **values: Any) -> dict[str, Any]:
    row = {"step": step, "kimg": step * 0.128, "minutes": step / 1000, "images_per_second": 1500.0, "lr": 2e-4}
    return row | {"D/adversarial": 1.1, "G/adversarial": 0.9, "D(real)": 0.62, "D(fake)": 0.35} | values


def protocol(**values: Any) -> dict[str, Any]:
    """Return a protocol as gan evaluate writes it."""
    given = {"averaged": True, "data": "mnist", "split": "test", "seed": 0, "features": "mnist 1a2b3c, 64 features"}
    return given | {"generated": 10000, "real": 10000, "weights": "x", "versions": {"torch": "2.15.0"}} | values


def write_run(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    overrides: tuple[str, ...] = ("model=dcgan", "data=mnist"),
    config: dict[str, Any] = CONFIG,
    ending: dict[str, Any] | None = None,
    steps: tuple[int, ...] = (0, 100, 200),
    tail: str = "",
) -> Path:
    """Write a run folder with grids of these steps; ending: last event, None for a running run; tail: more lines."""
    (folder / "samples").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    save_file({}, folder / "checkpoints" / "last.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [metric_row(step) for step in (50, 100, 150, 200)] if rows is None else rows
    lines = [STARTED | {"overrides": list(overrides)}, *rows, *([ending] if ending else [])]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    for step in steps:
        Image.new("RGB", (66, 66), (step % 256, 90, 160)).save(folder / "samples" / f"step-{step:07d}.png")
    return folder


def write_job(folder: Path, fid: float | None, ending: dict | None = FINISHED, **settings: object) -> Path:
    """Write a job of a sweep: `settings` are typed overrides, fid is None when it was not measured."""
    rows = [metric_row(step, **({} if fid is None else {"fid": fid})) for step in (100, 200)]
    groups = {"model": {"name": "dcgan"}, "data": {"name": "mnist", "size": 28}}
    for name, node in groups.items():
        node["name"] = settings.get(name, node["name"])
    overrides = tuple(f"{key}={value}" for key, value in settings.items())
    return write_run(folder, rows, overrides, {"seed": settings.get("seed", 0), **groups, "lr": 2e-4}, ending)


def add_score(folder: Path, metrics: Any, how: Any = None, step: int | None = 200) -> Path:
    """Append a line to a run's scores.jsonl as gan evaluate writes it; `how` is the protocol."""
    line = {"time": "2026-11-21T06:00:00", "command": "gan evaluate", "step": step, "metrics": metrics}
    with (folder / "scores.jsonl").open("a") as file:
        file.write(json.dumps(line | {"protocol": protocol() if how is None else how}) + "\n")
    return folder


def write_board(folders: Sequence[Path], out: Path, sort_by: str = "auto", ascending: bool | None = None) -> str:
    """Write the leaderboard of run folders into `out`; return its text for a terminal."""
    tables = rank_runs([read_run(folder) for folder in folders], sort_by, ascending)
    write_leaderboard(tables, out)
    return terminal_text(tables)
