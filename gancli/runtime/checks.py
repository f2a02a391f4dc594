"""Checks of what a user typed: one message form for all of them."""

import math
from collections.abc import Iterable
from typing import Any

from gancli.config import nearest


def check_number(
    key: str, value: Any, least: float = -math.inf, most: float = math.inf, above: float = -math.inf, example: Any = ""
) -> None:
    """Raise ValueError unless a number lies in a range.

    Args:
        key: as it is typed, such as model.n_critic.
        least, most: bounds that are allowed; whole bounds say nothing about the type.
        above: bound that is not allowed itself.
        example: value to type instead; the nearest bound unless given.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and least <= value <= most and value > above:
        return
    low = f"above {above:g}" if above > -math.inf else f"{least:g} or more"
    allowed = f"from {least:g} to {most:g}" if math.isfinite(least) and math.isfinite(most) else low
    if math.isfinite(above) and math.isfinite(most):
        allowed = f"above {above:g}, at most {most:g}"
    elif not math.isfinite(least) and not math.isfinite(above):
        allowed = f"at most {most:g}"
    if example == "":
        bound = most if number and value > most else least if math.isfinite(least) else above + 1
        example = f"{bound:g}"
    raise ValueError(f"{key}={value} is out of range, it must be {allowed}; type {key}={example}")


def check_choice(key: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value`; raise ValueError, naming the nearest choice, unless it is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{key}={value} is not one of {', '.join(known)}{nearest(str(value), known)}")
    return value
