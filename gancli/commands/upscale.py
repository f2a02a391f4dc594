"""gan upscale: images enlarged 2, 3 or 4 times by a super-resolution network."""

from collections.abc import Sequence

from gancli.inference.batch import Batch
from gancli.inference.image_io import reduce_to_format
from gancli.inference.upscaler import load_upscaler
from gancli.runtime.device import choose_device


def main(
    inputs: Sequence[str],
    out: str,
    scale: int,
    ckpt: str,
    style: str,
    overwrite: bool,
    skip: bool,
    format: str,
    quality: int,
    tile: int,
    device: str,
) -> None:
    """Enlarge every image that is named and print the paths written."""
    batch = Batch("upscale", inputs, out, f"_x{scale}", overwrite, skip, format, quality, scale)
    if batch.items:
        upscaler = load_upscaler(ckpt, style, scale, choose_device(device), tile)
        # Reduced before it is enlarged, which takes less time and memory.
        batch.run(lambda image, item: upscaler(reduce_to_format(image, batch.format), batch.progress))
    batch.finish()
