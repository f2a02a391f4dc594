"""Checks of values that a user typed, with one form of message."""

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
        least, most: bounds that are allowed themselves.
        above: bound that is not allowed itself.
        example: value to type instead; by default the nearest bound.
        whole: 2.5 is out of range, 2 and 2.0 are not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and least <= value <= most and value > above and (not whole or value == int(value)):
        return
    if math.isfinite(above):
        allowed = f"above {above:g}" + (f", at most {most:g}" if math.isfinite(most) else "")
    elif math.isfinite(least):
        allowed = f"from {least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
    else:
        allowed = f"at most {most:g}"
    if example == "":
        example = f"{most if is_number and value > most else least if math.isfinite(least) else above + 1:g}"
    allowed = f"a whole number, {allowed}" if whole else allowed
    raise ValueError(f"{key}={value} is out of range, it must be {allowed}; type {key}={example}")


def check_choice(key: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value`; raise ValueError, naming the nearest choice, unless it is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise ValueError(f"{key}={value} is not one of {', '.join(known)}{nearest(str(value), known)}")
    return value
