"""Your own images as a data set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancli.data.classes import printable_names
from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.data.decode_cache import DecodedImages, decode_cached
from gancli.data.decoder import BadImage
from gancli.data.image_files import FIT_MODES, decode_image, fit_image
from gancli.data.labels import read_labels
from gancli.data.listing import (
    FolderListing,
    image_notes,
    images_left_out,
    keep_split,
    list_folder,
    no_images,
    printable_skipped,
    table_of,
)
from gancli.images import Size, sides, size_of
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.text import printable


def folder(
    path: str,
    size: Size = 32,
    channels: int = 3,
    fit: str = "crop",
    strict: bool = False,
    cache: str = "",
    split: str = "train",
    hold_out: float = 0.0,
    labels: str = "",
) -> ImageDataset:
    """Load every image at any depth below the folder, zip or tables `path`, resized to `size` pixels.

    The folders directly below `path` that hold an image are the classes, sorted by name; without any there are no
    classes. Images are in the order of their names, and are decoded once into a file that later runs memory-map.

    Args:
        size: the side of squares, or [height, width].
        fit: "crop" the middle, "pad" with white, or "squash".
        strict: raise ValueError for the first image that cannot be used; else list it in `skipped`.
        cache: folder for the decoded images; ~/.cache/gan/decoded unless given.
        split: "train", or "test" for the held-out images, of a folder with a layout, such as train and test folders.
        hold_out: fraction of the images of a folder without a layout that are those of "test", from 200 images on.
        labels: table of labels, .csv or .json, in place of the folders as classes. One column of classes gives classes.
    """
    if not path:
        raise ValueError("data=folder needs data.path=DIR, the folder with your images")
    check_size_and_channels(size, channels, required=True)
    check_choice("data.fit", fit, FIT_MODES)
    check_choice("data.split", split, ("train", "test"))
    check_number("data.hold_out", hold_out, 0, 0.5, example=0.1)
    labels, has_table = table_of(path, labels)
    listing = list_folder(path, split, classes=not has_table)
    keep_split(listing, split, hold_out)
    table = read_labels(labels, listing.root, listing.names, listing.short) if labels and listing.names else None
    if strict and (left_out := images_left_out(listing.skipped)):
        raise unusable(listing.root, *min(left_out))

    decoded = decode_listing(listing, size, channels, fit, strict, cache)
    bad = decoded.reasons(listing.names)
    if strict and bad:  # a cache written without strict
        raise unusable(listing.root, *bad[0])
    skipped = printable_skipped([*listing.skipped, *bad])
    good = [i for i, entry in enumerate(decoded.entries) if not isinstance(entry, str)]
    if not good:
        raise no_images("path", path, skipped)
    notes = [*listing.notes, *image_notes(decoded.notes)]
    if table:
        notes.append(f"labels: {'; '.join(map(str, table.columns))}")
    return ImageDataset(
        decoded.pixels.reshape(len(good), channels, *sides(size)),
        skipped=skipped,
        memory_mapped=decoded.memory_mapped,
        warnings=decoded.warnings,
        split=listing.split,
        notes=notes,
        **(table.as_arguments(good) if table else folders_as_classes(listing, good)),
    )


def decode_listing(
    listing: FolderListing, size: Size, channels: int, fit: str, strict: bool, cache: str
) -> DecodedImages:
    """Return the pixels of a folder's images and the reasons of those that cannot be used; arguments as of `folder`."""
    height, width = sides(size)

    def read(file: Path) -> tuple[np.ndarray, tuple[str, ...]]:
        try:
            image, info = decode_image(file, side=max(height, width))
            array = fit_image(image, size, channels, fit)
        except BadImage as error:
            if strict:  # end at once, not after all images
                raise unusable(file.parent, file.name, str(error)) from error
            raise
        return np.ascontiguousarray(array.transpose(2, 0, 1)), info.notes

    settings, bytes_each = ["folder", size_of(height, width), channels, fit], channels * height * width
    settings += [listing.split] if listing.split else []  # each has a cache of its own
    return decode_cached(listing.root, listing.names, settings, read, cache, bytes_each)


def folders_as_classes(listing: FolderListing, good: list[int]) -> dict[str, Any]:
    """Return the labels of the images numbered `good`, and the names of their classes, as arguments of ImageDataset."""
    classes = [listing.classes[i] for i in good] if listing.classes else []
    names = (listing.class_names if classes else []) or sorted(set(classes))
    indices = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([indices[name] for name in classes] or [0] * len(good), dtype=torch.int64)
    return {"class_names": printable_names(names), "labels": labels}


def unusable(folder: Path, name: str, reason: str) -> ValueError:
    file = printable(f"{folder / name} cannot be used ({reason})")
    return ValueError(f"{file}; repair or delete it, or skip it with data.strict=false")
