"""Pixels to tensors and back, grids of images, and image files: the only module that knows 127.5.

Inside the program an image is a float tensor, NCHW, in [-1, 1]. Stored images are uint8; 16-bit grey ones are uint16.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFont
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.runtime.files import write_atomically
from gancli.runtime.text import one_line

Size = int | Sequence[int]  # of images in pixels: the side of squares, or [height, width]


def sides(size: Size) -> tuple[int, int]:
    """Return height and width of images of a size."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def size_of(height: int, width: int) -> int | list[int]:
    """Return the size of images of these sides."""
    return height if height == width else [height, width]


def in_pixels(size: Size) -> str:
    """Return a size as a person writes it, width first: 256x144."""
    height, width = sides(size)
    return f"{width}x{height}"


def label_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, or its smaller one where Pillow came without FreeType."""
    try:
        return ImageFont.load_default(size)
    except (ImportError, OSError):
        return ImageFont.load_default_imagefont()


def drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text on one line, with ? for the letters that a font cannot draw at all."""
    text = one_line(text)
    return text.encode("latin-1", "replace").decode("latin-1") if isinstance(font, ImageFont.ImageFont) else text


def to_float(stored: Tensor) -> Tensor:
    """Convert uint8 or uint16 to float in [-1, 1]; return floats as they are."""
    if stored.is_floating_point():
        return stored
    return stored.float().div_(32767.5 if stored.dtype == torch.uint16 else 127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    """Convert float in [-1, 1] to uint8 in [0, 255], rounded to nearest and clipped; return uint8 as it is."""
    if x.dtype == torch.uint8:
        return x
    return x.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_uint16(x: Tensor) -> Tensor:
    """Convert float in [-1, 1] to uint16 in [0, 65535], rounded to nearest and clipped."""
    return x.detach().float().add(1).mul_(32767.5).round_().clamp_(0, 65535).to(torch.uint16)


def to_array(x: Tensor) -> np.ndarray:
    """Convert images (N, C, H, W), float in [-1, 1] or uint8, to a uint8 array (N, H, W, C)."""
    return to_uint8(x).permute(0, 2, 3, 1).cpu().numpy()


def to_pil(array: np.ndarray) -> Image.Image:
    """Convert one uint8 image (H, W, C) to a PIL image, grey where C is 1."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def is_points(x: Tensor) -> bool:
    """Return whether x holds points of the plane, (N, 2, 1, 1), rather than images."""
    return tuple(x.shape[1:]) == (2, 1, 1)


def grey(stored: Tensor) -> Tensor:
    """Return the ITU-R 601 luma of uint8 (N, 3, H, W) as uint8 (N, 1, H, W), equal to Pillow's "L" to the bit."""
    luma = torch.empty_like(stored[:, :1])
    for start in range(0, len(stored), 4096):  # int32 needs four times the memory
        r, g, b = stored[start : start + 4096].int().split(1, dim=1)
        luma[start : start + 4096] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
    return luma


def luma(x: Tensor) -> Tensor:
    """Return the ITU-R 601 luma of x in steps of 8 bits, float (N, 1, H, W) in [-1, 1]; grey stays grey."""
    stored = to_uint8(x)
    return to_float(grey(stored) if x.shape[1] == 3 else stored)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """Convert x (N, C, H, W) in [-1, 1] to grey, channels 1, or to colour, channels 3."""
    if channels == 1:
        return luma(x) if x.shape[1] == 3 else x
    return x.expand(-1, channels, -1, -1)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Enlarge (N, C, H, W) by bicubic to (N, C, scale * H, scale * W).

    The kernel is that of Pillow and Matlab, a = -0.5; PyTorch's bicubic without antialias has a = -0.75.
    """
    return interpolate(x, (x.shape[2] * scale, x.shape[3] * scale), mode="bicubic", antialias=True)


def scatter(x: Tensor, side: int = 256) -> Image.Image:
    """Draw points (N, 2, 1, 1) of the square [-1, 1]^2 as dots on a white image of side x side pixels."""
    canvas = np.full((side, side), 255, np.int64)
    column, row = ((x.detach().float().cpu().reshape(-1, 2) + 1) / 2 * (side - 1)).round().long().clamp(0, side - 1).T
    np.subtract.at(canvas, (side - 1 - row.numpy(), column.numpy()), 96)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def grid(x: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Arrange images (N, C, H, W) in [-1, 1] row by row, near square unless `columns` is given; scatter points.

    Images below 48 pixels are enlarged by a whole factor (nearest neighbour), unless the grid gets huge.
    """
    if is_points(x):
        return scatter(x)
    array = to_array(x)
    n, h, w, c = array.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    factor = max(1, min(math.ceil(48 / max(h, w)), 4096 // max(1, columns * w)))
    array, h, w = array.repeat(factor, 1).repeat(factor, 2), h * factor, w * factor
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, np.uint8)
    for i, image in enumerate(array):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return to_pil(sheet)


def stack(images: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Stack images of any sizes, one below the other on white."""
    if not images:
        raise ValueError("there are no images to stack")
    w, h = max(image.width for image in images), max(image.height for image in images)
    sheet = Image.new("RGB", (w, len(images) * (h + gap) - gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image.convert("RGB"), (0, i * (h + gap)))
    return sheet


def write(image: Image.Image, path: Path, durable: bool = False, **options: Any) -> Path:
    """Write an image file atomically, with the options of Pillow's save."""
    return write_atomically(path, lambda partial: image.save(partial, **options), durable)
