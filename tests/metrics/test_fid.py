"""The Fréchet distance: closed forms of Gaussians and the reference library."""

import math

import numpy as np
import pytest
import torch
from helpers import normal

from gancli.metrics.fid import Moments, frechet


def moments(x: torch.Tensor, batch: int = 64) -> Moments:
    result = Moments()
    for part in x.split(batch):
        result.add(part)
    return result


def gaussian(mean: torch.Tensor, covariance: torch.Tensor) -> Moments:
    """Return the moments of a sample with exactly this mean and covariance."""
    return Moments(11, mean, 10 * covariance)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return frechet(moments(a), moments(b))


def equation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equation 6 literally: the trace of the root is the sum of the roots of the eigenvalues."""
    m1, m2, c1, c2 = a.numpy().mean(0), b.numpy().mean(0), np.cov(a.numpy().T), np.cov(b.numpy().T)
    trace_of_root = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(complex)).real.sum()
    return ((m1 - m2) ** 2).sum() + np.trace(c1) + np.trace(c2) - 2 * trace_of_root


def skewed(n: int, d: int, seed: int) -> torch.Tensor:
    """Return (n, d) of a full covariance whose eigenvalues span four powers of ten, as those of a network do."""
    return normal(n, d, seed=seed) @ (normal(d, d, seed=9) * torch.logspace(0, -2, d, dtype=torch.float64)) + 0.1 * seed


@pytest.mark.parametrize("batch", [1, 7, 50, 1000])
def test_moments_are_those_of_numpy_for_any_batch_size(batch):
    x = skewed(200, 5, 1)
    result = moments(x, batch)
    assert result.n == 200
    np.testing.assert_allclose(result.mean.numpy(), x.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.covariance.numpy(), np.cov(x.numpy().T), rtol=1e-12)


def test_moments_far_from_zero_keep_their_digits():
    """A sum of squares of 1e16 has no digits left for a variance of 1."""
    x = normal(300, 3)
    np.testing.assert_allclose(moments(x + 1e8).covariance.numpy(), np.cov(x.numpy().T), rtol=1e-6)


def test_merged_moments_are_those_of_all_images():
    x = skewed(90, 4, 2)
    first, second, expected = moments(x[:30]), moments(x[30:]), moments(x)
    before = {name: torch.as_tensor(value).clone() for name, value in vars(first).items()}
    both = Moments()
    for part in (Moments(), first, second, Moments()):
        both.merge(part)
    assert both.n == 90
    assert torch.allclose(both.mean, expected.mean, rtol=1e-12)
    assert torch.allclose(both.covariance, expected.covariance, rtol=1e-12)
    assert all(torch.equal(torch.as_tensor(vars(first)[name]), value) for name, value in before.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_of_any_dtype_are_summed_in_float64(dtype):
    x = (300 * normal(500, 2)).to(dtype)
    assert torch.allclose(moments(x).covariance, x.double().T.cov(), rtol=1e-12)


def test_closed_form_of_two_diagonal_gaussians():
    """|m1 - m2|^2 + sum (s1 - s2)^2, with one standard deviation of zero."""
    m1, m2, s1, s2 = torch.tensor([[0, 1, -2], [3, 1, 0], [1, 2, 0], [3, 0.1, 5]], dtype=torch.float64).unbind()
    value = frechet(gaussian(m1, s1.square().diag()), gaussian(m2, s2.square().diag()))
    assert value == pytest.approx(float((m1 - m2).square().sum() + (s1 - s2).square().sum()), rel=1e-14)


def test_closed_form_of_two_gaussians_in_the_plane_with_different_axes():
    """Of a 2x2 matrix M, tr M^1/2 = (tr M + 2 det(M)^1/2)^1/2."""
    a, b = torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double(), torch.tensor([[1.0, -0.9], [-0.9, 4.0]]).double()
    trace_of_root = math.sqrt(torch.trace(a @ b) + 2 * math.sqrt(torch.det(a @ b)))
    value = frechet(gaussian(torch.zeros(2).double(), a), gaussian(torch.ones(2).double(), b))
    assert value == pytest.approx(2 + 5 + 5 - 2 * trace_of_root, rel=1e-14)


@pytest.mark.parametrize("n", [500, 40])
def test_frechet_equals_the_reference_library(n):
    """With 40 images of 60 features both covariances are singular."""
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = skewed(n, 60, 1), 1.1 * skewed(n, 60, 2)
    theirs = fid.fid_statistics_to_metric(*(fid.fid_features_to_statistics(x) for x in (a, b)), verbose=False)
    assert distance(a, b) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-6)
    single = [fid.fid_features_to_statistics(x.float()) for x in (a, b)]
    single = [{key: value.astype(np.float64) for key, value in statistics.items()} for statistics in single]
    theirs = fid.fid_statistics_to_metric(*single, verbose=False)
    assert distance(a.float(), b.float()) == pytest.approx(theirs[fid.KEY_METRIC_FID], rel=1e-4)


def test_singular_covariances_cost_no_digits():
    """Features of 6 dimensions have the same distance after a rotation into 80."""
    rotation = torch.linalg.qr(normal(80, 6, seed=5)).Q.T
    a, b = normal(50, 6), 2 * normal(30, 6, seed=1) + 0.2
    assert distance(a @ rotation, b @ rotation) == pytest.approx(distance(a, b), rel=1e-12)
    regular = normal(200, 80, seed=2) + 1
    assert distance(a @ rotation, regular) == pytest.approx(equation(a @ rotation, regular), rel=1e-6)
    # Without a common dimension the root is zero.
    left, right = torch.cat([a, 0 * a], 1), torch.cat([0 * a, a], 1)
    means, traces = 2 * a.mean(0).square().sum(), 2 * a.var(0).sum()
    assert distance(left, right) == pytest.approx(float(means + traces), rel=1e-13)


@pytest.mark.parametrize(("n", "d"), [(300, 10), (20, 60), (2, 5), (30, 1)])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_the_distance_of_equal_sets_is_zero_and_never_negative(n, d, scale):
    x = scale * (skewed(n, d, 3) + 5)
    size = float(x.var(0).sum())
    assert 0 <= distance(x, x) <= 1e-12 * size
    assert 0 <= frechet(moments(x, 7), moments(x.flip(0), 11)) <= 1e-12 * size


def test_copies_of_one_image_have_no_covariance():
    x = normal(1, 8).expand(50, 8)
    assert distance(x, x) == pytest.approx(0, abs=1e-28)
    assert distance(x, x + 2) == pytest.approx(32)


def test_moments_of_no_more_images_than_features_are_singular():
    assert [moments(normal(n, 6)).singular for n in (2, 5, 6, 7, 20)] == [True, True, True, False, False]


def test_moments_of_other_features_are_refused():
    whole = moments(normal(20, 3))
    with pytest.raises(ValueError, match=r"moments of 3 and of 4 features"):
        whole.merge(moments(normal(20, 4)))
    assert whole.n == 20
