"""G that foresees D's answer: Metz et al. 2017, https://arxiv.org/abs/1611.02163."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call

from gancli.objectives.gan import GAN, Terms


@dataclass(eq=False)
class Unrolled(GAN):
    """G minimises its loss against the D that D would be after `unroll` steps of plain gradient descent.

    The steps are virtual and G's gradient goes through them (equations 7 to 10): a G that crowds into one mode sees D
    follow it there. D itself, its buffers included, is as it was; its own move is the GAN's. unroll=0 is the GAN.

    rate: of the virtual steps. The paper's equation 8 is gradient descent too, its experiments ran Adam in it.
    """

    half: ClassVar[bool] = False
    steady: ClassVar[bool] = False  # its D of the future is made of new tensors

    unroll: int = 5
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unroll < 0 or self.rate <= 0:
            raise ValueError(
                f"D is unrolled for 0 steps or more at a positive rate, but model.unroll={self.unroll} and "
                f"model.unroll_rate={self.rate} were given; type model.unroll=5 model.unroll_rate=1"
            )
        self.ahead: dict[str, Tensor] = {}  # D's parameters and buffers some steps from now; empty: D as it is

    @property
    def double_backward(self) -> bool:
        return self.unroll > 0 or super().double_backward

    def judge(self, x: Tensor, c: Tensor) -> Tensor:
        if not self.ahead:
            return super().judge(x, c)
        return functional_call(self.D, self.ahead, (self.packed(self.augment(x)), self.packed(c)))

    def generator_loss(self, x: Tensor, c: Tensor) -> Terms:
        x, c, made = self.made(x, c)
        parameters = dict(self.D.named_parameters())
        if self.unroll:
            # Batch norm's and spectral norm's buffers are written to by every forward: these are copies.
            self.ahead = parameters | {name: buffer.clone() for name, buffer in self.D.named_buffers()}
        try:
            for _ in range(self.unroll):
                loss = self.loss.discriminator(self.judge(x, c), self.judge(made, c))
                now = [self.ahead[name] for name in parameters]
                slopes = torch.autograd.grad(loss, now, create_graph=True)
                self.ahead |= {name: w - self.rate * g for name, w, g in zip(parameters, now, slopes)}
            real = self.judge(x, c) if self.loss.paired else None  # with its slope: this D depends on G
            return {"G/adversarial": self.loss.generator(self.judge(made, c), real)}
        finally:
            self.ahead = {}
