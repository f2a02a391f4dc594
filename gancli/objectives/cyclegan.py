"""CycleGAN (Zhu et al. 2017): between two sets of images of which no two belong together, https://arxiv.org/abs/1703.10593."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.objectives.base import Terms
from gancli.objectives.gan import GAN, samples_measured


@dataclass(eq=False, kw_only=True)
class CycleGAN(GAN):
    """c is an image of the first set, x one of the second, and neither is made of the other.

    G.there makes of c what D.target takes for one of the second set, G.back of x what D.source takes for one of the
    first; there and back again gives the image that it was (`cycle`, equation 2, paper: 10), and what is of the other
    set already stays as it is (`identity`, section 5.2, paper: half of that where colours shall be kept).
    D sees images of the last rounds as well, `pool` of them or a few more (section 4, after Shrivastava et al. 2017).
    Departure from the paper: D moves first, as everywhere here, so that G's images are made once a round.
    """

    half: ClassVar[bool] = False
    steady: ClassVar[bool] = False  # the pool is drawn from on the host

    cycle: float = 10.0
    identity: float = 5.0
    pool: int = 50
    pools: dict[str, "Pool"] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cycle", "identity", "pool"):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"model.{name} is 0 or more, but {value} was given; type model.{name}=0 for none")
        if self.identity and self.G.there.channels != self.G.there.source_channels:
            raise ValueError(
                "an image of one set cannot stay as it is among the other's, which has other channels; "
                "type model.identity=0, or the same data.channels= and data.source_channels="
            )
        self.pools = {"target": Pool(self.pool), "source": Pool(self.pool)}

    def check(self, data: Any) -> None:
        if not len(data.sources):
            raise ValueError(
                "CycleGAN learns between two sets of images, but these data are one; type data=unpaired data.path=DIR "
                "data.sources=DIR, or two classes of the data, as in model.between=[3,8]"
            )

    def translated(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Of c an image of the second set, of x one of the first."""
        nothing = self.noise(c)
        return self.G.there(nothing, c), self.G.back(nothing, x)

    def discriminator_loss(self, x: Tensor, c: Tensor, keep: bool = False) -> Terms:
        with torch.set_grad_enabled(keep):
            made = self.translated(x, c)
        self.judged = (x, c, made) if keep else None  # type: ignore[assignment]
        terms: Terms = {}
        for name, D, real, fake in (("target", self.D.target, x, made[0]), ("source", self.D.source, c, made[1])):
            outputs = [D(images, c[:, :0]) for images in (real, self.pools[name](fake.detach()))]
            terms[f"D/{name}"] = self.loss.discriminator(*outputs)
            with torch.no_grad():
                watched = self.loss.watch(*outputs)
                terms |= {key.replace("D(", f"D_{name}("): value for key, value in watched.items()}
        return terms

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        judged, self.judged = self.judged, None
        if judged:
            x, c, made = judged
            there, back = made
        else:
            there, back = self.translated(x, c)
        nothing, none = self.noise(c), c[:, :0]
        sides = (("target", self.D.target, there, x), ("source", self.D.source, back, c))
        terms: Terms = {}
        for name, D, made_image, real in sides:
            with torch.no_grad():
                rival = D(real, none) if self.loss.paired else None
            terms[f"G/{name}"] = self.loss.generator(D(made_image, none), rival)
        if self.cycle:
            again = self.G.back(nothing, there), self.G.there(nothing, back)
            terms["G/cycle"] = self.cycle * sum((a - b).abs().mean() for a, b in zip(again, (c, x)))
        if self.identity:
            kept = self.G.there(nothing, x), self.G.back(nothing, c)
            terms["G/identity"] = self.identity * sum((a - b).abs().mean() for a, b in zip(kept, (x, c)))
        return terms

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """First set | made of the second | made of the first again | second set | made of the first, side by side."""
        there = G(z, c)
        return torch.cat([c, there, G.back(z, there), x, G.back(z, x)], 3)  # type: ignore[operator]

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        """As any GAN's, of what is made of the first set; `cycle_error`: mean absolute error of there and back."""
        device = next(G.parameters()).device
        c = to_float(real.sources.to(device))
        with torch.no_grad():
            z = self.noise(c)
            there = G(z, c)
            again = G.back(z, there)  # type: ignore[operator]
        values = samples_measured(G, real, seed, there.clamp(-1, 1).cpu())
        return values | {"cycle_error": float((again - c).abs().mean())}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pools": {name: pool.state_dict() for name, pool in self.pools.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name, pool in self.pools.items():
            pool.load_state_dict(state["pools"][name])


class Pool:
    """Images of earlier rounds. Each image that is given goes on itself or, as often, one in its place that was kept.

    Every row of a batch has a few of its own, so that none is taken twice. Each process has its own pool.
    """

    def __init__(self, size: int):
        self.size, self.kept = size, torch.empty(0)  # (K, N, C, H, W)

    def __call__(self, fake: Tensor) -> Tensor:
        if not self.size:
            return fake
        if self.kept.shape[1:] != fake.shape:  # nothing yet, or another batch size
            self.kept = fake[None][:0]
        if self.kept.shape[0] * len(fake) < self.size:
            self.kept = torch.cat([self.kept, fake[None]])
            return fake
        u = torch.rand(len(fake), 2, device=fake.device)
        which, rows = (u[:, 0] * len(self.kept)).long(), torch.arange(len(fake), device=fake.device)
        swap = (u[:, 1] < 0.5)[:, None, None, None]
        old = self.kept[which, rows]
        # Not in place: a checkpoint may be on its way to the disk.
        self.kept = self.kept.index_put((which, rows), torch.where(swap, fake, old))
        return torch.where(swap, old, fake)

    def state_dict(self) -> Tensor:
        return self.kept

    def load_state_dict(self, state: Tensor) -> None:
        self.kept = state
