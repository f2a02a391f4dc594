"""Unrolled GAN: Metz et al. 2017, https://arxiv.org/abs/1611.02163."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

from gancli.losses.penalties import Discriminated, WeightClipping
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.base import Terms, Update
from gancli.objectives.gan import GAN
from gancli.runtime.checks import check_number


@dataclass(eq=False)
class Unrolled(GAN):
    """GAN whose G minimises its loss against D after `unroll` more steps of gradient descent.

    The steps are virtual, and G's gradient goes through them (equations 7 to 10): a G that collapses to one mode finds
    a D that has followed it there. They minimise D's whole loss; a penalty that is not computed in every step has its
    mean weight. D and its buffers do not change, and D's own update is the GAN's. unroll=0 is the GAN.
    """

    unroll: int = 5  # virtual steps
    rate: float = 1.0  # of gradient descent, as in equation 8; the paper's experiments used Adam

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.unroll", self.unroll, 0)
        check_number("model.unroll_rate", self.rate, above=0, example=0.001)
        if self.unroll and any(map(is_parametrized, self.D.modules())):
            raise ValueError(
                "unrolling differentiates D's steps, but spectral norm's power iteration has no gradient; "
                "type model.norm=batch or none, or model.unroll=0"
            )
        if self.unroll and isinstance(self.penalty, WeightClipping):
            raise ValueError("model/penalty=clip is no part of D's loss, which is unrolled; type model/penalty=r1")

    @property
    def double_backward(self) -> bool:
        return self.unroll > 0 or super().double_backward

    @property
    def whole_batch(self) -> str:
        steps = "G's loss goes through steps of D on all images of a batch (model.unroll=0 leaves them out)"
        return steps if self.unroll else super().whole_batch

    def updates(self, step: int, progress: float) -> list[Update]:
        *critics, generator = super().updates(step, progress)
        weight = self.penalty.weight_at(0, progress) / self.penalty.every
        return [*critics, generator._replace(loss=partial(self.generator_loss, penalty_weight=weight))]

    def generator_terms(self, x: Tensor, c: Tensor, fake: Any, penalty_weight: float = 0.0) -> Terms:
        D = self.unrolled(x, c, fake, penalty_weight)
        # Real logits keep their gradient: the unrolled D depends on G.
        real = self.discriminate(x, c, D).logits if self.loss.paired else None
        return {"G/adversarial": self.loss.generator(self.discriminate(fake, c, D).logits, real)}

    def unrolled(
        self, x: Tensor, c: Tensor, fake: Tensor, penalty_weight: float = 0.0
    ) -> Callable[..., DiscriminatorOutputs]:
        """Return D after the virtual steps, differentiable with respect to the fakes."""
        weights: dict[str, Tensor] = dict(self.D.named_parameters())
        names = list(weights)
        if self.unroll:
            # Copies, because the forward pass of batch norm writes to its buffers.
            weights |= {name: buffer.clone() for name, buffer in self.D.named_buffers()}

        def D(x: Tensor, c: Tensor) -> DiscriminatorOutputs:
            return functional_call(self.D, weights, (x, c)) if self.unroll else self.D(x, c)

        def logits(images: Tensor, c: Tensor) -> Tensor:
            return self.discriminate(images, c, D).logits

        if penalty_weight and "real" in self.penalty.gradients:
            x = x.detach().requires_grad_()
        for _ in range(self.unroll):
            real, fakes = Discriminated(x, logits(x, c)), Discriminated(fake, logits(fake, c))
            loss = self.loss.discriminator(real.logits, fakes.logits)
            if penalty_weight:
                loss = loss + penalty_weight * self.penalty(logits, real, fakes, c)
            before = [weights[name] for name in names]
            gradients = torch.autograd.grad(loss, before, create_graph=True)
            weights |= {name: w - self.rate * g for name, w, g in zip(names, before, gradients)}
        return D
