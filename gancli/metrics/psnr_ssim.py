"""PSNR, SSIM and sharpness of images against the real ones, by the convention of the super-resolution literature.

Images are (N, C, H, W) float in [-1, 1], C 1 or 3. They are rounded to 8 bits first, as a written file would be.
"""

import math

import torch
from torch import Tensor

from gancli.images import to_uint8

# Protocol of `fidelity`.
CONVENTION = "Y of BT.601 in studio range (a grey image as it is), 8-bit output, border of {scale} shaved"
BINS = 32  # of `spectrum`
NO_POWER = 1e-15  # far below one grey level in one pixel, far above rounding errors of a flat image


def studio_luma(x: Tensor) -> Tensor:
    """Return Y (N, H, W) in float64: 16 + 65.481 R + 128.553 G + 24.966 B with R, G, B in [0, 1], 16 to 235.

    ITU-R BT.601 in studio range, as Matlab's rgb2ycbcr. A grey image is its own Y, 0 to 255, as in papers' scripts: it
    reads 1.3 dB lower than the same image stored as colour.
    """
    levels = to_uint8(x).double()
    if x.shape[1] == 1:
        return levels[:, 0]
    weights = levels.new_tensor([65.481, 128.553, 24.966]) / 255
    return 16 + (levels * weights[:, None, None]).sum(1)


def shave(y: Tensor, border: int) -> Tensor:
    """Return y (N, H, W) without `border` pixels on each side, or unchanged if nothing would be left."""
    h, w = y.shape[-2:]
    return y[..., border : h - border, border : w - border] if min(h, w) > 2 * border else y


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Return 10 log10(255^2 / mean squared difference) in dB of planes (N, H, W) in grey levels: (N,)."""
    return 10 * (255**2 / (a.double() - b.double()).square().mean((-2, -1))).log10()


def rgb_psnr(generated: Tensor, real: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the PSNR in dB of 8-bit images (N, C, H, W) over all channels: (N,), infinite for equal images.

    where: (N, 1, H, W), 1 at the pixels that count.
    """
    a, b = (to_uint8(image).cpu().double() for image in (generated, real))
    counted = torch.ones_like(a) if where is None else where.cpu().double().expand_as(a)
    return 10 * (255**2 * counted.sum((1, 2, 3)) / (counted * (a - b).square()).sum((1, 2, 3))).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity (N,) of planes (N, H, W) in grey levels; 1 for equal planes.

    Eq. 13 of Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861: Gaussian window of 11x11 with standard
    deviation 1.5, only where it fits, K1 = 0.01, K2 = 0.03, L = 255; nan below 11 pixels a side. SRGAN's table has
    daala's SSIM, which reads higher.
    """
    if min(a.shape[-2:]) < 11:
        return a.new_full(a.shape[:1], math.nan)
    offset = torch.arange(-5, 6, dtype=torch.float64, device=a.device)
    g = (-(offset**2) / (2 * 1.5**2)).exp()
    weights = (g / g.sum()).tolist()
    a, b = a.double(), b.double()
    mean_a, mean_b, aa, bb, ab = (_window_means(t, weights) for t in (a, b, a * a, b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    over = (2 * mean_a * mean_b + c1) * (2 * (ab - mean_a * mean_b) + c2)
    under = (mean_a**2 + mean_b**2 + c1) * (aa - mean_a**2 + bb - mean_b**2 + c2)
    return (over / under).mean((1, 2))


def _window_means(y: Tensor, weights: list[float]) -> Tensor:
    """Return means of y (N, H, W) under the separable window weights x weights, where it fits.

    Sums of shifted planes: a convolution in float64 copies every pixel 121 times, 12 GB for a photo of 12 megapixels.
    """
    for dim in (1, 2):
        side = y.shape[dim] - len(weights) + 1
        y = sum((weight * y.narrow(dim, k, side) for k, weight in enumerate(weights)), start=y.new_zeros(()))
    return y


def fidelity(generated: Tensor, real: Tensor, scale: int) -> dict[str, float]:
    """Return mean PSNR (dB), SSIM and sharpness of images (N, C, H, W) by CONVENTION.

    A metric is infinite or nan where it divides by zero: psnr of equal images, the last two of a flat one.

    Returns:
        psnr, ssim; sharpness: mean gradient magnitude over that of `real`; high_frequency: power in the upper half of
        frequencies over that of `real`, in dB. 0 dB means as much detail as the real image, not the right detail.
    """
    a, b = (shave(studio_luma(x), scale) for x in (generated, real))
    upper = [spectrum(y)[:, BINS // 2 :].sum(1) for y in (a, b)]
    upper = [torch.where(power > NO_POWER, power, 0) for power in upper]
    values = {
        "psnr": psnr(a, b),
        "ssim": ssim(a, b),
        "sharpness": _gradient(a) / _gradient(b),
        "high_frequency": 10 * (upper[0] / upper[1]).log10(),
    }
    return {name: float(value.mean()) for name, value in values.items()}


def _gradient(y: Tensor) -> Tensor:
    """Return the mean gradient magnitude (N,) of planes (N, H, W) by forward differences, in grey levels per pixel."""
    down, right = y[:, 1:, :-1] - y[:, :-1, :-1], y[:, :-1, 1:] - y[:, :-1, :-1]
    return (down.square() + right.square()).sqrt().mean((1, 2))


def spectrum(y: Tensor) -> Tensor:
    """Return the power of planes (N, H, W) by radial frequency, (N, BINS), from 0 to half a cycle per pixel.

    The mean of |y - mean|^2 split up by frequency: squared modulus of the Fourier transform, summed in rings without
    the corners. A Hann window keeps the borders from looking like edges.
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
