"""Class labels: from names and numbers to indices, and from indices to one-hot rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gancli.config import nearest


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels (N,) as one-hot rows (N, classes), of width zero where there are no classes."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def class_index(name: int | str, names: Sequence[str], classes: int) -> int:
    """Return the index of a class given by name or number; a name wins, so a folder called 8 is meant, not the ninth.

    Raises ValueError where there is no such class. `names` of the `classes` may be empty.
    """
    if str(name) in names:
        return names.index(str(name))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    there = f"; the classes are {', '.join(names[:20])}{more}" if names else ""
    try:
        number = int(name)
    except ValueError:
        raise ValueError(f"there is no class {name!r}{nearest(str(name), names)}{there}") from None
    if not 0 <= number < classes:
        raise ValueError(f"class {number} is outside 0 to {classes - 1}{there}")
    return number
