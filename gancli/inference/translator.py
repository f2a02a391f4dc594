"""Pictures made of pictures of the same size, by networks that learned it from pairs or from two sets.

translator = load_translator("outputs/my-run")                   # pix2pix, CycleGAN
translated = translator(Image.open("photo.jpg"))      # at its own size: padded where need be, never squashed
inpainter = load_inpainter("outputs/my-run")
repainted = inpainter(Image.open("photo.jpg"), mask)  # what is not masked is what it was
"""

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from gancli.config import nearest
from gancli.data.image_modes import is_grey, note, plain
from gancli.inference import generator
from gancli.inference.tiling import Tiler
from gancli.transforms.tasks import with_channels

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


def check_channels(*channels: int) -> None:
    """ValueError where a network's images are no pictures."""
    for n in channels:
        if n not in (1, 3):
            raise ValueError(f"the network's images have {n} channels, and pictures have 1 or 3; type another ckpt=")


def load_translator(
    ckpt: str | Path,
    direction: str = "there",
    ema: bool = True,
    device: torch.device | str = "cpu",
    tile: int = 0,
) -> Translator:
    """A translator with the network of a checkpoint. direction: of CycleGAN's two, "there" or "back"."""
    if direction not in DIRECTIONS:
        raise ValueError(f"there is no direction {direction!r}{nearest(direction, DIRECTIONS)}; there are: there, back")
    network = generator.load(ckpt, ema, device, "translate").network
    if direction == "back" and not hasattr(network, "back"):
        raise ValueError(f"{ckpt} translates in one direction only; leave direction= out, or train model=cyclegan")
    return Translator(getattr(network, direction, network), tile)
