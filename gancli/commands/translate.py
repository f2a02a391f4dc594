"""gan translate: pictures made of pictures by pix2pix or CycleGAN, file by file."""

from collections.abc import Sequence

from gancli.inference import batch as files
from gancli.inference.translator import load_translator
from gancli.runtime.device import choose_device


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    direction: str,
    overwrite: bool,
    skip: bool,
    format: str,
    quality: int,
    tile: int,
    ema: bool,
    device: str,
) -> None:
    """Translate every picture that is named; prints the paths written. ValueError at the end where one failed."""
    kind = files.form(out, format, quality)
    where = choose_device(device)

    def begin() -> files.Make:
        translator = load_translator(ckpt, direction, ema, where, tile)

        def translate(job: files.Job, progress: files.Progress) -> None:
            result = translator(files.read(job.source, 1, kind), progress)
            files.save(files.reduced(result, kind), job.target, kind, quality)

        return translate

    files.run("translate", "translated", inputs, out, "_translated", kind, overwrite, skip, begin)
