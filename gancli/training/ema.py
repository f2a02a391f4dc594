"""The running average of a generator's weights, which is what ships."""

import copy

import torch
from torch import nn


class EMA:
    """Exponential moving average of a network: parameters are averaged, buffers copied.

    The half-life is counted in images, so that it means the same at any batch size, and is at most `ramp` of the
    images seen so far, so that a short run is not averaged with its own beginning. Buffers (batch norm's running
    statistics) are averages already. Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 5 and appendix A.
    """

    def __init__(self, network: nn.Module, half_life_kimg: float = 500.0, ramp: float = 0.05):
        if half_life_kimg < 0 or not 0 <= ramp <= 1:
            raise ValueError(
                f"the average needs a half-life of 0 kimg or more and a ramp from 0 to 1, but "
                f"trainer.ema.half_life_kimg={half_life_kimg} and trainer.ema.ramp={ramp} were given"
            )
        self.half_life, self.ramp = half_life_kimg * 1000, ramp
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.weight: float | torch.Tensor = 0.0  # of the live network; a tensor () where a round is recorded

    def decay(self, images: int, batch: int) -> float:
        """The weight of the old average after `batch` more images, `images` having been seen: 0.5^(batch/half-life)."""
        half_life = min(self.half_life, self.ramp * images)
        return 0.5 ** (batch / half_life) if half_life > 0 else 0.0

    def bring(self, images: int, batch: int) -> None:
        """What `update` will move by after `batch` more images, `images` counting them too."""
        weight = 1 - self.decay(images, batch)
        if isinstance(self.weight, torch.Tensor):
            self.weight.fill_(weight)
        else:
            self.weight = weight

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`."""
        averaged: list[torch.Tensor] = list(self.network.parameters())
        live: list[torch.Tensor] = list(network.parameters())
        if isinstance(self.weight, torch.Tensor):  # which lerp takes for each parameter by itself alone
            apart = torch._foreach_sub(live, averaged)
            torch._foreach_mul_(apart, self.weight)
            torch._foreach_add_(averaged, apart)
        else:
            torch._foreach_lerp_(averaged, live, self.weight)
        for ours, theirs in zip(self.network.buffers(), network.buffers()):
            ours.copy_(theirs)
