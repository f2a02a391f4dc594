"""gan bench: recipes, or ways to train, compared in one run."""

import inspect
from collections.abc import Callable
from typing import Any

import yaml

from gancli.bench.common import choose_names
from gancli.bench.modes import modes
from gancli.bench.race import race
from gancli.bench.speed import speed
from gancli.config import CONFIGS, UsageError

BENCHMARKS: dict[str, Callable[..., int]] = {"modes": modes, "speed": speed, "race": race}


def main(what: str, **keys: Any) -> int:
    """Run a benchmark with its own keys; raise UsageError for a key of another one. Return 1 if a part failed."""
    choose_names("what", [what], BENCHMARKS)
    accepted = {name: inspect.signature(benchmark).parameters for name, benchmark in BENCHMARKS.items()}
    defaults = yaml.safe_load((CONFIGS / "bench.yaml").read_text(encoding="utf-8"))
    for key, value in keys.items():
        if key not in accepted[what] and value != defaults[key]:
            other = next(name for name in BENCHMARKS if key in accepted[name])
            raise UsageError(f"{key} is a key of gan bench {other}, not of gan bench {what}; leave it out")
    return BENCHMARKS[what](**{key: value for key, value in keys.items() if key in accepted[what]})
