"""Adversarial losses of D's logits."""

from torch import Tensor
from torch.nn.functional import softplus

from gancli.losses.adversarial import NonSaturating


class Smoothed(NonSaturating):
    """Non-saturating loss whose target for real images is 1 - smoothing, so that D is never quite sure.

    Salimans et al. 2016, section 3.4, https://arxiv.org/abs/1606.03498.
    """

    def __init__(self, smoothing: float = 0.1):
        self.smoothing = smoothing

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        # -(1 - s) log D - s log(1 - D) with D = sigmoid(t) is softplus(-t) + s t.
        return (softplus(-real) + self.smoothing * real).mean() + softplus(fake).mean()
