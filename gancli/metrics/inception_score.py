"""Inception score: how certain a classifier is of each image, and how evenly images spread over its classes."""

import numpy as np
import torch
from torch import Tensor

from gancli.metrics.fid import check_features


class InceptionScore:
    """exp E KL(p(y|x) || p(y)), from 1 to the number of classes, as mean and deviation over splits.

    Salimans et al. 2016, https://arxiv.org/abs/1606.03498. Splits of few images read low.

    Args:
        n: number of images whose logits will be added.
        seed: shuffle images before splitting, with torch-fidelity's numbers for this rng_seed. Images sorted by class
            need it, or each split has few classes.
    """

    def __init__(self, n: int, splits: int = 10, seed: int | None = None) -> None:
        if n < splits:
            raise ValueError(f"{splits} splits need as many images, but {n} were given; type a larger n=")
        self.n, self.count = n, 0
        self.split = torch.empty(n, dtype=torch.int64)  # of each image, in order of arrival
        order = np.arange(n) if seed is None else np.random.RandomState(seed).permutation(n)
        for k in range(splits):
            self.split[order[k * n // splits : (k + 1) * n // splits]] = k
        self.sum_p = torch.zeros(splits, 1, dtype=torch.float64)  # sums of p(y|x), widened by the first batch
        self.sum_negative_entropy = torch.zeros(splits, dtype=torch.float64)

    def add(self, logits: Tensor) -> None:
        """Add logits (N, classes) of the next N images."""
        check_features(logits)
        split = self.split[self.count : self.count + len(logits)]
        assert len(split) == len(logits), (self.n, self.count, len(logits))
        log_p = logits.cpu().double().log_softmax(1)
        by_split = torch.zeros(len(self.sum_p), logits.shape[1], dtype=torch.float64)
        self.sum_p = self.sum_p + by_split.index_add_(0, split, log_p.exp())
        self.sum_negative_entropy.index_add_(0, split, (log_p.exp() * log_p).sum(1))
        self.count += len(logits)

    def score(self) -> tuple[float, float]:
        """Return mean and standard deviation (denominator n) over the splits."""
        assert self.count == self.n, (self.count, self.n)
        sizes = self.split.bincount().double()
        p_y = self.sum_p / sizes[:, None]
        scores = (self.sum_negative_entropy / sizes - p_y.xlogy(p_y).sum(1)).exp()  # xlogy: 0 log 0 = 0
        return float(scores.mean()), float(scores.std(correction=0))
