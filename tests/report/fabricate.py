"""What fabricated runs are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

MakeRun = Callable[..., Path]


def metric_row(step: int, **values: Any) -> dict[str, Any]:
    row = {"step": step, "kimg": step * 0.128, "minutes": step / 1000, "images_per_second": 1500.0, "lr": 2e-4}
    return row | {"D/adversarial": 1.1, "G/adversarial": 0.9, "D(real)": 0.62, "D(fake)": 0.35} | values
