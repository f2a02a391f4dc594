"""gan upscale: images enlarged 2, 3 or 4 times by a super-resolution network."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from gancli.data.image_modes import warn
from gancli.inference.batch import Batch, Item
from gancli.inference.damage import estimate
from gancli.inference.image_io import reduce_to_format
from gancli.inference.styles import AutoUpscaler, load_style
from gancli.inference.upscaler import Upscaler, load_upscaler
from gancli.runtime.device import choose_device


def main(
    *,
    inputs: Sequence[str],
    scale: int,
    ckpt: str,
    style: Sequence[str],
    strength: float,
    tile: int,
    device: str,
    **results: Any,
) -> None:
    """Enlarge every image that is named and print the paths written; `results` are keywords of `Batch`."""
    styles = list(dict.fromkeys(name for names in style for name in names.split(",") if name))
    if not styles or (ckpt and len(styles) > 1):
        given = f"ckpt={ckpt} has one" if ckpt else "none was given"
        raise ValueError(f"style= names styles of the bundled networks, and {given}; leave style= out")
    batch = Batch(
        "upscale",
        inputs,
        f"_x{scale}",
        scale=scale,
        variants=styles if len(styles) > 1 else (),
        animate=True,
        **results,
    )
    if batch.items:
        options = (scale, choose_device(device), tile, strength)
        upscalers = {
            name: load_upscaler(ckpt, name, *options) if ckpt else load_style(name, *options) for name in styles
        }
        chosen: dict[Item, tuple[Upscaler, str]] = {}

        def enlarge(image: Image.Image, item: Item) -> Image.Image:
            upscaler = upscalers[item.variant or styles[0]]
            if isinstance(upscaler, AutoUpscaler):
                if item not in chosen:  # once for all frames, which would flicker
                    chosen[item] = upscaler.choose(estimate(image))
                upscaler, reason = chosen[item]
                warn(reason)
            # Reduced before it is enlarged, which takes less time and memory.
            return upscaler(reduce_to_format(image, item.format), batch.progress)

        batch.run(enlarge)
    batch.finish()
