"""What fabricated runs are made of."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeRun = Callable[..., Path]


def metric_row(step: int, **values: Any) -> dict[str, Any]:
    row = {"step": step, "kimg": step * 0.128, "minutes": step / 1000, "images_per_second": 1500.0, "lr": 2e-4}
    return row | {"D/adversarial": 1.1, "G/adversarial": 0.9, "D(real)": 0.62, "D(fake)": 0.35} | values


def protocol(**values: Any) -> dict[str, Any]:
    """What gan evaluate writes of how it measured."""
    said = {"averaged": True, "data": "mnist", "split": "test", "seed": 0, "features": "mnist 1a2b3c, 64 features"}
    return said | {"made": 10000, "real": 10000, "weights": "x.safetensors", "versions": {"torch": "2.15.0"}} | values


def evaluated(folder: Path, figures: Any, how: Any = None, step: int | None = 200) -> Path:
    """A line more in the run's scores.jsonl, as gan evaluate writes it."""
    line = {"time": "2026-11-21T06:00:00", "command": "gan evaluate", "step": step, "figures": figures}
    with (folder / "scores.jsonl").open("a") as file:
        file.write(json.dumps(line | {"protocol": protocol() if how is None else how}) + "\n")
    return folder
