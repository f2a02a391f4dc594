"""The inception score: its equation, the reference library, closed forms, and which way it moves."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gancli.metrics.inception_score import InceptionScore


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(logits: torch.Tensor, splits: int = 10, seed: int | None = None, batch: int = 64) -> tuple[float, float]:
    inception = InceptionScore(len(logits), splits, seed)
    for part in logits.split(batch):
        inception.add(part)
    return inception.score()


def direct(logits: np.ndarray) -> float:
    """exp E KL(p(y|x) || p(y)) of one split."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_it_equals_the_equation_for_any_batch_size(batch):
    logits = 3 * normal(103, 12)
    bounds = [103 * k // 10 for k in range(11)]
    values = [direct(logits[i:j].numpy()) for i, j in pairwise(bounds)]
    assert score(logits, batch=batch) == pytest.approx((np.mean(values), np.std(values)), rel=1e-12)
    assert score(logits, splits=1, batch=batch) == pytest.approx((direct(logits.numpy()), 0), rel=1e-12)


def test_it_is_the_reference_librarys_in_order_and_shuffled():
    reference = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * normal(211, 20).float()
    for splits, seed in ((10, None), (10, 2020), (7, 0)):
        theirs = reference.isc_features_to_metric(logits, splits, shuffle=seed is not None, rng_seed=seed)
        expected = (theirs[reference.KEY_METRIC_ISC_MEAN], theirs[reference.KEY_METRIC_ISC_STD])
        assert score(logits, splits, seed) == pytest.approx(expected, rel=1e-10)


def test_shuffled_it_is_the_score_of_the_shuffled():
    logits = 3 * normal(103, 12)
    order = np.random.RandomState(5).permutation(103)
    assert score(logits, seed=5) == pytest.approx(score(logits[order]), rel=1e-12)
    assert score(logits, seed=5) != pytest.approx(score(logits), rel=1e-3)


def sure(labels: torch.Tensor, classes: int = 10, by: float = 1e4) -> torch.Tensor:
    """Logits (N, classes) of a classifier that has no doubt."""
    return by * torch.nn.functional.one_hot(labels, classes).double()


def test_sure_of_each_and_even_over_the_classes_it_is_their_number():
    labels = torch.arange(1000) % 10
    assert score(sure(labels)) == pytest.approx((10, 0), abs=1e-12)
    # Of classes left out, of which nobody is ever sure, no 0 log 0 remains.
    for modes in (1, 3, 7):
        assert score(sure(torch.arange(210) % modes), splits=1) == pytest.approx((modes, 0), abs=1e-12)


def test_sure_of_nothing_or_of_the_same_for_all_it_is_one():
    assert score(torch.zeros(100, 10)) == pytest.approx((1, 0), abs=1e-12)
    assert score(normal(1, 10).expand(100, -1)) == pytest.approx((1, 0), abs=1e-12)


def test_a_doubt_that_all_share_is_the_channels_capacity():
    """p of being right and the rest even over K - 1: ln K - H(p) - (1 - p) ln(K - 1)."""
    p, labels = 0.8, torch.arange(400) % 4
    logits = torch.where(sure(labels, 4) > 0, p, (1 - p) / 3 * torch.ones(400, 4).double()).log()
    capacity = math.log(4) + p * math.log(p) + (1 - p) * math.log(1 - p) - (1 - p) * math.log(3)
    assert score(logits) == pytest.approx((math.exp(capacity), 0), rel=1e-12, abs=1e-12)


def test_a_constant_added_to_an_images_logits_changes_nothing():
    logits = 3 * normal(100, 8)
    assert score(logits + 500 * normal(100, 1, seed=1)) == pytest.approx(score(logits), rel=1e-10)


def test_images_sorted_by_class_are_to_be_shuffled():
    logits = sure(torch.arange(1000) // 100)
    assert score(logits)[0] == pytest.approx(1)
    assert score(logits, seed=0)[0] > 9
    assert score(logits, seed=0) == score(logits, seed=0) != score(logits, seed=1)


def test_bad_logits_are_refused():
    with pytest.raises(ValueError, match=r"^10 splits need as many images, but 9 were given; type a larger n=$"):
        InceptionScore(9)
    assert score(normal(10, 3)) == pytest.approx((1, 0)), "a part of one image is all of its kind"
    logits = normal(20, 3)
    logits[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"^1 of 20 images have features that are no numbers"):
        score(logits)
    with pytest.raises(ValueError, match=r"\(20,\) were given"):
        InceptionScore(20).add(torch.zeros(20))


def test_more_or_fewer_images_than_were_said_are_no_score():
    inception = InceptionScore(20)
    inception.add(normal(15, 3))
    with pytest.raises(AssertionError):
        inception.score()
    with pytest.raises(AssertionError):
        inception.add(normal(6, 3))
