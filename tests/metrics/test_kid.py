"""The kernel distance: its equation, the reference library and closed forms."""

import math

import numpy as np
import pytest
import torch
from helpers import normal

from gancli.metrics import kid as kernel
from gancli.metrics.kid import kid, mmd


def equation(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the unbiased estimate, pair by pair."""

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        k = [(a[i] @ b[j] / a.shape[1] + 1) ** 3 for i in range(len(a)) for j in range(len(b)) if i != j or not same]
        return float(np.mean(k))

    a, b = x.numpy(), y.numpy()
    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


@pytest.mark.parametrize(("m", "n", "d"), [(2, 2, 1), (9, 14, 5), (30, 20, 40)])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_mmd_is_the_equation_for_any_block_size(monkeypatch, m, n, d, block):
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = normal(m, d), normal(n, d, seed=1) + 0.3
    assert mmd(x, y) == pytest.approx(equation(x, y), rel=1e-10, abs=1e-13)


def test_closed_form_of_copies_of_two_images():
    """k(a, a) + k(b, b) - 2 k(a, b), here with a.a / D = 1, b.b / D = 4, a.b / D = 0."""
    a, b = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, -2.0]])
    assert mmd(a.expand(5, -1), b.expand(8, -1)) == pytest.approx(2**3 + 5**3 - 2)
    assert mmd(a.expand(5, -1), a.expand(8, -1)) == pytest.approx(0, abs=1e-12)


def test_kid_is_the_mean_and_the_deviation_over_subsets():
    fake, real = normal(50, 6), normal(40, 6, seed=1) + 0.5
    rng, values = np.random.RandomState(5), []
    for _ in range(7):
        ours, theirs = rng.choice(50, 10, replace=False), rng.choice(40, 10, replace=False)
        values.append(equation(fake[ours], real[theirs]))
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert kid(fake, real, 7, 10, 5) == pytest.approx((np.mean(values), np.std(values)), rel=1e-10)
    assert kid(fake, real, 7, 10, 5) == kid(fake, real, 7, 10, 5) != kid(fake, real, 7, 10, 6)
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])


def test_a_subset_of_few_images_is_all_of_them():
    fake, real = normal(30, 6), normal(30, 6, seed=1) + 0.5
    assert kid(fake, real, 4) == (pytest.approx(mmd(fake, real), rel=1e-12), pytest.approx(0, abs=1e-15))
    # Subsets of the larger set are still sampled.
    assert kid(torch.cat([fake, normal(30, 6, seed=2)]), real, 4)[1] > 0


def test_float32_features_are_summed_in_float64():
    """Terms near 8 differ in their fourth digit: sums in float32 would leave three digits of the difference."""
    fake, real = (1 + 0.02 * normal(400, 64, seed=k).float() for k in (0, 1))
    fake = fake + 0.002
    assert mmd(fake, real) == mmd(fake.double(), real.double())
    assert mmd(fake.half(), real.half()) == mmd(fake.half().double(), real.half().double())


def test_mmd_is_unbiased():
    """Over many pairs of small sets of one distribution it is zero on average, and often negative."""
    values = [mmd(normal(10, 4, seed=2 * k), normal(15, 4, seed=2 * k + 1)) for k in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(300)
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8
    # Few images of different distributions read on average as many do, unlike a Fréchet distance.
    fake, real = normal(600, 8) + 0.4, normal(600, 8, seed=1)
    few = kid(fake, real, 200, 20)
    assert abs(few[0] - mmd(fake, real)) < 4 * few[1] / math.sqrt(200)


def test_features_that_no_subset_has_are_checked_too():
    x, bad = normal(20, 3), normal(20, 3)
    bad[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"^1 of 20 images"):
        kid(x, bad, subsets=0)
