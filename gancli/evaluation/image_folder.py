"""Images of a folder or an .npz file, as an evaluation set: no classes, any size, cropped to squares."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli.data.image_files import decode_image, fit_image, map_parallel
from gancli.data.listing import image_notes, list_folder, printable_skipped, skipped_lines
from gancli.data.npz import read_archive
from gancli.evaluation.reference import batched, random_subset
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.files import typed_path
from gancli.runtime.terminal import say
from gancli.runtime.text import plural, printable

Shape = tuple[int, ...]  # height, width, channels


class ImageFolder:
    """Images of a folder at any depth, or the array `images`, uint8 (N, H, W, C), of an .npz file.

    Args:
        key: that names the folder on the command line, for messages.
        size, channels: to which all are cropped, resized and converted; 0 leaves images as they are, all alike.
        n: upper limit on the number of images, a random subset by `seed`.
        split: "train" or "test" of a folder with a layout, such as train and test folders.

    Raises:
        ValueError: no image can be read, or images differ where `size` or `channels` is 0.
    """

    def __init__(self, key: str, path: str, size: int, channels: int, n: int, seed: int, split: str = "test"):
        self.key, self.path, self.n, self.seed = key, path, n, seed
        check_number("n", n, least=1, example=10000)
        check_number("size", size, least=0, example=32)
        check_choice("channels", str(channels), ("0", "1", "3"))
        self.array = _read_npz(key, path) if path.lower().endswith(".npz") else None
        self.files: list[Path] = []
        self.split = ""
        if self.array is None:
            self.files, shapes = self._readable(split)
        else:
            shapes = {self.array.shape[1:]: printable(path)}
        self.total = len(self.files) if self.array is None else len(self.array)
        self.channels, self.size = channels or self._common_channels(shapes), size or self._common_size(shapes)

    def _readable(self, split: str) -> tuple[list[Path], dict[Shape, str]]:
        """Return the images that can be read, and for each shape the name of one image that has it."""
        root = typed_path(self.path)
        if not root.is_dir():
            raise ValueError(
                f"{self.key}={self.path} is neither a folder nor an .npz file; type {self.key}=DIR, a folder of "
                f"images, or {self.key}=x.npz, as gan sample writes it"
            )
        listing = list_folder(self.path, split, classes=False)
        self.split, skipped = listing.split, listing.skipped
        files, shapes, notes = [], dict[Shape, str](), Counter[str]()
        for name, file, result in zip(listing.names, listing.paths, map_parallel(_shape_and_notes, listing.paths)):
            if isinstance(result, str):
                skipped.append((name, result))
            else:
                files.append(file)
                shapes.setdefault(result[0], printable(name))
                notes.update(result[1])
        for line in [*listing.notes, *image_notes(notes), *skipped_lines(printable_skipped(skipped))]:
            say(f"gan: {self.key}=: {line}")
        if not files:
            raise ValueError(f"no image in {self.key}={self.path} can be read; type {self.key}=DIR, a folder of images")
        return files, shapes

    def _common_size(self, shapes: dict[Shape, str]) -> int:
        sides = {shape[:2]: name for shape, name in shapes.items()}
        (first, one), *others = sides.items()
        if others:
            second, other = others[0]
            raise ValueError(
                f"the images of {self.key}={self.path} have {len(sides)} sizes, {one} is {first[1]}x{first[0]} and "
                f"{other} is {second[1]}x{second[0]}; type size={min(min(side) for side in sides)} to crop and "
                f"resize all"
            )
        if first[0] != first[1]:
            raise ValueError(
                f"the images of {self.key}={self.path} are not square, {one} is {first[1]}x{first[0]}; type "
                f"size={min(first)} to crop and resize all"
            )
        return first[0]

    def _common_channels(self, shapes: dict[Shape, str]) -> int:
        modes = {shape[2]: name for shape, name in shapes.items()}
        if len(modes) > 1:
            raise ValueError(
                f"the images of {self.key}={self.path} are grey, as {modes[1]}, and in colour, as {modes[3]}; type "
                f"channels=3 to take all as colour, or channels=1 as grey"
            )
        return next(iter(modes))

    @property
    def count(self) -> int:
        return min(self.n, self.total)

    def uint8_batches(self, progress: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in batched(random_subset(self.total, self.n, self.seed), f"{self.key}=" if progress else ""):
            images = torch.from_numpy(np.stack(self._read(indices))).permute(0, 3, 1, 2).contiguous()
            yield images, torch.zeros(len(indices), dtype=torch.int64)

    def _read(self, indices: Tensor) -> list[np.ndarray]:
        if self.array is not None:
            arrays = (a.squeeze(-1) if a.shape[-1] == 1 else a for a in self.array[indices.numpy()])
            return [fit_image(Image.fromarray(array), self.size, self.channels, "crop") for array in arrays]
        images = []
        files = [self.files[i] for i in indices.tolist()]
        for file, image in zip(files, map_parallel(self._read_file, files)):
            if isinstance(image, str):  # it was readable a moment ago
                raise ValueError(f"{printable(str(file))} {image}")
            images.append(image)
        return images

    def _read_file(self, file: Path) -> np.ndarray:
        return fit_image(decode_image(file)[0], self.size, self.channels, "crop")

    def __str__(self) -> str:
        mode = "grey" if self.channels == 1 else "colour"
        name = printable(typed_path(self.path).resolve().name) + (f", split {self.split}" if self.split else "")
        return f"{self.count:,} of {plural(self.total, 'image')} of {name}, {self.size}x{self.size} {mode}"


def _shape_and_notes(file: Path) -> tuple[Shape, tuple[str, ...]]:
    """Return height, width and channels, and notes; decode the whole file, so that a torn one is found now."""
    image, info = decode_image(file)
    return (image.height, image.width, 1 if image.mode == "L" else 3), info.notes


def _read_npz(key: str, path: str) -> np.ndarray:
    try:
        images: Any = read_archive(typed_path(path), ["images"]).get("images")
    except Exception as error:  # a damaged archive can fail in any way inside zipfile and NumPy
        raise ValueError(f"{key}={path} cannot be read as an .npz file: {error}") from error
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"{key}={path} holds no array images, uint8 (N, H, W, C) with C 1 or 3; gan sample out=x.npz writes one"
        )
    return images
