"""Distances between two sets of images that need no feature network."""

import torch
from torch import Tensor


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 256, seed: int = 0) -> float:
    """Mean 1-Wasserstein distance of a and b over random directions of pixel space.

    a, b: as many images each, (N, C, H, W) in [-1, 1]. On a line, optimal transport pairs the sorted values, so the
    distance is exact there; the directions are unit vectors. Zero for the same set. Rabin et al. 2012,
    https://doi.org/10.1007/978-3-642-24785-9_37. It sees averages, contrast and variety, not fine detail: it ranks
    runs of one data set, and is no FID.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"two sets of the same shape are compared, but {tuple(a.shape)} and {tuple(b.shape)} were given"
        )
    a, b = a.flatten(1).float().cpu(), b.flatten(1).float().cpu()
    d = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed))
    d = d / d.norm(dim=0)
    return float(((a @ d).sort(0).values - (b @ d).sort(0).values).abs().mean())
