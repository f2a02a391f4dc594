"""Sliced Wasserstein distance between two sets of images, or of their patches: no feature network needed."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

PATCH, PATCHES = 7, 16  # side of a patch; patches of an image at each level of the pyramid
LEVELS = ("full", "half", "quarter")  # sizes of the levels


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
    x, y = (np.sort((d.T @ points.T).numpy(), axis=1) for points in (a, b))  # torch's sort takes ten times as long
    return float(np.abs(x - y).mean(dtype=np.float64))


def patch_distances(a: Tensor, b: Tensor, directions: int = 128, seed: int = 0) -> dict[str, float]:
    """Return 1000 times the sliced Wasserstein distance of patches at full, half and quarter size.

    Karras et al. 2018, section 5, https://arxiv.org/abs/1710.10196: 7x7 patches of a Laplacian pyramid, so that each
    size sees its own detail. The channels of both sets are scaled by mean and deviation of the patches of b, the real
    images. Levels that are smaller than a patch are left out.

    Args:
        a, b: equally many images (N, C, H, W), uint8; each gives 16 patches a level.
    """
    generator = torch.Generator().manual_seed(seed)
    distances = {}
    for level, x, y in zip(LEVELS, laplacian_pyramid(a), laplacian_pyramid(b)):
        if min(x.shape[2:]) < PATCH:
            break
        x, y = (random_patches(images, PATCHES, generator) for images in (x, y))
        mean, deviation = y.mean((0, 2, 3), keepdim=True), y.std((0, 2, 3), keepdim=True).clamp_min(1e-8)
        x, y = ((patches - mean) / deviation for patches in (x, y))
        distances[level] = 1000 * sliced_wasserstein(x, y, directions, seed)
    return distances


def laplacian_pyramid(x: Tensor) -> list[Tensor]:
    """Return the detail that each halving of images (N, C, H, W) loses, and last the images of a quarter of the size.

    Burt and Adelson 1983, https://doi.org/10.1109/TCOM.1983.1095851, with their binomial filter of five taps.
    """
    levels, x = [], x.float()
    for _ in LEVELS[1:]:
        half = _blurred(x)[:, :, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = 4 * half
        levels.append(x - _blurred(spread))
        x = half
    return [*levels, x]


def _blurred(x: Tensor) -> Tensor:
    """Return images (N, C, H, W), blurred and mirrored at their borders."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 5, 5)
    return conv2d(pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=x.shape[1])


def random_patches(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Return n random patches of each image: (N, C, H, W) to (n N, C, 7, 7)."""
    every = x.unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # a view: (N, C, H - 6, W - 6, 7, 7)
    rows, columns = (torch.randint(side, (n, len(x)), generator=generator) for side in every.shape[2:4])
    return every[torch.arange(len(x)), :, rows, columns].flatten(0, 1)
