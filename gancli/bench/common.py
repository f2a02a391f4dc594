"""What the benchmarks share: reading what was asked for, composing runs, writing tables."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gancli.config import UsageError, nearest, stamp


def choose(kind: str, before: str, words: Iterable[Any], there: Iterable[str]) -> list[str]:
    """What was asked for, each once. UsageError for what is not there, with the nearest."""
    chosen, there = list(dict.fromkeys(map(str, words))), list(there)
    if not chosen:
        raise UsageError(f"{before} names no {kind}; type any of: {', '.join(there)}")
    for word in chosen:
        if word not in there:
            raise UsageError(f"there is no {kind} {word!r}{nearest(word, there)}; there are: {', '.join(there)}")
    return chosen


def place_of(what: str, out: str) -> Path:
    """The folder that a benchmark writes: the one asked for, else one of its own."""
    return Path(out or f"outputs/bench-{what}-{stamp()}").expanduser()


def count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def aligned(cells: list[list[str]]) -> str:
    """Markdown: the first line is the header, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "| " + " | ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))) + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def without_nan(value: Any) -> Any:
    """JSON has no nan: null, everywhere inside."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
