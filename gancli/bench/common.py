"""What the benchmarks share: reading what was asked for, composing runs, writing tables."""

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
