"""Square crops of images of any size, decoded once into a file that is memory-mapped."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gancli.data.classes import one_hot
from gancli.data.dataset import check_size_and_channels, fits_in_memory, no_sources
from gancli.data.decode_cache import decode_cached
from gancli.data.image_files import decode_image
from gancli.data.listing import image_notes, list_folder, no_images, printable_skipped
from gancli.runtime.checks import check_choice


@dataclass(eq=False)
class ImageCrops:
    """Random crops of K images of different sizes, stored as one row of pixels.

    An index stands for a crop. An image has as many as fit into it side by side, so large images are sampled more
    often. With a generator a crop lies at a random position of its image, rotated by a random multiple of 90 degrees
    if `rotate`; without one it lies at its own position.

    pixels: uint8 (P, C), image after image, each row by row
    sizes:  int64 (K, 2), height and width of every image, both at least `size`
    starts: int64 (K,), index of the first pixel of every image
    The other attributes are those of an ImageDataset.
    """

    pixels: Tensor
    sizes: Tensor
    starts: Tensor
    size: int
    rotate: bool = True
    skipped: list[tuple[str, str]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    sources: Tensor = field(default_factory=no_sources)
    memory_mapped: bool = False
    warnings: list[str] = field(default_factory=list)
    split: str = ""
    notes: list[str] = field(default_factory=list)
    classes: ClassVar[int] = 0
    codes: ClassVar[None] = None
    columns: ClassVar[tuple[()]] = ()

    def __post_init__(self) -> None:
        self.counts = self.sizes // self.size  # crops down and across
        self.ends = self.counts.prod(1).cumsum(0)  # for each image, one past its last index

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    def condition(self, labels: Tensor, classes: int) -> Tensor:
        return one_hot(labels, classes)

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64)

    def sample_indices(
        self, indices: Tensor, generator: torch.Generator | None = None, rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        """Return where the crops of `indices`, int64 (N,), lie, for `gather`; random positions with a generator.

        All N are sampled, on the CPU so that every device gets the same, and `rows` of them are returned.
        """
        k = torch.searchsorted(self.ends, indices, right=True)
        height, width = self.sizes[k].unbind(1)
        if generator:
            position = torch.rand(2, len(k), generator=generator, dtype=torch.float64)
            top = (position[0] * (height - self.size + 1)).long()
            left = (position[1] * (width - self.size + 1)).long()
        else:
            down, across = self.counts[k].unbind(1)
            nth = indices - (self.ends[k] - down * across)
            # In the middle of the image, side by side.
            top = (height - down * self.size) // 2 + nth // across * self.size
            left = (width - across * self.size) // 2 + nth % across * self.size
        where = {"index": indices, "first": self.starts[k] + top * width + left, "width": width}
        if generator and self.rotate:
            # With the BatchLoader's flip from left to right these give all rotations.
            where["flip_rows"], where["transpose"] = torch.rand(2, len(k), generator=generator) < 0.5
        return {name: values[rows] for name, values in where.items()}

    def gather(self, where: dict[str, Tensor]) -> Tensor:
        """Return the crops that `sample_indices` located, uint8 (N, C, size, size), on the device of the pixels."""
        where = {name: values.to(self.device, non_blocking=True) for name, values in where.items()}
        steps = torch.arange(self.size, device=self.device)
        pixel = (where["first"][:, None] + steps * where["width"][:, None])[:, :, None] + steps
        crops = self.pixels[pixel.flatten()].unflatten(0, pixel.shape).permute(0, 3, 1, 2)
        if "transpose" in where:
            transpose, flip_rows = (where[name][:, None, None, None] for name in ("transpose", "flip_rows"))
            crops = torch.where(transpose, crops.transpose(2, 3), crops)
            crops = torch.where(flip_rows, crops.flip(2), crops)
        return crops

    def take(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the crops of `indices`, int64 (N,): at their own positions, or random ones with a generator."""
        return self.gather(self.sample_indices(indices, generator))

    def to(self, device: torch.device) -> "ImageCrops":
        """Return the data set with its pixels on the device if they fit there, else as it is."""
        if self.device.type == device.type or not fits_in_memory(device, self.pixels):
            return self
        return replace(self, pixels=self.pixels.to(device), memory_mapped=False)


def image_crops(
    path: str, size: int = 96, channels: int = 3, rotate: bool = True, cache: str = "", split: str = "train"
) -> ImageCrops:
    """Load crops of `size` x `size` pixels from every image at any depth below the folder `path`.

    The images are decoded once, into a file that later runs memory-map. Images that cannot be decoded or are smaller
    than the crop are listed in `skipped`.

    Args:
        cache: folder of that file; ~/.cache/gan/decoded unless given.
        split: "train", or "test" for the held-out images, of a folder with a layout, as for data=folder.
    """
    if not path:
        raise ValueError("data=photos needs data.path=DIR, the folder with your images")
    check_size_and_channels(size, channels, required=True, square=True)
    check_choice("data.split", split, ("train", "test"))
    listing = list_folder(path, split, classes=False)
    names = listing.names

    def read(file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        image, info = decode_image(file)
        image = image.convert("L" if channels == 1 else "RGB")
        return np.asarray(image).reshape(image.height, image.width, channels), info.notes

    settings = ["photos", channels, *([listing.split] if listing.split else [])]
    decoded = decode_cached(listing.root, names, settings, read, cache)
    good = [(name, entry) for name, entry in zip(names, decoded.entries) if not isinstance(entry, str)]
    sizes = torch.tensor([entry for _, entry in good], dtype=torch.int64).reshape(-1, 3)[:, :2]
    large = (sizes >= size).all(1)
    small = [
        (name, f"is {w}x{h}, smaller than the crop") for (name, (h, w, _)), enough in zip(good, large) if not enough
    ]
    skipped = printable_skipped([*listing.skipped, *decoded.reasons(names), *small])
    if not large.any():
        fits = f", but of {int(sizes.amin(1).max())}" if len(sizes) else ""
        raise no_images("path", path, skipped, f"no image holds a crop of data.size={size}{fits}")
    areas = sizes.prod(1)
    starts = areas.cumsum(0) - areas
    # The file keeps the small images for other crop sizes; no index leads to them.
    pixels = decoded.pixels.reshape(-1, channels)
    return ImageCrops(
        *(pixels, sizes[large], starts[large], size, rotate, skipped),
        memory_mapped=decoded.memory_mapped,
        warnings=decoded.warnings,
        split=listing.split,
        notes=[*listing.notes, *image_notes(decoded.notes)],
    )
