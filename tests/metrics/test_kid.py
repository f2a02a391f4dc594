"""The kernel distance: its equation, the reference library, closed forms, and which way it moves."""

import math

import numpy as np
import pytest
import torch

from gancli.metrics import kid as kernel
from gancli.metrics.kid import kid, mmd


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x: torch.Tensor, y: torch.Tensor) -> float:
    """The unbiased estimate, pair by pair."""

    def mean(a: np.ndarray, b: np.ndarray, itself: bool) -> float:
        k = [(a[i] @ b[j] / a.shape[1] + 1) ** 3 for i in range(len(a)) for j in range(len(b)) if i != j or itself]
        return float(np.mean(k))

    a, b = x.numpy(), y.numpy()
    return mean(a, a, False) + mean(b, b, False) - 2 * mean(a, b, True)


@pytest.mark.parametrize(("m", "n", "d"), [(2, 2, 1), (9, 14, 5), (30, 20, 40)])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_over_all_pairs_it_is_the_equation_whatever_the_block(monkeypatch, m, n, d, block):
    monkeypatch.setattr(kernel, "BLOCK", block)
    x, y = normal(m, d), normal(n, d, seed=1) + 0.3
    assert mmd(x, y) == pytest.approx(direct(x, y), rel=1e-10, abs=1e-13)


def test_of_two_images_many_times_over():
    """k(a, a) + k(b, b) - 2 k(a, b), here with a.a / D = 1, b.b / D = 4, a.b / D = 0."""
    a, b = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, -2.0]])
    assert mmd(a.expand(5, -1), b.expand(8, -1)) == pytest.approx(2**3 + 5**3 - 2)
    assert mmd(a.expand(5, -1), a.expand(8, -1)) == pytest.approx(0, abs=1e-12)


def test_it_equals_the_reference_library_for_the_same_seed():
    reference = pytest.importorskip("torch_fidelity.metric_kid")
    made, real = normal(130, 16) + 0.2, 1.2 * normal(90, 16, seed=1)
    for size, seed in ((40, 0), (90, 3)):
        options = {"kid_subsets": 8, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
        theirs = reference.kid_features_to_metric(made, real, **options)
        expected = (theirs[reference.KEY_METRIC_KID_MEAN], theirs[reference.KEY_METRIC_KID_STD])
        assert kid(made, real, 8, size, seed) == pytest.approx(expected, rel=1e-10)
        assert kid(made.float(), real.float(), 8, size, seed) == pytest.approx(expected, rel=1e-4)


def test_it_is_the_mean_and_the_deviation_over_subsets():
    made, real = normal(50, 6), normal(40, 6, seed=1) + 0.5
    chance, values = np.random.RandomState(5), []
    for _ in range(7):
        ours, theirs = chance.choice(50, 10, replace=False), chance.choice(40, 10, replace=False)
        values.append(direct(made[ours], real[theirs]))
    assert kid(made, real, 7, 10, 5) == pytest.approx((np.mean(values), np.std(values)), rel=1e-10)


def test_same_seed_same_number():
    made, real = normal(50, 6), normal(50, 6, seed=1) + 0.5
    assert kid(made, real, 5, 20, seed=1) == kid(made, real, 5, 20, seed=1) != kid(made, real, 5, 20, seed=2)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    kid(made, real, 5, 20)
    assert (np.random.get_state()[1] == before[0]).all() and torch.equal(torch.get_rng_state(), before[1])


def test_where_there_are_fewer_images_a_subset_is_all_of_them():
    made, real = normal(30, 6), normal(30, 6, seed=1) + 0.5
    mean, deviation = kid(made, real, 4)
    assert mean == pytest.approx(mmd(made, real), rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-15)
    # Of the larger set they are still drawn.
    assert kid(torch.cat([made, normal(30, 6, seed=2)]), real, 4)[1] > 0


def test_in_float32_it_is_as_good_as_in_float64():
    """Terms near 8 that differ in their fourth digit: float32's own sums would leave three digits of it."""
    made, real = (1 + 0.02 * normal(400, 64, seed=k).float() for k in (0, 1))
    made = made + 0.002
    assert mmd(made, real) == mmd(made.double(), real.double())
    assert mmd(made.half(), real.half()) == mmd(made.half().double(), real.half().double())


def test_it_is_unbiased():
    """Over many pairs of small sets of one distribution it is zero on average, below zero about as often as above."""
    values = [mmd(normal(10, 4, seed=2 * k), normal(15, 4, seed=2 * k + 1)) for k in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(300)
    assert 0.3 < np.mean(np.array(values) < 0) < 0.8


def test_few_images_read_on_average_what_many_read():
    """Which is what a Fréchet distance does not."""
    made, real = normal(600, 8) + 0.4, normal(600, 8, seed=1)
    few, many = kid(made, real, 200, 20), mmd(made, real)
    assert abs(few[0] - many) < 4 * few[1] / math.sqrt(200)


def test_order_and_turning_do_not_matter():
    made, real = normal(60, 9) + 0.3, normal(50, 9, seed=1)
    turn = torch.linalg.qr(normal(9, 9, seed=4)).Q
    for other in (mmd(made.flip(0), real.flip(0)), mmd(made @ turn, real @ turn), mmd(real, made)):
        assert other == pytest.approx(mmd(made, real), rel=1e-11)


@pytest.mark.parametrize("measure", [mmd, kid])
def test_bad_features_are_refused(measure):
    x = normal(20, 3)
    with pytest.raises(ValueError, match=r"^2 images or more are needed, but 1 were given"):
        measure(x, x[:1])
    with pytest.raises(ValueError, match=r"\(20, 3\) and \(20, 2\) were given"):
        measure(x, x[:, :2])
    bad = x.clone()
    bad[4, 1] = math.nan
    for pair in ((bad, x), (x, bad)):
        with pytest.raises(ValueError, match=r"^1 of 20 images have features that are no numbers"):
            measure(*pair)


def test_what_is_no_number_is_found_even_where_no_subset_has_it():
    x = normal(1000, 3)
    bad = x.clone()
    bad[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"^1 of 1,000 images"):
        kid(x, bad, subsets=1, size=2)
