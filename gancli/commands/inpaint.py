"""gan inpaint: images repainted where a mask is white; every other pixel keeps its exact value."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from gancli.config import nearest
from gancli.data.image_files import EXTENSIONS
from gancli.data.image_modes import standardize
from gancli.inference.batch import Batch, Item
from gancli.inference.image_io import explain, names_file, open_image
from gancli.inference.inpainter import centre_mask, load_inpainter
from gancli.runtime.device import choose_device

CENTRE = "centre"
LOSSLESS = 100  # quality of webp
ADVICE = "type mask=FILE (white is repainted), mask=DIR (with masks named as the images), or mask=centre to try it"


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
    """Repaint every image that is named and print the paths written."""
    batch = Batch("inpaint", inputs, out, "_inpainted", overwrite, skip, format, LOSSLESS)
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


class Masks:
    """The mask of every image: its centre, one file for all, or from a folder the file with the image's name."""

    def __init__(self, mask: str):
        self.path = Path(mask).expanduser()
        self.files: dict[Path, list[Path]] = {}  # by folder, listed once
        self.shared: Image.Image | None = None
        self.centre = mask == CENTRE
        if not mask:
            raise ValueError(f"no mask was given; {ADVICE}")
        if not self.centre and not self.path.exists():
            raise ValueError(f"there is no mask {mask}{nearest(mask, [CENTRE])}; {ADVICE}")
        if not self.centre and not self.path.is_dir():
            self.shared = read_mask_file(self.path)

    def find(self, item: Item, size: tuple[int, int]) -> Image.Image:
        if self.centre:
            return centre_mask(size)
        return self.shared or read_mask_file(self.find_file(item))

    def find_file(self, item: Item) -> Path:
        """Return the mask in the image's subfolder of the masks, with its name but for the extension."""
        folder, stem = self.path / item.subfolder, item.source.stem
        if folder not in self.files:
            self.files[folder] = sorted(folder.iterdir()) if folder.is_dir() else []
        same_stem = [p for p in self.files[folder] if p.stem == stem and p.suffix.lower() in EXTENSIONS]
        matches = [p for p in same_stem if p.name == item.source.name] or same_stem
        if not matches:
            raise ValueError(f"has no mask: there is no image {stem}.* in {folder}")
        if len(matches) > 1:
            raise ValueError(f"has several masks: {', '.join(str(path) for path in matches)}; leave one")
        return matches[0]


def read_mask_file(path: Path) -> Image.Image:
    try:
        with open_image(path) as file:
            return standardize(file)
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        raise ValueError(f"mask {path} cannot be used: {explain(error)}") from error
