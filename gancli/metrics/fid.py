"""The Fréchet distance of two sets of features, FID where they are Inception's, from their means and covariances."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


def check(*sets: Tensor, fewest: int = 0) -> None:
    """ValueError unless each set is features (N, D) of N >= `fewest` images, all finite, of the same D."""
    for features in sets:
        if features.ndim != 2 or features.shape[1] != sets[0].shape[1]:
            shapes = " and ".join(str(tuple(s.shape)) for s in sets)
            raise ValueError(f"features have the shape (N, D), one D for all, but {shapes} were given")
        if len(features) < fewest:
            raise ValueError(f"{fewest} images or more are needed, but {len(features)} were given: type a larger n=")
        bad = int((~features.isfinite()).any(1).sum())
        if bad:
            raise ValueError(
                f"{bad:,} of {len(features):,} images have features that are no numbers, so nothing is measured; type "
                f"another ckpt="
            )


def nothing() -> Tensor:
    """0, which broadcasts to what is added to it."""
    return torch.zeros((), dtype=torch.float64)


@dataclass
class Moments:
    """How many images were seen, the mean (D,) of their features, and the scatter (D, D) about it, in float64.

    Batch by batch, on the CPU, for not every device has float64: of 50,000 images nothing else is kept. `vars` gives
    what is to be stored, `Moments(**stored)` takes it back.
    """

    n: int = 0
    mean: Tensor = field(default_factory=nothing)
    scatter: Tensor = field(default_factory=nothing)  # sum of (x - mean) (x - mean)^T

    def add(self, features: Tensor) -> None:
        """features: (N, D), of any type, anywhere."""
        check(features)
        x = features.cpu().double()
        mean = x.mean(0)
        self.merge(Moments(len(x), mean, (x - mean).T @ (x - mean)))

    def merge(self, other: "Moments") -> None:
        """As if what `other` has seen had been added. Chan et al. 1979, in D dimensions,
        http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf.

        The difference of sums of squares, which is shorter, loses the digits of features far from zero.
        """
        if not other.n:
            return
        if self.n and self.mean.shape != other.mean.shape:
            raise ValueError(f"moments of {len(self.mean)} and of {len(other.mean)} features cannot be merged")
        n, apart = self.n + other.n, other.mean - self.mean
        self.scatter = self.scatter + other.scatter + self.n * other.n / n * torch.outer(apart, apart)
        self.mean = self.mean + other.n / n * apart
        self.n = n

    @property
    def covariance(self) -> Tensor:
        """(D, D), by n - 1."""
        if self.n < 2:
            raise ValueError(f"a covariance needs 2 images or more, but {self.n} was given: type a larger n=")
        return self.scatter / (self.n - 1)

    @property
    def singular(self) -> bool:
        """Whether there are no more images than features: no full covariance, and a distance that reads high.

        n images span n - 1 dimensions at most.
        """
        return self.n <= self.mean.numel()


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2): Heusel et al. 2017, equation 6, https://arxiv.org/abs/1706.08500.

    Zero for the same moments. It is biased: the fewer images, the higher it reads, so only distances of the same
    numbers of images are compared.

    C_a C_b has the eigenvalues of R^T R, R = C_a^1/2 C_b^1/2, whose roots are R's singular values. Of singular
    covariances, too, they are right to rounding, where the root of an eigenvalue of -1e-16 would be none or 1e-8.
    """
    ours, theirs = a.covariance, b.covariance
    if ours.shape != theirs.shape:
        raise ValueError(f"features of one network are compared, but {len(a.mean)} and {len(b.mean)} were given")
    of_root = torch.linalg.svdvals(root(ours).T @ root(theirs)).sum()
    distance = (a.mean - b.mean).square().sum() + ours.trace() + theirs.trace() - 2 * of_root
    return float(distance.clamp_min(0))  # below zero by rounding alone


def root(covariance: Tensor) -> Tensor:
    """A (D, r) with A A^T = covariance (D, D), positive semidefinite of rank r."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps  # the others are zero but for rounding
    return vectors[:, kept] * values[kept].sqrt()
