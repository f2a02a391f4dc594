"""Numbers, durations and config values as text for a person."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gancli.report.run_folder import is_number


def number(value: Any) -> str:
    """Return four digits with thousands separated; "–" for None, text unchanged."""
    if not is_number(value):
        return "–" if value is None else str(value)
    if not np.isfinite(value):
        return "not finite"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def short_number(value: float) -> str:
    """Return three digits, for texts that change all the time: always as many decimals, so that they do not jump."""
    if not np.isfinite(value):
        return "not finite"
    size = abs(value)
    if 0 < size < 0.0005:
        return f"{value:.0e}"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.3f}"


def count(value: Any) -> str:
    """Return a whole number with thousands separated; empty for None, text unchanged."""
    return f"{value:,.0f}" if is_number(value) and np.isfinite(value) else str(value or "")


def duration(minutes: float) -> str:
    if not np.isfinite(minutes):
        return ""
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    return f"{minutes:.3g} min" if minutes < 60 else f"{minutes // 60:,.0f} h {minutes % 60:.0f} min"


def yaml_value(value: Any) -> str:
    """Return a config value as YAML writes it on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(yaml_value(v) for v in value)}]"
    return str(value)


def pairs(values: Any, show: Callable[[Any], str] = str) -> str:
    """Return the entries of a dict on one line; empty for anything else."""
    return " · ".join(f"{key} {show(value)}" for key, value in values.items()) if isinstance(values, dict) else ""
