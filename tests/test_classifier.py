"""The classifier behind the README's results knows digits, and its measures have the right directions."""

import os

import pytest
import torch
from classifier import measure, train_classifier

from gancli.data.builtin import mnist
from gancli.images import to_float


class FixedImages:
    """Images in place of a generator."""

    classes = 10

    def __init__(self, x: torch.Tensor, labels: torch.Tensor):
        self.x, self.y = x, labels

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        return self.x[:n]

    def labels(self, n: int) -> torch.Tensor:
        return self.y[:n]


@pytest.mark.slow
@pytest.mark.data
def test_measures_of_real_noisy_repeated_and_missing_digits():
    root = os.environ["GAN_DATA"]
    classifier = train_classifier(root, epochs=1)  # the figures are those of three
    assert classifier.accuracy >= 0.975
    test = mnist(root=root, split="test")
    x, y = to_float(test.images), test.labels
    real = measure(classifier, FixedImages(x, y))
    assert real["classes"] == 10 and real["entropy/ln10"] > 0.99
    assert real["accuracy"] == pytest.approx(classifier.accuracy)
    assert real["confidence/real"] == pytest.approx(1) and real["variance/real"] == pytest.approx(1)
    noisy = measure(classifier, FixedImages((x + torch.randn_like(x)).clamp(-1, 1), y))
    assert noisy["confidence/real"] < real["confidence/real"]
    one_each = torch.cat([x[y == k][:1] for k in range(10)])[y]
    assert measure(classifier, FixedImages(one_each, y))["variance/real"] < 0.01
    without = y != 3
    missing = FixedImages(x[without], y[without])
    assert measure(classifier, missing, int(without.sum()))["entropy/ln10"] < 0.96
