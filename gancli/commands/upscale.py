"""gan upscale: pictures enlarged, file by file; one that is bad is named and the others are made."""

from collections.abc import Sequence

from gancli.inference import batch as files
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
    """Enlarge every picture that is named; prints the paths written. ValueError at the end where one failed."""
    kind = files.form(out, format, quality)
    where = choose_device(device)

    def begin() -> files.Make:
        upscaler = load_upscaler(ckpt, style, scale, where, tile)

        def enlarge(job: files.Job, progress: files.Progress) -> None:
            # What the format cannot hold goes before it is enlarged, as that takes less.
            picture = files.reduced(files.read(job.source, scale, kind), kind)
            try:
                files.save(upscaler(picture, progress), job.target, kind, quality)
            except MemoryError:
                raise ValueError("memory ran out; enlarge less with scale=2, or close other programs") from None

        return enlarge

    files.run("upscale", "enlarged", inputs, out, f"_x{scale}", kind, overwrite, skip, begin)
