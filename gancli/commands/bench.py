"""gan bench: recipes, or ways of training, side by side in one run."""

import inspect
from collections.abc import Callable
from typing import Any

import yaml

from gancli.bench.common import choose
from gancli.bench.modes import modes
from gancli.bench.speed import speed
from gancli.config import CONFIGS, UsageError

BENCHMARKS: dict[str, Callable[..., int]] = {"modes": modes, "speed": speed}


def main(what: str, **keys: Any) -> int:
    """Run the benchmark with those of the keys that it takes; 1 where a part of it failed."""
    choose("benchmark", "gan bench ", [what], BENCHMARKS)
    takes = {name: inspect.signature(benchmark).parameters for name, benchmark in BENCHMARKS.items()}
    defaults = yaml.safe_load((CONFIGS / "bench.yaml").read_text())
    for key, value in keys.items():
        if key not in takes[what] and value != defaults[key]:
            others = next(name for name in BENCHMARKS if key in takes[name])
            raise UsageError(f"{key} is a key of gan bench {others}, not of gan bench {what}; leave it out")
    return BENCHMARKS[what](**{key: value for key, value in keys.items() if key in takes[what]})
