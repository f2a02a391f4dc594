"""A D that also names the class: Odena et al. 2017, https://arxiv.org/abs/1610.09585."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from gancli.objectives.gan import GAN, Terms


@dataclass(eq=False)
class ACGAN(GAN):
    """Both players also minimise the cross-entropy of the class that D reads off the images (sections 3 and 4).

    D reads the class of real and generated images in its move, G wants its images to be read as what was asked for.
    D is a network with `features(x, c)`, `score(features, c)` and `classify(features)`; it is not told c.
    weight: of the class terms.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing > 1:
            raise ValueError(
                "packed images may be of several classes, and model=acgan reads one; type model.packing=1 or model=cgan"
            )
        self.read: list[Tensor] = []  # the class terms of what was judged since the move began

    def judge(self, x: Tensor, c: Tensor) -> Tensor:
        features = self.D.features(self.augment(x), c)
        self.read.append(cross_entropy(self.D.classify(features), c))
        return self.D.score(features, c)

    def discriminator_loss(self, x: Tensor, c: Tensor, keep: bool = False) -> Terms:
        self.read = []
        terms = super().discriminator_loss(x, c, keep)
        real, fake = self.read[:2]  # a penalty may have judged more
        return terms | {"D/class": self.weight * (real + fake)}

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        self.read = []
        terms = super().generator_loss(x, c)
        return terms | {"G/class": self.weight * self.read[0]}
