"""Diversity and class coverage against cases with known answers."""

import math
import os

import pytest
import torch
from helpers import normal

from gancli.data.builtin import mnist, mnist10k
from gancli.images import to_float
from gancli.metrics.diversity import class_coverage, diversity


def zeros(x: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


def root_mean_square_distance(x: torch.Tensor) -> float:
    x = x.flatten(1).double()
    return math.sqrt(torch.cdist(x, x).square().sum() / (len(x) * (len(x) - 1)))


def test_diversity_is_the_ratio_of_root_mean_square_distances():
    fake, real = 0.4 * normal(30, 3, 4, 4) + 0.2, normal(50, 3, 4, 4, seed=1)
    expected = root_mean_square_distance(fake) / root_mean_square_distance(real)
    assert diversity(fake, real, zeros(fake), zeros(real)) == pytest.approx(expected, rel=1e-5)


def test_diversity_of_equal_sets_of_less_contrast_and_of_one_image():
    x, labels = normal(60, 1, 5, 5), torch.arange(60) % 3
    for y in (labels, zeros(x)):
        assert diversity(x, x, y, y) == pytest.approx(1)
        assert diversity(0.3 * x - 0.5, x, y, y) == pytest.approx(0.3, rel=1e-5)
        assert diversity(x[:1].expand(60, -1, -1, -1), x, y, y) == pytest.approx(0, abs=1e-6)
    # One image per class has diversity between the classes only.
    real = x + 10 * labels.reshape(-1, 1, 1, 1)
    fake = real[:3].repeat(20, 1, 1, 1)
    assert diversity(fake, real, labels, labels) == pytest.approx(0, abs=1e-5)
    assert diversity(fake, real, zeros(fake), zeros(real)) > 0.9


def test_classes_weigh_as_many_as_they_have_real_images():
    # Two real classes with 30 and 10 images and variances 1 and 4; fakes vary in the first class only.
    ones, fours = normal(30, 1, 1, 1), 2 * normal(10, 1, 1, 1, seed=1)
    real, labels = torch.cat([ones, fours]), torch.tensor([0] * 30 + [1] * 10)
    fake = torch.cat([ones, fours[:1].expand(40, -1, -1, -1)])
    expected = math.sqrt(30 * ones.var() / (30 * ones.var() + 10 * fours.var()))
    assert diversity(fake, real, torch.tensor([0] * 30 + [1] * 40), labels) == pytest.approx(expected, rel=1e-5)


def test_diversity_is_nan_where_nothing_can_be_compared():
    x = normal(4, 1, 2, 2)
    assert math.isnan(diversity(x, x, torch.arange(4), torch.arange(4)))
    assert math.isnan(diversity(x, torch.zeros(4, 1, 2, 2), zeros(x), zeros(x)))
    assert diversity(x, x, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 0, 1])) == pytest.approx(1)


def clusters(*counts: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points of the plane (N, 2, 1, 1) in classes that lie far apart on a line, and the classes."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centre = torch.stack([labels / len(counts), zeros(labels)], 1)
    return (centre + 0.01 * normal(len(labels), 2, seed=seed)).reshape(-1, 2, 1, 1), labels


@pytest.mark.parametrize(
    ("real", "fake", "covered", "entropy"),
    [
        ((25, 25, 25, 25), (25, 25, 25, 25), 1, 1),
        ((25, 25, 25, 25), (50, 50, 0, 0), 0.5, 0.5),
        ((25, 25, 25, 25), (100, 0, 0, 0), 0.25, 0),
        ((60, 30, 10), (60, 37, 3), 1, None),  # a class needs a quarter of its frequency: 2.5 in 100 of the last
        ((60, 30, 10), (60, 38, 2), 2 / 3, None),
        ((60, 30, 10, 0, 0), (60, 30, 10, 0, 0), 1, None),  # classes without a real image do not count
    ],
)
def test_coverage_and_entropy_of_classes_far_apart(real, fake, covered, entropy):
    values = class_coverage(clusters(*fake, seed=1)[0], *clusters(*real), len(real))
    assert values[0] == pytest.approx(covered) and (entropy is None or values[1] == pytest.approx(entropy))


def test_coverage_is_nan_where_nearest_neighbours_are_no_classifier():
    real, labels = normal(200, 1, 4, 4), torch.arange(200) % 10
    assert all(map(math.isnan, class_coverage(normal(200, 1, 4, 4, seed=1), real, labels, 10)))


def test_classes_removed_from_the_digits_are_missed():
    test, train = mnist10k(split="test"), mnist10k()
    fake, real, labels = to_float(test.images), to_float(train.images[:1000]), train.labels[:1000]
    coverage, entropy = class_coverage(fake, real, labels, 10)
    assert coverage == 1 and entropy > 0.99
    coverage, entropy = class_coverage(fake[test.labels > 2], real, labels, 10)
    assert coverage == pytest.approx(0.7) and entropy < 0.9


@pytest.mark.data
def test_nearest_neighbours_classify_mnist_as_documented():
    train, test = mnist(os.environ["GAN_DATA"]), mnist(os.environ["GAN_DATA"], split="test")
    ours, theirs = (torch.randperm(len(s), generator=torch.Generator().manual_seed(0))[:1000] for s in (train, test))
    real, labels, other = to_float(train.images[ours]), train.labels[ours], to_float(test.images[theirs])
    nearest = torch.cdist(other.flatten(1), real.flatten(1)).argmin(1)
    assert (labels[nearest] == test.labels[theirs]).float().mean() == pytest.approx(0.87, abs=0.02)
    assert class_coverage(other, real, labels, 10) == (1, pytest.approx(1, abs=0.02))
