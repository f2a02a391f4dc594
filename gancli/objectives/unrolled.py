"""Unrolled GAN: Metz et al. 2017, https://arxiv.org/abs/1611.02163."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.gan import GAN, Terms
from gancli.runtime.checks import check_number


@dataclass(eq=False)
class Unrolled(GAN):
    """GAN whose G minimises its loss against D after `unroll` more steps of gradient descent.

    The steps are virtual, and G's gradient goes through them (equations 7 to 10): a G that collapses to one mode finds
    a D that has followed it there. D and its buffers do not change, and D's own update is the GAN's. unroll=0 is the
    GAN.
    """

    unroll: int = 5  # virtual steps
    rate: float = 1.0  # of gradient descent, as in equation 8; the paper's experiments used Adam

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.unroll", self.unroll, 0)
        check_number("model.unroll_rate", self.rate, above=0, example=0.001)

    @property
    def double_backward(self) -> bool:
        return self.unroll > 0 or super().double_backward

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any) -> Terms:
        D = self.unrolled(x, c, fake)
        # Real logits keep their gradient: the unrolled D depends on G.
        real = self.discriminate(x, c, D).logits if self.loss.paired else None
        return {"G/adversarial": self.loss.generator(self.discriminate(fake, c, D).logits, real)}

    def unrolled(self, x: Tensor, c: Tensor, fake: Tensor) -> Callable[..., DiscriminatorOutputs]:
        """Return D after the virtual steps, differentiable with respect to the fakes."""
        weights: dict[str, Tensor] = dict(self.D.named_parameters())
        names = list(weights)
        if self.unroll:
            # Copies, because the forward pass of batch norm and spectral norm writes to their buffers.
            weights |= {name: buffer.clone() for name, buffer in self.D.named_buffers()}

        def D(x: Tensor, c: Tensor) -> DiscriminatorOutputs:
            return functional_call(self.D, weights, (x, c)) if self.unroll else self.D(x, c)

        for _ in range(self.unroll):
            loss = self.loss.discriminator(self.discriminate(x, c, D).logits, self.discriminate(fake, c, D).logits)
            before = [weights[name] for name in names]
            gradients = torch.autograd.grad(loss, before, create_graph=True)
            weights |= {name: w - self.rate * g for name, w, g in zip(names, before, gradients)}
        return D
