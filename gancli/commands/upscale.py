"""gan upscale: images enlarged 2, 3 or 4 times by a super-resolution network."""

from collections.abc import Sequence
from typing import Any

from gancli.inference.batch import Batch
from gancli.inference.image_io import reduce_to_format
from gancli.inference.upscaler import load_upscaler
from gancli.runtime.device import choose_device


def main(inputs: Sequence[str], scale: int, ckpt: str, style: str, tile: int, device: str, **results: Any) -> None:
    """Enlarge every image that is named and print the paths written; `results` are keywords of `Batch`."""
    batch = Batch("upscale", inputs, f"_x{scale}", scale=scale, **results)
    if batch.items:
        upscaler = load_upscaler(ckpt, style, scale, choose_device(device), tile)
        # Reduced before it is enlarged, which takes less time and memory.
        batch.run(lambda image, item: upscaler(reduce_to_format(image, batch.format), batch.progress))
    batch.finish()
