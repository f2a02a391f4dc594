"""The objective of Goodfellow et al. 2014, with or without classes: https://arxiv.org/abs/1406.2661."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.inference.generator import BLOCK, Generator
from gancli.losses.adversarial import Loss
from gancli.losses.penalties import DRAGAN, GradientPenalty, NoPenalty, Penalty, Seen
from gancli.metrics.diversity import class_coverage, diversity
from gancli.metrics.sliced_wasserstein import sliced_wasserstein
from gancli.objectives.base import Move, Objective, Terms
from gancli.transforms.augment import AdaptiveAugment, NoAugment

LARGEST = 64  # pixels a side of what is measured while it trains


@dataclass(eq=False)
class GAN(Objective):
    """Two players, G and D: D moves n_critic times a round, then G once.

    loss: what either side wants of D's outputs; penalty: what D pays for being steep.
    augment: what is done to every image, real or generated, before D sees it.
    packing: D sees so many images of one kind at once, as channels (Lin et al. 2018, https://arxiv.org/abs/1712.04086).
    reuse_fakes: G's move is played with the images that D's last move has judged, so that G runs forward once less (paper,
    algorithm 1: fresh noise for each; with n_critic=1 one forward of G in two is a tenth of a round's work).
    """

    headline: ClassVar[str] = "sliced_wasserstein"
    steady: ClassVar[bool] = True
    half: ClassVar[bool] = True

    D: Any
    loss: Loss
    penalty: Penalty = field(default_factory=NoPenalty)
    augment: Any = field(default_factory=NoAugment)
    n_critic: int = 1
    packing: int = 1
    reuse_fakes: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("n_critic", "packing"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"model.{name} counts from 1, but {value} was given; type model.{name}=1")
        if isinstance(self.augment, AdaptiveAugment) and self.loss.threshold is None:
            raise ValueError(
                "model/augment=ada steers by how often D takes a real image for real, which this loss does not say; "
                "type model/augment=diffaugment, or model/loss=non_saturating, hinge or least_squares"
            )
        self.judged: tuple[Tensor, Tensor, Tensor] | None = None  # x, c and the images of D's last move, for G's

    @property
    def double_backward(self) -> bool:
        return self.penalty.double_backward

    @property
    def warnings(self) -> list[str]:
        mixes = any(isinstance(layer, nn.BatchNorm2d) for layer in self.D.modules())
        if mixes and isinstance(self.penalty, GradientPenalty | DRAGAN):
            return [
                "D has batch norm, which mixes the images of a batch, and the penalty is meant for each by itself: "
                "better with model.norm=none"
            ]
        return []

    def to(self, device: torch.device) -> None:
        self.augment.to(device)

    def updates(self, step: int, progress: float) -> list[Move]:
        self.step, self.progress = step, progress
        last = partial(self.discriminator_loss, keep=self.reuse_fakes)
        return [("D", self.discriminator_loss)] * (self.n_critic - 1) + [("D", last), ("G", self.generator_loss)]

    def kind(self, step: int, progress: float) -> Hashable:
        return super().kind(step, progress), self.penalty.due(step, progress)

    def stepped(self, player: str) -> None:
        if player == "D":
            self.penalty.stepped(self.D)

    def judge(self, x: Tensor, c: Tensor) -> Tensor:
        """D's outputs (N / packing,) on images x (N, C, H, W): the one way in which either move shows D an image.

        As float32 at least, whatever they were computed in: a loss of 16 bits would be rounded to its third digit.
        """
        outputs = self.D(self.packed(self.augment(x)), self.packed(c))
        return outputs.float() if outputs.itemsize < 4 else outputs

    def packed(self, t: Tensor) -> Tensor:
        """(N, C, ...) to (N / packing, packing * C, ...): neighbours in the batch side by side."""
        if len(t) % self.packing:
            fits = len(t) // self.packing * self.packing
            raise ValueError(
                f"packing puts {self.packing} images together, which does not divide the batch of {len(t)}; type "
                f"data.batch_size={max(fits, self.packing)}"
            )
        return t.unflatten(0, (-1, self.packing)).flatten(1, 2) if self.packing > 1 else t

    def discriminator_loss(self, x: Tensor, c: Tensor, keep: bool = False) -> Terms:
        """D's terms. keep: G's next move takes these images."""
        c = self.condition(x, c)
        with torch.set_grad_enabled(keep):
            made = self.G(self.noise(c), c)
        self.judged = (x, c, made) if keep else None
        factor = self.penalty.due(self.step, self.progress)
        slopes = self.penalty.slopes if factor else ()
        x, made = x.detach().requires_grad_("real" in slopes), made.detach().requires_grad_("fake" in slopes)
        real, fake = Seen(x, self.judge(x, c)), Seen(made, self.judge(made, c))
        terms = {"D/adversarial": self.loss.discriminator(real.outputs, fake.outputs)}
        if factor:
            terms["D/penalty"] = factor * self.penalty(self.judge, real, fake, c)
        with torch.no_grad():
            if isinstance(self.augment, AdaptiveAugment):
                assert self.loss.threshold is not None  # refused above
                self.augment.observe(real.outputs - self.loss.threshold)
                terms["augmented"] = self.augment.p.clone()
            return terms | self.loss.watch(real.outputs, fake.outputs)

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        """G's terms."""
        x, c, made = self.made(x, c)
        return {"G/adversarial": self.loss.generator(self.judge(made, c), self.rivals(x, c))}

    def made(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Real images, their c and generated images for G's move: those that D has judged, or new ones for x and c."""
        judged, self.judged = self.judged, None
        if judged:
            return judged
        c = self.condition(x, c)
        return x, c, self.G(self.noise(c), c)

    @torch.no_grad()
    def rivals(self, x: Tensor, c: Tensor) -> Tensor | None:
        """D's outputs on real images, where G's loss compares with them."""
        return self.judge(x, c) if self.loss.paired else None

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        return samples_measured(G, real, seed)

    def state_dict(self) -> dict[str, Any]:
        return {"augment": self.augment.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.augment.load_state_dict(state["augment"])


def shrunk(images: Tensor) -> Tensor:
    """Images (N, C, H, H) of LARGEST pixels a side at most."""
    return adaptive_avg_pool2d(images, LARGEST) if images.shape[2] > LARGEST else images


def samples_measured(G: nn.Module, real: ImageDataset, seed: int, made: Tensor | None = None) -> dict[str, float]:
    """As many images of G's, those of `seed` or `made`, beside real ones: cheap figures of likeness and of variety.

    Of images of more than LARGEST pixels a side the averages of so many: thousands of large ones fill the memory.
    """
    generator, n = Generator(G, real.size, real.channels, real.class_names), len(real)
    blocks = made.split(BLOCK) if made is not None else (images for images, _ in generator.blocks(n, seed))
    made = torch.cat([shrunk(images).cpu() for images in blocks])
    x = torch.cat([shrunk(to_float(images)) for images in real.images.split(BLOCK)])
    labels = real.labels if generator.classes else torch.zeros_like(real.labels)
    values = {
        "sliced_wasserstein": sliced_wasserstein(made, x),
        "diversity": diversity(made, x, generator.labels(n), labels),
    }
    if real.classes > 1:
        values["class_coverage"], _ = class_coverage(made, x, real.labels, real.classes)
    return values
