"""Precision and recall, density and coverage: overlap of generated and real images in feature space.

Around each image lies a ball that reaches its k-th nearest neighbour of the same set. Balls are closed, so that copies
of the data are covered; for density and coverage the authors' code has open balls.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gancli.metrics.kid import as_float64

BLOCK = 100  # rows of a distance matrix in memory; more leave a processor's cache and halve the speed
SAME = 1e-12  # squared distance relative to squared norms that counts as zero; rounding in float64 leaves about 1e-15


def precision_recall(fake: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """Return the fractions of fakes inside a real image's ball and of real images inside a fake's ball, 0 to 1.

    Eq. 1 and 2 of Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991. One outlier's ball can hold much of the
    space. fake, real: features (N, D), with their own N.
    """
    return overlap(fake, real, k, k)[:2]


def density_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Return the mean number of real balls around a fake over k, and the fraction of real balls with a fake inside.

    Section 3 of Naeem et al. 2020, https://arxiv.org/abs/2002.09797. For fakes distributed as the data, density is
    about 1 (it may exceed 1) and coverage, 0 to 1, about 1 - 2^-k (lemma 2). Copies of the data have (k + 1) / k and 1.
    """
    return overlap(fake, real, k, k)[2:]


def overlap(fake: Tensor, real: Tensor, recall_k: int = 3, density_k: int = 5) -> tuple[float, float, float, float]:
    """Return precision and recall with one k, density and coverage with another, from the same distances."""
    fake, real = as_float64(fake, real, fewest=max(recall_k, density_k) + 1)
    (fake_radii,) = squared_radii(fake, [recall_k])
    real_radii, density_radii = squared_radii(real, [recall_k, density_k])
    precise = inside = 0
    recalled, covered = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(2))
    for part, radius in zip(fake.split(BLOCK), fake_radii.split(BLOCK)):
        d = squared_distances(part, real)
        precise += int((d <= real_radii).any(1).sum())
        recalled |= (d <= radius[:, None]).any(0)
        within = d <= density_radii
        inside += int(within.sum())
        covered |= within.any(0)
    recall, coverage = (float(found.double().mean()) for found in (recalled, covered))
    return precise / len(fake), recall, inside / (density_k * len(fake)), coverage


def squared_radii(x: Tensor, neighbours: Sequence[int]) -> list[Tensor]:
    """Return the squared distances of each row of x (N, D) to its k-th nearest neighbours: (N,) for each k."""
    # Allocated first: small results among blocks prevent the reuse of memory.
    result = torch.empty(len(neighbours), len(x), device=x.device)
    for part, out in zip(x.split(BLOCK), result.split(BLOCK, 1)):
        # The nearest is the row itself.
        nearest = squared_distances(part, x).topk(max(neighbours) + 1, largest=False).values
        out.copy_(nearest.T[list(neighbours)])
    return list(result)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return squared distances (N, M) in float32 of features x (N, D) and y (M, D) in float64; 0 for copies.

    |x|^2 + |y|^2 - 2 x.y is up to ten times faster than differences. Float64 keeps enough digits down to a distance of
    1e-6 |x|; anything nearer counts as the same. In float32 equal distances are equal for any order of their sums.
    """
    norms = x.square().sum(1)[:, None] + y.square().sum(1)
    squared = torch.addmm(norms, x, y.T, alpha=-2)
    return squared.masked_fill_(squared <= norms.mul_(SAME), 0).float()
