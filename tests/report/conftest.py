"""Fabricated run folders: what a run leaves behind, without a run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from run_fixtures import MakeRun, metric_row


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        name: str = "run",
        rows: list[dict[str, Any]] | None = None,
        overrides: tuple[str, ...] = ("model=dcgan", "data=mnist"),
        config: dict[str, Any] | None = None,
        ending: dict[str, Any] | None = None,
        steps: tuple[int, ...] = (0, 100, 200),
        tail: str = "",
    ) -> Path:
        """A run; `ending` is its last event (None: still running), `tail` is written after it as it is."""
        folder = tmp_path / name
        (folder / "samples").mkdir(parents=True)
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.safetensors").touch()
        default = {"seed": 0, "model": {"name": "dcgan", "lr": 2e-4}, "data": {"name": "mnist", "size": 28}}
        (folder / "config.yaml").write_text(yaml.safe_dump(default if config is None else config))
        started = {
            "event": "started",
            "time": "2026-11-21T06:00:00",
            "command": "gan train model=dcgan",
            "overrides": list(overrides),
            "machine": "AMD EPYC, 2 cores",
            "device": "cpu",
            "versions": {"gancli": "0.1.0", "torch": "2.15.0"},
            "parameters": {"G": 1234567, "D": 765432},
            "images": 50000,
            "budget": "5 minutes",
        }
        rows = [metric_row(step) for step in (50, 100, 150, 200)] if rows is None else rows
        lines = [json.dumps(line) for line in [started, *rows, *([ending] if ending else [])]]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n" + tail)
        for step in steps:
            Image.new("RGB", (66, 66), (step % 256, 90, 160)).save(folder / "samples" / f"step-{step:07d}.png")
        return folder

    return make
