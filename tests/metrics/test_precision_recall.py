"""Precision, recall, density and coverage: direct formulas, the reference library, copies, and which way they move."""

import math

import numpy as np
import pytest
import torch

from gancli.metrics import precision_recall as manifold
from gancli.metrics.precision_recall import density_coverage, distances, precision_recall, radii


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inside(made: torch.Tensor, real: torch.Tensor, k: int) -> np.ndarray:
    """Whether each made image (rows) lies in the ball of each real one, (N, M), by the definition."""
    x, y = made.double().numpy(), real.double().numpy()
    among = [sorted(np.linalg.norm(y[i] - y[j]) for j in range(len(y)) if j != i)[k - 1] for i in range(len(y))]
    return np.linalg.norm(x[:, None] - y, axis=2) <= np.array(among)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_they_equal_their_equations_for_any_block_size(monkeypatch, k, block):
    monkeypatch.setattr(manifold, "BLOCK", block)
    made, real = 0.9 * normal(50, 4) + 0.3, normal(70, 4, seed=1)
    ours, theirs = inside(made, real, k), inside(real, made, k)
    precision, recall = precision_recall(made, real, k)
    assert 0.3 < precision == pytest.approx(ours.any(1).mean()) and 0.3 < recall == pytest.approx(theirs.any(1).mean())
    density, coverage = density_coverage(made, real, k)
    assert density == pytest.approx(ours.sum() / (k * 50)) and coverage == pytest.approx(ours.any(0).mean())


@pytest.mark.parametrize("d", [3, 40])
def test_precision_and_recall_equal_the_reference_library(d):
    reference = pytest.importorskip("torch_fidelity.metric_prc")
    made, real = 0.9 * normal(300, d) + 0.3 / d, normal(400, d, seed=1)
    for k in (1, 3):
        options = {"prc_neighborhood": k, "prc_batch_size": 100, "save_cpu_ram": False, "verbose": False}
        theirs = reference.prc_features_to_metric(made, real, **options)
        expected = (theirs[reference.KEY_METRIC_PRECISION], theirs[reference.KEY_METRIC_RECALL])
        assert precision_recall(made, real, k) == pytest.approx(expected, rel=1e-6)


