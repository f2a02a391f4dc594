"""gan translate: images to images by pix2pix or CycleGAN."""

from collections.abc import Sequence
from typing import Any

from gancli.inference.batch import Batch
from gancli.inference.translator import load_translator
from gancli.runtime.device import choose_device


def main(inputs: Sequence[str], ckpt: str, direction: str, tile: int, ema: bool, device: str, **results: Any) -> None:
    """Translate every image that is named and print the paths written; `results` are keywords of `Batch`."""
    batch = Batch("translate", inputs, "_translated", animate=True, **results)
    if batch.items:
        translator = load_translator(ckpt, direction, ema, choose_device(device), tile)
        batch.run(lambda image, item: translator(image, batch.progress))
    batch.finish()
