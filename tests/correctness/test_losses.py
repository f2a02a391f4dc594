"""Losses, penalties and likelihoods against scipy, scikit-learn and closed forms, in float64."""

import math

import numpy as np
import pytest
import scipy
import torch
from helpers import normal
from scipy.special import log_expit
from torch.autograd.functional import jacobian

from gancli.losses import adversarial, divergence, penalties
from gancli.losses.penalties import DRAGAN, R1, R1R2, R2, Discriminated, GradientPenalty, WeightClipping
from gancli.losses.perceptual import L1, MSE
from gancli.metrics import elbo
from gancli.networks.likelihood import LEVEL, Bernoulli, DiscretizedLogistic, Gaussian

REAL, FAKE = 2 * normal(40, seed=1), 3 * normal(40, seed=2)
r, f = REAL.numpy(), FAKE.numpy()
GOODFELLOW = "Goodfellow et al. 2014, eq. 1"
RELATIVISTIC = "Huang et al. 2024, eq. 2"
MIYATO = "Miyato et al. 2018, eq. 16 and 17"
CROSS_ENTROPY = -(log_expit(r).mean() + log_expit(-f).mean())
SQUARES = ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2
HINGE = np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()
# name: loss, source, the oracle's loss of D and of G.
ADVERSARIAL = {
    "Non-saturating": (adversarial.NonSaturating(), GOODFELLOW, CROSS_ENTROPY, -log_expit(f).mean()),
    "Minimax": (adversarial.Minimax(), GOODFELLOW, CROSS_ENTROPY, log_expit(-f).mean()),
    "Relativistic": (adversarial.Relativistic(), RELATIVISTIC, -log_expit(r - f).mean(), -log_expit(f - r).mean()),
    "Least-squares": (adversarial.LeastSquares(), "Mao et al. 2017, eq. 9", SQUARES, ((f - 1) ** 2).mean() / 2),
    "Hinge": (adversarial.Hinge(), MIYATO, HINGE, -f.mean()),
    "Wasserstein": (adversarial.Wasserstein(), "Arjovsky et al. 2017, eq. 2", f.mean() - r.mean(), -f.mean()),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_losses(name, oracle):
    loss, source, of_d, of_g = ADVERSARIAL[name]
    by = "scipy's log_expit" if name in ("Non-saturating", "Minimax", "Relativistic") else "numpy"
    oracle(f"{name} loss of D", source, by, loss.discriminator(REAL, FAKE), of_d)
    oracle(f"{name} loss of G", source, by, loss.generator(FAKE, REAL), of_g)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gradients_of_adversarial_losses(name, oracle):
    loss = ADVERSARIAL[name][0]
    for network, value in (("D", loss.discriminator), ("G", lambda x, y: loss.generator(y, x))):
        x, y = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
        gradients = torch.autograd.grad(value(x, y), (x, y), allow_unused=True)
        for gradient, which in zip(gradients, (0, 1)):
            if gradient is not None:
                theirs = central_differences(value, [REAL, FAKE], which)
                oracle(
                    f"{name} loss of {network}, gradient by the logits",
                    "",
                    "central differences",
                    gradient,
                    theirs,
                    1e-6,
                )


def central_differences(value, arguments: list[torch.Tensor], which: int, h: float = 1e-6) -> torch.Tensor:
    """Return the gradient of a scalar by one of its arguments, an element at a time."""
    gradient = torch.zeros_like(arguments[which]).flatten()
    for i in range(gradient.numel()):
        ends = []
        for sign in (1, -1):
            moved = [t.detach().clone() for t in arguments]
            moved[which].view(-1)[i] += sign * h
            ends.append(float(value(*moved)))
        gradient[i] = (ends[0] - ends[1]) / (2 * h)
    return gradient.view_as(arguments[which])


# D(x) = x^T A x / 2 + b x, whose gradient (A + A^T) x / 2 + b is known.
N, P = 8, 6
A, B, C = normal(P, P, seed=3) / 3, normal(P, seed=4), torch.zeros(N, 0)
IMAGES = [normal(N, 1, 2, 3, seed=5), 2 * normal(N, 1, 2, 3, seed=6)]


def quadratic(x, c=None):
    x = x.flatten(1)
    return ((x @ A) * x).sum(1) / 2 + x @ B


def gradients(x: torch.Tensor) -> np.ndarray:
    a, x = A.numpy(), x.flatten(1).numpy()
    return x @ (a + a.T) / 2 + B.numpy()


def patches(x, c=None):
    """Return four logits for an image, whose mean is that of `quadratic`."""
    return quadratic(x)[:, None] + torch.tensor([[-3.0, 1, 0, 2]]).double()


def discriminated(discriminate) -> list[Discriminated]:
    images = [part.clone().requires_grad_() for part in IMAGES]
    return [Discriminated(x, discriminate(x)) for x in images]


@pytest.mark.parametrize("discriminate", [quadratic, patches])
def test_penalties(discriminate, oracle):
    real, fake = discriminated(discriminate)
    at_real, at_fake = (0.5 * (gradients(x) ** 2).sum(1).mean() for x in IMAGES)
    by = "the closed form of a quadratic D" + (" of four patches" if discriminate is patches else "")
    for penalty, source, theirs in (
        (R1(1.0), "Mescheder et al. 2018, eq. 9", at_real),
        (R2(1.0), "Mescheder et al. 2018, eq. 10", at_fake),
        (R1R2(1.0), "Huang et al. 2024, section 2.2", at_real + at_fake),
    ):
        oracle(f"{type(penalty).__name__} penalty", source, by, penalty(discriminate, real, fake, C), theirs)
    for penalty, source in (
        (GradientPenalty(1.0), "Gulrajani et al. 2017, eq. 3"),
        (DRAGAN(1.0), "Kodali et al. 2017, section 2.3"),
    ):
        points: list[torch.Tensor] = []

        def recorded(x, c, points=points):
            points.append(x.detach())
            return discriminate(x)

        ours = penalty(recorded, real, fake, C)
        theirs = ((np.linalg.norm(gradients(points[0]), axis=1) - 1) ** 2).mean()
        oracle(f"{type(penalty).__name__} penalty", source, by, ours, theirs)


def test_gradients_of_penalties(oracle):
    """A linear D, w x: its gradient is w everywhere, so the penalties are functions of |w| alone."""
    w = normal(P, seed=8).requires_grad_()

    def linear(x, c=None):
        return x.flatten(1) @ w

    real, fake = discriminated(linear)
    length = float(w.detach().norm())
    slope = 2 * (length - 1) / length * w.detach()
    for penalty, theirs in (
        (R1(1.0), w),
        (R2(1.0), w),
        (R1R2(1.0), 2 * w),
        (GradientPenalty(1.0), slope),
        (DRAGAN(1.0), slope),
    ):
        (ours,) = torch.autograd.grad(penalty(linear, real, fake, C), w)
        oracle(
            f"{type(penalty).__name__} penalty, gradient by D's weights",
            "",
            "the closed form of a linear D",
            ours,
            theirs,
            1e-10,
        )


def test_the_gradient_of_d(oracle):
    x = IMAGES[0].clone().requires_grad_()
    ours = penalties.image_gradient(Discriminated(x, quadratic(x)))
    full = jacobian(quadratic, IMAGES[0])
    oracle(
        "Gradient of D by its images",
        "",
        "torch.autograd.functional.jacobian",
        ours,
        torch.stack([full[i, i] for i in range(N)]),
    )


def test_points_between_real_and_fake_of_the_gradient_penalty_are_uniform(oracle):
    fractions = []
    x = torch.zeros(4000, 1, 1, 1).double()
    GradientPenalty(1.0)(
        lambda t, c: fractions.append(t.detach()) or t.flatten(),
        Discriminated(x, x.flatten()),
        Discriminated(x + 1, x.flatten()),
        C,
    )
    distance = scipy.stats.kstest(fractions[0].flatten().numpy(), "uniform").statistic
    oracle(
        "GradientPenalty's random points",
        "Gulrajani et al. 2017, algorithm 1",
        "the uniform distribution (Kolmogorov-Smirnov)",
        distance,
        0.0,
        0.03,
    )


def test_lazy_penalties_and_clipping(oracle):
    weights = [R1(0.5, every=16).weight_at(step, 0.0) for step in range(320)]
    oracle(
        "Lazy regularisation, mean weight",
        "Karras et al. 2020, appendix B",
        "the weight of every step",
        np.mean(weights),
        0.5,
    )
    D = torch.nn.Linear(5, 5)
    before = D.weight.detach().clone()
    WeightClipping(0.1).after_step(D)
    oracle(
        "Weight clipping",
        "Arjovsky et al. 2017, algorithm 1",
        "numpy.clip",
        D.weight,
        np.clip(before.numpy(), -0.1, 0.1),
    )


def test_divergences(oracle):
    mean, log_variance = normal(7, 3), 0.5 * normal(7, 3, seed=1)
    ours = divergence.gaussian_kl(mean, log_variance)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    theirs = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros(3).double(), 1)).sum(1)
    source = "Kingma and Welling 2014, appendix B"
    oracle("KL divergence of a Gaussian from N(0, I)", source, "torch.distributions", ours, theirs)
    m, s = float(mean[0, 0]), float((log_variance[0, 0] / 2).exp())
    normal_pdf, standard = scipy.stats.norm(m, s), scipy.stats.norm()
    integral = scipy.integrate.quad(lambda t: normal_pdf.pdf(t) * (normal_pdf.logpdf(t) - standard.logpdf(t)), -12, 12)[
        0
    ]
    oracle(
        "KL divergence of a Gaussian from N(0, I)",
        source,
        "scipy's quadrature",
        divergence.gaussian_kl(mean[:1, :1], log_variance[:1, :1])[0],
        integral,
        1e-9,
    )

    z = normal(64, 4) * 1.5 + 0.3
    torch.manual_seed(3)
    ours = divergence.sliced_wasserstein_to_noise(z)
    torch.manual_seed(3)
    noise, directions = torch.randn_like(z).numpy(), torch.randn_like(z).numpy()
    costs = []
    for d in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        pairs = (z.numpy() @ d)[:, None] - (noise @ d)[None]
        costs.append((pairs**2)[scipy.optimize.linear_sum_assignment(pairs**2)].mean())
    oracle(
        "Sliced Wasserstein distance of latents from noise",
        "Kolouri et al. 2019, eq. 14",
        "scipy's optimal assignment",
        ours,
        np.mean(costs),
        1e-10,
    )


