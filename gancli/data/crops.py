"""Square crops of photographs of any size, decoded once into a file that is mapped into memory."""

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancli.data.dataset import check_size_and_channels, has_room
from gancli.data.decode_cache import decoded
from gancli.data.image_files import decode, printable, walk


@dataclass(eq=False)
class ImageCrops:
    """Pictures of different sizes as one row of pixels, and the crops that are drawn from them.

    An entry is a crop: as many belong to a picture as fit into it side by side, so that a larger one is drawn more
    often. Drawn with a generator each lies at a random place of its picture instead, turned by a random multiple of
    90 degrees if `rotate`.

    pixels: uint8 (P, C), picture after picture, each row by row.
    sizes:  int64 (K, 2), height and width of every picture, both at least `size`.
    starts: int64 (K,), where in the row each begins.
    mapped: whether the pixels lie in a file, of which is read what is looked at.
    """

    pixels: Tensor
    sizes: Tensor
    starts: Tensor
    size: int
    rotate: bool = True
    skipped: list[tuple[str, str]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    sources: Tensor = field(default_factory=lambda: torch.empty(0, 1, 0, 0, dtype=torch.uint8))  # as of an ImageDataset
    mapped: bool = False
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fits = self.sizes // self.size  # crops down and across
        self.ends = self.fits.prod(1).cumsum(0)  # of each picture, the entry behind its last

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def classes(self) -> int:
        return 0

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64)

    def numbers(
        self, indices: Tensor, generator: torch.Generator | None = None, rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        """What `gathered` wants to know of crops of these indices, int64 (N,); without a generator at their places.

        rows: which of them; all are drawn. On the CPU, so that every device has the same.
        """
        k = torch.searchsorted(self.ends, indices, right=True)
        height, width = self.sizes[k].unbind(1)
        if generator:
            place = torch.rand(2, len(k), generator=generator, dtype=torch.float64)
            top = (place[0] * (height - self.size + 1)).long()
            left = (place[1] * (width - self.size + 1)).long()
        else:
            down, across = self.fits[k].unbind(1)
            nth = indices - (self.ends[k] - down * across)
            # In the middle of the picture, side by side.
            top = (height - down * self.size) // 2 + nth // across * self.size
            left = (width - across * self.size) // 2 + nth % across * self.size
        found = {"order": indices, "first": self.starts[k] + top * width + left, "width": width}
        if generator and self.rotate:
            # Turning is mirroring and swapping the sides; BatchLoader mirrors left to right as well.
            found["upended"], found["swapped"] = torch.rand(2, len(k), generator=generator) < 0.5
        return {what: numbers[rows] for what, numbers in found.items()}

    def gathered(self, numbers: dict[str, Tensor]) -> Tensor:
        """The crops of these numbers, uint8 (N, C, size, size), gathered where the pixels lie."""
        there = {what: n.to(self.device, non_blocking=True) for what, n in numbers.items()}
        steps = torch.arange(self.size, device=self.device)
        where = (there["first"][:, None] + steps * there["width"][:, None])[:, :, None] + steps
        crops = self.pixels[where.flatten()].unflatten(0, where.shape).permute(0, 3, 1, 2)
        if "swapped" in there:
            swapped, upended = (there[what][:, None, None, None] for what in ("swapped", "upended"))
            crops = torch.where(swapped, crops.transpose(2, 3), crops)
            crops = torch.where(upended, crops.flip(2), crops)
        return crops

    def take(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The crops of these indices, int64 (N,), at their places, or with a generator drawn."""
        return self.gathered(self.numbers(indices, generator))

    def to(self, device: torch.device) -> "ImageCrops":
        """The same with its pixels on the device where they have room; else as it is."""
        if self.device.type == device.type or not has_room(device, self.pixels):
            return self
        return replace(self, pixels=self.pixels.to(device), mapped=False)


def image_crops(path: str, size: int = 96, channels: int = 3, rotate: bool = True, cache: str = "") -> ImageCrops:
    """Crops of `size` x `size` pixels from every picture at any depth below the folder `path`.

    The pictures are decoded once, into a file below `cache` (else ~/.cache/gan/decoded) that the next run maps into
    memory; changed, new or missing pictures make another one. Pictures that cannot be read or are smaller than the
    crop are named in `skipped`. Raises ValueError for a folder that is missing or has no picture to draw from.
    """
    if not path:
        raise ValueError("data=photos needs data.path=DIR, the folder that your photographs are in")
    if size is None or channels is None:
        raise ValueError(f"data.size={size} data.channels={channels}: give both, such as data.size=96 data.channels=3")
    check_size_and_channels(size, channels)
    root = Path(str(path)).expanduser()
    if not root.is_dir():
        raise ValueError(f"data.path={path} is not a folder: give the folder of your photographs (data.path=DIR)")
    skipped: list[tuple[str, str]] = []
    names = sorted(walk(root, skipped))

    def read(file: Path) -> np.ndarray:
        picture = decode(file)[0].convert("L" if channels == 1 else "RGB")
        return np.asarray(picture).reshape(picture.height, picture.width, channels)

    found = decoded(root, names, ["photos", channels], read, cache)
    skipped += [(name, fact) for name, fact in zip(names, found.facts) if isinstance(fact, str)]
    good = [name for name, fact in zip(names, found.facts) if not isinstance(fact, str)]
    shapes = [fact for fact in found.facts if not isinstance(fact, str)]
    sizes = torch.tensor(shapes, dtype=torch.int64).reshape(-1, 3)[:, :2]
    large = (sizes >= size).all(1)
    small = [(n, f"is {w}x{h}, smaller than the crop") for n, (h, w), ok in zip(good, sizes.tolist(), large) if not ok]
    skipped = sorted((printable(name), printable(reason)) for name, reason in [*skipped, *small])
    if not large.any():
        none = f"none of its {len(skipped)} pictures gives a crop of {size}x{size}"
        raise ValueError(
            f"data.path={path} cannot be trained on, {none if skipped else 'it has no pictures'}: "
            f"see what is there with gan data check {shlex.quote(str(path))}, or type a smaller data.size="
        )
    areas = sizes.prod(1)
    starts = areas.cumsum(0) - areas
    # Those too small stay in the file, which serves other sizes of crop too; no entry leads to them.
    pixels = found.pixels.reshape(-1, channels)
    facts = (pixels, sizes[large], starts[large], size, rotate, skipped)
    return ImageCrops(*facts, mapped=found.mapped, warnings=found.warnings)
