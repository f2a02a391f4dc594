"""Class labels: from names and numbers to indices, and from indices to one-hot rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gancli.config import nearest


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Classes (N,) as rows of zeros with a one (N, classes); of width zero where there are none."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def class_index(name: int | str, names: Sequence[str], classes: int) -> int:
    """The class of this name or number, of `classes`. ValueError for one that is not there."""
    if isinstance(name, str) and name in names:
        return names.index(name)
    try:
        number = int(name)
    except ValueError:
        raise ValueError(f"there is no class {name!r}{nearest(str(name), names)}") from None
    if not 0 <= number < classes:
        raise ValueError(f"class {number} is outside 0 to {classes - 1}; type classes=[0,{classes - 1}]")
    return number
