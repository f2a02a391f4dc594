"""Square crops of photographs of any size, decoded once into a file that is mapped into memory."""

import hashlib
import json
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from gancli.data.image_set import check_size_and_channels
from gancli.data.pictures import decode, each, printable, walk

CACHE = Path("~/.cache/gan/decoded")


@dataclass(eq=False)
class Photographs:
    """Pictures of different sizes as one row of pixels, and the crops that are drawn from them.

    An entry is a crop: as many belong to a picture as fit into it side by side, so that a larger one is drawn more
    often. `take` with a generator puts each at a random place of its picture instead, turned by a random multiple of
    90 degrees if `rotate`.

    pixels: uint8 (P, C), picture after picture, each row by row; mapped from a file, or in the device's memory.
    sizes:  int64 (K, 2), height and width of every picture, both at least `size`.
    starts: int64 (K,), where in the row each begins.
    """

    pixels: Tensor
    sizes: Tensor
    starts: Tensor
    size: int
    rotate: bool = True
    skipped: list[tuple[str, str]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    sources: Tensor = field(default_factory=lambda: torch.empty(0, 1, 0, 0, dtype=torch.uint8))  # as of an ImageSet

    def __post_init__(self) -> None:
        self.fits = self.sizes // self.size  # crops down and across
        self.ends = self.fits.prod(1).cumsum(0)  # of each picture, the entry behind its last

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]

    @property
    def classes(self) -> int:
        return 0

    @property
    def labels(self) -> Tensor:
        return torch.zeros(len(self), dtype=torch.int64)

    def take(self, entries: Tensor, generator: torch.Generator | None = None, rows: slice = slice(None)) -> Tensor:
        """Crops uint8 (N, C, size, size) of these entries, int64 (N,) on the CPU; without a generator at their places.

        rows: which of them to give; all are drawn. The places are drawn on the CPU, so that every device has the same;
        the pixels are gathered where they lie.
        """
        k = torch.searchsorted(self.ends, entries, right=True)
        height, width = self.sizes[k].unbind(1)
        if generator:
            place = torch.rand(2, len(k), generator=generator, dtype=torch.float64)
            top = (place[0] * (height - self.size + 1)).long()
            left = (place[1] * (width - self.size + 1)).long()
        else:
            down, across = self.fits[k].unbind(1)
            nth = entries - (self.ends[k] - down * across)
            # In the middle of the picture, side by side.
            top = (height - down * self.size) // 2 + nth // across * self.size
            left = (width - across * self.size) // 2 + nth % across * self.size
        steps = torch.arange(self.size)
        first, width = (self.starts[k] + top * width + left)[rows], width[rows]
        where = ((first[:, None] + steps * width[:, None])[:, :, None] + steps).to(
            self.pixels.device, non_blocking=True
        )
        crops = self.pixels[where.flatten()].unflatten(0, where.shape).permute(0, 3, 1, 2)
        if generator and self.rotate:
            # Turning is mirroring and swapping the sides; Batches mirrors left to right as well.
            flips, swaps = (torch.rand(2, len(k), 1, 1, 1, generator=generator)[:, rows] < 0.5).to(crops.device)
            turned = torch.where(swaps, crops.transpose(2, 3), crops)
            crops = torch.where(flips, turned.flip(2), turned)
        return crops

    def to(self, device: torch.device) -> "Photographs":
        """The same with its pixels on the device where they fit into a quarter of its free memory; else they stay."""
        if device.type == "cuda" and self.pixels.numel() <= torch.cuda.mem_get_info(device)[0] // 4:
            self.pixels = self.pixels.to(device)
        return self


def photographs(path: str, size: int = 96, channels: int = 3, rotate: bool = True, cache: str = "") -> Photographs:
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
    folder = Path(cache).expanduser() if cache else CACHE.expanduser()
    pixels, facts = decoded(root, names, channels, folder) if names else (torch.empty(0, channels), [])
    skipped += [(name, fact) for name, fact in zip(names, facts) if isinstance(fact, str)]
    sizes = torch.tensor([fact for fact in facts if not isinstance(fact, str)], dtype=torch.int64).reshape(-1, 2)
    read = [name for name, fact in zip(names, facts) if not isinstance(fact, str)]
    large = (sizes >= size).all(1)
    small = [(n, f"is {w}x{h}, smaller than the crop") for n, (h, w), ok in zip(read, sizes.tolist(), large) if not ok]
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
    return Photographs(pixels, sizes[large], starts[large], size, rotate, skipped)


def decoded(root: Path, names: list[str], channels: int, folder: Path) -> tuple[Tensor, list[list[int] | str]]:
    """All pixels, uint8 (P, C), and for each name its height and width, or why it cannot be read."""
    stats = [(root / name).stat() if (root / name).exists() else None for name in names]
    facts = [[name, s.st_size, s.st_mtime_ns] if s else [name] for name, s in zip(names, stats)]
    key = hashlib.blake2b(json.dumps([str(root.resolve()), channels, facts]).encode(), digest_size=12).hexdigest()
    file, index = folder / f"{key}.pixels", folder / f"{key}.json"
    if not index.is_file():  # it is written last
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{key}.{os.getpid()}.partial"
        try:
            sizes = decode_all(root, names, channels, partial)
            partial.replace(file)
            index.with_suffix(".partial").write_text(json.dumps(sizes))
            index.with_suffix(".partial").replace(index)
        finally:
            partial.unlink(missing_ok=True)
    sizes = json.loads(index.read_text())
    if not file.stat().st_size:
        return torch.empty(0, channels, dtype=torch.uint8), sizes
    # Copy-on-write, since torch warns of memory that must not be written to; nothing ever writes.
    return torch.from_numpy(np.memmap(file, np.uint8, mode="c").reshape(-1, channels)), sizes


def decode_all(root: Path, names: list[str], channels: int, file: Path) -> list[list[int] | str]:
    """Write every picture's pixels to `file`, one after the other, with a bar on a terminal."""
    sizes: list[list[int] | str] = []
    with file.open("wb") as out:
        pictures = each(lambda path: decode(path)[0], [root / name for name in names])
        for picture in tqdm(pictures, f"decoding {root}, once", len(names), disable=None, unit="picture", leave=False):
            if isinstance(picture, str):
                sizes.append(picture)
                continue
            array = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
            out.write(array.tobytes())
            sizes.append([array.shape[0], array.shape[1]])
    return sizes
