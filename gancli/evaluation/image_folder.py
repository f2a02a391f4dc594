"""Images that somebody has made, or real ones, from a folder of pictures or an .npz file, gone through in blocks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancli.data.image_files import decode_image, fit_image, list_folder, map_parallel
from gancli.evaluation.reference import blocks
from gancli.inference.generator import BLOCK
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import printable


class Pictures:
    """The pictures of a folder at any depth, or the array `images`, uint8 (N, H, W, C), of an .npz file.

    word: the key that named it. size, channels: brought to so many pixels a side, cut in the middle to a square, and to
    1 or 3 channels; 0: as they are, where all are alike. n: how many are measured at most, drawn by the seed.
    ValueError for an empty folder, and for pictures that are not alike where nothing says what they shall become.
    """

    def __init__(self, word: str, path: str, size: int, channels: int, n: int, seed: int):
        self.word, self.path, self.n, self.seed = word, path, n, seed
        if size < 0 or channels not in (0, 1, 3):
            raise ValueError(
                f"size={size} channels={channels}: type size=32, a number of pixels, and channels=1 for grey or "
                f"channels=3 for colour; 0 leaves either as it is"
            )
        self.array = arrays(word, path) if path.lower().endswith(".npz") else None
        if self.array is None:
            self.files, found = self.readable()
        else:
            self.files, found = [], {self.array.shape[1:]: printable(path)}
        self.total = len(self.files) if self.array is None else len(self.array)
        self.channels, self.size = channels or self.one_kind(found), size or self.one_size(found)

    def readable(self) -> tuple[list[Path], dict[tuple[int, ...], str]]:
        """The pictures that can be read, and of each (height, width, channels) there is the name of one that has it."""
        if not Path(self.path).expanduser().is_dir():
            raise ValueError(
                f"{self.word}={self.path} is neither a folder nor an .npz file; type {self.word}=DIR, a folder of "
                f"pictures, or {self.word}=x.npz, as gan sample writes it"
            )
        listing = list_folder(self.path)
        # Loose pictures beside folders are of no class, which nobody asks for here.
        names = sorted([*listing.names, *(name for name, why in listing.skipped if "lies beside" in why)])
        files, found = [], dict[tuple[int, ...], str]()
        for name, seen in zip(names, map_parallel(shape, [listing.root / name for name in names])):
            if isinstance(seen, str):
                print(f"gan: {printable(name)} was left out: {printable(seen)}", file=sys.stderr)
            else:
                files.append(listing.root / name)
                found.setdefault(seen, printable(name))
        if not files:
            raise ValueError(
                f"there is no picture in {self.word}={self.path} that can be read; type {self.word}=DIR, a folder of "
                f"pictures"
            )
        return files, found

    def one_size(self, found: dict[tuple[int, ...], str]) -> int:
        sides = {shape[:2]: name for shape, name in found.items()}
        (first, one), *others = sides.items()
        if others:
            second, other = others[0]
            raise ValueError(
                f"the pictures of {self.word}={self.path} are of {len(sides)} sizes, {one} of "
                f"{first[1]}x{first[0]} and {other} of {second[1]}x{second[0]}; type "
                f"size={min(min(side) for side in sides)}, to which all are cut and resized"
            )
        if first[0] != first[1]:
            raise ValueError(
                f"the pictures of {self.word}={self.path} are no squares, {one} is of {first[1]}x{first[0]}; type "
                f"size={min(first)}, to which all are cut and resized"
            )
        return first[0]

    def one_kind(self, found: dict[tuple[int, ...], str]) -> int:
        kinds = {shape[2]: name for shape, name in found.items()}
        if len(kinds) > 1:
            raise ValueError(
                f"the pictures of {self.word}={self.path} are partly grey, as {kinds[1]}, and partly in colour, as "
                f"{kinds[3]}; type channels=3 to take all as colour, or channels=1 as grey"
            )
        return next(iter(kinds))

    @property
    def count(self) -> int:
        return min(self.n, self.total)

    def indices(self) -> Tensor:
        """Which are measured, int64, in their order."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "indices"))
        return torch.randperm(self.total, generator=generator)[: self.n].sort().values

    def stored(self, bar: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """The images, uint8 (N, C, size, size), and zeros (N,)."""
        indices = self.indices()
        for block in blocks(indices, f"{self.word}=") if bar else indices.split(BLOCK):
            images = torch.from_numpy(np.stack(self.read(block))).permute(0, 3, 1, 2).contiguous()
            yield images, torch.zeros(len(block), dtype=torch.int64)

    def read(self, block: Tensor) -> list[np.ndarray]:
        if self.array is not None:
            from PIL import Image

            pictures = [Image.fromarray(a.squeeze(-1) if a.shape[-1] == 1 else a) for a in self.array[block.numpy()]]
            return [fit_image(picture, self.size, self.channels, "crop") for picture in pictures]
        found = []
        files = [self.files[i] for i in block.tolist()]
        for file, made in zip(files, map_parallel(self.picture, files)):
            if isinstance(made, str):  # it could be read a moment ago
                raise ValueError(f"{printable(str(file))} {made}")
            found.append(made)
        return found

    def picture(self, file: Path) -> np.ndarray:
        return fit_image(decode_image(file)[0], self.size, self.channels, "crop")

    def __str__(self) -> str:
        kind = "grey" if self.channels == 1 else "colour"
        return f"{self.count:,} of {self.total:,} pictures of {printable(self.path)}, {self.size}x{self.size} {kind}"


def shape(file: Path) -> tuple[int, int, int]:
    """Height, width and 1 or 3 channels of a picture, read as a whole so that a torn one is known now."""
    picture = decode_image(file)[0]
    return picture.height, picture.width, 1 if picture.mode == "L" else 3


def arrays(word: str, path: str) -> np.ndarray:
    """The images of an .npz file, uint8 (N, H, W, C)."""
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as content:
            images: Any = content.get("images")
    except (OSError, ValueError) as error:
        raise ValueError(f"{word}={path} cannot be read as an .npz file: {error}") from error
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"{word}={path} holds no array images, uint8 (N, H, W, C) with C 1 or 3; gan sample out=x.npz writes one"
        )
    return images
