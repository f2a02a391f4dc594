"""gan inpaint: what a mask says repainted in pictures, file by file; every other pixel is what it was."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from gancli.config import nearest
from gancli.data.image_files import EXTENSIONS
from gancli.data.image_modes import plain
from gancli.inference import batch as files
from gancli.inference.inpainter import central, load_inpainter
from gancli.runtime.device import choose_device

CENTRE = "centre"
LOSSLESS = 100  # the quality of webp that loses nothing
MaskOf = Callable[[files.Job, Image.Image], Image.Image]


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
    """Repaint every picture that is named; prints the paths written. ValueError at the end where one failed."""
    kind = files.form(out, format)
    if kind == "jpg":
        lossless = "out=x.png" if files.names_file(out) else "format=png"
        raise ValueError(f"jpg changes all pixels, and those that are not masked are to stay; type {lossless}")
    mask_of = masks(mask)
    where = choose_device(device)

    def begin() -> files.Make:
        inpainter = load_inpainter(ckpt, ema, where, tile)

        def inpaint(job: files.Job, progress: files.Progress) -> None:
            picture = files.read(job.source, 1, kind)
            if kind == "webp" and picture.mode == "I;16":
                raise ValueError("has 16 bits, of which webp holds 8; type format=png")
            result = inpainter(picture, mask_of(job, picture), progress)
            files.save(result, job.target, kind, LOSSLESS)

        return inpaint

    files.run("inpaint", "repainted", inputs, out, "_inpainted", kind, overwrite, skip, begin)


def masks(mask: str) -> MaskOf:
    """What gives the mask of every picture: the middle, one file for all, or those of a folder by name."""
    what = "type mask=FILE (white is repainted), mask=DIR (one named as each picture), or mask=centre to try it out"
    if not mask:
        raise ValueError(f"no mask was given; {what}")
    if mask == CENTRE:
        return lambda job, picture: central(picture.size)
    path = Path(mask).expanduser()
    if path.is_dir():
        return in_folder(path)
    if not path.exists():
        raise ValueError(f"there is no mask {mask}{nearest(mask, [CENTRE])}; {what}")
    one = opened(path)
    return lambda job, picture: one


def in_folder(root: Path) -> MaskOf:
    """The mask that lies in a folder as the picture does in its own, and is called so but for the suffix."""

    @functools.cache
    def listed(folder: Path) -> list[Path]:
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        return [path for path in found if path.suffix.lower() in EXTENSIONS]

    def mask_of(job: files.Job, picture: Image.Image) -> Image.Image:
        stem, folder = job.source.stem, root / job.below
        there = [path for path in listed(folder) if path.stem == stem]
        exact = [path for path in there if path.name == job.source.name] or there
        if not exact:
            raise ValueError(f"has no mask: there is no picture {stem}.* in {folder}")
        if len(exact) > 1:
            raise ValueError(f"has several masks: {', '.join(str(path) for path in exact)}; leave one")
        return opened(exact[0])

    return mask_of


def opened(path: Path) -> Image.Image:
    """A mask's picture."""
    try:
        with files.opened(path) as file:
            return plain(file)
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        raise ValueError(f"its mask {path} cannot be used: {files.explained(error)}") from error
