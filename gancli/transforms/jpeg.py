"""JPEG compression on the device: the losses of ITU-T T.81 without its coded bits.

Baseline JPEG as libjpeg writes and reads it: YCbCr, 4:4:4 or 4:2:0, blocks of 8x8, the tables of annex K scaled by
quality. Nothing waits for the device, and each image has its own quality.
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99, *(99 for _ in range(32))),
)
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@functools.cache
def constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the DCT (8, 8), tables of luma and chroma (2, 8, 8), RGB to YCbCr and its inverse (3, 3)."""
    k = torch.arange(8, dtype=torch.float64)
    dct = ((2 * k + 1) * k[:, None] * math.pi / 16).cos() / 2
    dct[0] /= math.sqrt(2)
    tables, colour = torch.tensor([LUMA, CHROMA]).view(2, 8, 8), torch.tensor(YCBCR, dtype=torch.float64)
    return tuple(x.float().to(device) for x in (dct, tables, colour, colour.inverse()))  # type: ignore[return-value]


def quantise(x: Tensor, quality: Tensor, table: Tensor, dct: Tensor) -> Tensor:
    """Return planes x (N, C, H, W) in 0 to 255 whose 8x8 blocks were quantised at `quality` (N,), 1 to 100."""
    n, _, h, w = x.shape
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1)
    steps = ((table * factor + 50) / 100).floor().clamp(1, 255).view(n, 1, 1, 1, 8, 8)
    x = pad(x - 128, (0, -w % 8, 0, -h % 8), mode="replicate")
    blocks = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    coded = (dct @ blocks @ dct.T / steps).round() * steps
    decoded = (dct.T @ coded @ dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return (decoded + 128).round().clamp(0, 255)[..., :h, :w]


@torch.no_grad()
def jpeg(x: Tensor, quality: Tensor, subsample: Tensor) -> Tensor:
    """Return images x (N, 1 or 3, H, W), whole numbers 0 to 255 as float, as JPEG shows them.

    Args:
        quality: (N,) float, 1 to 100.
        subsample: (N,) bool, whether chroma is stored at half the size (4:2:0).
    """
    dct, tables, colour, inverse = constants(x.device)
    if x.shape[1] == 1:
        return quantise(x, quality, tables[0], dct)
    shift = x.new_tensor([0, 128, 128]).view(3, 1, 1)
    y = (torch.einsum("ij,njhw->nihw", colour, x) + shift).round()
    luma, chroma = quantise(y[:, :1], quality, tables[0], dct), y[:, 1:]
    full, (h, w) = quantise(chroma, quality, tables[1], dct), chroma.shape[2:]
    half = avg_pool2d(pad(chroma, (0, w % 2, 0, h % 2), mode="replicate"), 2).round()
    half = quantise(half, quality, tables[1], dct)
    # libjpeg enlarges chroma by the triangle 1/4, 3/4, which is bilinear at half-pixel centres.
    half = interpolate(half, scale_factor=2, mode="bilinear")[..., :h, :w].round()
    y = torch.cat([luma, torch.where(subsample.view(-1, 1, 1, 1), half, full)], 1) - shift
    return torch.einsum("ij,njhw->nihw", inverse, y).round().clamp(0, 255)
