"""gan reconstruct: pictures encoded and decoded by an autoencoder, file by file, and how near they come."""

import math
from collections.abc import Sequence

from PIL import Image

from gancli.data.image_modes import array_of, to_tensor
from gancli.images import with_channels
from gancli.inference import batch as files
from gancli.inference.reconstructor import load_reconstructor
from gancli.runtime.device import choose_device
from gancli.runtime.text import printable


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    classes: Sequence[int | str],
    overwrite: bool,
    skip: bool,
    format: str,
    quality: int,
    ema: bool,
    device: str,
) -> None:
    """Reconstruct every picture that is named; prints the paths written. ValueError at the end where one failed."""
    kind = files.form(out, format, quality)
    where = choose_device(device)

    def begin() -> files.Make:
        reconstructor = load_reconstructor(ckpt, classes, ema, where)

        def reconstruct(job: files.Job, progress: files.Progress) -> None:
            picture = files.read(job.source, 1, kind)
            if min(picture.size) < (size := reconstructor.multiple):
                files.warn(f"is smaller than the {size} x {size} pixels that were learned, and was reflected up to it")
            result = reconstructor(picture, progress)
            files.save(files.reduced(result, kind), job.target, kind, quality)
            files.say(printable(str(job.source)), f"PSNR {psnr(picture, result):.2f} dB")

        return reconstruct

    files.run("reconstruct", "reconstructed", inputs, out, "_reconstructed", kind, overwrite, skip, begin)


def psnr(picture: Image.Image, result: Image.Image) -> float:
    """10 log10(range^2 / mean squared difference) in dB, in the result's colours and where it is not wholly clear."""
    channels = 3 if result.mode.startswith("RGB") else 1
    made, real = (array_of(image) for image in (result, picture))
    seen = made[..., -1] > 0 if result.mode.endswith("A") else made[..., 0] >= 0
    colours = (array[..., : 3 if array.shape[2] > 2 else 1] for array in (made, real))
    a, b = (with_channels(to_tensor(array), channels) for array in colours)
    error = float((a - b).square().mean(1)[0].numpy()[seen].mean(dtype="float64")) if seen.any() else 0.0
    return 10 * math.log10(2**2 / error) if error else math.inf
