"""gan reconstruct: images encoded and decoded by an autoencoder, and how near the result comes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from gancli.data.classes import say_how_read
from gancli.data.image_modes import array_to_tensor, image_to_array, warn
from gancli.images import with_channels
from gancli.inference.batch import Batch, Item, say
from gancli.inference.reconstructor import load_reconstructor
from gancli.runtime.device import choose_device
from gancli.runtime.text import printable


def main(
    inputs: Sequence[str], ckpt: str, classes: Sequence[int | str], ema: bool, device: str, **results: Any
) -> None:
    """Reconstruct every image that is named and print the paths written; `results` are keywords of `Batch`."""
    batch = Batch("reconstruct", inputs, "_reconstructed", **results)
    if batch.items:
        reconstructor = load_reconstructor(ckpt, classes, ema, choose_device(device))
        size = reconstructor.multiple
        say_how_read(classes, reconstructor.network.class_names)  # type: ignore[arg-type]

        def reconstruct(image: Image.Image, item: Item) -> Image.Image:
            if min(image.size) < size:
                warn(f"is smaller than the model's {size}x{size} pixels and was padded by reflection")
            result = reconstructor(image, batch.progress)
            say(printable(str(item.source)), f"PSNR {psnr(image, result):.2f} dB")
            return result

        batch.run(reconstruct)
    batch.finish()


def psnr(image: Image.Image, result: Image.Image) -> float:
    """Return 10 log10(range^2 / MSE) in dB, in the result's channels, over pixels that are not fully transparent."""
    channels = 3 if result.mode.startswith("RGB") else 1
    arrays = [image_to_array(each) for each in (result, image)]
    visible = arrays[0][..., -1] > 0 if result.mode.endswith("A") else np.ones(arrays[0].shape[:2], bool)
    colours = [array[..., : 3 if array.shape[2] > 2 else 1] for array in arrays]
    a, b = (with_channels(array_to_tensor(array), channels) for array in colours)
    error = (a - b).square().mean(1)[0].numpy()[visible]
    mean = float(error.mean(dtype="float64")) if error.size else 0.0
    return 10 * math.log10(2**2 / mean) if mean else math.inf
