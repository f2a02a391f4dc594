"""The Fréchet distance: closed forms of Gaussians and the reference library."""

import io
import math

import numpy as np
import pytest
import torch

from gancli.metrics.fid import Moments, frechet


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(x: torch.Tensor, batch: int = 64) -> Moments:
    seen = Moments()
    for part in x.split(batch):
        seen.add(part)
    return seen


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> Moments:
    """As if a sample had exactly these moments."""
    return Moments(11, mean, 10 * covariance)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return frechet(moments(a), moments(b))


def direct(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 6 as it stands: the trace of the root is the sum of the roots of the eigenvalues."""
    m1, m2, c1, c2 = a.numpy().mean(0), b.numpy().mean(0), np.cov(a.numpy().T), np.cov(b.numpy().T)
    of_root = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    return ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * of_root


def skewed(n: int, d: int, seed: int) -> torch.Tensor:
    """(n, d) of a full covariance whose eigenvalues span four powers of ten, as a network's do."""
    return normal(n, d, seed=seed) @ (normal(d, d, seed=9) * torch.logspace(0, -2, d, dtype=torch.float64)) + 0.1 * seed


@pytest.mark.parametrize("batch", [1, 7, 50, 1000])
def test_moments_are_numpys_whatever_the_batches(batch):
    x = skewed(200, 5, 1)
    seen = moments(x, batch)
    assert seen.n == 200
    np.testing.assert_allclose(seen.mean.numpy(), x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(seen.covariance.numpy(), np.cov(x.numpy().T), rtol=1e-12)


def test_moments_far_from_zero_keep_their_digits():
    """A sum of squares of 1e16 has none left for a variance of 1."""
    x = normal(300, 3)
    np.testing.assert_allclose(moments(x + 1e8).covariance.numpy(), np.cov(x.numpy().T), rtol=1e-6)


def test_merged_moments_are_those_of_all_images_and_the_merged_stay_as_they_were():
    x = skewed(90, 4, 2)
    first, second, whole = moments(x[:30]), moments(x[30:]), moments(x)
    before = {name: torch.as_tensor(value).clone() for name, value in vars(first).items()}
    both = Moments()
    for part in (Moments(), first, second, Moments()):
        both.merge(part)
    assert both.n == 90
    assert torch.allclose(both.mean, whole.mean, rtol=1e-12)
    assert torch.allclose(both.covariance, whole.covariance, rtol=1e-12)
    assert all(torch.equal(torch.as_tensor(vars(first)[name]), value) for name, value in before.items())


def test_moments_are_stored_as_plain_values():
    seen, file = moments(normal(20, 3)), io.BytesIO()
    torch.save(vars(seen), file)
    file.seek(0)
    again = Moments(**torch.load(file, weights_only=True))
    assert again.n == 20 and torch.equal(again.covariance, seen.covariance)
    again.add(normal(5, 3))
    assert again.n == 25 and seen.n == 20


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_any_type_are_summed_in_float64(dtype):
    x = (300 * normal(500, 2)).to(dtype)
    assert torch.allclose(moments(x).covariance, x.double().T.cov(), rtol=1e-12)


def test_of_two_diagonal_gaussians():
    """|m1 - m2|^2 + sum (s1 - s2)^2, a direction that one does not have included."""
    m1, m2, s1, s2 = torch.tensor([[0, 1, -2], [3, 1, 0], [1, 2, 0], [3, 0.1, 5]], dtype=torch.float64).unbind()
    value = frechet(gaussian(m1, s1.square().diag()), gaussian(m2, s2.square().diag()))
    assert value == pytest.approx(float((m1 - m2).square().sum() + (s1 - s2).square().sum()), rel=1e-14)


def test_of_two_gaussians_in_the_plane_that_share_no_axes():
    """Of a 2x2 matrix M, tr M^1/2 = (tr M + 2 det(M)^1/2)^1/2."""
    a, b = torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double(), torch.tensor([[1.0, -0.9], [-0.9, 4.0]]).double()
    of_root = math.sqrt(torch.trace(a @ b) + 2 * math.sqrt(torch.det(a @ b)))
    value = frechet(gaussian(torch.zeros(2).double(), a), gaussian(torch.ones(2).double(), b))
    assert value == pytest.approx(2 + 5 + 5 - 2 * of_root, rel=1e-14)


@pytest.mark.parametrize(("n", "rel"), [(500, 1e-6), (40, 1e-6)])
def test_it_equals_the_reference_library(n, rel):
    """Of 40 images of 60 features too: both covariances are singular."""
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = skewed(n, 60, 1), 1.1 * skewed(n, 60, 2)
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(x) for x in (a, b)), verbose=False)
    assert distance(a, b) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=rel)
    single = [fid.fid_features_to_statistics(x.float()) for x in (a, b)]
    single = [{key: value.astype(np.float64) for key, value in statistics.items()} for statistics in single]
    theirs = fid.fid_statistics_to_metric(*single, verbose=False)
    assert distance(a.float(), b.float()) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-4)


