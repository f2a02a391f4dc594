"""Pictures made of pictures of the same size, by networks that learned it from pairs or from two sets.

translator = load("outputs/my-run")                   # pix2pix, CycleGAN
translated = translator(Image.open("photo.jpg"))      # at its own size: padded where need be, never squashed
inpainter = load_inpainter("outputs/my-run")
repainted = inpainter(Image.open("photo.jpg"), mask)  # what is not masked is what it was
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gancli import images, kinds
from gancli.config import nearest
from gancli.data.tasks import centre, with_channels
from gancli.plain import array_of, bled, inherit, is_grey, note, plain, to_pixels, to_tensor
from gancli.tiling import Tiler, padded

DIRECTIONS = ("there", "back")


class Translator(Tiler):
    """A network from pictures to pictures of the same size put to use: a call for a PIL picture."""

    def __init__(self, network: nn.Module, tile: int = 0):
        super().__init__(network, tile)
        check_channels(self.source_channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        """Colour is made grey where the network takes grey, and grey colour where it takes colour."""
        return super().forward(with_channels(x, self.source_channels))

    def __call__(self, picture: Image.Image, progress: Callable[[int], object] = lambda pixels: None) -> Image.Image:
        """A picture of any mode to an upright "RGB", "L" or, of 16-bit grey, "I;16", with alpha where it has it.

        Its ICC profile, EXIF and dpi are in the result's `info`. A `Note` is warned of what was lost. `progress` is
        told of each tile how many pixels of `picture` it has. ValueError where the picture cannot be translated.
        """
        picture = plain(picture)
        grey = not picture.mode.startswith("RGB")
        mode = "RGB" if self.channels == 3 else "I;16" if picture.mode == "I;16" else "L"
        if self.source_channels == 1 and not is_grey(picture):
            note("is in colour, of which the network saw the grey alone")
        if picture.mode == "I;16" and mode == "RGB":
            note("has 16 bits, and its result is in colour, which has 8")
        if grey == (mode == "RGB") and picture.info.pop("icc_profile", None):
            note(f"its ICC profile is of {'grey' if grey else 'colour'}, which its result is not, and was left out")
        return self.draw(picture, mode, progress)


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


def check_channels(*channels: int) -> None:
    """ValueError where a network's images are no pictures."""
    for n in channels:
        if n not in (1, 3):
            raise ValueError(f"the network's images have {n} channels, and pictures have 1 or 3; type another ckpt=")


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


def load(
    ckpt: str | Path,
    direction: str = "there",
    ema: bool = True,
    device: torch.device | str = "cpu",
    tile: int = 0,
) -> Translator:
    """A translator with the network of a checkpoint. direction: of CycleGAN's two, "there" or "back"."""
    if direction not in DIRECTIONS:
        raise ValueError(f"there is no direction {direction!r}{nearest(direction, DIRECTIONS)}; there are: there, back")
    network = kinds.load(ckpt, "translate", ema, device).network
    if direction == "back" and not hasattr(network, "back"):
        raise ValueError(f"{ckpt} translates in one direction only; leave direction= out, or train model=cyclegan")
    return Translator(getattr(network, direction, network), tile)


def load_inpainter(ckpt: str | Path, ema: bool = True, device: torch.device | str = "cpu", tile: int = 0) -> Inpainter:
    """An inpainter with the network of a checkpoint."""
    return Inpainter(kinds.load(ckpt, "inpaint", ema, device).network, tile)
