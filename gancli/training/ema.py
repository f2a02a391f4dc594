"""The moving average of a generator's weights, which is what ships."""

import copy

import torch
from torch import nn

from gancli.runtime.checks import check_number


class EMA:
    """Exponential moving average of a network: parameters are averaged, buffers copied.

    The half-life is counted in images, so that it means the same at any batch size. It is at most the fraction `ramp`
    of the images so far, so that a short run does not average in its own beginning. Buffers (batch norm's running
    statistics) are averages already. Section 5 and appendix A of Karras et al. 2018, https://arxiv.org/abs/1710.10196.
    """

    def __init__(self, network: nn.Module, half_life_kimg: float = 500.0, ramp: float = 0.05):
        check_number("trainer.ema.half_life_kimg", half_life_kimg, least=0)
        check_number("trainer.ema.ramp", ramp, least=0, most=1)
        self.half_life, self.ramp = half_life_kimg * 1000, ramp
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.weight: float | torch.Tensor = 0.0  # of the live network; a tensor () for CUDA graphs

    def set_weight(self, images: int, batch: int) -> None:
        """Set the weight for the next `update`, 1 - 0.5^(batch / half-life); images: so far, with the batch."""
        half_life = min(self.half_life, self.ramp * images)
        weight = 1 - (0.5 ** (batch / half_life) if half_life > 0 else 0.0)
        self.weight = self.weight.fill_(weight) if isinstance(self.weight, torch.Tensor) else weight

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Average the weights of `network` in."""
        average: list[torch.Tensor] = list(self.network.parameters())
        live: list[torch.Tensor] = list(network.parameters())
        if isinstance(self.weight, torch.Tensor):  # _foreach_lerp_ would take one parameter at a time
            difference = torch._foreach_sub(live, average)
            torch._foreach_mul_(difference, self.weight)
            torch._foreach_add_(average, difference)
        else:
            torch._foreach_lerp_(average, live, self.weight)
        for ours, theirs in zip(self.network.buffers(), network.buffers()):
            ours.copy_(theirs)
