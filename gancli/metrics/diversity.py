"""Are the samples all alike, and is a class missing? Cheap answers in pixel space, to be asked while a model trains."""

import math

import torch
from torch import Tensor

FEWEST = 0.25  # of its fair share; of MNIST's classes real images find 0.79 at least, and 0.27 at most of one taken out
TRUSTED = 0.5  # share of real images whose class must be found, for a class to mean anything


def diversity(made: Tensor, real: Tensor, made_labels: Tensor, real_labels: Tensor) -> float:
    """How far apart two generated images of a class are, over how far apart two real ones are.

    1 for the data, 0 for one image per class. made, real: (N, C, H, W) in [-1, 1], N of each its own; labels: int64
    (N,). Root mean square of Euclidean distances, which needs no pairs: a mean squared distance is twice the variance,
    summed over pixels. Within classes, so that a conditional model that has one image per class is told from one that
    varies; with all labels zero, over all pairs. Every class weighs as much as it has real images; one that has not
    two of either is left out. nan where no class is left, or real images do not differ.

    More than 1: noise, say. It knows how far apart they are, not what is on them: a G with one digit left, drawn in
    many hands, has 0.67 (ones) to 0.99 (twos) on MNIST, and only `class_coverage` sees what is gone.
    """
    made, real = made.flatten(1).float(), real.flatten(1).float().to(made.device)
    made_labels, real_labels = made_labels.to(made.device), real_labels.to(made.device)
    of_made = of_real = 0.0
    for label in real_labels.unique():
        ours, theirs = made[made_labels == label], real[real_labels == label]
        if len(ours) > 1 and len(theirs) > 1:
            of_made += len(theirs) * float(ours.var(0).sum())
            of_real += len(theirs) * float(theirs.var(0).sum())
    return math.sqrt(of_made / of_real) if of_real > 0 else math.nan


def class_coverage(made: Tensor, real: Tensor, real_labels: Tensor, classes: int) -> tuple[float, float]:
    """The share of the data's classes that are found among the samples, and how evenly: both 0 to 1, 1 for real images.

    made, real: (N, C, H, W) in [-1, 1], N up to 1,000 each; real_labels: int64 (N,) in [0, classes). A sample's class
    is that of the real image nearest in pixel space. A class is seen when it is found a quarter as often as real
    images find it among each other; one without a real image does not count. Evenness: the found classes' entropy over
    ln(classes).

    A rough judge: with 1,000 real images it names 87 % of other MNIST digits rightly, 95 % of the UCI digits, and of
    CIFAR-10 24 %, where plain pictures are nearest to everything. What it gets wrong hides a class that is missing,
    for others are taken for it. Where it is wrong about most real images its answer would mean nothing: (nan, nan).
    """
    made, real = made.flatten(1).float(), real.flatten(1).float().to(made.device)
    labels = real_labels.to(made.device)
    others = labels[torch.cdist(real, real).fill_diagonal_(math.inf).argmin(1)]
    if (others == labels).float().mean() < TRUSTED:
        return math.nan, math.nan
    found = torch.bincount(labels[torch.cdist(made, real).argmin(1)], minlength=classes) / len(made)
    fair = torch.bincount(others, minlength=classes) / len(real)
    there = torch.bincount(labels, minlength=classes) > 0
    seen = (found > 0) & (found >= FEWEST * fair)
    p = found[found > 0].double()
    entropy = float(-(p * p.log()).sum()) / math.log(classes) if classes > 1 else 1.0
    return float(seen[there].float().mean()), entropy
