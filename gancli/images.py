"""Pixels to tensors and back, pictures and grids: the only file that knows 127.5.

Inside the program an image is a float tensor, NCHW, in [-1, 1]; stored, it is uint8, a 16-bit grey one uint16.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_float(stored: Tensor) -> Tensor:
    """Stored images to what networks see: uint8 or uint16 to float in [-1, 1]; floats pass as they are."""
    if stored.is_floating_point():
        return stored
    return stored.float().div_(32767.5 if stored.dtype == torch.uint16 else 127.5).sub_(1)


def to_uint8(x: Tensor) -> Tensor:
    """Float in [-1, 1] to uint8 in [0, 255], rounded to nearest and clipped; uint8 passes as it is."""
    if x.dtype == torch.uint8:
        return x
    return x.detach().float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_uint16(x: Tensor) -> Tensor:
    """Float in [-1, 1] to uint16 in [0, 65535], rounded to nearest and clipped."""
    return x.detach().float().add(1).mul(32767.5).round_().clamp_(0, 65535).to(torch.uint16)


def is_points(x: Tensor) -> bool:
    """Whether x (N, C, H, W) holds points of the plane, (N, 2, 1, 1), rather than pictures."""
    return tuple(x.shape[1:]) == (2, 1, 1)


def to_array(x: Tensor) -> np.ndarray:
    """Images (N, C, H, W), float in [-1, 1] or uint8, to a uint8 array (N, H, W, C)."""
    return to_uint8(x).permute(0, 2, 3, 1).cpu().numpy()


def to_picture(image: np.ndarray) -> Image.Image:
    """One uint8 image (H, W, C) to a PIL picture; grey when C is 1."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def scatter(x: Tensor, side: int = 256) -> Image.Image:
    """Points (N, 2, 1, 1) of the square [-1, 1]^2 as dots on a white picture of side x side pixels."""
    picture = np.full((side, side), 255, np.int64)
    column, row = ((x.detach().float().cpu().reshape(-1, 2) + 1) / 2 * (side - 1)).round().long().clamp(0, side - 1).T
    np.subtract.at(picture, (side - 1 - row.numpy(), column.numpy()), 96)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def grid(x: Tensor, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1] side by side, row by row; points become a scatter plot.

    Small images are enlarged by a whole factor (nearest neighbour) so that a cell is at least 48 pixels
    wide: an 8x8 digit is otherwise a speck. The factor is dropped where it would make a huge picture.
    """
    if is_points(x):
        return scatter(x)
    array = to_array(x)
    n, h, w, c = array.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    factor = max(1, min(math.ceil(48 / max(h, w)), 4096 // max(1, columns * w)))
    array = array.repeat(factor, 1).repeat(factor, 2)
    h, w = h * factor, w * factor
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, c), 255, np.uint8)
    for i, image in enumerate(array):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return to_picture(sheet)


def stack(pictures: Sequence[Image.Image], gap: int = 6) -> Image.Image:
    """Pictures of any sizes one below the other, on white: the same noise over time."""
    if not pictures:
        raise ValueError("there is no picture to stack")
    w, h = max(p.width for p in pictures), max(p.height for p in pictures)
    sheet = Image.new("RGB", (w, len(pictures) * (h + gap) - gap), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture.convert("RGB"), (0, i * (h + gap)))
    return sheet


def write(picture: Image.Image, path: Path, **options: Any) -> Path:
    """Write a picture under its final name only when it is whole; makes the folder. options: of Pillow's save.

    Where that fails or is stopped, `path` is untouched and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        picture.save(partial, **options)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
