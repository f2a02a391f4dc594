"""gan inpaint: images repainted where a mask is white; every other pixel keeps its exact value."""

from collections.abc import Sequence

from PIL import Image

from gancli.inference.batch import Batch, Item
from gancli.inference.image_io import names_file
from gancli.inference.inpainter import Masks, load_inpainter
from gancli.runtime.device import choose_device

LOSSLESS = 100  # quality of webp


def main(
    inputs: Sequence[str],
    ckpt: str,
    mask: str,
    out: str,
    overwrite: bool,
    skip: bool,
    format: str,
    tile: int,
    ema: bool,
    device: str,
) -> None:
    """Repaint every image that is named and print the paths written."""
    batch = Batch("inpaint", inputs, out, "_inpainted", overwrite, skip, format, LOSSLESS)
    if batch.format == "jpg":
        lossless = "out=x.png" if names_file(out) else "format=png"
        raise ValueError(f"jpg changes every pixel, also those outside the mask; type {lossless}")
    masks = Masks(mask)
    if batch.items:
        inpainter = load_inpainter(ckpt, ema, choose_device(device), tile)

        def inpaint(image: Image.Image, item: Item) -> Image.Image:
            if batch.format == "webp" and image.mode == "I;16":
                raise ValueError("has 16 bits and webp holds 8; type format=png")
            return inpainter(image, masks.find(item, image.size), batch.progress)

        batch.run(inpaint)
    batch.finish()
