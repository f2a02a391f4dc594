"""Sliced Wasserstein distance between two sets of images: no feature network needed."""

import torch
from torch import Tensor


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 256, seed: int = 0) -> float:
    """Return the mean 1-Wasserstein distance of two sets along random unit vectors of pixel space.

    Rabin et al. 2012, https://doi.org/10.1007/978-3-642-24785-9_37. On a line, optimal transport pairs sorted values,
    so each direction is exact. Zero for equal sets. Sensitive to averages, contrast and variety, not to fine detail: it
    ranks runs on one data set and does not replace FID. a, b: equally many images (N, C, H, W) in [-1, 1].
    """
    if a.shape != b.shape:
        raise ValueError(
            f"two sets of the same shape are compared, but {tuple(a.shape)} and {tuple(b.shape)} were given"
        )
    a, b = a.flatten(1).float().cpu(), b.flatten(1).float().cpu()
    d = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed))
    d = d / d.norm(dim=0)
    return float(((a @ d).sort(0).values - (b @ d).sort(0).values).abs().mean())
