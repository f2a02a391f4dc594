"""Likelihoods and bounds of a VAE: against torch.distributions, sums over all images, and exact answers."""

import math

import pytest
import torch
from helpers import normal
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gancli.images import to_float
from gancli.metrics.elbo import elbo, importance_weighted
from gancli.networks.autoencoder import VariationalAutoencoder
from gancli.networks.likelihood import Bernoulli, DiscretizedLogistic, Gaussian, Likelihood

LEVELS = to_float(torch.arange(256, dtype=torch.uint8))[:, None, None, None]


# --- likelihoods of pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [1e3, 1e30])
def test_bernoulli_is_finite_for_extreme_values(far):
    raw = torch.tensor([far, -far]).reshape(2, 1, 1, 1).requires_grad_()
    values = Bernoulli()(raw, torch.ones(2, 1, 1, 1))
    values.sum().backward()
    assert values.isfinite().all() and raw.grad.isfinite().all() and values[0] == 0


def test_bernoulli_observes_black_or_white_with_grey_as_the_probability():
    grey = torch.tensor([-1.0, -0.5, 0.0, 0.9, 1.0])
    observed = Bernoulli().observed(grey.reshape(1, 1, 1, 5).expand(40_000, 1, 1, 5))
    assert set(observed.unique().tolist()) == {-1.0, 1.0}
    assert observed.mean(0).flatten().tolist() == pytest.approx(grey.tolist(), abs=0.02)
    assert (observed[..., 0] == -1).all() and (observed[..., 4] == 1).all(), "black stays black, and white white"
    assert all(likelihood().observed(grey) is grey for likelihood in (Gaussian, DiscretizedLogistic, Likelihood))


@pytest.mark.parametrize("log_scale", [-60.0, -8.0, -4.0, -1.5, 0.0, 3.0, 9.0])
@pytest.mark.parametrize("raw", [-1e6, -3.0, -0.4, 0.0, 1.0, 50.0])
def test_the_masses_of_all_levels_sum_to_one(raw, log_scale):
    likelihood = DiscretizedLogistic()
    likelihood.log_scale.data.fill_(log_scale)
    raws = torch.full((256, 1, 1, 1), raw, requires_grad=True)
    masses = likelihood(raws, LEVELS)
    masses.sum().backward()
    assert masses.isfinite().all() and (masses <= 0).all()
    assert masses.logsumexp(0).item() == pytest.approx(0, abs=2e-4)
    assert raws.grad.isfinite().all() and likelihood.log_scale.grad.isfinite().all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), DiscretizedLogistic()])
def test_all_pixels_of_an_image_count(likelihood):
    likelihood.double()
    raw, x = normal(2, 3, 4, 4, seed=1), normal(2, 3, 4, 4).tanh()
    rows = [(slice(1), slice(c, c + 1), slice(i, i + 1)) for c in range(3) for i in range(4)]
    assert torch.allclose(sum(likelihood(raw[row], x[row]) for row in rows), likelihood(raw, x)[:1])
    assert likelihood.unit and not Likelihood.unit


# --- bounds, where the exact likelihood is known ------------------------------------------------------------------

SIGMA, Z_DIM, PIXELS = 0.5, 3, 6


class Linear(nn.Module):
    """x = W z + mu, W with orthogonal columns, so that the posterior has no covariances."""

    z_dim, classes = Z_DIM, 0

    def __init__(self) -> None:
        super().__init__()
        self.lengths = torch.tensor([1.5, 0.8, 0.3]).double()
        self.W = torch.linalg.qr(normal(PIXELS, Z_DIM))[0] * self.lengths
        self.mu = normal(PIXELS, seed=1)

    def raw(self, z: Tensor, c: Tensor) -> Tensor:
        return (z @ self.W.T + self.mu).reshape(-1, 1, 2, 3)


class Posterior(nn.Module):
    """The exact p(z | x) with an offset of its means and a factor of its variances."""

    def __init__(self, decoder: Linear, offset: float = 0.0, factor: float = 1.0):
        super().__init__()
        self.decoder, self.offset, self.factor = decoder, offset, factor

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        variance = SIGMA**2 / (self.decoder.lengths**2 + SIGMA**2)
        mean = (x.flatten(1) - self.decoder.mu) @ self.decoder.W / SIGMA**2 * variance + self.offset
        return torch.cat([mean, (self.factor * variance).log().expand_as(mean)], 1)