def test_likelihoods(oracle):
    raw, x = normal(3, 1, 4, 4), (normal(3, 1, 4, 4, seed=1) / 2).clamp(-1, 1)
    white = (x > 0).double() * 2 - 1
    p = (np.tanh(raw.numpy()) + 1) / 2
    theirs = scipy.stats.bernoulli.logpmf((white.numpy() > 0).astype(int), p).reshape(3, -1).sum(1)
    oracle(
        "Bernoulli log-likelihood",
        "Kingma and Welling 2014, appendix C.1",
        "scipy.stats.bernoulli",
        Bernoulli()(raw, white),
        theirs,
        1e-9,
    )
    gaussian = Gaussian().double()
    sigma = math.exp(gaussian.log_sigma.item())
    theirs = scipy.stats.norm.logpdf(x.numpy(), np.tanh(raw.numpy()), sigma).reshape(3, -1).sum(1)
    oracle(
        "Gaussian log-likelihood with a learned sigma",
        "Rybkin et al. 2021",
        "scipy.stats.norm",
        gaussian(raw, x),
        theirs,
    )
    logistic = DiscretizedLogistic().double()
    levels = (torch.arange(256).double() / 127.5 - 1).view(256, 1, 1, 1)
    mean = torch.full_like(levels, 0.3)
    distribution = scipy.stats.logistic(math.tanh(0.3), math.exp(logistic.log_scale.item()))
    upper, lower = levels.flatten().numpy() + LEVEL / 2, levels.flatten().numpy() - LEVEL / 2
    masses = np.where(levels.flatten() > 0.999, 1, distribution.cdf(upper)) - np.where(
        levels.flatten() < -0.999, 0, distribution.cdf(lower)
    )
    oracle(
        "Discretized logistic, mass of each of 256 levels",
        "Kingma et al. 2016, section 5.2",
        "scipy.stats.logistic",
        logistic(mean, levels).exp(),
        masses,
    )


