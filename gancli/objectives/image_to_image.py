"""Image to image: G makes x of an image c, alone, against D, or first one and then the other.

Isola et al. 2017 (pix2pix), https://arxiv.org/abs/1611.07004; with a small c, Ledig et al. 2017 (SRGAN),
https://arxiv.org/abs/1609.04802; with a c that has a hole, Pathak et al. 2016, https://arxiv.org/abs/1604.07379.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.metrics.task_psnr import task_psnr
from gancli.objectives.base import Move, Objective, Terms
from gancli.objectives.gan import GAN
from gancli.transforms.tasks import NO_SOURCES, GivenSources, Task

MEASURED = 64  # images that the cheap measure looks at


@dataclass(eq=False, kw_only=True)
class ImageToImage(Objective):
    """G alone: its image shall have the content of the real one.

    content: the distance of made images from real ones that is minimised. task: what c is made of x, or that the data
    bring it.
    """

    headline: ClassVar[str] = "psnr"
    lower_is_better: ClassVar[bool] = False

    content: Any
    task: Task

    def check(self, data: Any) -> None:
        if not isinstance(self.task, GivenSources):
            return super().check(data)
        if not len(data.sources):
            raise ValueError(NO_SOURCES)
        if not data.paired:
            raise ValueError(
                "these data are two sets of images of which no two belong together; type model=cyclegan, or data=pairs"
            )

    def to(self, device: torch.device) -> None:
        super().to(device)  # a GAN's augmentation
        self.content.to(device)

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        return self.task.condition(x, c)

    def updates(self, step: int, progress: float) -> list[Move]:
        self.step, self.progress = step, progress
        return [("G", self.content_loss)]

    def content_loss(self, x: Tensor, c: Tensor) -> Terms:
        """G's terms where it plays alone."""
        c = self.condition(x, c)
        return {"G/content": self.content(self.G(self.noise(c), c), x)}

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """What there is without a network | G's | real, side by side: (N, C, H, 3 W)."""
        return torch.cat([self.task.baseline(c), G(z, c), x], 3)

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        """PSNR in dB as the task has it, and `naive_psnr` of what there is without a network, on the same images."""
        device = next(G.parameters()).device
        x, c = (to_float(t[:MEASURED]).to(device) for t in (real.images, real.sources))
        torch.manual_seed(seed)  # the same disturbances each time
        c = self.condition(x, c)
        with torch.no_grad():
            ours, naive = G(self.noise(c), c), self.task.baseline(c)
        values = task_psnr(self.task, ours, x, c)
        return values | {f"naive_{name}": value for name, value in task_psnr(self.task, naive, x, c).items()}


@dataclass(eq=False, kw_only=True)
class ImageToImageGAN(ImageToImage, GAN):
    """G alone for the first `pretrain` of the budget, then G and D: content plus `adversarial` times D's opinion.

    pix2pix, equation 4, has a weight of 100 on L1 beside D's opinion, from the beginning: adversarial=0.01. SRGAN,
    equation 3, has 1e-3, and a first phase that is a whole training of SRResNet (section 3.2).
    """

    half: ClassVar[bool] = False
    steady: ClassVar[bool] = False  # tasks draw on the host

    adversarial: float
    pretrain: float = 0.0

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

    def updates(self, step: int, progress: float) -> list[Move]:
        if progress < self.pretrain:
            return ImageToImage.updates(self, step, progress)
        return GAN.updates(self, step, progress)

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        opinion = self.loss.generator(self.judge(made, c), self.rivals(x, c))
        return {"G/content": self.content(made, x), "G/adversarial": self.adversarial * opinion}
