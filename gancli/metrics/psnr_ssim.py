"""How near an enlarged picture is to the real one, by the convention of the super-resolution literature.

Images are (N, C, H, W) float in [-1, 1], C 1 or 3, and are rounded to 8 bits first, as a written file would be.
"""

import math

import torch
from torch import Tensor

from gancli.images import to_uint8

# What a figure says of itself; `fidelity` is made so.
CONVENTION = "Y of BT.601 in studio range (a grey picture as it is), 8-bit output, border of {scale} shaved"
BINS = 32  # of `spectrum`
NO_POWER = 1e-15  # far below one grey level in a pixel of any picture, far above what rounding leaves of a flat one


def luma(x: Tensor) -> Tensor:
    """Y (N, H, W), float64: of colour 16 + 65.481 R + 128.553 G + 24.966 B with R, G, B in [0, 1], 16 to 235.

    ITU-R BT.601, as Matlab's rgb2ycbcr. A grey image is its own Y, 0 to 255, which is what papers' scripts do too: it
    reads 1.3 dB lower than the same image stored as colour.
    """
    levels = to_uint8(x).double()
    if x.shape[1] == 1:
        return levels[:, 0]
    weights = levels.new_tensor([65.481, 128.553, 24.966]) / 255
    return 16 + (levels * weights[:, None, None]).sum(1)


def shaved(y: Tensor, border: int) -> Tensor:
    """y (N, H, W) without `border` pixels on each side; as it is where nothing would be left."""
    h, w = y.shape[-2:]
    return y[..., border : h - border, border : w - border] if min(h, w) > 2 * border else y


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """10 log10(255^2 / mean squared difference) in dB of each pair of planes (N, H, W) in grey levels: (N,)."""
    return 10 * (255**2 / (a.double() - b.double()).square().mean((-2, -1))).log10()


def rgb_psnr(made: Tensor, real: Tensor, where: Tensor | None = None) -> Tensor:
    """10 log10(255^2 / mean squared difference) in dB of images (N, C, H, W) of 8 bits, over all channels: (N,).

    Infinite where they are the same. where: (N, 1, H, W), 1 at the pixels that count.
    """
    a, b = (to_uint8(image).cpu().double() for image in (made, real))
    counted = torch.ones_like(a) if where is None else where.cpu().double().expand_as(a)
    return 10 * (255**2 * counted.sum((1, 2, 3)) / (counted * (a - b).square()).sum((1, 2, 3))).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair of planes (N, H, W) in grey levels, (N,), 1 for the same plane.

    Wang et al. 2004, equation 13, https://doi.org/10.1109/TIP.2003.819861, with its window: a Gaussian of 11x11 and
    standard deviation 1.5, only where it fits whole, K1 = 0.01, K2 = 0.03, L = 255. nan below 11 pixels a side. SRGAN's
    table has another SSIM (daala's), which reads higher.
    """
    if min(a.shape[-2:]) < 11:
        return a.new_full(a.shape[:1], math.nan)
    offset = torch.arange(-5, 6, dtype=torch.float64, device=a.device)
    g = (-(offset**2) / (2 * 1.5**2)).exp()
    weights = (g / g.sum()).tolist()
    a, b = a.double(), b.double()
    mean_a, mean_b, aa, bb, ab = (windowed(t, weights) for t in (a, b, a * a, b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    over = (2 * mean_a * mean_b + c1) * (2 * (ab - mean_a * mean_b) + c2)
    under = (mean_a**2 + mean_b**2 + c1) * (aa - mean_a**2 + bb - mean_b**2 + c2)
    return (over / under).mean((1, 2))


def windowed(y: Tensor, weights: list[float]) -> Tensor:
    """Means of y (N, H, W) under the window weights x weights, where it fits whole.

    As sums of moved planes: a convolution in float64 copies every pixel 121 times, 12 GB for a photo of 12 megapixels.
    """
    for dim in (1, 2):
        side = y.shape[dim] - len(weights) + 1
        y = sum((weight * y.narrow(dim, k, side) for k, weight in enumerate(weights)), start=y.new_zeros(()))
    return y


def fidelity(made: Tensor, real: Tensor, scale: int) -> dict[str, float]:
    """Means over N images (N, C, H, W) of psnr (dB) and ssim by CONVENTION, and how sharp `made` is beside `real`.

    sharpness: mean gradient magnitude over that of `real`. high_frequency: power in the upper half of frequencies over
    that of `real`, in dB; 0 is as much detail as the real picture has, which may still be the wrong detail. A figure is
    infinite or nan where it divides by nothing: psnr of a picture that is met exactly, both of the last of a flat one.
    """
    a, b = (shaved(luma(x), scale) for x in (made, real))
    upper = [spectrum(y)[:, BINS // 2 :].sum(1) for y in (a, b)]
    upper = [torch.where(power > NO_POWER, power, 0) for power in upper]
    values = {
        "psnr": psnr(a, b),
        "ssim": ssim(a, b),
        "sharpness": gradient(a) / gradient(b),
        "high_frequency": 10 * (upper[0] / upper[1]).log10(),
    }
    return {name: float(value.mean()) for name, value in values.items()}


def gradient(y: Tensor) -> Tensor:
    """The mean length of the gradient, by forward differences, of planes (N, H, W), in grey levels a pixel: (N,)."""
    down, right = y[:, 1:, :-1] - y[:, :-1, :-1], y[:, :-1, 1:] - y[:, :-1, :-1]
    return (down.square() + right.square()).sqrt().mean((1, 2))


def spectrum(y: Tensor) -> Tensor:
    """The power of planes (N, H, W) by frequency, (N, BINS), from 0 to half a cycle a pixel, corners left out.

    Of the squared modulus of the Fourier transform, under a Hann window so that the borders do not look like edges,
    summed in rings and divided by the number of pixels: a mean of |y - mean|^2 split up by frequency.
    """
    h, w = y.shape[-2:]
    hann = [torch.hann_window(side, periodic=False, dtype=torch.float64, device=y.device) for side in (h, w)]
    window = hann[0][:, None] * hann[1]
    window = window / window.square().mean().sqrt().clamp_min(1e-12)
    y = (y.double() - y.double().mean((-2, -1), keepdim=True)) * window
    power = torch.fft.fft2(y).abs().square() / (h * w) ** 2
    frequencies = [torch.fft.fftfreq(side, dtype=torch.float64, device=y.device) for side in (h, w)]
    radius = (frequencies[0][:, None].square() + frequencies[1].square()).sqrt()
    ring = (radius * 2 * BINS).long().flatten()
    inside = ring < BINS
    return y.new_zeros(len(y), BINS).index_add_(1, ring[inside], power.flatten(1)[:, inside])
