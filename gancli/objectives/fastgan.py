"""FastGAN: Liu et al. 2021, https://arxiv.org/abs/2101.04775."""

from dataclasses import dataclass

from torch import Tensor

from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.gan import GAN, Terms
from gancli.runtime.checks import check_number


@dataclass(eq=False)
class FastGAN(GAN):
    """GAN whose D is also an encoder: small decoders reconstruct real images, as D gets them, from its maps.

    The reconstruction (equation 4) keeps D's features general, so that it does not memorise few images.
    """

    reconstruction: float = 1.0  # weight of D's reconstruction error

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.reconstruction", self.reconstruction, 0)
        if self.packing > 1:
            raise ValueError(
                f"model.packing={self.packing} is not for model=fastgan, whose D reconstructs single images; "
                "type model.packing=1"
            )

    def adversarial_terms(self, real: DiscriminatorOutputs, fake: DiscriminatorOutputs, c: Tensor) -> Terms:
        terms = super().adversarial_terms(real, fake, c)
        return terms | {"D/reconstruction": self.reconstruction * self.D.reconstruction_error(real.decoder_inputs)}
