"""Image to image: G generates x from a source image c, without D, against D, or first the one and then the other.

Isola et al. 2017 (pix2pix), https://arxiv.org/abs/1611.07004; with a small c, Ledig et al. 2017 (SRGAN),
https://arxiv.org/abs/1609.04802; with a masked c, Pathak et al. 2016, https://arxiv.org/abs/1604.07379.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gancli.objectives.base import Fakes, Objective, Terms, Update, sample_noise
from gancli.objectives.gan import GAN
from gancli.runtime.checks import check_number
from gancli.transforms.tasks import NO_SOURCES, GivenSources, Task


@dataclass(eq=False, kw_only=True)
class ImageToImage(Objective):
    """Objective that minimises the distance of generated images from the real ones.

    Attributes:
        content: Distance of two batches of images.
        task: How c is computed from x, or that the data contain it.
    """

    content: Any
    task: Task

    def check_data(self, data: Any) -> None:
        if not isinstance(self.task, GivenSources):
            return super().check_data(data)
        if not len(data.sources):
            raise ValueError(NO_SOURCES)
        if not data.paired:
            raise ValueError(
                "these data are two sets of images without pairs; type model=cyclegan, or data=pairs data.path=DIR"
            )

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        return self.task.condition(x, c)

    def updates(self, step: int, progress: float) -> list[Update]:
        return [Update("G", self.content_loss)]

    def content_loss(self, x: Tensor, c: Tensor, fakes: Fakes | None = None) -> tuple[Terms, Fakes | None]:
        c = self.condition(x, c)
        return {"G/content": self.content(self.G(sample_noise(self.G, c), c), x)}, None

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Return the result without a network | generated | real side by side: (N, C, H, 3 W)."""
        return torch.cat([self.task.baseline(c), G(z, c), x], 3)

    @property
    def preview_parts(self) -> tuple[str, ...]:
        return (self.task.baseline_name, "generated", "real")


@dataclass(eq=False, kw_only=True)
class ImageToImageGAN(ImageToImage, GAN):
    """Content loss for the first `pretrain` of the budget; then content plus `adversarial` times the adversarial loss.

    pix2pix, equation 4, weights L1 with 100 from the beginning: adversarial=0.01, pretrain=0. SRGAN, equation 3, has
    1e-3 and a first phase that is a whole training of SRResNet (section 3.2).
    """

    adversarial: float
    pretrain: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.pretrain", self.pretrain, 0, 1, example=0.5)
        check_number("model.adversarial", self.adversarial, 0, example=0.001)
        if self.packing > 1:
            raise ValueError(f"model.packing={self.packing} is not for image-to-image models; type model.packing=1")

    def updates(self, step: int, progress: float) -> list[Update]:
        phase = ImageToImage if progress < self.pretrain else GAN
        return phase.updates(self, step, progress)

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        adversarial = self.adversarial * self.adversarial_loss(x, c, fake)
        return {"G/content": self.content(fake, x), "G/adversarial": adversarial}
