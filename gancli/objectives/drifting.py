"""Drifting models: Deng et al. 2026, https://arxiv.org/abs/2602.04770."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gancli.losses.drifting import feature_drifting, map_features, patch_features
from gancli.objectives.base import Fakes, Objective, Terms, Update, sample_noise
from gancli.runtime.checks import check_number


@dataclass(eq=False, kw_only=True)
class Drifting(Objective):
    """One generator and no discriminator: G learns where the drifting field moves its images.

    Paper: features of a masked autoencoder, trained before. Here E is one, trained on the same images in the first
    `pretrain` of the budget, and its features are joined by those of `patch_features`, which need no network.

    Attributes:
        E: Network with `features(x)`, the maps of its stages, and `forward(x)`, its own loss.
        pretrain: Fraction of the budget in which E learns; 0: patches alone.
    """

    E: Any
    pretrain: float = 0.2

    def __post_init__(self) -> None:
        check_number("model.pretrain", self.pretrain, 0, 1, example=0.2)

    @property
    def whole_batch(self) -> str:
        return "drifting compares all images of a batch"

    def updates(self, step: int, progress: float) -> list[Update]:
        if progress < self.pretrain:
            return [Update("E", self.reconstruction_loss)]
        return [Update("G", self.generator_loss)]

    def reconstruction_loss(self, x: Tensor, c: Tensor, fakes: Fakes | None = None) -> tuple[Terms, Fakes | None]:
        return {"E/reconstruction": self.E(x)}, None

    def generator_loss(self, x: Tensor, c: Tensor, fakes: Fakes | None = None) -> tuple[Terms, Fakes | None]:
        """Return the drifting loss, the mean over the features."""
        fake = self.G(sample_noise(self.G, c), c)
        with torch.no_grad():
            real = self.features(x)
        losses = [feature_drifting(a, b, c) for a, b in zip(self.features(fake), real)]
        return {"G/drifting": sum(losses[1:], losses[0]) / len(losses)}, None

    def features(self, x: Tensor) -> list[Tensor]:
        return patch_features(x) + (map_features(self.E.features(x)) if self.pretrain else [])