def test_points_on_a_line():
    """Real 0, 1, 2, 3, 10 have with k = 1 the radii 1, 1, 1, 1, 7; the balls are closed: 3 and 17 are inside."""
    real, made = torch.tensor([[0.0], [1], [2], [3], [10]]), torch.tensor([[3.0], [17], [17.1], [-5]])
    assert radii(real.double(), 1).tolist() == [1, 1, 1, 1, 7]
    assert precision_recall(made, real, 1)[0] == 2 / 4
    assert density_coverage(made, real, 1) == ((3 + 1) / 4, 3 / 5)  # 3 lies in the balls of 2, 3 and 10


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("d", [2, 100])
def test_copies_of_the_data_are_met_exactly(offset, d):
    """In their own balls and, on the border, in those of which they are the k-th neighbour."""
    real = normal(300, d) + offset
    made = real[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert (distances(made.double(), real.double()) == 0).sum() == 300
    for k in (1, 3, 5):
        assert precision_recall(made, real, k) == (1, 1)
        assert density_coverage(made, real, k) == (pytest.approx((k + 1) / k, rel=1e-12), 1)


@pytest.mark.parametrize("noise", [0, 1e-7])
def test_data_with_more_copies_than_neighbours_have_balls_of_no_size_that_hold_them(noise):
    """And so they do where a network's last digits differ between two batches."""
    once = normal(40, 64)
    real = once.repeat(6, 1)
    real, made = (x * (1 + noise * normal(*x.shape, seed=k)) for k, x in ((1, real), (2, once[:10])))
    assert radii(real.double(), 5).max() == 0
    precision, recall = precision_recall(made.repeat(6, 1), real)
    assert precision == 1 and recall == 10 / 40
    assert density_coverage(made, real) == (6 / 5, 10 / 40)
    assert precision_recall(normal(60, 64, seed=5), real)[0] == density_coverage(normal(60, 64, seed=5), real)[0] == 0


def test_distances_keep_their_digits_between_near_duplicates():
    """In float32 |x|^2 + |y|^2 - 2 x.y loses all of them from 3e-4 |x| down."""
    x, way = normal(30, 200).double() + 4, normal(30, 200, seed=1).double()
    for far, rel in ((1, 1e-6), (1e-2, 1e-6), (1e-4, 1e-5), (2e-5, 1e-3)):
        y = x + far * way
        assert torch.allclose(distances(x, y).diagonal().double(), (x - y).norm(dim=1), rtol=rel, atol=0)
    assert distances(x, x).diagonal().max() == 0
    assert torch.equal(distances(x, y), distances(y, x).T)
    assert distances(0 * x, 0 * x).max() == 0


def test_no_matrix_of_all_pairs_is_held():
    x = normal(2000, 4)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        precision_recall(x, x)
        density_coverage(x, x)
    assert max(event.self_cpu_memory_usage for event in profile.events()) <= 2000 * 2000 * 4 / 4


def test_order_turning_moving_and_type_do_not_matter():
    made, real = normal(200, 8).double() + 0.3, normal(150, 8, seed=1).double()
    turn = torch.linalg.qr(normal(8, 8, seed=4).double()).Q
    for measure in (precision_recall, density_coverage):
        value = measure(made, real)
        assert min(value) > 0
        assert measure(made.flip(0), real.flip(0)) == pytest.approx(value)
        assert measure(made @ turn, real @ turn) == pytest.approx(value)
        assert measure(made + 9, real + 9) == pytest.approx(value)
        assert measure(made.float(), real.float()) == pytest.approx(value)
    assert precision_recall(real, made) == pytest.approx(precision_recall(made, real)[::-1])


def test_density_and_coverage_of_the_same_distribution():
    """1, and 1 - (n - 1) ... (n - k) / ((2n - 1) ... (2n - k)) of n images each: Naeem et al., lemma 2."""
    n, k = 1500, 5
    density, coverage = density_coverage(normal(n, 16), normal(n, 16, seed=1), k)
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    assert expected == pytest.approx(1 - 2**-k, abs=0.001)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(expected, abs=0.015)


def clusters(n: int, modes: int = 10, seed: int = 0) -> torch.Tensor:
    """(n, 16) in `modes` of ten clusters far apart, as many images in each."""
    centres = 5 * normal(10, 16, seed=99)[:modes]
    return centres.repeat(n // modes, 1) + normal(n // modes * modes, 16, seed=seed)


def four(made: torch.Tensor, real: torch.Tensor) -> tuple[float, float, float, float]:
    """Precision, recall, density, coverage."""
    return *precision_recall(made, real), *density_coverage(made, real)


def test_modes_dropped_are_recall_and_coverage_lost_and_nothing_else():
    real = clusters(1000)
    whole = four(clusters(1000, seed=1), real)
    for modes in (7, 3, 1):
        precision, recall, density, coverage = four(clusters(1000, modes, seed=1), real)
        assert precision == pytest.approx(whole[0], abs=0.06) and density == pytest.approx(whole[2], abs=0.1)
        assert recall <= modes / 10 and modes / 10 - 0.05 < coverage <= modes / 10
    assert whole[1] > 0.7 and whole[3] > 0.95


def test_blur_costs_diversity_and_noise_fidelity():
    real, other = clusters(1000), clusters(1000, seed=1)
    centre = clusters(1000) * 0 + (5 * normal(10, 16, seed=99)).repeat(100, 1)
    same = four(other, real)
    blurred = [four(centre + keep * (other - centre), real) for keep in (0.8, 0.5, 0.1)]
    noisy = [four(other + noise * normal(1000, 16, seed=2), real) for noise in (0.3, 0.7, 2)]
    for before, after in zip([same, *blurred], blurred):
        assert after[0] >= before[0] and after[1] < before[1] and after[2] > before[2], "likelier, and less varied"
    for before, after in zip([same, *noisy], noisy):
        assert after[0] < before[0] and after[2] < before[2] and after[3] < before[3]
    assert blurred[-1][1] < 0.05 and noisy[-1][0] < 0.05 and noisy[-1][3] < 0.05


def test_a_few_copies_are_precise_and_cover_little():
    real = clusters(1000)
    precision, recall, _, coverage = four(real[:20].repeat(50, 1), real)
    assert precision == 1 and recall == 20 / 1000 and coverage < 0.25
    precision, recall, _, coverage = four(real[:1].repeat(1000, 1), real)
    assert precision == 1 and recall == 1 / 1000 and coverage < 0.02


def test_an_outlier_raises_precision_and_hardly_density():
    """Naeem et al., section 3: its ball of a real image holds whatever is made there."""
    made, real = normal(300, 8) + 20, torch.cat([normal(300, 8, seed=1), torch.full((1, 8), 40.0)])
    precision, _, density, coverage = four(made, real)
    assert precision == 1 and density < 0.25 and coverage < 0.01


@pytest.mark.parametrize(("measure", "k"), [(precision_recall, 3), (density_coverage, 5)])
def test_bad_features_are_refused(measure, k):
    x = normal(20, 3)
    with pytest.raises(ValueError, match=f"^{k + 1} images or more are needed, but {k} were given"):
        measure(x, x[:k])
    measure(x, x[: k + 1])
    with pytest.raises(ValueError, match=r"\(20, 3\) and \(20, 2\) were given"):
        measure(x, x[:, :2])
    bad = x.clone()
    bad[4, 1] = math.inf
    for pair in ((bad, x), (x, bad)):
        with pytest.raises(ValueError, match=r"^1 of 20 images have features that are no numbers"):
            measure(*pair)
