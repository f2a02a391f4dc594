"""Checks of what a user typed: one message form for all of them."""

import math
from collections.abc import Iterable
from typing import Any

from gancli.config import nearest


def check_number(
    key: str,
    value: Any,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    example: Any = "",
    whole: bool = False,
) -> None:
    """Raise ValueError unless a value is a finite number in a range.

    Args:
        key: as it is typed, such as model.n_critic.
        least, most: bounds that are allowed; whole bounds say nothing about the type.
        above: bound that is not allowed itself.
        example: value to type instead; the nearest bound unless given.
        whole: 2.5 is out of range, 2 and 2.0 are not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and least <= value <= most and value > above and (not whole or value == int(value)):
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
    allowed = f"a whole number, {allowed}" if whole else allowed
    raise ValueError(f"{key}={value} is out of range, it must be {allowed}; type {key}={example}")


def check_choice(key: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value`; raise ValueError, naming the nearest choice, unless it is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{key}={value} is not one of {', '.join(known)}{nearest(str(value), known)}")
    return value
