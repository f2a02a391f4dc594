"""Mode coverage: closed forms, stacked digits, and the digit classifier."""

import math
import os

import pytest
import torch
from torch import nn

from gancli.data.builtin import mnist, stacked_digits, stacked_mnist
from gancli.data.synthetic import synthetic
from gancli.metrics.mode_coverage import coverage, stacked_modes, train_digit_classifier


class Brightness(nn.Module):
    """A classifier that takes an image of grey level d for the digit d."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.arange(10) / 4.5 - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x) <= 1000, "images are classified in chunks"
        return -(x.mean((1, 2, 3))[:, None] - self.levels).abs()


@pytest.mark.parametrize(
    ("modes", "total", "covered", "divergence"),
    [
        (torch.arange(1000).repeat(7), 1000, 1000, 0),
        (torch.full((50,), 3), 1000, 1, math.log(1000)),
        (torch.tensor([0, 0, 0, 2]), 4, 2, 0.75 * math.log(3)),  # 3/4 ln 3 + 1/4 ln 1
        (torch.arange(0, 1000, 2).repeat(3), 1000, 500, math.log(2)),  # finite although modes are missing
        (torch.empty(0, dtype=torch.int64), 8, 0, math.nan),
    ],
)
def test_coverage_in_closed_form(modes, total, covered, divergence):
    assert coverage(modes, total) == (covered, pytest.approx(divergence, abs=1e-12, nan_ok=True))


def test_the_divergence_of_n_samples_of_the_data_is_its_bias():
    """E[KL] is (modes - 1) / 2N to first order."""
    _, kl = coverage(torch.randint(1000, (26_000,), generator=torch.Generator().manual_seed(0)), 1000)
    assert abs(kl - 999 / 52_000) < 0.003


@pytest.mark.parametrize("stored", [True, False])
def test_stacked_modes_are_the_digits_in_order(stored):
    digits = torch.randint(10, (2500, 3), generator=torch.Generator().manual_seed(0))
    levels = (digits * 255 / 9).round().to(torch.uint8) if stored else digits / 4.5 - 1
    images = levels[:, :, None, None].expand(-1, -1, 28, 28)
    assert torch.equal(stacked_modes(Brightness(), images), digits @ torch.tensor([100, 10, 1]))
    assert stacked_modes(Brightness(), images[:0]).shape == (0,)
    with pytest.raises(ValueError, match=r"\(2500, 1, 28, 28\) was given"):
        stacked_modes(Brightness(), images[:, :1])


def test_training_the_classifier_leaves_the_global_generator_unchanged(tmp_path, monkeypatch):
    few = synthetic("shapes", n=256, size=28, channels=1)
    monkeypatch.setattr("gancli.metrics.mode_coverage.mnist", lambda *_: few)
    before = torch.get_rng_state()
    first, accuracy = train_digit_classifier("", epochs=1)
    assert torch.equal(before, torch.get_rng_state()) and 0 <= accuracy <= 1 and not first.training
    torch.rand(3)
    again, _ = train_digit_classifier("", epochs=1)
    other, _ = train_digit_classifier("", seed=1, epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))
    monkeypatch.setattr("gancli.metrics.mode_coverage.mnist", lambda *_: synthetic("shapes", n=20, size=28, channels=1))
    with pytest.raises(ValueError, match="20 digits"):
        train_digit_classifier("")


@pytest.mark.slow
@pytest.mark.data
def test_real_stacked_digits_cover_all_modes():
    """26,000 have reverse KL 0.025: 0.019 from their number, 0.004 from MNIST's class frequencies."""
    root = os.environ["GAN_DATA"]
    classifier, accuracy = train_digit_classifier(root, epochs=1)  # three have 0.991, in three times the time
    assert accuracy >= 0.98
    modes = stacked_modes(classifier, stacked_mnist(root, n=26_000).images)
    truth = mnist(root).labels[stacked_digits(60_000, 26_000)] @ torch.tensor([100, 10, 1])
    assert (modes == truth).double().mean() > 0.94
    covered, kl = coverage(modes, 1000)
    assert covered >= 999 and 0.019 < kl < 0.030
    _, exact = coverage(truth, 1000)
    assert abs(kl - exact) < 0.002
