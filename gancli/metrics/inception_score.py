"""How sure a classifier is of each image, and how evenly the images fall on its classes."""

import numpy as np
import torch
from torch import Tensor

from gancli.metrics.fid import check


class InceptionScore:
    """exp E KL(p(y|x) || p(y)), 1 to the number of classes: Salimans et al. 2016, https://arxiv.org/abs/1606.03498.

    The mean and the standard deviation of it over `splits` parts, in order, of n images, whose logits come batch by
    batch. It reads low where a part has few images for its classes. seed: the order is shuffled first, with the numbers
    of torch-fidelity for this rng_seed, which shuffles unless told not to. Images that come sorted by class need it, or
    each part has few classes.
    """

    def __init__(self, n: int, splits: int = 10, seed: int | None = None) -> None:
        if n < splits:
            raise ValueError(f"{splits} splits need as many images, but {n} were given: type a larger n=")
        self.n, self.seen = n, 0
        self.split = torch.empty(n, dtype=torch.int64)  # of each image, in the order in which they come
        order = np.arange(n) if seed is None else np.random.RandomState(seed).permutation(n)
        for k in range(splits):
            self.split[order[k * n // splits : (k + 1) * n // splits]] = k
        self.classes = torch.zeros(splits, 1, dtype=torch.float64)  # sum of p(y|x), widened by the first batch
        self.certainty = torch.zeros(splits, dtype=torch.float64)  # sum of -entropies of p(y|x)

    def add(self, logits: Tensor) -> None:
        """logits: (N, classes) of the next N images, of any type, anywhere."""
        check(logits)
        split = self.split[self.seen : self.seen + len(logits)]
        assert len(split) == len(logits), (self.n, self.seen, len(logits))
        log_p = logits.cpu().double().log_softmax(1)
        of_splits = torch.zeros(len(self.classes), logits.shape[1], dtype=torch.float64)
        self.classes = self.classes + of_splits.index_add_(0, split, log_p.exp())
        self.certainty.index_add_(0, split, (log_p.exp() * log_p).sum(1))
        self.seen += len(logits)

    def score(self) -> tuple[float, float]:
        """The mean over the splits, and the standard deviation among them, by their number."""
        assert self.seen == self.n, (self.seen, self.n)
        count = self.split.bincount().double()
        q = self.classes / count[:, None]
        scores = (self.certainty / count - q.xlogy(q).sum(1)).exp()  # a class of which nobody is sure: 0 log 0 = 0
        return float(scores.mean()), float(scores.std(correction=0))
