"""G that matches what D sees on average: Salimans et al. 2016, section 3.1, https://arxiv.org/abs/1606.03498."""

from dataclasses import dataclass

from torch import Tensor

from gancli.objectives.gan import GAN, Terms


@dataclass(eq=False)
class FeatureMatching(GAN):
    """G minimises the squared distance of D's mean features on generated images from those on real ones.

    It replaces G's adversarial loss; D plays on as before, with whatever loss. weight: of the distance.
    """

    weight: float = 1.0

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        real, fake = (self.D.features(self.packed(self.augment(images)), self.packed(c)) for images in (x, made))
        return {"G/features": self.weight * (real.mean(0) - fake.mean(0)).square().sum()}
