"""Diversity and class coverage against what they must be where the answer is known."""

import math
import os

import pytest
import torch

from gancli.data.builtin import digits, mnist
from gancli.images import to_float
from gancli.metrics.diversity import class_coverage, diversity


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def zeros(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


def pairs(x: torch.Tensor) -> float:
    """Root mean square distance of all pairs, the definition."""
    x = x.flatten(1).double()
    return math.sqrt(torch.cdist(x, x).square().sum() / (len(x) * (len(x) - 1)))


def test_diversity_is_the_ratio_of_root_mean_square_distances():
    made, real = 0.4 * normal(30, 3, 4, 4) + 0.2, normal(50, 3, 4, 4, seed=1)
    value = diversity(made, real, zeros(made), zeros(real))
    assert value == pytest.approx(pairs(made) / pairs(real), rel=1e-5)


def test_diversity_of_the_data_of_less_contrast_and_of_one_image():
    x, labels = normal(60, 1, 5, 5), torch.arange(60) % 3
    for y in (labels, zeros(x)):
        assert diversity(x, x, y, y) == pytest.approx(1)
        assert diversity(0.3 * x - 0.5, x, y, y) == pytest.approx(0.3, rel=1e-5)
        assert diversity(x[:1].expand(60, -1, -1, -1), x, y, y) == pytest.approx(0, abs=1e-6)


def test_one_image_per_class_is_no_diversity_within_the_classes():
    labels = torch.arange(60) % 3
    real = normal(60, 2, 1, 1) + 10 * labels.reshape(-1, 1, 1, 1)
    made = real[:3].repeat(20, 1, 1, 1)
    assert diversity(made, real, labels, labels) == pytest.approx(0, abs=1e-5)
    assert diversity(made, real, zeros(made), zeros(real)) > 0.9


def test_classes_weigh_as_they_do_in_the_data():
    # Two real classes with 30 and 10 images and variances 1 and 4; the samples vary in the first alone.
    ones, fours = normal(30, 1, 1, 1), 2 * normal(10, 1, 1, 1, seed=1)
    real, labels = torch.cat([ones, fours]), torch.tensor([0] * 30 + [1] * 10)
    made = torch.cat([ones, fours[:1].expand(40, -1, -1, -1)])
    of_made, of_real = 30 * ones.var(), 30 * ones.var() + 10 * fours.var()
    value = diversity(made, real, torch.tensor([0] * 30 + [1] * 40), labels)
    assert value == pytest.approx(math.sqrt(of_made / of_real), rel=1e-5)


def test_where_nothing_can_be_compared_there_is_no_number():
    x = normal(4, 1, 2, 2)
    assert math.isnan(diversity(x, x, torch.arange(4), torch.arange(4)))
    assert math.isnan(diversity(x, torch.zeros(4, 1, 2, 2), zeros(x), zeros(x)))
    assert diversity(x, x, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 1])) == pytest.approx(1)


def clusters(counts: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of the plane (N, 2, 1, 1) in classes that lie far apart on a line."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centre = torch.stack([labels / len(counts), zeros(labels)], 1)
    return (centre + 0.01 * normal(len(labels), 2, seed=seed)).reshape(-1, 2, 1, 1), labels


def test_coverage_and_evenness_of_classes_far_apart():
    real, labels = clusters([25] * 4)
    assert class_coverage(clusters([25] * 4, seed=1)[0], real, labels, 4) == (1, pytest.approx(1))
    assert class_coverage(clusters([50, 50, 0, 0], seed=1)[0], real, labels, 4) == (0.5, pytest.approx(0.5))
    assert class_coverage(clusters([100, 0, 0, 0], seed=1)[0], real, labels, 4) == (0.25, 0)


def test_a_class_is_seen_with_a_quarter_of_its_fair_share():
    real, labels = clusters([60, 30, 10])  # 100: a quarter of the last one's share is 2.5 in 100
    assert class_coverage(clusters([60, 37, 3], seed=1)[0], real, labels, 3)[0] == 1
    assert class_coverage(clusters([60, 38, 2], seed=1)[0], real, labels, 3)[0] == pytest.approx(2 / 3)
    # Of five classes only these three have an image among the real ones.
    assert class_coverage(real, real, labels, 5)[0] == 1


def test_coverage_says_nothing_where_neighbours_say_nothing():
    real, labels = normal(200, 1, 4, 4), torch.arange(200) % 10
    assert all(map(math.isnan, class_coverage(normal(200, 1, 4, 4, seed=1), real, labels, 10)))


def test_classes_taken_out_of_the_digits_are_missed():
    test, train = digits(split="test"), digits()
    made, real, labels = to_float(test.images), to_float(train.images[:1000]), train.labels[:1000]
    coverage, evenness = class_coverage(made, real, labels, 10)
    assert coverage == 1 and evenness > 0.99
    coverage, evenness = class_coverage(made[test.labels > 2], real, labels, 10)
    assert coverage == pytest.approx(0.7) and evenness < 0.9


@pytest.mark.data
def test_how_rough_a_judge_of_mnist_it_is():
    train, test = mnist(os.environ["GAN_DATA"]), mnist(os.environ["GAN_DATA"], split="test")
    ours, theirs = (torch.randperm(len(s), generator=torch.Generator().manual_seed(0))[:1000] for s in (train, test))
    real, labels = to_float(train.images[ours]), train.labels[ours]
    other = to_float(test.images[theirs])
    nearest = torch.cdist(other.flatten(1), real.flatten(1)).argmin(1)
    right = (labels[nearest] == test.labels[theirs]).float().mean()
    assert right == pytest.approx(0.87, abs=0.02)  # as the docstring says
    assert class_coverage(other, real, labels, 10) == (1, pytest.approx(1, abs=0.02))
