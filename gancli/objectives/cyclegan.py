"""CycleGAN: Zhu et al. 2017, https://arxiv.org/abs/1703.10593."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gancli.losses.adversarial import LeastSquares
from gancli.objectives.base import Terms, sample_noise
from gancli.objectives.gan import GAN
from gancli.runtime.checks import check_number


@dataclass(eq=False, kw_only=True)
class CycleGAN(GAN):
    """GAN between two sets of unpaired images: c is an image of the first set, x one of the second.

    G.there translates the first set to the second, where D.target discriminates; G.back translates the second set to
    the first, where D.source discriminates. Departure from the paper: D's update comes first, as everywhere here, so
    that G generates once a step.

    Attributes:
        cycle: Weight of the mean absolute error of images translated there and back (equation 2, paper: 10).
        identity: Weight of the mean absolute change of images that are of the other set already (section 5.2, paper:
            half of `cycle` to preserve colours).
        pool: Images of earlier steps that D trains on, each with probability 1/2 in place of a new one, or a few more
            (section 4, after Shrivastava et al. 2017).
    """

    cycle: float = 10.0
    identity: float = 5.0
    pool: int = 50
    pools: dict[str, "Pool"] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cycle", "identity", "pool"):
            check_number(f"model.{name}", getattr(self, name), 0)
        if self.identity and self.G.there.channels != self.G.there.source_channels:
            raise ValueError(
                f"the identity loss needs sets of as many channels, but they have {self.G.there.source_channels} and "
                f"{self.G.there.channels}; type model.identity=0, or the same data.channels= and data.source_channels="
            )
        self.pools = {"target": Pool(self.pool), "source": Pool(self.pool)}

    @property
    def generator_scale(self) -> float:
        """Weight of G's adversarial loss. Section 4 halves D's squares alone, Mao et al. 2017 those of G too."""
        return 2.0 if isinstance(self.loss, LeastSquares) else 1.0

    def check_data(self, data: Any) -> None:
        if not len(data.sources):
            raise ValueError(
                "CycleGAN translates between two sets of images, but these data are one; type data=unpaired "
                "data.path=DIR data.sources=DIR, or two classes of the data, as in model.between=[3,8]"
            )

    def generate(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return c translated to the second set, and x translated to the first."""
        z = sample_noise(self.G, c)
        return self.G.there(z, c), self.G.back(z, x)

    def discriminator_terms(
        self, x: Tensor, c: Tensor, fake: tuple[Tensor, Tensor], penalty_weight: float = 0.0
    ) -> Terms:
        terms: Terms = {}
        for name, D, real_images, images in self.sides(x, c, fake):
            real = D(real_images, c[:, :0]).logits
            logits = D(self.pools[name](images.detach()), c[:, :0]).logits
            terms[f"D/{name}"] = self.loss.discriminator(real, logits)
            with torch.no_grad():
                watched = self.loss.watch(real, logits)
                terms |= {key.replace("D(", f"D_{name}("): value for key, value in watched.items()}
        return terms

    def generator_terms(self, x: Tensor, c: Tensor, fake: tuple[Tensor, Tensor]) -> Terms:
        z = sample_noise(self.G, c)
        terms: Terms = {}
        for name, D, real_images, images in self.sides(x, c, fake):
            with torch.no_grad():
                real = D(real_images, c[:, :0]).logits if self.loss.paired else None
            terms[f"G/{name}"] = self.generator_scale * self.loss.generator(D(images, c[:, :0]).logits, real)
        if self.cycle:
            cycled = self.G.back(z, fake[0]), self.G.there(z, fake[1])
            terms["G/cycle"] = self.cycle * sum((a - b).abs().mean() for a, b in zip(cycled, (c, x)))
        if self.identity:
            same = self.G.there(z, x), self.G.back(z, c)
            terms["G/identity"] = self.identity * sum((a - b).abs().mean() for a, b in zip(same, (x, c)))
        return terms

    def sides(self, x: Tensor, c: Tensor, fake: tuple[Tensor, Tensor]) -> tuple[tuple[str, Any, Tensor, Tensor], ...]:
        """Return (name, D, real images, fake images) of either set."""
        return ("target", self.D.target, x, fake[0]), ("source", self.D.source, c, fake[1])

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Return c | c translated | c there and back | x | x translated side by side."""
        there = G(z, c)
        return torch.cat([c, there, G.back(z, there), x, G.back(z, x)], 3)  # type: ignore[operator]

    @property
    def preview_parts(self) -> tuple[str, ...]:
        return ("first set", "translated", "and back", "second set", "translated")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pools": {name: pool.images for name, pool in self.pools.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, pool in self.pools.items():
            pool.images = state["pools"][name]


class Pool:
    """Images of earlier steps: for each new image, itself or, as often, an earlier one that it replaces.

    Every row of a batch has its own part of the pool, so that no image is returned twice. Each process has its
    own pool.
    """

    def __init__(self, size: int):
        self.size, self.images = size, torch.empty(0)  # (K, N, C, H, W)

    def __call__(self, fake: Tensor) -> Tensor:
        if not self.size:
            return fake
        if self.images.shape[1:] != fake.shape:  # empty, or another batch size
            self.images = fake[None][:0]
        if self.images.shape[0] * len(fake) < self.size:
            self.images = torch.cat([self.images, fake[None]])
            return fake
        u = torch.rand(len(fake), 2, device=fake.device)
        which, rows = (u[:, 0] * len(self.images)).long(), torch.arange(len(fake), device=fake.device)
        swap = (u[:, 1] < 0.5)[:, None, None, None]
        old = self.images[which, rows]
        # Not in place: a checkpoint of the images may be in the middle of being written.
        self.images = self.images.index_put((which, rows), torch.where(swap, fake, old))
        return torch.where(swap, old, fake)
