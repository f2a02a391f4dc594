"""Feature matching: Salimans et al. 2016, section 3.1, https://arxiv.org/abs/1606.03498."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gancli.objectives.gan import GAN, Terms


@dataclass(eq=False)
class FeatureMatching(GAN):
    """GAN whose G minimises the squared distance between D's mean features of fakes and of real images.

    The distance replaces G's adversarial loss; D keeps its own.
    """

    weight: float = 1.0  # of the distance

    @property
    def whole_batch(self) -> str:
        return "feature matching compares the mean features of all images of a batch"

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        real_mean, fake_mean = (self.discriminate(images, c).features.mean(0) for images in (x, fake))
        return {"G/features": self.weight * (real_mean - fake_mean).square().sum()}
