"""The budget of a run, and schedules over the fraction of it that is used."""

import math
from dataclasses import dataclass

from gancli.runtime.checks import check_number
from gancli.runtime.text import plural

# About a minute for digits, or six for CIFAR-10, on two CPU cores.
DEFAULT_STEPS = 2000


@dataclass
class Budget:
    """Steps, thousands of images, minutes: the first reached ends the run. Without any, DEFAULT_STEPS."""

    steps: int | None = None
    kimg: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in given.items():
            check_number(f"trainer.{name}", value, above=0, example=10, whole=name == "steps")
        if not given:
            self.steps = DEFAULT_STEPS

    def progress(self, step: int, images: int, seconds: float) -> float:
        """Return the used fraction of the budget, 0 to 1; at 1 the run is finished."""
        return min(1.0, max(self._used(step, images, seconds).values()))

    def longer(self, step: int, images: int, seconds: float) -> str:
        """Return the override that trains twice as long by the limit that ended the run."""
        used = self._used(step, images, seconds)
        name = max(used, key=lambda name: used[name])
        amount = {"steps": step, "kimg": images / 1000, "minutes": seconds / 60}[name]
        limit = max(2 * amount, getattr(self, name))
        return f"trainer.{name}={round(limit) if limit >= 10 or name == 'steps' else f'{limit:.2g}'}"

    def _used(self, step: int, images: int, seconds: float) -> dict[str, float]:
        """Return the used fraction of each limit."""
        return {
            "steps": step / self.steps if self.steps else 0.0,
            "kimg": images / (self.kimg * 1000) if self.kimg else 0.0,
            "minutes": seconds / (self.minutes * 60) if self.minutes else 0.0,
        }

    def __str__(self) -> str:
        parts = [plural(self.steps, "step")] if self.steps else []
        parts += [f"{self.kimg:g} kimg"] if self.kimg else []
        parts += [f"{self.minutes:g} minute{'s' * (self.minutes != 1)}"] if self.minutes else []
        return " or ".join(parts)


def constant(progress: float) -> float:
    """Return 1."""
    return 1.0


def linear(progress: float, start: float = 0.0, end: float = 0.0) -> float:
    """Return 1 until `start` of the budget is used, then a straight line to `end`."""
    return 1.0 if progress <= start else 1.0 + (end - 1.0) * (progress - start) / (1.0 - start)


def drop(progress: float, at: float = 0.5, factor: float = 0.1) -> float:
    """Return 1 until `at` of the budget is used, then `factor`."""
    return 1.0 if progress < at else factor


def cosine(progress: float, start: float = 1.0, end: float = 0.0, until: float = 1.0) -> float:
    """Return half a cosine from `start` to `end`, reached when `until` of the budget is used.

    It serves as a factor on the learning rate, or as a value: a penalty's weight, Adam's second momentum.
    """
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress / until)))
