"""How much of what is made lies among the data, and how much of the data among what is made, by balls of features.

Around each image of a set lies a ball that reaches to its k-th nearest neighbour in the set. Balls are closed, so an
image lies in its own, however often the set has it. Of density and coverage the authors' code has open balls: then a
set of copies would not cover itself.
"""

import torch
from torch import Tensor

from gancli.metrics.kid import prepared

BLOCK = 100  # images whose distances to all others are held; with more they leave a processor's cache: half the speed
SAME = 1e-12  # squared distance, over squared lengths, that counts as none: above rounding's in float64, 1e-15 or so


def precision_recall(made: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """The share of made images in a ball of a real one, and of real images in a ball of a made one: both 0 to 1.

    made, real: features (N, D), N of each its own. Kynkäänniemi et al. 2019, equations 1 and 2,
    https://arxiv.org/abs/1904.06991. Copies of the data have 1 and 1. One outlier's ball can hold much of space.
    """
    made, real = prepared(made, real, fewest=k + 1)
    of_made, of_real = radii(made, k), radii(real, k)
    precise, recalled = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part, radius in zip(made.split(BLOCK), of_made.split(BLOCK)):
        d = distances(part, real)
        precise += int((d <= of_real).any(1).sum())
        recalled |= (d <= radius[:, None]).any(0)
    return precise / len(made), float(recalled.double().mean())


def density_coverage(made: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """In how many real images' balls a made image lies, over k, and the share of real balls with a made image in them.

    made, real: features (N, D), N of each its own. Naeem et al. 2020, section 3, https://arxiv.org/abs/2002.09797.
    Density is about 1, and may be more, where made images are spread as the data are; coverage is 0 to 1, about
    1 - 2^-k for as many images of the same distribution (lemma 2). Copies of the data have (k + 1) / k and 1.
    """
    made, real = prepared(made, real, fewest=k + 1)
    radius = radii(real, k)
    inside, covered = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part in made.split(BLOCK):
        holds = distances(part, real) <= radius
        inside += int(holds.sum())
        covered |= holds.any(0)
    return inside / (k * len(made)), float(covered.double().mean())


def radii(x: Tensor, k: int) -> Tensor:
    """The distance of each row of x (N, D) to the k-th nearest of the others: (N,)."""
    radius = torch.empty(len(x), device=x.device)  # made before: among blocks, small results keep memory from reuse
    for part, out in zip(x.split(BLOCK), radius.split(BLOCK)):
        out.copy_(distances(part, x).topk(k + 1, largest=False).values[:, -1])  # the first is itself, or the same
    return radius


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (N, M), float32, of features x (N, D) and y (M, D) in float64; exactly 0 of the same ones.

    |x|^2 + |y|^2 - 2 x.y is up to ten times as fast as differences, and loses the digits that x and y share, all of
    them for copies. In float64 enough remain down to a distance of 1e-6 |x|, a few roundings of float32 features; what
    is nearer counts as the same. Rounded to float32, equal distances come out equal in whatever order they were summed.
    """
    lengths = x.norm(dim=1).square()[:, None] + y.norm(dim=1).square()  # no copy of y for the sake of its lengths
    squared = torch.addmm(lengths, x, y.T, alpha=-2)
    return squared.where(squared > SAME * lengths, 0).sqrt_().float()
