"""GAN with an auxiliary classifier: Odena et al. 2017, https://arxiv.org/abs/1610.09585."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.gan import GAN, Terms


@dataclass(eq=False)
class ACGAN(GAN):
    """GAN whose networks also minimise the cross-entropy of the class that D predicts (sections 3 and 4).

    D predicts the class of real and of fakes, without c as input. G is trained towards the class it was given.
    """

    weight: float = 1.0  # of the class terms

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing > 1:
            raise ValueError(
                "packed images may have several classes, but model=acgan predicts one; type model.packing=1 or "
                "model=cgan"
            )

    def adversarial_terms(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs, c: Tensor) -> Terms:
        terms = super().adversarial_terms(real, fake, c)
        classes = cross_entropy(real.class_logits, c) + cross_entropy(fake.class_logits, c)  # type: ignore[arg-type]
        return terms | {"D/class": self.weight * classes}

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        outputs = self.discriminate(fake, c)
        return {
            "G/adversarial": self.loss.generator(outputs.logits, self.real_logits(x, c)),
            "G/class": self.weight * cross_entropy(outputs.class_logits, c),
        }