class LinearGaussian(torch.nn.Module):
    """x = w z + noise of deviation s, with its exact posterior widened by `extra`: p(x) is a Gaussian."""

    def __init__(self, s: float, extra: float):
        super().__init__()
        self.w, self.s, self.extra = normal(5, seed=3), s, extra

    def posterior(self, x, c):
        precision = 1 + float(self.w @ self.w) / self.s**2
        mean = (x @ self.w / self.s**2 / precision)[:, None]
        return mean, torch.full_like(mean, -math.log(precision) + self.extra)

    def log_likelihood(self, x, z, c):
        return torch.distributions.Normal(z * self.w, self.s).log_prob(x).sum(1)


def test_bounds_of_log_p(oracle):
    x, s = normal(6, 5, seed=1), 0.7
    w = normal(5, seed=3).numpy()
    theirs = scipy.stats.multivariate_normal(np.zeros(5), np.outer(w, w) + s**2 * np.eye(5)).logpdf(x.numpy())
    exact = LinearGaussian(s, 0.0)
    ours = elbo.importance_weighted(exact, x, C, 3, torch.Generator().manual_seed(0))
    oracle(
        "Importance-weighted bound with the exact posterior",
        "Burda et al. 2016, eq. 8",
        "scipy.stats.multivariate_normal",
        ours,
        theirs,
        1e-10,
    )
    wide = elbo.importance_weighted(LinearGaussian(s, 0.5), x, C, 8_000, torch.Generator().manual_seed(0))
    oracle(
        "Importance-weighted bound with another posterior, 8,000 latents",
        "Burda et al. 2016, eq. 8",
        "scipy.stats.multivariate_normal",
        wide,
        theirs,
        0.02,
    )
    noise = normal(100_000, 1, seed=9)
    bound = elbo.elbo(LinearGaussian(s, 0.5), x[:1].expand(100_000, -1), C, noise).mean()
    gap = 0.5 * (math.exp(0.5) - 1 - 0.5)  # KL(N(m, e^.5 v) || N(m, v))
    oracle(
        "Evidence lower bound, mean of 100,000 latents",
        "Kingma and Welling 2014, eq. 7",
        "log p(x) minus the divergence of the posteriors",
        bound,
        theirs[0] - gap,
        0.02,
    )


def test_content_losses(oracle):
    x, y = normal(2, 3, 5, 5), normal(2, 3, 5, 5, seed=1)
    from sklearn.metrics import mean_absolute_error, mean_squared_error

    a, b = x.flatten().numpy(), y.flatten().numpy()
    oracle("Mean squared error", "Ledig et al. 2017, eq. 4", "scikit-learn", MSE()(x, y), mean_squared_error(a, b))
    oracle("Mean absolute error", "Lim et al. 2017, section 4.2", "scikit-learn", L1()(x, y), mean_absolute_error(a, b))
