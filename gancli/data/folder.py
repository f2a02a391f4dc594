"""Your own pictures as a data set."""

import shlex
from pathlib import Path

import numpy as np
import torch

from gancli.config import nearest
from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.data.decode_cache import decoded
from gancli.data.image_files import FITS, decode, find, fitted, printable


def folder(
    path: str, size: int = 32, channels: int = 3, fit: str = "crop", strict: bool = False, cache: str = ""
) -> ImageDataset:
    """Every picture at any depth below the folder `path`, of any kind and extent, as `size` x `size` pixels.

    The folders directly below `path` that hold a readable picture are the classes, by name; without any, there are no
    classes. The order is that of the names. fit: "crop" the middle, "pad" with white, or "squash".
    The pictures are decoded once, into a file below `cache` (else ~/.cache/gan/decoded) that the next run maps into
    memory; where a picture changed, is new or is gone, all are decoded again.
    Pictures that cannot be read, or that lie loose beside class folders, are named in `skipped`; with `strict` the
    first of them raises ValueError instead, as do a folder that is missing or has no readable picture.
    """
    if not path:
        raise ValueError("data=folder needs data.path=DIR, the folder that your pictures are in")
    if size is None or channels is None:
        raise ValueError(f"data.size={size} data.channels={channels}: give both, such as data.size=32 data.channels=3")
    check_size_and_channels(size, channels)
    if fit not in FITS:
        raise ValueError(f"data.fit={fit} is not one of {', '.join(FITS)}{nearest(str(fit), FITS)}")
    listing = find(path)

    def refused(file: Path, reason: str) -> ValueError:
        told = f"{printable(str(file))} cannot be used ({printable(reason)})"
        return ValueError(f"{told}: repair or delete it, or skip it with data.strict=false")

    def read(file: Path) -> np.ndarray | ValueError:
        try:
            picture = fitted(decode(file, side=size)[0], size, channels, fit)
            return np.ascontiguousarray(picture.transpose(2, 0, 1))  # here, where several threads read
        except ValueError as error:
            if strict:
                return refused(file, str(error))  # at once, not when all have been read
            raise

    if strict and listing.skipped:
        name, reason = min(listing.skipped)
        raise refused(listing.root / name, reason)
    settings, bytes_each = ["folder", size, channels, fit], channels * size * size
    found = decoded(listing.root, listing.names, settings, read, cache, bytes_each)
    bad = [(name, fact) for name, fact in zip(listing.names, found.facts) if isinstance(fact, str)]
    if strict and bad:
        raise refused(listing.root / bad[0][0], bad[0][1])
    skipped = sorted((printable(name), printable(reason)) for name, reason in [*listing.skipped, *bad])
    good = [i for i, fact in enumerate(found.facts) if not isinstance(fact, str)]
    if not good:
        none = f"none of its {len(skipped)} pictures can be read" if skipped else "it has no pictures"
        raise ValueError(
            f"data.path={path} cannot be trained on, {none}: see what is there with gan data check {shlex.quote(path)}"
        )
    classes = [printable(listing.classes[i]) for i in good] if listing.classes else []
    names = sorted(set(classes))
    number = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([number[name] for name in classes] if classes else [0] * len(good), dtype=torch.int64)
    images = found.pixels.reshape(len(good), channels, size, size)
    return ImageDataset(images, labels, names, skipped, mapped=found.mapped, warnings=found.warnings)
