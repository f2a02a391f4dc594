"""Networks trained on paired or unpaired images, applied to images of any mode and size.

translator = load_translator("outputs/my-run")    # pix2pix, CycleGAN
result = translator(Image.open("photo.jpg"))      # same size; padded where necessary, never squashed
"""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gancli.data.image_modes import is_grey, standardize, warn
from gancli.images import with_channels
from gancli.inference.generator import load
from gancli.inference.tiling import Progress, Tiler
from gancli.runtime.checks import check_choice

DIRECTIONS = ("there", "back")


class Translator(Tiler):
    """An image-to-image network that is called with a PIL image."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the network, converting between grey and colour where it takes the other one."""
        return super().forward(with_channels(x, self.source_channels))

    def __call__(self, image: Image.Image, progress: Progress = lambda pixels: None) -> Image.Image:
        """Translate an image to one of the same size, in the network's channels; its alpha is copied."""
        image = standardize(image)
        grey = not image.mode.startswith("RGB")
        mode = "RGB" if self.channels == 3 else "I;16" if image.mode == "I;16" else "L"
        if self.source_channels == 1 and not is_grey(image):
            warn("colours were converted to grey, as the network takes grey images")
        if image.mode == "I;16" and mode == "RGB":
            warn("16 bits were reduced to 8, as the result is in colour")
        if grey == (mode == "RGB") and image.info.pop("icc_profile", None):
            warn(f"its ICC profile for {'grey' if grey else 'colour'} does not fit the result and was dropped")
        return self.apply(image, mode, progress)


def load_translator(
    ckpt: str | Path, direction: str = "there", ema: bool = True, device: torch.device | str = "cpu", tile: int = 0
) -> Translator:
    """Load a translator from a checkpoint file, a run folder or "latest", with its averaged weights if `ema`.

    Args:
        direction: of CycleGAN, "there" or "back".
    """
    check_choice("direction", direction, DIRECTIONS)
    network = load(ckpt, ema, device, "translate").network
    if direction == "back" and not hasattr(network, "back"):
        raise ValueError(f"{ckpt} translates in one direction only; leave direction= out, or train model=cyclegan")
    return Translator(getattr(network, direction, network), tile)
