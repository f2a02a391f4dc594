"""Objectives whose G has an encoder: it reconstructs images, and makes others of noise."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gancli.data.classes import one_hot
from gancli.data.dataset import ImageDataset
from gancli.images import is_points, to_float
from gancli.losses.divergence import gaussian_kl
from gancli.metrics.elbo import elbo
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.objectives.base import Move, Objective, Terms
from gancli.objectives.gan import GAN, samples_measured


@dataclass(eq=False, kw_only=True)
class Encoding(Objective):
    """What objectives with an encoder share: G has `encode`, and what is shown and measured is both its directions."""

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Real | reconstructed | made of noise, side by side: (N, C, H, 3 H); of points, which are drawn, the last."""
        if is_points(x):
            return G(z, c)
        return torch.cat([x, G(G.encode(x, c), c), G(z, c)], 3)  # type: ignore[operator]

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        """As any GAN's, and the PSNR of reconstructions in dB."""
        x, c = whole(G, real)
        with torch.no_grad():
            made = G(G.encode(x, c), c)  # type: ignore[operator]
        return {**samples_measured(G, real, seed), "reconstruction_psnr": float(rgb_psnr(made, x).mean())}


def whole(G: nn.Module, real: ImageDataset) -> tuple[Tensor, Tensor]:
    """All of a small set, x and c, on G's device."""
    device = next(G.parameters()).device
    return to_float(real.images.to(device)), one_hot(real.labels.to(device), int(G.classes))  # type: ignore[arg-type]


@dataclass(eq=False, kw_only=True)
class Variational(Encoding):
    """The encoder gives a distribution, and its divergence from the noise's costs `beta` times.

    warmup: the share of the budget in which beta grows from 0 (Bowman et al. 2016, section 3.1, arXiv 1511.06349).
    """

    beta: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(beta=self.beta)
        check_range(1.0, warmup=self.warmup)

    def drawn_code(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, z_dim) of q(z | x), and the mean KL divergence of q from N(0, I) in nats."""
        mean, log_variance = self.G.posterior(x, c)
        return mean + (0.5 * log_variance).exp() * self.noise(c), gaussian_kl(mean, log_variance).mean()

    def weighted(self, kl: Tensor) -> Tensor:
        return self.beta * (min(1.0, self.progress / self.warmup) if self.warmup else 1.0) * kl


@dataclass(eq=False, kw_only=True)
class VAE(Variational):
    """G alone maximises the evidence lower bound, log p(x | z) - beta KL(q(z | x) || p(z)), in nats an image.

    Kingma and Welling 2014, equation 10, https://arxiv.org/abs/1312.6114; beta as in Higgins et al. 2017 (beta-VAE).
    """

    headline: ClassVar[str] = "elbo"
    lower_is_better: ClassVar[bool] = False

    def updates(self, step: int, progress: float) -> list[Move]:
        self.step, self.progress = step, progress
        return [("G", self.bound_loss)]

    def bound_loss(self, x: Tensor, c: Tensor) -> Terms:
        """G's terms, and the bound itself."""
        x = self.G.likelihood.observed(x)
        z, kl = self.drawn_code(x, c)
        likelihood = self.G.log_likelihood(x, z, c).mean()
        return {"G/reconstruction": -likelihood, "G/kl": self.weighted(kl), "elbo": (likelihood - kl).detach()}

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        """As any encoder's, and the bound in nats an image, with one z for each."""
        x, c = whole(G, real)
        torch.manual_seed(seed)  # the same pixels and the same noise each time
        with torch.no_grad():
            bounds = elbo(G, G.likelihood.observed(x), c, self.noise(c))  # type: ignore[operator, union-attr]
        return {"elbo": float(bounds.mean()), **Encoding.measure(self, G, real, seed)}


@dataclass(eq=False, kw_only=True)
class AEGAN(Encoding, GAN):
    """An autoencoder alone for the first `pretrain` of the budget; then its decoder is the G of a GAN as well.

    content: the distance of reconstructions from images, `reconstruction` its weight in the second phase, in which it
    keeps the encoder honest. prior: weight of the distance of the codes' distribution from that of the noise, in both
    phases: the sliced Wasserstein distance of a batch of codes from as much noise (Kolouri et al. 2019, equation 14,
    https://arxiv.org/abs/1804.01947), beside the codes' mean and variance, which batch norm sees to. Adversarial
    autoencoders with D in image space: after Larsen et al. 2016, https://arxiv.org/abs/1512.09300.
    """

    half: ClassVar[bool] = False
    content: Any
    pretrain: float = 0.15
    reconstruction: float = 10.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(reconstruction=self.reconstruction, prior=self.prior)
        check_range(1.0, pretrain=self.pretrain)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.content.to(device)

    def updates(self, step: int, progress: float) -> list[Move]:
        if progress < self.pretrain:
            self.step, self.progress = step, progress
            return [("G", self.reconstruction_loss)]
        return GAN.updates(self, step, progress)

    def reconstruction_loss(self, x: Tensor, c: Tensor, weight: float = 1.0) -> Terms:
        """G's terms as an autoencoder."""
        z = self.G.encode(x, c)
        terms = {"G/reconstruction": weight * self.content(self.G(z, c), x)}
        if self.prior:
            terms["G/prior"] = self.prior * from_noise(z)
        return terms

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        opinion = self.loss.generator(self.judge(made, c), self.rivals(x, c))
        return {**self.reconstruction_loss(x, c, self.reconstruction), "G/adversarial": opinion}


@dataclass(eq=False, kw_only=True)
class VAEGAN(Variational, GAN):
    """A VAE whose images are compared by what D sees in them, and whose decoder plays against D.

    Larsen et al. 2016, algorithm 1, https://arxiv.org/abs/1512.09300: equation 6 has a Gaussian of D's features for
    the likelihood; `similarity` is its weight beside D's opinion, the paper's gamma. The encoder hears of D through
    those features alone, and the features are D's to learn for its own end.
    """

    half: ClassVar[bool] = False
    steady: ClassVar[bool] = False  # the weight of the KL divergence may grow from round to round

    similarity: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(similarity=self.similarity)

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        z, kl = self.drawn_code(x, c)
        with torch.no_grad():
            wanted = self.D.features(x, c)
        error = (self.D.features(self.G(z, c), c) - wanted).square().mean()
        # Of a z cut off from the encoder: its own opinion of reconstructions D tells the decoder alone.
        opinions = [self.judge(images, c) for images in (made, self.G(z.detach(), c))]
        rivals = self.rivals(x, c)
        return {
            "G/similarity": self.similarity * error,
            "G/kl": self.weighted(kl),
            "G/adversarial": sum(self.loss.generator(opinion, rivals) for opinion in opinions) / 2,
        }


def from_noise(z: Tensor) -> Tensor:
    """The squared sliced Wasserstein distance of codes z (N, z_dim) from as many of N(0, I), a scalar.

    Along N random directions: the mean squared difference of what is sorted.
    """
    codes, noise, along = z, torch.randn_like(z), torch.randn_like(z)
    along = along / along.norm(dim=1, keepdim=True)
    ours, theirs = (t @ along.T for t in (codes, noise))
    return (ours.sort(0).values - theirs.sort(0).values).square().mean()


def check_range(most: float = float("inf"), **values: float) -> None:
    """ValueError unless every value lies in 0 to most."""
    for name, value in values.items():
        if not 0 <= value <= most:
            limit = f"from 0 to {most:g}" if most < float("inf") else "0 or more"
            raise ValueError(f"model.{name} is {limit}, but {value} was given; type model.{name}={min(most, 1):g}")
