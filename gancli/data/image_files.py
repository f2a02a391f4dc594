"""Image files: decoding each of them to 8 bits of one size, many at once, and a report of a whole folder.

This module does not import torch: checking a folder answers at once.
"""

import contextlib
import os
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from gancli.data.decoder import (
    BadImage,
    lost_in_decoding,
    open_image,
    orientation,
    profile_note,
    sixteen_bits,
    to_srgb,
    upright,
)
from gancli.data.layout import find_layout
from gancli.data.listing import (
    Skipped,
    existing_folder,
    images_left_out,
    list_split,
    table_of,
    walk_images,
    with_classes,
)
from gancli.runtime.files import typed_path
from gancli.runtime.text import one_line

T = TypeVar("T")

FIT_MODES = ("crop", "pad", "squash")
LARGE = 2**25  # pixels from which on images are decoded one after the other, as several would take gigabytes
one_large_image = threading.Lock()


@dataclass
class ImageInfo:
    """Width and height in pixels as a viewer shows them, Pillow's mode and the file format of one image file.

    notes: what decoding changed or left out, such as "has several frames; only the first was used"
    """

    width: int
    height: int
    mode: str
    format: str
    notes: tuple[str, ...] = ()


def decode_image(path: Path, side: int | None = None) -> tuple[Image.Image, ImageInfo]:
    """Decode an image file to an upright 8-bit "L" or "RGB" image.

    Transparent parts become white, 16-bit grey is divided by 257, an animation gives its first frame. Raises BadImage.
    With `side` a large JPEG is decoded faster, at a fraction of its size that is at least 2 * side pixels either way.
    """
    with open_image(path) as image:
        try:
            file_format, mode, (width, height) = image.format or "?", image.mode, image.size
            notes = lost_in_decoding(image)
            if side:
                image.draft(None, (2 * side, 2 * side))  # None keeps the mode
            with one_large_image if image.width * image.height > LARGE else contextlib.nullcontext():
                image.load()
                if orientation(image) >= 5:  # the four orientations that swap the sides
                    width, height = height, width
                result, more = _eight_bits(upright(image))
            return result, ImageInfo(width, height, mode, file_format, (*notes, *more))
        except BadImage:
            raise
        except Exception as error:  # a damaged file can fail in any way inside Pillow
            raise BadImage(one_line(error, 200)) from error


def _eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return a decoded image as "L" or "RGB" in sRGB, and what was done to it."""
    notes: list[str] = []
    if image.mode == "I" or image.mode.startswith("I;16"):
        image, note = sixteen_bits(image)
        image, done = to_srgb(image)
        values = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(values.astype(np.uint8)), [text for text in (note, profile_note(done)) if text]
    if image.mode == "F":
        raise BadImage("has floating-point values, which have no known range: save it with 8 or 16 bits")
    transparent = image.has_transparency_data
    if transparent or image.mode not in ("L", "CMYK"):
        image = image.convert("RGBA" if transparent else "L" if image.mode == "1" else "RGB")
    image, done = to_srgb(image)
    notes += [profile_note(done)] if done else []
    if transparent:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"), notes
    return image if image.mode == "L" else image.convert("RGB"), notes


def fit_image(image: Image.Image, size: int | Sequence[int], channels: int, fit: str) -> np.ndarray:
    """Resize an 8-bit image by antialiased bicubic to a uint8 array (H, W, channels); size: H = W, or [H, W].

    `fit`: "crop" fills the frame and cuts both ends of the longer side, "pad" keeps the whole image between white
    bars, "squash" ignores its proportions.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    height, width = (size, size) if isinstance(size, int) else size
    if fit == "crop":
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    elif fit == "squash":
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    else:
        assert fit == "pad", fit
        scale = min(width / image.width, height / image.height)
        w, h = (max(1, round(side * scale)) for side in image.size)
        frame = Image.new(image.mode, (width, height), "white")
        frame.paste(image.resize((w, h), Image.Resampling.BICUBIC), ((width - w) // 2, (height - h) // 2))
        image = frame
    return np.asarray(image).reshape(height, width, channels)


def map_parallel(function: Callable[[Path], T], paths: Iterable[Path]) -> Iterator[T | str]:
    """Yield function(path) of every path in order, computed by threads; the reason where it raises BadImage.

    The threads decode only a few images in advance, because the consumer may be slower than they are.
    """

    def result_or_reason(path: Path) -> T | str:
        try:
            return function(path)
        except BadImage as error:
            return str(error)

    workers = min(8, os.cpu_count() or 1)
    pending: deque[Future[T | str]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as threads:
        warnings.simplefilter("ignore", UserWarning)  # Pillow's, about odd metadata of images that it can decode
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `open_image` has one limit for all
        try:
            for path in paths:
                pending.append(threads.submit(result_or_reason, path))
                if len(pending) > 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # a consumer that stops early does not wait for the rest
            threads.shutdown(wait=False, cancel_futures=True)


@dataclass
class CheckReport:
    """Result of decoding every image of a folder."""

    path: Path
    infos: list[ImageInfo]  # of the images that can be decoded
    classes: dict[str, int]  # class to number of its images to train on, by name; empty where there are no sub-folders
    skipped: Skipped
    notes: list[str] = field(default_factory=list)
    has_domains: bool = False  # two sets to train on, such as trainA and trainB
    has_labels: bool = False  # those of a table in the zip or tables of images, in place of sub-folders

    @property
    def bad(self) -> Skipped:
        """Images that cannot be used, without other files."""
        return images_left_out(self.skipped)

    @property
    def remarks(self) -> dict[str, int]:
        """What decoding changed or left out, and of how many images."""
        return dict(Counter(note for info in self.infos for note in info.notes).most_common())


def check_folder(path: str) -> CheckReport:
    """Decode every image below the folder `path`, of every split, as data=folder does."""
    root = existing_folder(path)
    table, has_table = table_of(path)
    names, skipped = walk_images(root)
    layout = find_layout(names)
    if layout:
        listing = list_split(root, names, skipped, layout, "train", classes=not has_table)
    else:
        listing = with_classes(root, [(name, name) for name in names], skipped, wanted=not has_table)
    classes = dict(zip(listing.names, listing.classes))
    left_out = {name for name, _ in listing.skipped}
    names = [name for name in names if name not in left_out]
    infos: list[ImageInfo] = []
    bad, counts = list(listing.skipped), Counter[str]()
    for name, result in zip(names, map_parallel(lambda file: decode_image(file)[1], [root / name for name in names])):
        if isinstance(result, str):
            bad.append((name, result))
        else:
            infos.append(result)
            counts.update([classes[name]] if name in classes else [])
    return CheckReport(
        typed_path(path),
        infos,
        dict(sorted(counts.items())),
        sorted(bad),
        listing.notes,
        has_domains=bool(layout and layout.has_domains),
        has_labels=bool(table),
    )
