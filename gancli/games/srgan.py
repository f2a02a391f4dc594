"""Super-resolution: G makes a large image of a small one, first alone, then against D.

Ledig et al. 2017 (SRGAN), https://arxiv.org/abs/1609.04802.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gancli.data.degrade import Degradation
from gancli.data.image_set import ImageSet
from gancli.games.game import Game, Move, Terms
from gancli.games.gan import GAN
from gancli.images import to_float
from gancli.metrics.fidelity import fidelity
from gancli.networks.sr import enlarged

MEASURED = 64  # crops that the cheap measure looks at


@dataclass(eq=False, kw_only=True)
class SuperResolution(Game):
    """G alone: its image shall have the content of the real one (section 2.2.1).

    c is made of x by `degrade`: (N, C, H / scale, W / scale).
    content: the distance of made images from real ones that is minimised.
    """

    headline: ClassVar[str] = "psnr"
    lower_is_better: ClassVar[bool] = False

    content: Any
    degrade: Degradation

    def to(self, device: torch.device) -> None:
        super().to(device)  # a GAN's augmentation
        self.content.to(device)

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        return self.degrade(x)

    def moves(self, step: int, progress: float) -> list[Move]:
        self.step, self.progress = step, progress
        return [("G", self.content_loss)]

    def content_loss(self, x: Tensor, c: Tensor) -> Terms:
        """G's terms where it plays alone."""
        c = self.condition(x, c)
        return {"G/content": self.content(self.G(self.noise(c), c), x)}

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Bicubic | G's | real, side by side: (N, C, H, 3 W)."""
        return torch.cat([enlarged(c, self.degrade.scale), G(z, c), x], 3)

    def measure(self, G: nn.Module, real: ImageSet, seed: int) -> dict[str, float]:
        """PSNR in dB, as `gan evaluate` has it but on crops of the training images, and bicubic's on the same."""
        device = next(G.parameters()).device
        x = to_float(real.images[:MEASURED]).to(device)
        torch.manual_seed(seed)  # the same disturbances each time
        c = self.condition(x, torch.zeros(len(x), 0, device=device))
        with torch.no_grad():
            ours, bicubic = G(self.noise(c), c), enlarged(c, self.degrade.scale)
        made = {"psnr": ours, "bicubic_psnr": bicubic}
        return {name: fidelity(images, x, self.degrade.scale)["psnr"] for name, images in made.items()}


@dataclass(eq=False, kw_only=True)
class SRGAN(SuperResolution, GAN):
    """G alone for the first `pretrain` of the budget, then G and D: content plus `adversarial` times D's opinion.

    Equation 3: the paper's weight is 1e-3, and its first phase is a whole training of SRResNet (section 3.2).
    """

    adversarial: float = 1e-3
    pretrain: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pretrain <= 1 or self.adversarial < 0:
            raise ValueError(
                f"G plays alone for a share of the budget from 0 to 1, then with a weight on D's opinion of 0 or more, "
                f"but model.pretrain={self.pretrain} and model.adversarial={self.adversarial} were given; "
                f"type model.pretrain=0.5 model.adversarial=0.001"
            )
        if self.packing > 1:
            raise ValueError(
                f"packed images are judged without what they were made from, but model.packing={self.packing}; "
                f"type model.packing=1"
            )

    def moves(self, step: int, progress: float) -> list[Move]:
        if progress < self.pretrain:
            return SuperResolution.moves(self, step, progress)
        return GAN.moves(self, step, progress)

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        opinion = self.loss.generator(self.judge(made, c), self.rivals(x, c))
        return {"G/content": self.content(made, x), "G/adversarial": self.adversarial * opinion}
