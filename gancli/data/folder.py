"""Your own pictures as a data set."""

import shlex
from pathlib import Path

import numpy as np
import torch

from gancli.config import nearest
from gancli.data.image_set import ImageSet, check_size_and_channels
from gancli.data.pictures import FITS, decode, each, find, fitted, printable


def folder(path: str, size: int = 32, channels: int = 3, fit: str = "crop", strict: bool = False) -> ImageSet:
    """Every picture at any depth below the folder `path`, of any kind and extent, as `size` x `size` pixels.

    The folders directly below `path` that hold a readable picture are the classes, by name; without any, there are no
    classes. The order is that of the names. fit: "crop" the middle, "pad" with white, or "squash".
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
    skipped = list(listing.skipped)

    def read(file: Path) -> np.ndarray:
        return fitted(decode(file, side=size)[0], size, channels, fit)

    images = torch.empty((len(listing.names), channels, size, size), dtype=torch.uint8)
    good: list[int] = []
    for i, result in enumerate(each(read, [listing.root / name for name in listing.names])):
        if strict and skipped:
            break
        if isinstance(result, str):
            skipped.append((listing.names[i], result))
        else:
            images[len(good)] = torch.from_numpy(result.transpose(2, 0, 1).copy())
            good.append(i)
    skipped = sorted((printable(name), printable(reason)) for name, reason in skipped)
    if strict and skipped:
        name, reason = skipped[0]
        raise ValueError(
            f"{listing.root / name} cannot be used ({reason}): repair or delete it, or skip it with data.strict=false"
        )
    if not good:
        found = f"none of its {len(skipped)} pictures can be read" if skipped else "it has no pictures"
        raise ValueError(
            f"data.path={path} cannot be trained on, {found}: see what is there with gan data check {shlex.quote(path)}"
        )
    classes = [printable(listing.classes[i]) for i in good] if listing.classes else []
    names = sorted(set(classes))
    number = {name: k for k, name in enumerate(names)}
    labels = torch.tensor([number[name] for name in classes] if classes else [0] * len(good), dtype=torch.int64)
    return ImageSet(images[: len(good)], labels, names, skipped)
