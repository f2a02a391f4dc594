"""Kernel distance between two sets of features, unbiased for any number of images. With Inception's features: KID.

Bińkowski et al. 2018, section 4, https://arxiv.org/abs/1801.01401. Zero on average for two sets from one distribution,
so it may be negative.
"""

import numpy as np
import torch
from torch import Tensor

from gancli.metrics.fid import check_features

BLOCK = 1000  # rows and columns of a kernel matrix in memory


def kid(fake: Tensor, real: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return mean and standard deviation of `mmd` over random subsets, sampled as torch-fidelity does for this seed.

    The deviation is that of one subset, not the error of the mean. fake, real: features (N, D), with their own N;
    size: images in a subset, at most those of either set.
    """
    fake, real = as_float64(fake, real, fewest=2)
    subsets, size = subsets_of(len(fake), len(real), subsets, size)
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        ours, theirs = (x[torch.from_numpy(rng.choice(len(x), size, replace=False)).to(x.device)] for x in (fake, real))
        values.append(mmd(ours, theirs))
    return float(np.mean(values)), float(np.std(values))


def subsets_of(fake: int, real: int, subsets: int = 100, size: int = 1000) -> tuple[int, int]:
    """Return the number of subsets and the images in each that `kid` takes of this many images."""
    size = min(size, fake, real)
    return (min(subsets, 1) if size == fake == real else subsets), size  # whole sets would all be the same


def mmd(fake: Tensor, real: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy of features (N, D), with their own N, over all pairs.

    E k(x, x') + E k(y, y') - 2 E k(x, y) for different x, x' and y, y', with the cubic kernel.
    """
    fake, real = as_float64(fake, real, fewest=2)
    return _mean_within(fake) + _mean_within(real) - 2 * _sum_of_kernel(fake, real) / (len(fake) * len(real))


def as_float64(fake: Tensor, real: Tensor, fewest: int) -> tuple[Tensor, Tensor]:
    """Check features and return them in float64 on one device; the terms of `mmd` differ by a thousandth of each."""
    check_features(fake, real, fewest=fewest)
    device = torch.device("cpu") if fake.device.type == "mps" else fake.device  # MPS has no float64
    return fake.to(device).double(), real.to(device).double()


def _mean_within(x: Tensor) -> float:
    diagonal = float(_kernel(x.square().mean(1)).sum())
    return (_sum_of_kernel(x, x) - diagonal) / (len(x) * (len(x) - 1))


def _sum_of_kernel(x: Tensor, y: Tensor) -> float:
    return float(sum(_kernel(a @ b.T / a.shape[1]).sum() for a in x.split(BLOCK) for b in y.split(BLOCK)))


def _kernel(products: Tensor) -> Tensor:
    return (products + 1).pow(3)  # of x.y / D
