"""Fréchet distance between two sets of features, from their means and covariances. With Inception's features: FID."""

from dataclasses import dataclass

import torch
from torch import Tensor


def check_features(*sets: Tensor, fewest: int = 0) -> None:
    """Raise ValueError unless each set is finite features (N, D) with N >= `fewest` and the same D."""
    for features in sets:
        if features.ndim != 2 or features.shape[1] != sets[0].shape[1]:
            shapes = " and ".join(str(tuple(s.shape)) for s in sets)
            raise ValueError(f"features have the shape (N, D), one D for all, but {shapes} were given")
        if len(features) < fewest:
            raise ValueError(f"{fewest} images or more are needed, but {len(features)} were given; type a larger n=")
        bad = int((~features.isfinite()).any(1).sum())
        if bad:
            raise ValueError(
                f"{bad:,} of {len(features):,} images have features that are no numbers, so nothing is measured; "
                "type another ckpt="
            )


ZERO = torch.zeros((), dtype=torch.float64)  # broadcasts to any shape in a sum


@dataclass
class Moments:
    """Running mean (D,) and scatter matrix (D, D) of the features of n images, float64 on the CPU.

    The scatter matrix is sum (x - mean) (x - mean)^T.
    """

    n: int = 0
    mean: Tensor = ZERO
    scatter: Tensor = ZERO

    def add(self, features: Tensor) -> None:
        """Add features (N, D) of any dtype on any device."""
        check_features(features)
        x = features.cpu().double()
        mean = x.mean(0)
        self.merge(Moments(len(x), mean, (x - mean).T @ (x - mean)))

    def merge(self, other: "Moments") -> None:
        """Add the images of other moments: Chan et al. 1979 in D dimensions.

        http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf. A difference of sums of squares would be
        shorter, but it loses digits for features far from zero.
        """
        if not other.n:
            return
        if self.n and self.mean.shape != other.mean.shape:
            raise ValueError(f"moments of {len(self.mean)} and of {len(other.mean)} features cannot be merged")
        n, difference = self.n + other.n, other.mean - self.mean
        self.scatter = self.scatter + other.scatter + self.n * other.n / n * torch.outer(difference, difference)
        self.mean = self.mean + other.n / n * difference
        self.n = n

    @property
    def covariance(self) -> Tensor:
        """Covariance (D, D) with denominator n - 1."""
        if self.n < 2:
            raise ValueError(f"a covariance needs 2 images or more, but {self.n} was given; type a larger n=")
        return self.scatter / (self.n - 1)

    @property
    def singular(self) -> bool:
        """True if there are no more images than features: n images span n - 1 dimensions, which biases FID upwards."""
        return self.n <= self.mean.numel()


def frechet(a: Moments, b: Moments) -> float:
    """Return |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2), 0 or more.

    Eq. 6 of Heusel et al. 2017, https://arxiv.org/abs/1706.08500. Biased: fewer images read higher, so compare only
    distances of the same numbers of images.
    """
    c_a, c_b = a.covariance, b.covariance
    if c_a.shape != c_b.shape:
        raise ValueError(f"features of one network are compared, but {len(a.mean)} and {len(b.mean)} were given")
    # C_a C_b has the eigenvalues of R^T R with R = C_a^1/2 C_b^1/2, and their roots are R's singular values. Unlike
    # roots of eigenvalues near -1e-16, these are exact to rounding for singular covariances too.
    trace_of_root = torch.linalg.svdvals(_root(c_a).T @ _root(c_b)).sum()
    distance = (a.mean - b.mean).square().sum() + c_a.trace() + c_b.trace() - 2 * trace_of_root
    return float(distance.clamp_min(0))  # below zero only by rounding


def _root(covariance: Tensor) -> Tensor:
    """Return A (D, r) with A A^T = covariance (D, D), positive semidefinite of rank r."""
    values, vectors = torch.linalg.eigh(covariance)
    nonzero = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, nonzero] * values[nonzero].sqrt()
