"""Precision, recall, density and coverage: equations, the reference library and closed forms."""

import math
from functools import partial

import helpers
import numpy as np
import pytest
import torch

from gancli.metrics import precision_recall as manifold
from gancli.metrics.precision_recall import (
    density_coverage,
    overlap,
    precision_recall,
    squared_distances,
    squared_radii,
)

normal = partial(helpers.normal, dtype=torch.float32)


def inside(fake: torch.Tensor, real: torch.Tensor, k: int) -> np.ndarray:
    """Return, by the definition, which fakes (rows) lie in the ball of which real image, (N, M)."""
    x, y = fake.double().numpy(), real.double().numpy()
    among = [sorted(np.linalg.norm(y[i] - y[j]) for j in range(len(y)) if j != i)[k - 1] for i in range(len(y))]
    return np.linalg.norm(x[:, None] - y, axis=2) <= np.array(among)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_metrics_equal_their_equations_for_any_block_size(monkeypatch, k, block):
    monkeypatch.setattr(manifold, "BLOCK", block)
    fake, real = 0.9 * normal(50, 4) + 0.3, normal(70, 4, seed=1)
    ours, theirs = inside(fake, real, k), inside(real, fake, k)
    precision, recall = precision_recall(fake, real, k)
    assert 0.3 < precision == pytest.approx(ours.any(1).mean()) and 0.3 < recall == pytest.approx(theirs.any(1).mean())
    density, coverage = density_coverage(fake, real, k)
    assert density == pytest.approx(ours.sum() / (k * 50)) and coverage == pytest.approx(ours.any(0).mean())


def test_all_four_together_equal_each_pair_alone():
    fake, real = 0.9 * normal(50, 4) + 0.3, normal(70, 4, seed=1)
    assert overlap(fake, real, 2, 5) == (*precision_recall(fake, real, 2), *density_coverage(fake, real, 5))


def test_points_on_a_line():
    """Real 0, 1, 2, 3, 10 have with k = 1 the radii 1, 1, 1, 1, 7; the balls are closed: 3 and 17 are inside."""
    real, fake = torch.tensor([[0.0], [1], [2], [3], [10]]), torch.tensor([[3.0], [17], [17.1], [-5]])
    assert squared_radii(real.double(), [1, 2])[0].tolist() == [1, 1, 1, 1, 49]
    assert precision_recall(fake, real, 1)[0] == 2 / 4
    assert density_coverage(fake, real, 1) == ((3 + 1) / 4, 3 / 5)  # 3 lies in the balls of 2, 3 and 10


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("d", [2, 100])
def test_copies_of_the_data_are_inside_exactly(offset, d):
    """Inside their own balls and on the border of those whose k-th neighbour they are."""
    real = normal(300, d) + offset
    fake = real[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert (squared_distances(fake.double(), real.double()) == 0).sum() == 300
    for k in (1, 3, 5):
        assert precision_recall(fake, real, k) == (1, 1)
        assert density_coverage(fake, real, k) == (pytest.approx((k + 1) / k, rel=1e-12), 1)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_more_copies_than_neighbours_have_balls_of_radius_zero(noise):
    """Also where a network's last digits differ between two batches."""
    once = normal(40, 64)
    real = once.repeat(6, 1)
    real, fake = (x * (1 + noise * normal(*x.shape, seed=k)) for k, x in ((1, real), (2, once[:10])))
    assert squared_radii(real.double(), [5])[0].max() == 0
    precision, recall = precision_recall(fake.repeat(6, 1), real)
    assert precision == 1 and recall == 10 / 40
    assert density_coverage(fake, real) == (6 / 5, 10 / 40)
    assert precision_recall(normal(60, 64, seed=5), real)[0] == density_coverage(normal(60, 64, seed=5), real)[0] == 0


def test_distances_keep_their_digits_between_near_duplicates():
    """In float32 |x|^2 + |y|^2 - 2 x.y loses all of them from 3e-4 |x| down."""
    x, direction = normal(30, 200).double() + 4, normal(30, 200, seed=1).double()
    for far, rel in ((1, 1e-6), (1e-2, 1e-6), (1e-4, 1e-5), (2e-5, 1e-3)):
        y = x + far * direction
        assert torch.allclose(squared_distances(x, y).diagonal().double().sqrt(), (x - y).norm(dim=1), rtol=rel, atol=0)
    assert squared_distances(x, x).diagonal().max() == 0
    assert torch.equal(squared_distances(x, y), squared_distances(y, x).T)
    assert squared_distances(0 * x, 0 * x).max() == 0


def test_no_matrix_of_all_pairs_is_allocated():
    x = normal(2000, 4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        precision_recall(x, x)
        density_coverage(x, x)
    assert max(event.self_cpu_memory_usage for event in profile.events()) <= 2000 * 2000 * 4 / 4


def test_density_and_coverage_of_equal_distributions():
    """1, and 1 - (n - 1) ... (n - k) / ((2n - 1) ... (2n - k)) of n images each: Naeem et al., lemma 2."""
    n, k = 1500, 5
    density, coverage = density_coverage(normal(n, 16), normal(n, 16, seed=1), k)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert expected == pytest.approx(1 - 2**-k, abs=0.001)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(expected, abs=0.015)


def test_an_outlier_raises_precision_and_hardly_density():
    """Naeem et al., section 3: the ball of a real outlier contains all fakes."""
    fake, real = normal(300, 8) + 20, torch.cat([normal(300, 8, seed=1), torch.full((1, 8), 40.0)])
    (precision, _), (density, coverage) = precision_recall(fake, real), density_coverage(fake, real)
    assert precision == 1 and density < 0.25 and coverage < 0.01
