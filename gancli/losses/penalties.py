"""Regularisers of D: penalties on its gradient that are added to its loss, and clipping of its weights."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gancli.runtime.checks import check_number

Discriminate = Callable[[Tensor, Tensor], Tensor]


class Discriminated(NamedTuple):
    """Images (N, C, H, W) and D's logits for them: (N,), (N / packing,) of packed images, (N, H', W') of patches."""

    images: Tensor
    logits: Tensor


class Penalty:
    """Base class: a call penalty(discriminate, real, fake, c) returns a scalar of weight 1.

    Attributes:
        weight: A number, or a function from the used fraction of the budget, 0 to 1, to a number.
        every: Steps between two uses, each at `every` times the weight. Karras et al. 2020, appendix B (lazy
            regularisation), https://arxiv.org/abs/1912.04958.
        double_backward: True if it differentiates D's gradient.
        gradients: Images that require a gradient before D is called: "real", "fake".
    """

    double_backward = True
    gradients: tuple[str, ...] = ()

    def __init__(self, weight: float | Callable[[float], float], every: int = 1):
        if not callable(weight):
            check_number("model.penalty.weight", weight, above=0)
        check_number("model.penalty.every", every, 1)
        self.weight, self.every = weight, every

    def weight_at(self, step: int, progress: float) -> float:
        """Return the weight in this step; 0 where the penalty is not computed."""
        if step % self.every:
            return 0.0
        return self.every * (self.weight(progress) if callable(self.weight) else self.weight)

    def __call__(self, discriminate: Discriminate, real: Discriminated, fake: Discriminated, c: Tensor) -> Tensor:
        raise NotImplementedError

    def after_step(self, D: nn.Module) -> None:
        """Constrain D's weights after its optimizer step."""


class NoPenalty(Penalty):
    double_backward = False

    def __init__(self) -> None:
        super().__init__(1.0)

    def weight_at(self, step: int, progress: float) -> float:
        return 0.0


class WeightClipping(NoPenalty):
    """Clips every parameter of D to [-limit, limit]: Arjovsky et al. 2017, algorithm 1, https://arxiv.org/abs/1701.07875."""

    def __init__(self, limit: float = 0.01):
        super().__init__()
        check_number("model.penalty.limit", limit, above=0, example=0.01)
        self.limit = limit

    @torch.no_grad()
    def after_step(self, D: nn.Module) -> None:
        for weight in D.parameters():
            weight.clamp_(-self.limit, self.limit)


class GradientPenalty(Penalty):
    """WGAN-GP: mean (|gradient of D| - 1)^2 at random points between real and generated images.

    Gulrajani et al. 2017, equation 3, https://arxiv.org/abs/1704.00028. It is defined per image, so D must not mix the
    images of a batch: no batch norm in D (model.norm=none). Images that are packed together share one random point.
    """

    def __call__(self, discriminate: Discriminate, real: Discriminated, fake: Discriminated, c: Tensor) -> Tensor:
        x = real.images.detach()
        packs = len(real.logits)
        epsilon = torch.rand(packs, 1, 1, 1, device=x.device, dtype=x.dtype).repeat_interleave(len(x) // packs, 0)
        fake_images = fake.images.to(x.dtype)  # under autocast G's are bf16
        return ((gradient_norm(discriminate, torch.lerp(x, fake_images, epsilon), c) - 1) ** 2).mean()


class DRAGAN(Penalty):
    """Gradient penalty at points around real images, x + N(0, s^2), against sharp edges of D at the data.

    Kodali et al. 2017, section 2.3, https://arxiv.org/abs/1705.07215. s is `spread` times the standard deviation of the
    batch's pixels.
    """

    def __init__(self, weight: float | Callable[[float], float], every: int = 1, spread: float = 0.5):
        super().__init__(weight, every)
        self.spread = spread

    def __call__(self, discriminate: Discriminate, real: Discriminated, fake: Discriminated, c: Tensor) -> Tensor:
        x = real.images.detach()
        return ((gradient_norm(discriminate, x + self.spread * x.std() * torch.randn_like(x), c) - 1) ** 2).mean()


class R1(Penalty):
    """Half the mean squared gradient of D at real images: Mescheder et al. 2018, equation 9, https://arxiv.org/abs/1801.04406.

    It is zero at the equilibrium, where D is flat on the data, and damps the oscillation around it.
    """

    gradients: tuple[str, ...] = ("real",)

    def __call__(self, discriminate: Discriminate, real: Discriminated, fake: Discriminated, c: Tensor) -> Tensor:
        images = {"real": real, "fake": fake}
        return torch.stack([half_squared_gradient(images[name]) for name in self.gradients]).sum()


class R2(R1):
    """Half the mean squared gradient of D at generated images: equation 10."""

    gradients = ("fake",)


class R1R2(R1):
    """Sum of R1 and R2, with which the relativistic loss converges locally: Huang et al. 2024, section 2.2, https://arxiv.org/abs/2501.05441."""

    gradients = ("real", "fake")


def image_gradient(d: Discriminated) -> Tensor:
    """Return the gradient of D's logits with respect to the images (N, C, H, W), itself differentiable.

    The logit of an image is the mean of its patches' logits, as in the losses.
    """
    # The logits of a batch are summed: each depends on its own images alone, unless D mixes them on purpose.
    logits = d.logits if d.logits.dim() == 1 else d.logits.flatten(1).mean(1)
    return torch.autograd.grad(logits.sum(), d.images, create_graph=True)[0]


def half_squared_gradient(d: Discriminated) -> Tensor:
    """Return |gradient|^2 / 2, the mean over D's logits."""
    return 0.5 * image_gradient(d).square().sum() / len(d.logits)


def gradient_norm(discriminate: Discriminate, x: Tensor, c: Tensor) -> Tensor:
    """Return the norm of D's gradient at x (N, C, H, W): (N,), or (N / packing,) of packed images together."""
    x = x.requires_grad_()
    d = Discriminated(x, discriminate(x, c))
    # The root has no gradient at 0, where a D whose last layer is still zero begins.
    return image_gradient(d).reshape(len(d.logits), -1).square().sum(1).add(1e-12).sqrt()
