"""The inception score: its equation, the reference library and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import normal
from torch.nn.functional import one_hot

from gancli.metrics.inception_score import InceptionScore


def score(logits: torch.Tensor, splits: int = 10, seed: int | None = None, batch: int = 64) -> tuple[float, float]:
    inception = InceptionScore(len(logits), splits, seed)
    for part in logits.split(batch):
        inception.add(part)
    return inception.score()


def equation(logits: np.ndarray) -> float:
    """exp E KL(p(y|x) || p(y)) of one split."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_score_equals_the_equation_for_any_batch_size(batch):
    logits = 3 * normal(103, 12)
    bounds = [103 * k // 10 for k in range(11)]
    values = [equation(logits[i:j].numpy()) for i, j in pairwise(bounds)]
    assert score(logits, batch=batch) == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)
    assert score(logits, splits=1, batch=batch) == pytest.approx((equation(logits.numpy()), 0), rel=1e-12)
    # A constant added to an image's logits changes no probability.
    assert score(logits + 500 * normal(103, 1, seed=1), batch=batch) == pytest.approx(score(logits), rel=1e-10)


def certain(labels: torch.Tensor, classes: int = 10) -> torch.Tensor:
    """Return logits (N, classes) of a classifier that is certain of each image."""
    return 1e4 * one_hot(labels, classes).double()


@pytest.mark.parametrize(
    ("logits", "splits", "expected"),
    [
        (certain(torch.arange(1000) % 10), 10, 10),
        # Classes that do not occur leave no 0 log 0.
        *((certain(torch.arange(210) % classes), 1, classes) for classes in (1, 3, 7)),
        (torch.zeros(100, 10), 10, 1),
        (normal(1, 10).expand(100, -1), 10, 1),
        (normal(10, 3), 10, 1),  # splits of a single image
    ],
)
def test_the_score_of_certain_logits_is_the_number_of_classes_and_of_equal_logits_one(logits, splits, expected):
    assert score(logits, splits) == pytest.approx((expected, 0), abs=1e-12)


def test_equally_uncertain_images_have_the_capacity_of_a_symmetric_channel():
    """p for the right class and the rest even over K - 1: ln K - H(p) - (1 - p) ln(K - 1)."""
    p, labels = 0.8, torch.arange(400) % 4
    logits = torch.where(certain(labels, 4) > 0, p, (1 - p) / 3 * torch.ones(400, 4).double()).log()
    capacity = math.log(4) + p * math.log(p) + (1 - p) * math.log(1 - p) - (1 - p) * math.log(3)
    assert score(logits) == pytest.approx((math.exp(capacity), 0), rel=1e-12, abs=1e-12)


def test_images_sorted_by_class_need_shuffling():
    logits = certain(torch.arange(1000) // 100)
    assert score(logits)[0] == pytest.approx(1)
    assert score(logits, seed=0)[0] > 9
    assert score(logits, seed=0) == score(logits, seed=0) != score(logits, seed=1)
    order = np.random.RandomState(5).permutation(1000)
    assert score(logits, seed=5) == pytest.approx(score(logits[order]), rel=1e-12)


def test_bad_logits_are_refused():
    with pytest.raises(ValueError, match=r"^10 splits need as many images, but 9 were given; type a larger n=$"):
        InceptionScore(9)
    logits = normal(20, 3)
    logits[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"^1 of 20 images have features that are no numbers"):
        score(logits)
    inception = InceptionScore(20)
    with pytest.raises(ValueError, match=r"\(20,\) were given"):
        inception.add(torch.zeros(20))
    inception.add(normal(15, 3))
    with pytest.raises(AssertionError):
        inception.score()
    with pytest.raises(AssertionError):
        inception.add(normal(6, 3))
