"""Inpainting networks applied to images of any mode and size: pixels outside the mask keep their exact values.

inpainter = load_inpainter("outputs/my-run")
result = inpainter(Image.open("photo.jpg"), Image.open("mask.png"))    # white is repainted
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli import images
from gancli.config import nearest
from gancli.data import image_modes
from gancli.data.decoder import open_image
from gancli.data.image_modes import array_to_tensor, image_to_array, standardize, tensor_to_array
from gancli.data.listing import why_no_image
from gancli.images import with_channels
from gancli.inference.batch import Item
from gancli.inference.generator import load
from gancli.inference.image_io import explain
from gancli.inference.tiling import Progress, Tiler, pad_to_multiple
from gancli.runtime.files import typed_path
from gancli.transforms.masks import centre

CENTRE = "centre"
ADVICE = "type mask=FILE (white is repainted), mask=DIR (with masks named as the images), or mask=centre to try it"


class Inpainter(Tiler):
    """An inpainting network, whose last channel is the mask, that is called with a PIL image and a mask."""

    def __call__(self, image: Image.Image, mask: Image.Image, progress: Progress = lambda pixels: None) -> Image.Image:
        """Repaint an image where a mask of its size is white, that is 50 % or more and not transparent."""
        image = standardize(image)
        hole = read_mask(mask, image.size)
        if self.channels == 1 and not image_modes.is_grey(image):
            image_modes.warn("was repainted in grey, as the network generates grey images")
        result = image_to_array(image)
        n = 3 if image.mode.startswith("RGB") else 1
        visible = result[..., :n].copy()
        if image.mode.endswith("A"):  # what the mask hides must not spread into transparent parts
            visible = image_modes.fill_transparent(visible, np.where(hole[..., 0], 0, result[..., n]))
        visible, padded_hole = pad_to_multiple(visible, self.multiple), pad_to_multiple(hole, self.multiple)

        def read(left: int, top: int, right: int, bottom: int) -> Tensor:
            m = torch.from_numpy(padded_hole[top:bottom, left:right]).permute(2, 0, 1)[None].float()
            x = with_channels(array_to_tensor(visible[top:bottom, left:right]), self.image_channels)
            return torch.cat([x * (1 - m), m], 1)

        box = Image.fromarray(hole[..., 0]).getbbox()  # only the surroundings of the hole are computed
        for (left, top, right, bottom), y in self.tiles(read, image.width, image.height, box):
            inside = hole[top:bottom, left:right, 0]
            result[top:bottom, left:right, :n][inside] = tensor_to_array(with_channels(y, n), image.mode)[inside]
            progress((right - left) * (bottom - top))
        return image_modes.copy_metadata(image, images.to_pil(result))


def read_mask(mask: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Return where a mask is white, bool (H, W, 1). ValueError for another size, no white at all, or white only."""
    mask, (width, height) = standardize(mask), size
    if mask.size != size:
        sizes = f"is {width}x{height}, but its mask is {mask.width}x{mask.height}"
        raise ValueError(f"{sizes}; type mask=FILE of the size of the image")
    values = image_to_array(mask)
    half = np.iinfo(values.dtype).max // 2 + 1
    if mask.mode.endswith("A"):
        values = np.where(values[..., -1:] >= half, values[..., :-1], 0)  # transparent counts as black
    hole = values.mean(2, keepdims=True) >= half
    if not hole.any():
        raise ValueError("mask has no white pixels; paint white what is to be repainted")
    if hole.all():
        raise ValueError(f"mask covers the whole image ({width}x{height}); leave some pixels black")
    return hole


def centre_mask(size: tuple[int, int]) -> Image.Image:
    """Return a mask of the middle half of each side."""
    return Image.fromarray(centre(torch.zeros(1, 1, *size[::-1]))[0, 0].numpy()).convert("L")


class Masks:
    """The mask of every image: its centre, one file for all, or from a folder the file with the image's name."""

    def __init__(self, mask: str):
        self.path = typed_path(mask)
        self.files: dict[Path, list[Path]] = {}  # by folder, listed once
        self.centre = mask == CENTRE
        if not mask:
            raise ValueError(f"no mask was given; {ADVICE}")
        if not self.centre and not self.path.exists():
            raise ValueError(f"there is no mask {mask}{nearest(mask, [CENTRE])}; {ADVICE}")
        is_file = not self.centre and not self.path.is_dir()
        self.one_for_all = read_mask_file(self.path) if is_file else None

    def find(self, item: Item, size: tuple[int, int]) -> Image.Image:
        if self.centre:
            return centre_mask(size)
        return self.one_for_all or read_mask_file(self.find_file(item))

    def find_file(self, item: Item) -> Path:
        """Return the mask in the image's subfolder of the masks, with its name but for the extension."""
        folder, stem = self.path / item.subfolder, item.source.stem
        if folder not in self.files:
            self.files[folder] = sorted(folder.iterdir()) if folder.is_dir() else []
        same_stem = [p for p in self.files[folder] if p.stem == stem and not why_no_image(str(p))]
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


def load_inpainter(ckpt: str | Path, ema: bool = True, device: torch.device | str = "cpu", tile: int = 0) -> Inpainter:
    """Load an inpainter from a checkpoint file, a run folder or "latest", with its averaged weights if `ema`."""
    return Inpainter(load(ckpt, ema, device, "inpaint").network, tile)
