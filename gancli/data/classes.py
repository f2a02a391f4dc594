"""Class labels: from names and numbers to indices, and from indices to one-hot rows."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from gancli.config import nearest
from gancli.runtime.terminal import say
from gancli.runtime.text import printable


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels (N,) as one-hot rows (N, classes), of width zero where there are no classes."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def class_index(name: int | str, names: Sequence[str], classes: int) -> int:
    """Return the index of a class given by name or number; a name wins, so a folder called 8 is meant, not the ninth.

    Raises ValueError where there is no such class. `names` of the `classes` may be empty.
    """
    for text in (str(name), printable(str(name))):  # bytes that are no text are stored as escapes
        if text in names:
            return names.index(text)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    there = f"; the classes are {printable(', '.join(names[:20]))}{more}" if names else ""
    if not re.fullmatch("-?(0|[1-9][0-9]*)", str(name)):
        raise ValueError(f"there is no class {printable(repr(name))}{nearest(str(name), names)}{there}")
    number = int(name)
    if not 0 <= number < classes:
        raise ValueError(f"class {number} is outside 0 to {classes - 1}{there}")
    return number


def how_read(given: Sequence[int | str], names: Sequence[str]) -> list[str]:
    """Return how each number among the `given` classes was read, where its name and its position are two classes."""
    said = []
    for name in dict.fromkeys(map(str, given)):
        position = int(name) if re.fullmatch("0|[1-9][0-9]*", name) else -1
        if name in names and names.index(name) != position and position >= 0:
            said.append(f"class {name} is the class of this name, at position {names.index(name)}")
        elif name not in names and 0 <= position < len(names):
            said.append(f"class {name} is the one at this position, {printable(names[position])}")
    return said


def say_how_read(given: Sequence[int | str], names: Sequence[str]) -> None:
    """Print a line for each of `how_read`."""
    for line in how_read(given, names):
        say(line)


def class_folders(names: Sequence[str]) -> list[str]:
    """Return a folder name for each class, all different: names may be untrusted.

    Only letters, digits, - and _ stay. Some file systems take names of another case for the same.
    """
    return _distinct([re.sub(r"[^\w-]+", "_", name)[:50] or str(label) for label, name in enumerate(names)])


def printable_names(names: Sequence[str]) -> list[str]:
    """Return the names of class folders as text: bytes that are no text are escaped, and all stay different."""
    return _distinct(list(map(printable, names)), fold=False)


def _distinct(names: list[str], fold: bool = True) -> list[str]:
    """Return names with their numbers behind those that came before; `fold` takes upper for lower case."""
    taken: set[str] = set()
    distinct = []
    for number, name in enumerate(names):
        while (name.casefold() if fold else name) in taken:
            name += f"_{number}"
        taken.add(name.casefold() if fold else name)
        distinct.append(name)
    return distinct