class Unbounded(Gaussian):
    def image(self, raw: Tensor) -> Tensor:
        return raw


def probabilistic_pca(offset: float = 0.0, factor: float = 1.0) -> VariationalAutoencoder:
    """Tipping and Bishop 1999, with an encoder."""
    decoder = Linear()
    G = VariationalAutoencoder(Posterior(decoder, offset, factor), decoder, Unbounded().double())
    G.likelihood.log_sigma.data.fill_(math.log(SIGMA))
    return G


def exact(G: VariationalAutoencoder, x: Tensor) -> Tensor:
    """log N(x; mu, W W^T + sigma^2 I)."""
    W = G.decoder.W
    covariance = W @ W.T + SIGMA**2 * torch.eye(PIXELS).double()
    return MultivariateNormal(G.decoder.mu, covariance).log_prob(x.flatten(1))


def expected_elbo(G: VariationalAutoencoder, x: Tensor) -> Tensor:
    """Return the mean of `elbo` over its noise: exact at these points, because log p(x | z) is quadratic in z."""
    points = math.sqrt(Z_DIM) * torch.cat([torch.eye(Z_DIM), -torch.eye(Z_DIM)]).double()
    return torch.stack([elbo(G, x, x.flatten(1)[:, :0], point.expand(len(x), -1)) for point in points]).mean(0)


def images(n: int = 5) -> tuple[Tensor, Tensor]:
    """Return x (n, 1, 2, 3), some of them unlikely, and c."""
    return 2 * normal(n, 1, 2, 3, seed=2), torch.zeros(n, 0)


def test_the_bound_of_the_exact_posterior_is_the_likelihood():
    G = probabilistic_pca()
    x, c = images()
    assert torch.allclose(expected_elbo(G, x), exact(G, x))
    # p(x, z) / q(z | x) is then p(x) for every z.
    for samples in (1, 7):
        assert torch.allclose(importance_weighted(G, x, c, samples, torch.Generator().manual_seed(3)), exact(G, x))


@pytest.mark.parametrize(("offset", "factor"), [(0.3, 1.0), (0.0, 0.5), (-0.2, 2.5)])
def test_the_bound_of_another_posterior_is_lower_by_the_divergence(offset, factor):
    G, right = probabilistic_pca(offset, factor), probabilistic_pca()
    x, c = images()
    (m, v), (m_, v_) = G.posterior(x, c), right.posterior(x, c)
    divergence = kl_divergence(Normal(m, (0.5 * v).exp()), Normal(m_, (0.5 * v_).exp())).sum(1)
    assert (divergence > 0.05).all()
    assert torch.allclose(expected_elbo(G, x), exact(G, x) - divergence)


def test_the_bound_of_one_latent_is_right_in_the_mean():
    G = probabilistic_pca(0.2, 1.5)
    x = images(1)[0].expand(40_000, -1, -1, -1)
    values = elbo(G, x, torch.zeros(len(x), 0), normal(len(x), Z_DIM, seed=4))
    assert values.mean().item() == pytest.approx(expected_elbo(G, x[:1]).item(), abs=0.03)


def test_more_latents_raise_the_bound_towards_the_likelihood():
    """From the evidence lower bound, its mean with one latent, up to log p(x), which it never exceeds in the mean."""
    G = probabilistic_pca(0.4, 1.5)
    x = images(1)[0]
    many, c = x.expand(4000, -1, -1, -1), torch.zeros(4000, 0)
    means = [
        importance_weighted(G, many, c, samples, torch.Generator().manual_seed(samples)).mean().item()
        for samples in (1, 2, 5, 20, 400)
    ]
    lowest, exact_value = expected_elbo(G, x).item(), exact(G, x).item()
    assert means[0] == pytest.approx(lowest, abs=0.05)
    assert means == sorted(means) and means[-1] <= exact_value + 0.005
    assert exact_value - lowest > 0.3 and exact_value - means[-1] < 0.01


def test_the_bound_depends_on_its_generator_alone():
    G = probabilistic_pca(0.4, 1.5)
    before = torch.get_rng_state()
    a, b = (importance_weighted(G, *images(), 5, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(before, torch.get_rng_state())


def test_images_far_from_all_latents_have_a_finite_bound():
    """Their probabilities are 0 in float64."""
    x, c = images()
    values = importance_weighted(probabilistic_pca(5.0, 1.0), 100 * x, c, 3, torch.Generator())
    assert values.isfinite().all() and (values < -800).all()
