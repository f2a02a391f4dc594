"""Folders of image files: which there are, decoding each of them, and which are bad.

This module does not import torch: checking a folder answers at once.
"""

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from gancli.data.decoder import BadImage, open_image, orientation, to_srgb, upright
from gancli.runtime.files import typed_path
from gancli.runtime.text import one_line, printable, shell_quote

T = TypeVar("T")
Skipped = list[tuple[str, str]]  # (file or folder, reason)

FIT_MODES = ("crop", "pad", "squash")
# Names of the folders of a layout with a training set, in any case.
SPLITS = {
    **{"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}
# Beginnings of names that systems write: hidden ones, and thumbnails and metadata of a NAS or a Mac.
SYSTEM = (".", "@eaDir", "__MACOSX")
UNFINISHED_SAMPLES = ".gan-samples"  # in a folder: samples that are about to replace older ones
# Pillow alone cannot decode HEIC, but a phone's images should be reported rather than overlooked.
EXTENSIONS = {
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}


@dataclass
class FolderListing:
    """Image files of a folder, known by their names alone.

    names:   paths below root with forward slashes, sorted
    classes: for each name the folder directly below root that holds it; empty where there are no such folders
    skipped: (name, reason) of images and folders that are left out
    split:   train, val or test, where the folder has this layout, else empty
    notes:   sentences about the layout
    class_names: of the training images, where the folder has this layout
    """

    root: Path
    names: list[str]
    classes: list[str]
    skipped: Skipped
    split: str = ""
    notes: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)


def existing_folder(path: str, key: str = "path") -> Path:
    """Return `path` as a folder; raise ValueError, naming `data.<key>`, where there is none."""
    root = typed_path(str(path))  # Hydra reads data.path=2024 as a number
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise ValueError(f"{path} is {what}, not a folder; type data.{key}=DIR or gan data check DIR")
    return root


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """Return the folders of a train/val/test layout, {"train": "Training", "test": "test"}; empty where it is none.

    Every folder with images must be one of SPLITS and one of them `train`: a class may be called test.
    """
    folders = {name.split("/", 1)[0] for name in names if "/" in name}
    splits = {SPLITS.get(folder.casefold(), folder): folder for folder in folders}
    is_layout = "train" in splits and len(splits) == len(folders) and splits.keys() <= {*SPLITS.values()}
    return {split: splits[split] for split in ("train", "val", "test") if split in splits} if is_layout else {}


def list_folder(path: str, split: str = "train") -> FolderListing:
    """List every image at any depth below the folder `path`, or below its folder of the split: train, or test.

    The folders directly below that hold an image are the classes. Images outside such folders have no class and are
    skipped; where there is only one such folder next to them, there are no classes and all are used. The order depends
    on the names alone.
    """
    root = existing_folder(path)
    names, skipped = walk_images(root)
    if splits := find_splits(names):
        return _list_split(root, names, skipped, splits, split)
    return _list_classes(root, names, skipped)


def _list_split(root: Path, names: list[str], skipped: Skipped, splits: dict[str, str], split: str) -> FolderListing:
    below = {s: [n.removeprefix(f"{f}/") for n in names if n.startswith(f"{f}/")] for s, f in splits.items()}
    held_out = "test" if "test" in splits else "val" if "val" in splits else "train"
    skipped = skipped + [(name, "is in no folder of train, val or test") for name in names if "/" not in name]
    train = _list_classes(root / splits["train"], below["train"], skipped)
    counts = ", ".join(f"{splits[s]}/ {len(below[s]):,}" for s in splits)
    train.notes = [f"{printable(str(root))} has {counts} images: {splits['train']}/ is trained on, others are held out"]
    train.split, train.class_names = "train", sorted({*train.classes})
    if split == "train" or held_out == "train":
        return train
    listing = _list_classes(root / splits[held_out], below[held_out], skipped)
    listing.split, listing.notes, listing.class_names = held_out, train.notes, train.class_names
    if listing.class_names and listing.classes:  # the model knows the classes that it was trained on
        pairs = list(zip(listing.names, listing.classes))
        listing.skipped += [
            (n, f"is of class {of}, which is not in train") for n, of in pairs if of not in train.classes
        ]
        known = [(name, of) for name, of in pairs if of in {*train.classes}]
        listing.names, listing.classes = [name for name, _ in known], [of for _, of in known]
    return listing


def _list_classes(root: Path, names: list[str], skipped: Skipped) -> FolderListing:
    classes = ["" if "/" not in name else name.split("/", 1)[0] for name in names]
    if not any(classes) or ("" in classes and len({*classes}) == 2):  # one folder next to loose images is no class
        return FolderListing(root, names, [], skipped)
    reason = "is in no class folder, so it has no class"
    skipped = skipped + [(name, reason) for name, of in zip(names, classes) if not of]
    names = [name for name, of in zip(names, classes) if of]
    return FolderListing(root, names, [of for of in classes if of], skipped)


def walk_images(root: Path) -> tuple[list[str], Skipped]:
    """Return the sorted names of all images below `root`, and (folder, reason) of folders that cannot be opened.

    Names of SYSTEM and other files are ignored. A link to a folder is followed once, and not where it leads back into
    the tree or above it.
    """
    names: list[str] = []
    skipped: Skipped = []
    real_root = root.resolve()
    linked: set[Path] = set()

    def skip(error: OSError) -> None:
        skipped.append((Path(error.filename).relative_to(root).as_posix(), error.strerror or "cannot be opened"))

    def follow(folder: Path) -> bool:
        if not folder.is_symlink():
            return True
        real = folder.resolve()
        if real in linked or real.is_relative_to(real_root) or real_root.is_relative_to(real):
            return False
        linked.add(real)
        return True

    for folder, below, files in os.walk(root, onerror=skip, followlinks=True):
        here = Path(folder)
        if UNFINISHED_SAMPLES in below:
            raise ValueError(
                f"{printable(str(here))} is half way between two generations of samples, because gan sample was "
                f"stopped; type the same gan sample with overwrite=true again"
            )
        below[:] = sorted(name for name in below if not name.startswith(SYSTEM) and follow(here / name))
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        names += [
            prefix + name for name in files if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS
        ]
    return sorted(names), skipped


@dataclass
class ImageInfo:
    """Width and height in pixels as a viewer shows them, Pillow's mode and the file format of one image file."""

    width: int
    height: int
    mode: str
    format: str


def decode_image(path: Path, side: int | None = None) -> tuple[Image.Image, ImageInfo]:
    """Decode an image file to an upright 8-bit "L" or "RGB" image.

    Transparent parts become white, 16-bit grey is divided by 257, an animation gives its first frame. Raises BadImage.
    With `side` a large JPEG is decoded faster, at a fraction of its size that is at least 2 * side pixels either way.
    """
    with open_image(path) as image:
        try:
            file_format, mode, (width, height) = image.format or "?", image.mode, image.size
            if side:
                image.draft(None, (2 * side, 2 * side))  # None keeps the mode
            image.load()
            if orientation(image) >= 5:  # the four orientations that swap the sides
                width, height = height, width
            return _eight_bits(upright(image)), ImageInfo(width, height, mode, file_format)
        except BadImage:
            raise
        except Exception as error:  # a damaged file can fail in any way inside Pillow
            raise BadImage(one_line(error, 200)) from error


def _eight_bits(image: Image.Image) -> Image.Image:

    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("has 32-bit values, which have no known range: save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode == "F":
        raise BadImage("has floating-point values, which have no known range: save it with 8 or 16 bits")
    transparent = image.has_transparency_data
    if transparent or image.mode not in ("L", "CMYK"):
        image = image.convert("RGBA" if transparent else "L" if image.mode == "1" else "RGB")
    image = to_srgb(image)[0]
    if transparent:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


def fit_image(image: Image.Image, size: int, channels: int, fit: str) -> np.ndarray:
    """Resize an 8-bit image by antialiased bicubic to a uint8 array (size, size, channels).

    `fit`: "crop" fills the square and cuts both ends of the longer side, "pad" keeps the whole image between white
    bars, "squash" ignores its proportions.
    """
    image = image.convert("L" if channels == 1 else "RGB")
    if fit == "crop":
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    elif fit == "squash":
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        assert fit == "pad", fit
        scale = size / max(image.size)
        w, h = (max(1, round(side * scale)) for side in image.size)
        square = Image.new(image.mode, (size, size), "white")
        square.paste(image.resize((w, h), Image.Resampling.BICUBIC), ((size - w) // 2, (size - h) // 2))
        image = square
    return np.asarray(image).reshape(size, size, channels)


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
    classes: dict[str, int]  # class to number of its images, sorted by name; empty where there are no sub-folders
    bad: Skipped
    notes: list[str] = field(default_factory=list)


def check_folder(path: str) -> CheckReport:
    """Decode every image below the folder `path` as data=folder does."""
    listing = list_folder(path)
    infos: list[ImageInfo] = []
    bad, counts = list(listing.skipped), Counter[str]()
    results = map_parallel(lambda file: decode_image(file)[1], [listing.root / name for name in listing.names])
    for name, of, result in zip(listing.names, listing.classes or listing.names, results):
        if isinstance(result, str):
            bad.append((name, result))
        else:
            infos.append(result)
            counts[of] += 1
    by_class = dict(sorted(counts.items())) if listing.classes else {}
    return CheckReport(existing_folder(path), infos, by_class, sorted(bad), listing.notes)


def no_images(key: str, path: str, why: str) -> ValueError:
    """Return the error for a folder without a usable image. `why`: a clause such as "it has no images"."""
    command = f"gan data check {shell_quote(str(path))}"
    return ValueError(f"data.{key}={path} cannot be trained on, {why}; type {command} to see what is there")


def printable_skipped(skipped: Iterable[tuple[str, str]]) -> Skipped:
    """Return (file, reason) pairs sorted, as text that can be printed."""
    return sorted((printable(name), printable(reason)) for name, reason in skipped)
