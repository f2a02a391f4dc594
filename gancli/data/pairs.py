"""Targets x and the sources c they are to be made of: pairs of pictures, or two sets without an order between them."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli.config import nearest
from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.data.image_files import FITS, decode, each, fitted, printable, walk


def pairs(
    path: str,
    sources: str = "",
    size: int = 256,
    channels: int = 3,
    source_channels: int = 3,
    fit: str = "crop",
    swap: bool = False,
) -> ImageDataset:
    """Pairs of pictures at any depth below the folder `path`, each of the two as `size` x `size` pixels.

    Without `sources` a picture holds both side by side, the source on the left, the target on the right, in halves of
    one width: the layout of Isola et al. 2017, https://arxiv.org/abs/1611.07004. With it `path` has the targets and the
    folder `sources` their sources, by the same names below either, suffixes aside. swap: sources become targets and
    targets sources. fit: as for data=folder, for both alike.
    Pairs of which a picture cannot be read are named in `skipped`. Raises ValueError where a picture has no partner or
    one of another size, and for a folder that is missing or has no readable pair.
    """
    if not path:
        raise ValueError(
            "data=pairs needs data.path=DIR, a folder of pictures side by side, or data.path=DIR data.sources=DIR, "
            "folders of the targets and of their sources"
        )
    check(size, channels, source_channels, fit)
    skipped: list[tuple[str, str]] = []
    files = found("path", path, skipped)
    partners = matched(path, files, sources, found("sources", sources, skipped)) if sources else {}

    def read(file: Path) -> list[np.ndarray] | ValueError:
        two = from_two_files(partners[file], file) if partners else halves(file)
        if isinstance(two, ValueError):
            return two
        return [fitted(p, size, c, fit) for p, c in zip(two[::-1] if swap else two, (source_channels, channels))]

    known, images = loaded("path", path, files, read, (source_channels, channels), size, skipped)
    return ImageDataset(images, torch.zeros(len(images), dtype=torch.int64), [], shown(skipped), known)


def unpaired(
    path: str, sources: str, size: int = 256, channels: int = 3, source_channels: int = 3, fit: str = "crop"
) -> ImageDataset:
    """Two sets of pictures: targets at any depth below the folder `path`, sources below `sources`, of any number.

    Every picture becomes `size` x `size` pixels; fit: as for data=folder. Pictures that cannot be read are named in
    `skipped`. Raises ValueError for a folder that is missing or has no readable picture.
    """
    if not path or not sources:
        raise ValueError(
            "data=unpaired needs data.path=DIR and data.sources=DIR, the folders of the targets and of the sources"
        )
    check(size, channels, source_channels, fit)
    skipped: list[tuple[str, str]] = []

    def read_all(key: str, folder: str, channels: int) -> Tensor:
        def read(file: Path) -> list[np.ndarray] | ValueError:
            return [fitted(decode(file, side=size)[0], size, channels, fit)]

        return loaded(key, folder, found(key, folder, skipped), read, [channels], size, skipped)[0]

    images, known = read_all("path", path, channels), read_all("sources", sources, source_channels)
    return ImageDataset(images, torch.zeros(len(images), dtype=torch.int64), [], shown(skipped), known, paired=False)


def two_classes(data: ImageDataset, source: int | str, target: int | str) -> ImageDataset:
    """Two sets of images without classes, of two classes of labelled data, each given by its name or number."""
    if not data.classes:
        raise ValueError(
            "these data have no classes of which one could become another: choose data with classes such as data=mnist"
            ", or type data=unpaired data.path=DIR data.sources=DIR"
        )
    if data.is_points:
        raise ValueError("points of the plane are no pictures to make others of: choose data.kind=shapes")
    numbers = [class_index(data.class_names, name) for name in (source, target)]
    if numbers[0] == numbers[1]:
        raise ValueError(
            f"source and target are both the class {data.class_names[numbers[0]]}: give two classes of "
            f"{listed(data.class_names)}"
        )
    known, images = (data.images[data.labels == k] for k in numbers)
    for k, there in zip(numbers, (known, images)):
        if not len(there):
            raise ValueError(f"the data has no image of the class {data.class_names[k]}: choose another class")
    labels = torch.zeros(len(images), dtype=torch.int64)
    return ImageDataset(images, labels, [], data.skipped, known, paired=False, warnings=data.warnings)


def class_index(names: Sequence[str], name: int | str) -> int:
    """Of a name, else of a number: a folder called 8 is meant rather than the ninth."""
    if str(name) in names:
        return names.index(str(name))
    if str(name).isdecimal() and int(name) < len(names):
        return int(name)
    raise ValueError(f"there is no class {name}{nearest(str(name), names)}: the classes are {listed(names)}")


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def check(size: int, channels: int, source_channels: int, fit: str) -> None:
    """Raises ValueError unless all can be."""
    if None in (size, channels, source_channels):
        raise ValueError(
            f"data.size={size} data.channels={channels} data.source_channels={source_channels}: give all three, such "
            "as data.size=64 data.channels=3 data.source_channels=3"
        )
    check_size_and_channels(size, channels, source_channels)
    if fit not in FITS:
        raise ValueError(f"data.fit={fit} is not one of {', '.join(FITS)}{nearest(str(fit), FITS)}")


def found(key: str, folder: str, skipped: list[tuple[str, str]]) -> dict[str, Path]:
    """The pictures below a folder by their names below it, in an order that depends on the names alone."""
    root = Path(str(folder)).expanduser()  # Hydra reads data.path=2024 as a number
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise ValueError(f"data.{key}={folder} is {what}, not a folder: give the folder of your pictures")
    closed: list[tuple[str, str]] = []
    names = sorted(walk(root, closed))
    skipped += [(str(root / name), reason) for name, reason in closed]
    if not names:
        raise unusable(key, folder, "it has no pictures")
    return {name: root / name for name in names}


def unusable(key: str, folder: str, why: str) -> ValueError:
    return ValueError(
        f"data.{key}={folder} cannot be trained on, {why}: see what is there with "
        f"gan data check {shlex.quote(str(folder))}"
    )


def matched(path: str, targets: dict[str, Path], sources: str, others: dict[str, Path]) -> dict[Path, Path]:
    """For each target its source. ValueError unless all are in pairs."""
    sides = (("path", path, targets), ("sources", sources, others))
    stems = [by_stem(key, folder, files) for key, folder, files in sides]
    alone = [[file for stem, file in own.items() if stem not in other] for own, other in (stems, reversed(stems))]
    if alone[0] or alone[1]:
        first = (alone[0] or alone[1])[0]
        raise ValueError(
            f"{len(alone[0])} of the {len(targets)} pictures in data.path={path} and {len(alone[1])} of the "
            f"{len(others)} in data.sources={sources} have no counterpart of the same name, the first "
            f"{printable(str(first))}: add what is missing or delete it, or choose data=unpaired where no two belong "
            "together"
        )
    return {file: stems[1][stem] for stem, file in stems[0].items()}


def by_stem(key: str, folder: str, files: dict[str, Path]) -> dict[str, Path]:
    """Pictures by name without suffix. ValueError where two have the same."""
    stems: dict[str, Path] = {}
    for name, file in files.items():
        stem = str(PurePath(name).with_suffix(""))
        if stem in stems:
            raise ValueError(
                f"{printable(stems[stem].name)} and {printable(file.name)} in data.{key}={folder} differ in their "
                "suffix alone, so that either could be the one of a pair: delete or rename one"
            )
        stems[stem] = file
    return stems


def halves(file: Path) -> tuple[Image.Image, Image.Image] | ValueError:
    """The left and the right half of a picture. An error is raised where that one is at fault, else given back."""
    picture = decode(file)[0]
    w, h = picture.size
    if w % 2:
        return ValueError(
            f"{printable(str(file))} is {w}x{h}, which has no halves of one width: make it even, or put sources and "
            "targets into a folder each and type data.path=TARGETS data.sources=SOURCES"
        )
    return picture.crop((0, 0, w // 2, h)), picture.crop((w // 2, 0, w, h))


def from_two_files(source: Path, target: Path) -> tuple[Image.Image, Image.Image] | ValueError:
    """Both pictures. An error is raised where one of them is at fault, else given back.

    Whole, not at the fraction of its size that a JPEG can be decoded at: they must lie on one another to the pixel.
    """
    picture = decode(target)[0]
    try:
        known = decode(source)[0]
    except ValueError as error:
        raise ValueError(f"its source {source} cannot be used: {error}") from error
    if known.size != picture.size:
        said = [f"{printable(str(f))} is {p.width}x{p.height}" for f, p in ((source, known), (target, picture))]
        return ValueError(f"{' and '.join(said)}, but the two of a pair lie on one another: bring both to one size")
    return known, picture


def loaded(
    key: str,
    folder: str,
    files: dict[str, Path],
    read: Callable[[Path], list[np.ndarray] | ValueError],
    channels: Sequence[int],
    size: int,
    skipped: list[tuple[str, str]],
) -> list[Tensor]:
    """The arrays (size, size, C) that `read` makes of each file, stacked to uint8 (N, C, size, size) for each C.

    A ValueError that it raises is the reason to skip the file; one that it gives back is raised.
    """
    stacks = [torch.empty((len(files), c, size, size), dtype=torch.uint8) for c in channels]
    good = 0
    for file, result in zip(files.values(), each(read, files.values())):
        if isinstance(result, ValueError):
            raise result
        if isinstance(result, str):
            skipped.append((str(file), result))
            continue
        for stack, image in zip(stacks, result):
            stack[good] = torch.from_numpy(image.transpose(2, 0, 1).copy())
        good += 1
    if not good:
        raise unusable(key, folder, f"none of its {len(files)} pictures can be read")
    return [stack[:good] for stack in stacks]


def shown(skipped: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((printable(name), printable(reason)) for name, reason in skipped)
