"""Targets x with the sources c to generate them from: pairs of images, or two sets in no common order."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli.data.classes import class_index, how_read
from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.data.decoder import BadImage
from gancli.data.image_files import FIT_MODES, decode_image, fit_image, map_parallel
from gancli.data.listing import (
    FolderListing,
    Skipped,
    image_notes,
    list_folder,
    no_images,
    printable_skipped,
)
from gancli.images import Size, sides
from gancli.runtime.checks import check_choice
from gancli.runtime.hardware import free_memory
from gancli.runtime.text import plural, printable

Files = dict[str, Path]  # by their names below the folder, or below that of their split, sorted
Pair = tuple[Image.Image, Image.Image]  # source, target
Read = Callable[[Path], tuple[list[np.ndarray], Sequence[str]]]  # arrays (size, size, C), and notes on their decoding


def pairs(
    path: str,
    sources: str = "",
    size: Size = 256,
    channels: int = 3,
    source_channels: int = 3,
    fit: str = "crop",
    swap: bool = False,
    split: str = "train",
) -> ImageDataset:
    """Load pairs of images at any depth below the folder `path`, each resized to `size` pixels.

    Pairs that cannot be decoded are listed in `skipped`; an image without a partner, or with one of another size, is
    an error.

    Args:
        sources: folder of the sources, by the same names without suffixes as the targets below `path`. Without it an
            image file holds a pair, the source in the left half and the target in the right one: Isola et al. 2017,
            https://arxiv.org/abs/1611.07004. In a folder of trainA and trainB, A are the sources.
        fit: as for data=folder.
        swap: sources become targets and targets sources.
        split: as for data=folder.
    """
    if not path:
        raise ValueError(
            "data=pairs needs data.path=DIR, a folder of images side by side, or data.path=DIR data.sources=DIR, "
            "folders of the targets and of their sources"
        )
    check_settings(size, channels, source_channels, fit, split)
    listings = list_sets(path, sources, split)
    targets = image_files("path", path, listings[0])
    partners = {}
    if len(listings) == 2:
        partners = match_by_name(path, targets, sources or path, image_files("sources", sources or path, listings[1]))

    def read(file: Path) -> tuple[list[np.ndarray], Sequence[str]]:
        pair, notes = decode_two_files(partners[file], file) if partners else decode_halves(file)
        pair = pair[::-1] if swap else pair
        return [fit_image(image, size, c, fit) for image, c in zip(pair, (source_channels, channels))], notes

    skipped, notes = skipped_of(listings), Counter[str]()
    left, right = decode_all("path", path, targets, read, (source_channels, channels), size, skipped, notes)
    return ImageDataset(right, sources=left, **described(listings, skipped, notes))


def unpaired(
    path: str,
    sources: str = "",
    size: Size = 256,
    channels: int = 3,
    source_channels: int = 3,
    fit: str = "crop",
    split: str = "train",
) -> ImageDataset:
    """Load two sets of images of any number: targets below the folder `path`, sources below `sources`.

    Without `sources`, `path` is a folder of trainA and trainB, and A are the sources. Every image is resized to
    `size` pixels as `fit` says for data=folder. Images that cannot be decoded are listed in `skipped`.
    """
    check_settings(size, channels, source_channels, fit, split)
    listings = list_sets(path, sources, split) if path else []
    if len(listings) < 2:
        raise ValueError(
            "data=unpaired needs data.path=DIR and data.sources=DIR, the folders of the targets and of the sources, or "
            "data.path=DIR of a folder with trainA, the sources, and trainB"
        )
    skipped, notes = skipped_of(listings), Counter[str]()

    def decode_set(key: str, folder: str, listing: FolderListing, channels: int) -> Tensor:
        def read(file: Path) -> tuple[list[np.ndarray], Sequence[str]]:
            image, info = decode_image(file, side=max(sides(size)))
            return [fit_image(image, size, channels, fit)], info.notes

        files = image_files(key, folder, listing)
        return decode_all(key, folder, files, read, [channels], size, skipped, notes)[0]

    target_set = decode_set("path", path, listings[0], channels)
    source_set = decode_set("sources", sources or path, listings[1], source_channels)
    return ImageDataset(target_set, sources=source_set, paired=False, **described(listings, skipped, notes))


def list_sets(path: str, sources: str, split: str) -> list[FolderListing]:
    """Return the listings of the targets and, in a folder of their own or in one such as trainA, of the sources."""
    if sources:
        return [list_folder(*of, classes=False) for of in ((path, split, "path"), (sources, split, "sources"))]
    targets = list_folder(path, split, classes=False, domain="b")
    return [targets, list_folder(path, split, classes=False, domain="a")] if targets.domain else [targets]


def skipped_of(listings: Sequence[FolderListing]) -> Skipped:
    """Return what was left out, with its folder; once where both are in one folder."""
    return list(dict.fromkeys((str(one.root / name), reason) for one in listings for name, reason in one.skipped))


def described(listings: Sequence[FolderListing], skipped: Skipped, notes: Mapping[str, int]) -> dict[str, Any]:
    """Return the attributes of an ImageDataset that say where its images come from."""
    layout = dict.fromkeys(note for one in listings for note in one.notes)
    return {
        "skipped": printable_skipped(skipped),
        "split": listings[0].split,
        "notes": [*layout, *image_notes(notes)],
    }


def two_classes(data: ImageDataset, source: int | str, target: int | str) -> ImageDataset:
    """Return two sets of images, those of two classes of labelled data, each class given by its name or number."""
    if not data.classes:
        raise ValueError(
            "this data has no classes to translate between; choose data with classes such as data=mnist, or type "
            "data=unpaired data.path=DIR data.sources=DIR"
        )
    if data.is_points:
        raise ValueError("points of the plane cannot be translated to other images; type data.kind=shapes")
    indices = [class_index(name, data.class_names, data.classes) for name in (source, target)]
    names = [data.class_names[k] for k in indices]
    if indices[0] == indices[1]:
        raise ValueError(
            f"source and target, model.between=[{source},{target}], are both the class {names[0]}; type two different "
            f"classes, as in model.between=[{','.join(data.class_names[:2])}]"
        )
    sources, images = (data.images[data.labels == k] for k in indices)
    for name, of_class in zip(names, (sources, images)):
        if not len(of_class):
            raise ValueError(f"the data has no image of the class {name}; choose another class")
    about: dict[str, Any] = {name: getattr(data, name) for name in ("skipped", "warnings", "split", "notes")}
    about["notes"] = [*about["notes"], *how_read((source, target), data.class_names)]
    return ImageDataset(images, sources=sources, paired=False, **about)


def check_settings(size: Size, channels: int, source_channels: int, fit: str, split: str) -> None:
    check_size_and_channels(size, channels, required=True)
    check_size_and_channels(size, source_channels, required=True, key="source_channels")
    check_choice("data.fit", fit, FIT_MODES)
    check_choice("data.split", split, ("train", "test"))


def image_files(key: str, folder: str, listing: FolderListing) -> Files:
    """Return the images of a listing; ValueError where there are none."""
    if not listing.names:
        raise no_images(key, folder, listing.skipped)
    return dict(zip(listing.short, listing.paths))


def match_by_name(path: str, targets: Files, sources_path: str, sources: Files) -> dict[Path, Path]:
    """Return the source of each target; raise ValueError unless every image has a partner."""
    target_stems, source_stems = by_stem("path", path, targets), by_stem("sources", sources_path, sources)
    alone = [
        [file for stem, file in own.items() if stem not in other]
        for own, other in ((target_stems, source_stems), (source_stems, target_stems))
    ]
    if alone[0] or alone[1]:
        first = printable(str((alone[0] or alone[1])[0]))
        raise ValueError(
            f"{len(alone[0])} of {plural(len(targets), 'image')} in data.path={path} and {len(alone[1])} of "
            f"{plural(len(sources), 'image')} in data.sources={sources_path} have no partner of the same name, the "
            f"first is {first}; add or delete the missing ones, or choose data=unpaired"
        )
    return {file: source_stems[stem] for stem, file in target_stems.items()}


def by_stem(key: str, folder: str, files: Files) -> Files:
    """Return files by name without suffix; raise ValueError where two are the same."""
    stems: Files = {}
    for name, file in files.items():
        stem = str(PurePath(name).with_suffix(""))
        if stem in stems:
            raise ValueError(
                f"{printable(stems[stem].name)} and {printable(file.name)} in data.{key}={folder} differ only in their "
                "suffix, so either could belong to the pair; delete or rename one"
            )
        stems[stem] = file
    return stems


def decode_halves(file: Path) -> tuple[Pair, Sequence[str]]:
    """Return the left and the right half of an image, and notes; raise ValueError for an odd width."""
    image, info = decode_image(file)
    w, h = image.size
    if w % 2:
        raise ValueError(
            f"{printable(str(file))} is {w}x{h} and has no two equal halves; give it an even width, or two folders: "
            "data.path=TARGETS data.sources=SOURCES"
        )
    return (image.crop((0, 0, w // 2, h)), image.crop((w // 2, 0, w, h))), info.notes


def decode_two_files(source: Path, target: Path) -> tuple[Pair, Sequence[str]]:
    """Return both images at their full size, and notes; raise ValueError unless they match to the pixel."""
    target_image, target_info = decode_image(target)
    try:
        source_image, source_info = decode_image(source)
    except BadImage as error:
        raise BadImage(f"its source {source} cannot be used: {error}") from error
    if source_image.size == target_image.size:
        return (source_image, target_image), (*target_info.notes, *source_info.notes)
    a, b = (f"{printable(str(f))} is {i.width}x{i.height}" for f, i in ((source, source_image), (target, target_image)))
    raise ValueError(f"{a} and {b}, but the images of a pair must match to the pixel; resize one of them")


def decode_all(
    key: str,
    folder: str,
    files: Files,
    read: Read,
    channels: Sequence[int],
    size: Size,
    skipped: Skipped,
    notes: Counter[str],
) -> list[Tensor]:
    """Return one tensor uint8 (N, C, H, W) for each C of `channels`; add to `skipped` and to `notes`.

    `read` decodes a file to one array for each C, or raises BadImage to skip it.
    """
    height, width = sides(size)
    needed, free = len(files) * sum(channels) * height * width, free_memory()
    if needed > free:
        fits = max(int(min(height, width) * math.sqrt(free / 2 / needed)) // 8 * 8, 8)
        raise ValueError(
            f"the {plural(len(files), 'image')} of data.{key}={folder} take {needed / 1e9:,.1f} GB of memory at "
            f"data.size={size} and {free / 1e9:,.1f} are free; type data.size={fits}, or leave images out"
        )
    stacks = [torch.empty((len(files), c, height, width), dtype=torch.uint8) for c in channels]
    n = 0
    for file, result in zip(files.values(), map_parallel(read, files.values())):
        if isinstance(result, str):
            skipped.append((str(file), result))
            continue
        arrays, remarks = result
        notes.update(remarks)
        for images, image in zip(stacks, arrays):
            images[n] = torch.from_numpy(image.transpose(2, 0, 1).copy())
        n += 1
    if not n:
        raise no_images(key, folder, skipped)
    return [images[:n] for images in stacks]
