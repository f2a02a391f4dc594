"""Image-to-image tasks: the condition c from which G generates x, computed from x or given by the data.

Randomness comes from torch's default generators, independent for each image. Nothing waits for the device.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from gancli.images import is_points, luma, to_float, to_uint8, with_channels
from gancli.runtime.checks import check_choice, check_number
from gancli.transforms.masks import MASKS


@dataclass(kw_only=True)
class Task:
    """Map from x to c, which G learns to invert: (N, C, H, W) to float (N, channels, H', W'), both in [-1, 1].

    channels: of c, for the networks, which are built before any c is computed; 0 where it is not known.
    masked: the last channel of c is a mask, 1 where x is missing and 0 elsewhere.
    baseline_name: what `baseline` shows, for captions.
    """

    baseline_name: ClassVar[str] = "input"

    channels: int = 0
    masked: bool = False

    def __post_init__(self) -> None:
        if self.masked != (own := type(self).masked):
            raise ValueError(
                f"model.task.masked={str(self.masked).lower()} is not possible, it is {str(own).lower()} for this "
                "task; leave it out"
            )

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        if is_points(x):
            raise ValueError("this task needs images, but the data has points of the plane; type data.kind=shapes")
        c = self.degrade(x.float())
        if self.channels not in (0, c.shape[1]):
            raise ValueError(
                f"model.task.channels={self.channels} is not possible, this task turns images of {x.shape[1]} channels "
                f"into {c.shape[1]}; leave it out"
            )
        return c

    def degrade(self, x: Tensor) -> Tensor:
        """Compute c from float x."""
        raise NotImplementedError

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the condition of G for the pair (x, c) sampled from the data."""
        return self(x)

    def baseline(self, c: Tensor) -> Tensor:
        """Return the result without a network, (N, C, H, W) in [-1, 1], to compare G's images with: c itself."""
        return c


@dataclass(kw_only=True)
class OtherChannels(Task):
    """Task whose c is grey for a colour x, or the reverse. target_channels: of x, which `baseline` gives c too."""

    target_channels: int = 3

    def baseline(self, c: Tensor) -> Tensor:
        return with_channels(c, self.target_channels)


NO_SOURCES = (
    "this task needs pairs of images, but the data has none; type data=pairs data.path=DIR, or a task that computes "
    "sources from any images, such as task=colorize"
)


@dataclass(kw_only=True)
class GivenSources(OtherChannels):
    """c are the source images of the data, as in pix2pix: Isola et al. 2017, https://arxiv.org/abs/1611.07004."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels:
            raise ValueError(NO_SOURCES)

    def __call__(self, x: Tensor) -> Tensor:
        raise ValueError("this task takes its sources from the data and cannot compute them; give the sources too")

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        if c.dim() != 4 or len(c) != len(x):
            raise ValueError(NO_SOURCES)
        if c.shape[1] != self.channels:
            raise ValueError(
                f"the sources have {c.shape[1]} channels, but model.task.channels={self.channels}; "
                f"type data.source_channels={c.shape[1]}"
            )
        return c


@dataclass(kw_only=True)
class Colorize(OtherChannels):
    """c is the ITU-R 601 luma of x, one channel in steps of 8 bits, as in a grey copy of the image.

    Zhang et al. 2016, https://arxiv.org/abs/1603.08511; they predict the two colours of Lab, here G predicts RGB.
    """

    def degrade(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            raise ValueError(
                "grey images cannot be colorized; type data.channels=3 if the data has colours, or another task such "
                "as task=denoise"
            )
        return luma(x)


@dataclass
class Inpaint(Task):
    """c is x with a hole of zeros, followed by a mask, 1 in the hole: (N, C + 1, H, W). mask: a name of MASKS."""

    baseline_name = "input, its hole filled with the mean colour"

    mask: str = "mixed"
    masked: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model.task.mask", self.mask, MASKS)

    def degrade(self, x: Tensor) -> Tensor:
        hole = MASKS[self.mask](x)
        return torch.cat([x.masked_fill(hole, 0), hole.float()], 1)

    def baseline(self, c: Tensor) -> Tensor:
        """Return the images with the hole filled by the mean of the other pixels."""
        x, hole = c[:, :-1], c[:, -1:]
        colour = x.sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True).clamp(min=1)
        return x + hole * colour


@dataclass
class Denoise(Task):
    """c = x + N(0, sigma^2) in steps of 8 bits, sigma in grey levels of 255: Zhang et al. 2017.

    https://arxiv.org/abs/1608.03981
    """

    sigma: float = 25.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.task.sigma", self.sigma, above=0, example=25)

    def degrade(self, x: Tensor) -> Tensor:
        return to_float(to_uint8(x + self.sigma * 2 / 255 * torch.randn_like(x)))


@dataclass
class Deblur(Task):
    """c = x convolved with a Gaussian, in steps of 8 bits. sigma: its standard deviation in pixels."""

    sigma: float = 1.6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.task.sigma", self.sigma, above=0, example=1.6)

    def degrade(self, x: Tensor) -> Tensor:
        sigma = torch.full((len(x), 1, 1, 1), self.sigma, device=x.device)
        return to_float(to_uint8(gaussian_blur(x, sigma, self.sigma)))


@dataclass(kw_only=True)
class Edges(OtherChannels):
    """c is the gradient magnitude of the luma by Sobel's filter, one channel in steps of 8 bits, white on black.

    A step from black to white along a row or a column gives 1, white; edge pixels are replicated. In Isola et al. 2017,
    https://arxiv.org/abs/1611.07004, a trained network detects the edges.
    """

    def degrade(self, x: Tensor) -> Tensor:
        y = pad(luma(x), (1, 1, 1, 1), mode="replicate")
        down, across = y[:, :, 2:] - y[:, :, :-2], y[..., 2:] - y[..., :-2]
        down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
        across = across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
        # A step from -1 to 1 has a gradient of 8 and shall become 1.
        return to_float(to_uint8((down.square() + across.square()).sqrt() / 4 - 1))


def gaussian_blur(x: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Convolve each image of x (N, C, H, W) with a Gaussian; edge pixels are replicated, sigma = 0 is exact.

    Computed as a sum of shifted images: a convolution may use TF32 or bf16, which are coarser than 8 bits. `sigma`,
    (N, 1, 1, 1), is in pixels and at most `largest`, known on the host so that nothing waits for the device.
    """
    # The weights beyond four standard deviations are below a step of 8 bits.
    radius = math.ceil(4 * largest)
    offset = torch.arange(-radius, radius + 1, device=x.device)
    # At 1e-3 the weights are 1 at offset 0 and 0 elsewhere; a smaller sigma would give 0 / 0.
    weight = (-0.5 * (offset / sigma.clamp(min=1e-3)) ** 2).exp()
    weight = weight / weight.sum(-1, keepdim=True)
    y = pad(x, (radius, radius, radius, radius), mode="replicate")
    for dim, side in ((2, x.shape[2]), (3, x.shape[3])):
        terms = (w * y.narrow(dim, k, side) for k, w in enumerate(weight.split(1, -1)))
        y = sum(terms, start=x.new_zeros(()))
    return y
