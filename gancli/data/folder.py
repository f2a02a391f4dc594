"""Your own images as a data set."""

from pathlib import Path

import numpy as np
import torch

from gancli.data.classes import printable_names
from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.data.decode_cache import decode_cached
from gancli.data.image_files import (
    FIT_MODES,
    BadImage,
    decode_image,
    fit_image,
    list_folder,
    no_images,
    printable_skipped,
)
from gancli.runtime.checks import check_choice
from gancli.runtime.text import plural, printable


def folder(
    path: str,
    size: int = 32,
    channels: int = 3,
    fit: str = "crop",
    strict: bool = False,
    cache: str = "",
    split: str = "train",
) -> ImageDataset:
    """Load every image at any depth below the folder `path`, resized to `size` x `size` pixels.

    The folders directly below `path` that hold an image are the classes, sorted by name; without any there are no
    classes. Images are in the order of their names, and are decoded once into a file that later runs memory-map.

    Args:
        fit: "crop" the middle, "pad" with white, or "squash".
        strict: raise ValueError for the first image that cannot be used; else list it in `skipped`.
        cache: folder for the decoded images; ~/.cache/gan/decoded unless given.
        split: "train", or "test" for the held-out images, of a folder of train, val and test folders.
    """
    if not path:
        raise ValueError("data=folder needs data.path=DIR, the folder with your images")
    check_size_and_channels(size, channels, required=True)
    check_choice("data.fit", fit, FIT_MODES)
    check_choice("data.split", split, ("train", "test"))
    listing = list_folder(path, split)
    if strict and listing.skipped:
        raise unusable(listing.root, *min(listing.skipped))

    def read(file: Path) -> np.ndarray:
        try:
            image = fit_image(decode_image(file, side=size)[0], size, channels, fit)
        except BadImage as error:
            if strict:  # end at once, not after all images
                raise unusable(file.parent, file.name, str(error)) from error
            raise
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    settings, bytes_each = ["folder", size, channels, fit], channels * size * size
    decoded = decode_cached(listing.root, listing.names, settings, read, cache, bytes_each)
    bad = decoded.reasons(listing.names)
    if strict and bad:  # a cache written without strict
        raise unusable(listing.root, *bad[0])
    skipped = printable_skipped([*listing.skipped, *bad])
    good = [i for i, entry in enumerate(decoded.entries) if not isinstance(entry, str)]
    if not good:
        total = plural(len(skipped), "image")
        raise no_images("path", path, f"its {total} cannot be decoded" if skipped else "it has no images")
    classes = [listing.classes[i] for i in good] if listing.classes else []
    names = (listing.class_names if classes else []) or sorted(set(classes))
    indices = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([indices[name] for name in classes] or [0] * len(good), dtype=torch.int64)
    images = decoded.pixels.reshape(len(good), channels, size, size)
    return ImageDataset(
        *(images, labels, printable_names(names), skipped),
        memory_mapped=decoded.memory_mapped,
        warnings=decoded.warnings,
        split=listing.split,
        notes=listing.notes,
    )


def unusable(folder: Path, name: str, reason: str) -> ValueError:

    file = printable(f"{folder / name} cannot be used ({reason})")
    return ValueError(f"{file}; repair or delete it, or skip it with data.strict=false")
