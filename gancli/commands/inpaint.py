"""gan inpaint: images repainted where a mask is white; every other pixel keeps its exact value."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from gancli.inference.batch import Batch, Item
from gancli.inference.image_io import names_file
from gancli.inference.inpainter import Masks, load_inpainter
from gancli.runtime.device import choose_device


def main(
    inputs: Sequence[str], ckpt: str, mask: str, out: str, tile: int, ema: bool, device: str, **results: Any
) -> None:
    """Repaint every image that is named and print the paths written; `results` are keywords of `Batch`."""
    batch = Batch("inpaint", inputs, "_inpainted", out, **results)  # quality stays 100: webp is lossless
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
