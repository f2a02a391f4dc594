"""Objectives whose G has an encoder: it reconstructs images and generates others from noise."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gancli.images import is_points
from gancli.losses.divergence import gaussian_kl, sliced_wasserstein_to_noise
from gancli.objectives.base import Fakes, Objective, Terms, Update, sample_noise
from gancli.objectives.gan import GAN
from gancli.runtime.checks import check_number


@dataclass(eq=False, kw_only=True)
class Encoding(Objective):
    """Objective whose G has `encode`."""

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Return real | reconstructed | generated side by side, (N, C, H, 3 W); of 2-D points, the generated ones."""
        if is_points(x):
            return G(z, c)
        return torch.cat([x, G(G.encode(x, c), c), G(z, c)], 3)  # type: ignore[operator]

    @property
    def preview_parts(self) -> tuple[str, ...]:
        return ("real", "reconstructed", "generated")


@dataclass(eq=False, kw_only=True)
class Variational(Encoding):
    """Objective whose encoder gives a distribution q(z | x), pulled to the noise by a KL divergence of weight `beta`.

    In the fraction `warmup` of the budget the weight grows from 0: Bowman et al. 2016, section 3.1,
    https://arxiv.org/abs/1511.06349.
    """

    beta: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.beta", self.beta, 0)
        check_number("model.warmup", self.warmup, 0, 1)

    def kl_weight(self, progress: float) -> float:
        return self.beta * (min(1.0, progress / self.warmup) if self.warmup else 1.0)

    def sample_posterior(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (N, z_dim) of q(z | x), and the mean KL divergence of q from N(0, I) in nats."""
        mean, log_variance = self.G.posterior(x, c)
        return mean + (0.5 * log_variance).exp() * sample_noise(self.G, c), gaussian_kl(mean, log_variance).mean()


@dataclass(eq=False, kw_only=True)
class VAE(Variational):
    """Variational autoencoder: maximises the evidence lower bound log p(x | z) - beta KL(q(z | x) || p(z)), in nats.

    Kingma and Welling 2014, equation 10, https://arxiv.org/abs/1312.6114; beta as in Higgins et al. 2017 (beta-VAE).
    """

    def updates(self, step: int, progress: float) -> list[Update]:
        return [Update("G", partial(self.bound_loss, kl_weight=self.kl_weight(progress)))]

    def bound_loss(
        self, x: Tensor, c: Tensor, fakes: Fakes | None = None, kl_weight: float = 1.0
    ) -> tuple[Terms, Fakes | None]:
        """Return the terms of the bound; the metrics of samples have its value."""
        x = self.G.likelihood.observed(x)
        z, kl = self.sample_posterior(x, c)
        likelihood = self.G.log_likelihood(x, z, c).mean()
        return {"G/reconstruction": -likelihood, "G/kl": kl_weight * kl}, None


@dataclass(eq=False, kw_only=True)
class AEGAN(Encoding, GAN):
    """Autoencoder for the first `pretrain` of the budget, whose decoder is then a GAN's generator as well.

    Adversarial autoencoder with D in image space, after Larsen et al. 2016, https://arxiv.org/abs/1512.09300.

    Attributes:
        content: Distance of reconstructions from images.
        pretrain: Fraction of the budget without D.
        reconstruction: Weight of the distance in the second phase; it keeps the encoder faithful.
        prior: Weight, in both phases, of the distance of the latents from noise. Batch norm already gives the latents
            the mean and variance of noise.
    """

    content: Any
    pretrain: float = 0.15
    reconstruction: float = 10.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.reconstruction", self.reconstruction, 0)
        check_number("model.prior", self.prior, 0)
        check_number("model.pretrain", self.pretrain, 0, 1)

    @property
    def whole_batch(self) -> str:
        prior = "the distance of the latents from noise is one of all images of a batch (model.prior=0 leaves it out)"
        return prior if self.prior else super().whole_batch

    def updates(self, step: int, progress: float) -> list[Update]:
        if progress < self.pretrain:
            return [Update("G", self.reconstruction_loss)]
        return super().updates(step, progress)

    def reconstruction_loss(self, x: Tensor, c: Tensor, fakes: Fakes | None = None) -> tuple[Terms, Fakes | None]:
        return self.reconstruction_terms(x, c, 1.0), None

    def reconstruction_terms(self, x: Tensor, c: Tensor, weight: float) -> Terms:
        z = self.G.encode(x, c)
        terms = {"G/reconstruction": weight * self.content(self.G(z, c), x)}
        return terms | ({"G/prior": self.prior * sliced_wasserstein_to_noise(z)} if self.prior else {})

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        adversarial = super().generator_terms(x, c, fake)
        return self.reconstruction_terms(x, c, self.reconstruction) | adversarial


@dataclass(eq=False, kw_only=True)
class VAEGAN(Variational, GAN):
    """VAE that compares images by D's features, and whose decoder trains against D.

    Larsen et al. 2016, algorithm 1, https://arxiv.org/abs/1512.09300: the likelihood of equation 6 is a Gaussian of D's
    features. Only these features train the encoder against D, and D's own loss alone trains the features.

    The bound, log likelihood minus beta times the KL divergence, is divided by half the number of features, so that
    the balance with the adversarial loss does not depend on size and width. Departure from the paper: half of D's fakes
    are reconstructions and half are generated from noise, which gives real images the weight of both together; in G's
    loss each has weight 1/2.
    """

    similarity: float = 1.0  # weight of the bound; the adversarial loss has weight 1 (the paper's gamma)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.similarity", self.similarity, 0)

    def updates(self, step: int, progress: float) -> list[Update]:
        *critics, generator = super().updates(step, progress)
        return [*critics, generator._replace(loss=partial(self.generator_loss, kl_weight=self.kl_weight(progress)))]

    def discriminator_terms(self, x: Tensor, c: Tensor, fake: Any, penalty_weight: float) -> Terms:
        with torch.no_grad():
            reconstructed = self.G(self.sample_posterior(x, c)[0], c)
        # In turn, so that a part of a batch has both.
        is_generated = torch.arange(len(x), device=x.device) // self.packing % 2 == 0
        fake = torch.where(is_generated[:, None, None, None], fake, reconstructed)
        return super().discriminator_terms(x, c, fake, penalty_weight)

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any, kl_weight: float = 1.0) -> Terms:
        z, kl = self.sample_posterior(x, c)
        with torch.no_grad():
            real_features = self.D(x, c).features
        error = (self.D(self.G(z, c), c).features - real_features).square().mean()
        features = real_features[0].numel()
        # Without z's gradient: the adversarial loss of reconstructions trains the decoder alone.
        logits = [self.discriminate(images, c).logits for images in (fake, self.G(z.detach(), c))]
        real = self.real_logits(x, c)
        return {
            "G/similarity": self.similarity * error,
            "G/kl": self.similarity * kl_weight * kl / (features / 2),
            "G/adversarial": sum(self.loss.generator(fake_logits, real) for fake_logits in logits) / 2,
        }
