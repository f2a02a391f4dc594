"""Drifting models: Deng et al. 2026, https://arxiv.org/abs/2602.04770."""

from dataclasses import dataclass

from torch import Tensor

from gancli.losses.drifting import feature_drifting, patch_features
from gancli.objectives.base import Fakes, Objective, Terms, Update, sample_noise


@dataclass(eq=False)
class Drifting(Objective):
    """One generator and no discriminator: G learns where the drifting field moves its images.

    Paper: features of a pretrained network. Here those of `patch_features`, which need none.
    """

    @property
    def whole_batch(self) -> str:
        return "drifting compares all images of a batch"

    def updates(self, step: int, progress: float) -> list[Update]:
        return [Update("G", self.generator_loss)]

    def generator_loss(self, x: Tensor, c: Tensor, fakes: Fakes | None = None) -> tuple[Terms, Fakes | None]:
        """Return the drifting loss, the mean over the features."""
        fake = self.G(sample_noise(self.G, c), c)
        losses = [feature_drifting(a, b, c) for a, b in zip(patch_features(fake), patch_features(x))]
        return {"G/drifting": sum(losses[1:], losses[0]) / len(losses)}, None
