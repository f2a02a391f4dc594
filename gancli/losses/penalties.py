"""What D pays for being steep: added to D's loss, or enforced on its weights."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Judge = Callable[[Tensor, Tensor], Tensor]


class Seen(NamedTuple):
    """Images (N, C, H, W) and D's outputs on them (N,) or, packed, (N / packing,)."""

    images: Tensor
    outputs: Tensor


class Penalty:
    """Called as penalty(judge, real, fake, c), it gives a scalar that is added to D's loss with its weight.

    weight: a number, or a function from the share of the budget used, 0 to 1, to one.
    every: rounds between two of its uses, at `every` times the weight. Karras et al. 2020, appendix B (lazy
    regularisation), https://arxiv.org/abs/1912.04958.
    double_backward: it differentiates D's gradient.
    slopes: which images it takes D's gradient at ("real", "fake"); they then require a gradient when D sees them.
    """

    double_backward = True
    slopes: tuple[str, ...] = ()

    def __init__(self, weight: float | Callable[[float], float], every: int = 1):
        if not callable(weight) and not weight > 0:
            raise ValueError(
                f"a penalty has a positive weight, but model.penalty.weight={weight}; type model/penalty=none for none"
            )
        if every < 1:
            raise ValueError(f"model.penalty.every counts from 1, but {every} was given; type model.penalty.every=16")
        self.weight, self.every = weight, every

    def due(self, step: int, progress: float) -> float:
        """The factor on the penalty in this round; 0: it is not to be computed."""
        if step % self.every:
            return 0.0
        return self.every * (self.weight(progress) if callable(self.weight) else self.weight)

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        raise NotImplementedError

    def stepped(self, D: nn.Module) -> None:
        """D's optimizer has just stepped."""


class NoPenalty(Penalty):
    double_backward = False

    def __init__(self) -> None:
        super().__init__(1.0)

    def due(self, step: int, progress: float) -> float:
        return 0.0


class WeightClipping(NoPenalty):
    """Every parameter of D is kept in [-limit, limit]: Arjovsky et al. 2017, algorithm 1, https://arxiv.org/abs/1701.07875."""

    def __init__(self, limit: float = 0.01):
        super().__init__()
        if not limit > 0:
            raise ValueError(f"weights are clipped to a positive limit, but model.penalty.limit={limit}; type 0.01")
        self.limit = limit

    @torch.no_grad()
    def stepped(self, D: nn.Module) -> None:
        for weight in D.parameters():
            weight.clamp_(-self.limit, self.limit)


class GradientPenalty(Penalty):
    """WGAN-GP: the mean of (|gradient of D| - 1)^2 at points on the lines between real and generated images.

    Gulrajani et al. 2017, equation 3, https://arxiv.org/abs/1704.00028. A penalty per image: D must not mix the
    images of a batch, so no batch norm in D (model.norm=none).
    """

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        x = real.images.detach()
        share = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype)
        made = fake.images.detach().to(x.dtype)  # under autocast G's are bf16
        return ((steepness(judge, torch.lerp(x, made, share), c) - 1) ** 2).mean()


class DRAGAN(Penalty):
    """The same at points around real images, x + N(0, s^2), so that D keeps from cliffs at the data.

    Kodali et al. 2017, section 2.3, https://arxiv.org/abs/1705.07215. s is `spread` times the standard deviation of the
    batch's pixels.
    """

    def __init__(self, weight: float | Callable[[float], float], every: int = 1, spread: float = 0.5):
        super().__init__(weight, every)
        self.spread = spread

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        x = real.images.detach()
        return ((steepness(judge, x + self.spread * x.std() * torch.randn_like(x), c) - 1) ** 2).mean()


class R1(Penalty):
    """Half the mean squared gradient of D at real images: Mescheder et al. 2018, equation 9, https://arxiv.org/abs/1801.04406.

    Zero at the equilibrium, where D is flat on the data, so it damps the circling around it.
    """

    slopes = ("real",)

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        return half_square_slope(real)


class R2(Penalty):
    """The same at generated images: equation 10."""

    slopes = ("fake",)

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        return half_square_slope(fake)


class R1R2(Penalty):
    """Both: what makes the relativistic loss converge locally. Huang et al. 2024, section 2.2, https://arxiv.org/abs/2501.05441."""

    slopes = ("real", "fake")

    def __call__(self, judge: Judge, real: Seen, fake: Seen, c: Tensor) -> Tensor:
        return half_square_slope(real) + half_square_slope(fake)


def slope(seen: Seen) -> Tensor:
    """The gradient of D's output by its images (N, C, H, W), itself differentiable."""
    # Outputs of one batch are summed: each depends on its own images alone, unless D mixes them on purpose.
    return torch.autograd.grad(seen.outputs.sum(), seen.images, create_graph=True)[0]


def half_square_slope(seen: Seen) -> Tensor:
    """|gradient|^2 / 2, the mean over D's outputs."""
    return 0.5 * slope(seen).square().sum() / len(seen.outputs)


def steepness(judge: Judge, x: Tensor, c: Tensor) -> Tensor:
    """The length of the gradient of D's output at x (N, C, H, W): (N,), or (N / packing,) of packed images together."""
    x = x.requires_grad_()
    seen = Seen(x, judge(x, c))
    # The root has no slope at 0, where a D whose last layer is still zero begins.
    return slope(seen).reshape(len(seen.outputs), -1).square().sum(1).add(1e-12).sqrt()
