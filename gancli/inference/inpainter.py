"""Holes in pictures of any size filled by a network; what is not masked is what it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gancli import images
from gancli.data.image_modes import array_of, bled, inherit, is_grey, note, plain, to_pixels, to_tensor
from gancli.inference import generator
from gancli.inference.tiling import Tiler, padded
from gancli.inference.translator import check_channels
from gancli.transforms.tasks import centre, with_channels


class Inpainter(Tiler):
    """A network that fills holes put to use: a call for a PIL picture and a mask."""

    def __init__(self, network: nn.Module, tile: int = 0):
        super().__init__(network, tile)
        self.colours = self.source_channels - 1  # the last channel is the mask
        check_channels(self.colours, self.channels)

    def __call__(
        self, picture: Image.Image, mask: Image.Image, progress: Callable[[int], object] = lambda pixels: None
    ) -> Image.Image:
        """A picture of any mode to an upright "L", "LA", "RGB", "RGBA" or "I;16" that differs in the holes alone.

        mask: a picture of the same size, white in the holes: 50 % or more, and not clear. Otherwise as a Translator's.
        """
        picture = plain(picture)
        hole = holes(mask, picture.size)
        if self.channels == 1 and not is_grey(picture):
            note("is in colour, and what was painted into it is grey")
        result = array_of(picture)
        n = 3 if picture.mode.startswith("RGB") else 1
        seen = result[..., :n].copy()
        if picture.mode.endswith("A"):  # what lies in a hole is not to be seen in the clear parts either
            seen = bled(seen, np.where(hole[..., 0], 0, result[..., n]))
        seen, missing = padded(seen, self.multiple), padded(hole, self.multiple)

        def read(left: int, top: int, right: int, bottom: int) -> Tensor:
            gap = torch.from_numpy(missing[top:bottom, left:right]).permute(2, 0, 1)[None].float()
            x = with_channels(to_tensor(seen[top:bottom, left:right]), self.colours)
            return torch.cat([x * (1 - gap), gap], 1)

        # Only what lies around the holes is computed.
        box = Image.fromarray(hole[..., 0]).getbbox()
        for (left, top, right, bottom), y in self.tiles(read, picture.width, picture.height, box):
            here = hole[top:bottom, left:right, 0]
            result[top:bottom, left:right, :n][here] = to_pixels(with_channels(y, n), picture.mode)[here]
            progress((right - left) * (bottom - top))
        return inherit(images.to_picture(result), picture)


def holes(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Where a mask for a picture of this size is white, bool (H, W, 1). ValueError where it masks nothing, or all."""
    mask = plain(mask)
    if mask.size != size:
        (w, h), (across, down) = mask.size, size
        raise ValueError(f"is {across} x {down} pixels, but its mask {w} x {h}; make the mask as large as the picture")
    values = array_of(mask)
    half = np.iinfo(values.dtype).max // 2 + 1
    if mask.mode.endswith("A"):
        values = np.where(values[..., -1:] >= half, values[..., :-1], 0)  # clear is black
    hole = values.mean(2, keepdims=True) >= half
    if not hole.any():
        raise ValueError("its mask masks nothing, as it has no white; make white what is to be repainted")
    if hole.all():
        raise ValueError("its mask masks everything, and of nothing nothing can be made; make black what is to stay")
    return hole


def central(size: tuple[int, int]) -> Image.Image:
    """A mask whose hole is the middle half of each side."""
    return Image.fromarray(centre(torch.zeros(1, 1, *size[::-1]))[0, 0].numpy()).convert("L")


def load_inpainter(ckpt: str | Path, ema: bool = True, device: torch.device | str = "cpu", tile: int = 0) -> Inpainter:
    """An inpainter with the network of a checkpoint."""
    return Inpainter(generator.load(ckpt, ema, device, "inpaint").network, tile)