def test_it_equals_the_equation():
    a, b = skewed(300, 20, 1), 1.1 * skewed(200, 20, 2)
    assert distance(a, b) == pytest.approx(direct(a, b), rel=1e-8)


def test_singular_covariances_cost_no_digits():
    """Turned into a space of 80 dimensions, of which the data have 6, or only some of them, nothing changes."""
    turn = torch.linalg.qr(normal(80, 6, seed=5)).Q.T
    a, b = normal(50, 6), 2 * normal(30, 6, seed=1) + 0.2
    assert distance(a @ turn, b @ turn) == pytest.approx(distance(a, b), rel=1e-12)
    apart = frechet(moments(a @ turn), moments(normal(200, 80, seed=2) + b.new_ones(80)))
    assert apart == pytest.approx(direct(a @ turn, normal(200, 80, seed=2) + 1), rel=1e-6)
    # Nothing in common: the root is zero.
    left, right = torch.cat([a, 0 * a], 1), torch.cat([0 * a, a], 1)
    means, traces = 2 * a.mean(0).square().sum(), 2 * a.var(0).sum()
    assert distance(left, right) == pytest.approx(float(means + traces), rel=1e-13)


@pytest.mark.parametrize(("n", "d"), [(300, 10), (20, 60), (2, 5), (30, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_of_the_data_and_itself_it_is_zero_and_never_less(n, d, scale):
    x = scale * (skewed(n, d, 3) + 5)
    size = float(x.var(0).sum())
    assert 0 <= distance(x, x) <= 1e-12 * size
    assert 0 <= frechet(moments(x, 7), moments(x.flip(0), 11)) <= 1e-12 * size


def test_of_one_image_many_times_over_and_itself_it_is_zero():
    x = normal(1, 8).expand(50, 8)
    assert distance(x, x) == pytest.approx(0, abs=1e-28)
    assert distance(x, x + 2) == pytest.approx(32)


def test_it_is_symmetric_and_turned_and_moved_features_have_the_same():
    a, b = skewed(200, 12, 1), skewed(150, 12, 2)
    turn = torch.linalg.qr(normal(12, 12, seed=4)).Q
    value = distance(a, b)
    for other in (distance(b, a), distance(a @ turn, b @ turn), distance(a + 7, b + 7), distance(3 * a, 3 * b) / 9):
        assert other == pytest.approx(value, rel=1e-11)


def test_no_more_images_than_features_is_said():
    assert [moments(normal(n, 6)).singular for n in (2, 5, 6, 7, 20)] == [True, True, True, False, False]


def test_bad_features_are_refused():
    whole = moments(normal(20, 3))
    with pytest.raises(ValueError, match=r"needs 2 images or more, but 1 was given"):
        frechet(moments(normal(1, 3)), whole)
    with pytest.raises(ValueError, match=r"needs 2 images or more, but 0 was given"):
        frechet(whole, moments(normal(0, 3)))
    with pytest.raises(ValueError, match=r"3 and 4 were given"):
        frechet(whole, moments(normal(20, 4)))
    with pytest.raises(ValueError, match=r"moments of 3 and of 4 features"):
        whole.merge(moments(normal(20, 4)))
    with pytest.raises(ValueError, match=r"\(20, 3, 1\) were given"):
        whole.add(normal(20, 3, 1))
    for bad in (math.nan, math.inf):
        x = normal(20, 3)
        x[4, 1] = x[4, 2] = x[7, 0] = bad
        with pytest.raises(ValueError, match=r"^2 of 20 images have features that are no numbers"):
            whole.add(x)
    assert whole.n == 20
