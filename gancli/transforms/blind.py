"""Blind degradation: what images on the web and in phones have been through, at random and on the device.

After Wang et al. 2021 (Real-ESRGAN), https://arxiv.org/abs/2107.10833, and Zhang et al. 2021 (BSRGAN),
https://arxiv.org/abs/2103.14006, milder: its sizes are those of photos and web images, not of the worst of them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from gancli.images import enlarge, luma, to_float, to_uint8
from gancli.runtime.checks import check_number
from gancli.runtime.device import full_precision
from gancli.transforms.degradation import check_sides
from gancli.transforms.jpeg import jpeg
from gancli.transforms.tasks import Task

RADIUS = 10  # of the blur's kernel in pixels of x
RESAMPLING = ("bicubic", "bilinear", "area")


@dataclass
class BlindDegradation(Task):
    """c = (JPEG, noise in random order, JPEG again)(downsample(blur(x))), each with its own probability.

    x: (N, C, s h, s w) in [-1, 1] becomes (N, C, h, w) in [-1, 1] in steps of 8 bits.

    scale: s, 2, 3 or 4.
    blur: largest standard deviation in pixels of c; isotropic, anisotropic or motion.
    noise: largest standard deviation in grey levels; Gaussian or Poisson, grey or colour.
    jpeg: lowest quality; once, or twice with blocks at another place; half of the images with 4:2:0.
    fraction: of the images that are degraded; the others are only downsampled by bicubic, as in Degradation.
    """

    baseline_name = "bicubic"

    scale: int
    blur: float = 1.6
    noise: float = 12.0
    jpeg: int = 25
    fraction: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.scale", self.scale, 2, 4, example=4, whole=True)
        check_number("model.degrade.blur", self.blur, 0.1, 4, example=1.6)
        check_number("model.degrade.noise", self.noise, 0, example=12)
        check_number("model.degrade.jpeg", self.jpeg, 1, 95, example=25, whole=True)
        check_number("model.degrade.fraction", self.fraction, 0, 1, example=0.9)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        check_sides(x, self.scale)
        x = x.float()
        degraded = chance(x, self.fraction)
        size = [side // self.scale for side in x.shape[-2:]]
        blurred = torch.where(chance(x, 0.6), self.blurred(x), x)
        small = torch.stack([interpolate(blurred, size, mode=name, antialias=name != "area") for name in RESAMPLING])
        which = torch.randint(len(RESAMPLING), (len(x),), device=x.device)
        y = small[which, torch.arange(len(x), device=x.device)]
        y = (y * 127.5 + 127.5).round().clamp(0, 255)
        y = torch.where(chance(x, 0.3), self.compressed(y), y)  # saved before the noise, so for the first time of two
        y = torch.where(chance(x, 0.6), self.noisy(y), y)
        y = torch.where(chance(x, 0.8), self.compressed(y), y)
        exact = to_float(to_uint8(interpolate(x, size, mode="bicubic", antialias=True)))
        return torch.where(degraded, y / 127.5 - 1, exact)

    def blurred(self, x: Tensor) -> Tensor:
        """Return x convolved with a kernel of its own for each image: a Gaussian, or a line of motion in a third."""
        n, c, h, w = x.shape
        turn = uniform(x, 0, math.pi)
        long = self.scale * uniform(x, 0.1, self.blur)
        short = torch.where(chance(x, 0.5), long, long * uniform(x, 0.3, 1)).clamp(min=0.3)
        at = torch.arange(-RADIUS, RADIUS + 1, device=x.device, dtype=x.dtype)
        down, across = at.view(1, 1, -1, 1), at.view(1, 1, 1, -1)
        u, v = across * turn.cos() + down * turn.sin(), down * turn.cos() - across * turn.sin()
        gaussian = (-0.5 * ((u / long.clamp(min=0.3)) ** 2 + (v / short) ** 2)).exp()
        line = (long + 0.5 - u.abs()).clamp(0, 1) * (1 - v.abs()).clamp(min=0)
        kernels = torch.where(chance(x, 0.3), line, gaussian)
        kernels = kernels / kernels.sum((2, 3), keepdim=True)
        padded = pad(x, (RADIUS,) * 4, mode="replicate").reshape(1, n * c, h + 2 * RADIUS, w + 2 * RADIUS)
        with full_precision(x):  # bf16 is coarser than 8 bits
            y = conv2d(padded, kernels.repeat_interleave(c, 0), groups=n * c)
        return y.reshape(n, c, h, w)

    def noisy(self, y: Tensor) -> Tensor:
        """Return y with noise: of one size, or growing as the root of the brightness, which is Poisson's."""
        noise = torch.randn_like(y)
        noise = torch.where(chance(y, 0.4), noise[:, :1].expand_as(y), noise)
        root = (luma(y / 127.5 - 1) + 1).sqrt()  # 1 at the middle grey
        size = torch.where(chance(y, 0.5), root, torch.ones_like(root))
        return (y + uniform(y, 0.5, self.noise) * size * noise).round().clamp(0, 255)

    def compressed(self, y: Tensor) -> Tensor:
        """Return y as JPEG, its blocks beginning at a random pixel, as after a crop."""
        down, right = (int(k) for k in torch.randint(8, (2,)))
        quality = uniform(y, self.jpeg, 96).floor().flatten()
        padded = pad(y, (right, 0, down, 0), mode="replicate")
        return jpeg(padded, quality, chance(y, 0.5).flatten())[..., down:, right:]

    def baseline(self, c: Tensor) -> Tensor:
        return enlarge(c, self.scale)


def chance(x: Tensor, probability: float) -> Tensor:
    """Return whether it happens to each image of x: bool (N, 1, 1, 1)."""
    return torch.rand(len(x), 1, 1, 1, device=x.device) < probability


def uniform(x: Tensor, least: float, most: float) -> Tensor:
    """Return U(least, most) for each image of x: (N, 1, 1, 1)."""
    return least + (most - least) * torch.rand(len(x), 1, 1, 1, device=x.device)
