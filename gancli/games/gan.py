"""The game of Goodfellow et al. 2014, with or without classes: https://arxiv.org/abs/1406.2661."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Terms = dict[str, Tensor]
Move = tuple[str, Callable[[Tensor, Tensor], Terms]]


class GAN:
    """Two players, G and D, with one move each a round.

    x: real images (N, C, H, W) in [-1, 1]. c: what is known of them (N, classes) one-hot, or (N, 0). A loss returns
    named scalars: those that require a gradient are summed and minimised, the detached ones are only watched.
    Noise comes from torch's default generators, which the trainer seeds afresh for every round.

    share: G's move is played with the images that D's move before it has judged, so that G runs forward once a round
    and not twice (paper, algorithm 1: fresh noise for each; one forward of G in two is a tenth of a round's work).
    """

    def __init__(self, G: nn.Module, D: nn.Module, loss: Any, share: bool = True):
        self.G: Any = G
        self.D, self.loss, self.share = D, loss, share
        self.judged: tuple[Tensor, Tensor] | None = None  # images of D's move and their c, for G's move

    def moves(self, progress: float) -> list[Move]:
        """The moves of the round that begins when `progress`, 0 to 1, of the budget is used: (player, its loss)."""
        return [("D", self.discriminator_loss), ("G", self.generator_loss)]

    def noise(self, c: Tensor) -> Tensor:
        return torch.randn(len(c), self.G.z_dim, device=c.device)

    def discriminator_loss(self, x: Tensor, c: Tensor) -> Terms:
        with torch.set_grad_enabled(self.share):
            fake = self.G(self.noise(c), c)
        self.judged = (fake, c) if self.share else None
        real_logits, fake_logits = self.D(x, c), self.D(fake.detach(), c)
        return {
            "D/adversarial": self.loss.discriminator(real_logits, fake_logits),
            "D(real)": real_logits.detach().sigmoid().mean(),
            "D(fake)": fake_logits.detach().sigmoid().mean(),
        }

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        fake, c = self.judged or (self.G(self.noise(c), c), c)
        self.judged = None
        return {"G/adversarial": self.loss.generator(self.D(fake, c))}

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """What a person wants to see of G (the live one or its average), for noise z, condition c and real x."""
        return G(z, c)
