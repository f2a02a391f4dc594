"""The kernel distance of two sets of features, KID where they are Inception's: unbiased at any number of images.

Bińkowski et al. 2018, section 4, https://arxiv.org/abs/1801.01401. Zero on average for two sets of one distribution,
so it may be negative.
"""

import numpy as np
import torch
from torch import Tensor

from gancli.metrics.fid import check

BLOCK = 1000  # images on a side of what is held of a kernel matrix


def kid(made: Tensor, real: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The mean of `mmd` over pairs of random subsets, and its standard deviation among them.

    made, real: features (N, D), N of each its own. A subset is of `size` images, or of all where either set has fewer.
    Drawn as torch-fidelity draws them, with the same numbers for its rng_seed. The deviation is that of one subset, not
    the error of the mean: where a subset is the whole set, it is 0.
    """
    made, real = prepared(made, real, fewest=2)
    size = min(size, len(made), len(real))
    if size == len(made) == len(real):
        subsets = min(subsets, 1)  # all would be the same
    chance = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        chosen = [torch.from_numpy(chance.choice(len(x), size, replace=False)).to(x.device) for x in (made, real)]
        values.append(mmd(made[chosen[0]], real[chosen[1]]))
    return float(np.mean(values)), float(np.std(values))


def mmd(made: Tensor, real: Tensor) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy under `kernel`, over all pairs, in blocks.

    E k(x, x') + E k(y, y') - 2 E k(x, y), of different x and x'. made, real: features (N, D), N of each its own.
    """
    made, real = prepared(made, real, fewest=2)
    return within(made) + within(real) - 2 * total(made, real) / (len(made) * len(real))


def prepared(made: Tensor, real: Tensor, fewest: int) -> tuple[Tensor, Tensor]:
    """Both in float64 where `made` is, or on the CPU where that device has none. ValueError as `check`.

    The terms of `mmd` differ by a thousandth of each.
    """
    check(made, real, fewest=fewest)
    place = torch.device("cpu") if made.device.type == "mps" else made.device
    return made.to(place).double(), real.to(place).double()


def within(x: Tensor) -> float:
    """The mean kernel of two different rows of x (N, D)."""
    itself = float(kernel(x.square().mean(1)).sum())
    return (total(x, x) - itself) / (len(x) * (len(x) - 1))


def total(x: Tensor, y: Tensor) -> float:
    """The sum of the kernel over all pairs of a row of x and one of y."""
    return float(sum(kernel(a @ b.T / a.shape[1]).sum() for a in x.split(BLOCK) for b in y.split(BLOCK)))


def kernel(products: Tensor) -> Tensor:
    """(x.y / D + 1)^3, of x.y / D."""
    return (products + 1).pow(3)
