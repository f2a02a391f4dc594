"""A folder of pictures: which there are, reading each whatever its kind, and what `gan data check` tells.

No torch here: checking a folder answers at once.
"""

import os
import shlex
import statistics
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from gancli.config import override

T = TypeVar("T")
FITS = ("crop", "pad", "squash")
# Pillow alone does not read HEIC, but a phone's pictures should be named as such rather than overlooked.
EXTENSIONS = {
    *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}


@dataclass
class Listing:
    """The pictures of a folder, by name alone.

    root:    the folder
    names:   paths below root with forward slashes, sorted
    classes: for each name the folder directly below root that it is in; empty where there are no such folders
    skipped: (name, reason) of pictures and folders that cannot take part
    """

    root: Path
    names: list[str]
    classes: list[str]
    skipped: list[tuple[str, str]]


@dataclass
class Facts:
    """What one picture was on disk: pixels across and down as a viewer shows it, Pillow's mode, the file format."""

    width: int
    height: int
    mode: str
    format: str


@dataclass
class CheckReport:
    """What `gan data check` found.

    pictures:        number of pictures that can be read
    classes:         class to number of its readable pictures, sorted by name; empty where there are no sub-folders
    widths, heights: (smallest, median, largest) in pixels of those pictures; zeros where there is none
    modes, formats:  Pillow's mode and the file format to number of pictures, commonest first
    bad:             (file, reason) of what cannot be used
    suggestions:     a sentence or a command each
    """

    path: Path
    pictures: int
    classes: dict[str, int]
    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    modes: dict[str, int]
    formats: dict[str, int]
    bad: list[tuple[str, str]]
    suggestions: list[str]


def printable(name: str) -> str:
    """A file's name as text that can be printed: the bytes of a name that is not valid text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def find(path: str) -> Listing:
    """Every picture at any depth below the folder `path`, in an order that depends on the names alone.

    Folders directly below `path` that hold a picture are the classes. Pictures that lie loose beside such folders
    belong to none and are skipped with that reason. Hidden names (.x) and other files are ignored. A link to a folder
    is followed unless it leads back into the tree or above it. Raises ValueError where there is no such folder.
    """
    root = Path(str(path)).expanduser()  # Hydra reads data.path=2024 as a number
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise ValueError(
            f"{path} is {what}, not a folder: give the folder of your pictures (data.path=DIR, gan data check DIR)"
        )
    skipped: list[tuple[str, str]] = []
    names = sorted(walk(root, skipped))
    tops = ["" if "/" not in name else name.split("/", 1)[0] for name in names]
    if any(tops):
        reason = "lies beside the class folders, so it is of no class"
        skipped += [(name, reason) for name, top in zip(names, tops) if not top]
        names, tops = [n for n, top in zip(names, tops) if top], [top for top in tops if top]
        return Listing(root, names, tops, skipped)
    return Listing(root, names, [], skipped)


def walk(root: Path, skipped: list[tuple[str, str]]) -> Iterator[str]:
    """The names below root, unsorted."""
    real_root = root.resolve()
    seen: set[Path] = set()  # what links led to

    def refused(error: OSError) -> None:
        skipped.append((Path(error.filename).relative_to(root).as_posix(), error.strerror or "cannot be opened"))

    def follow(folder: Path) -> bool:
        if not folder.is_symlink():
            return True
        real = folder.resolve()
        if real in seen or real.is_relative_to(real_root) or real_root.is_relative_to(real):
            return False
        seen.add(real)
        return True

    for folder, below, files in os.walk(root, onerror=refused, followlinks=True):
        here = Path(folder)
        below[:] = sorted(name for name in below if not name.startswith(".") and follow(here / name))
        start = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield start + name


def decode(path: Path, side: int | None = None) -> tuple[Image.Image, Facts]:
    """A picture file of any kind as upright 8-bit "L" or "RGB", and what it was.

    Transparent parts become white; 16-bit grey is divided by 257; of an animation the first frame is taken. With `side`
    a large JPEG is decoded at a fraction of its size, at least 2 * side pixels either way, which is faster.
    Raises ValueError with the reason, without the path, where that is not possible.
    """
    # A broken link, a folder that is closed, or a pipe that would be waited on for ever.
    if not os.path.isfile(path):  # noqa: PTH113  it raises nothing
        raise ValueError("is not a file that can be opened")
    try:
        with Image.open(path) as picture:
            kind, mode, (width, height) = picture.format or "?", picture.mode, picture.size
            if side:
                picture.draft(None, (2 * side, 2 * side))  # None keeps the mode
            upright = ImageOps.exif_transpose(picture)
            if picture.getexif().get(0x0112, 1) >= 5:  # the four orientations that swap the sides
                width, height = height, width
            return _eight_bits(upright), Facts(width, height, mode, kind)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"has more than Pillow's limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Image.UnidentifiedImageError:
        raise ValueError("is empty" if not path.stat().st_size else "is not a picture that Pillow knows") from None
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        lines = str(error).strip().splitlines()
        raise ValueError(lines[0] if lines else type(error).__name__) from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Any mode to "L" or "RGB"."""
    if picture.mode == "I" or picture.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("has 32-bit values, which have no known range: save it with 8 or 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("has floating-point values, which have no known range: save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def fitted(picture: Image.Image, size: int, channels: int, fit: str) -> np.ndarray:
    """An 8-bit picture as uint8 (size, size, channels), resized by antialiased bicubic.

    fit: "crop" fills the square and cuts what hangs over on both sides, "pad" shows all of the picture between bars of
    white, "squash" ignores its proportions.
    """
    picture = picture.convert("L" if channels == 1 else "RGB")
    if fit == "crop":
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    elif fit == "squash":
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    else:
        assert fit == "pad", fit
        scale = size / max(picture.size)
        w, h = (max(1, round(side * scale)) for side in picture.size)
        square = Image.new(picture.mode, (size, size), "white")
        square.paste(picture.resize((w, h), Image.Resampling.BICUBIC), ((size - w) // 2, (size - h) // 2))
        picture = square
    return np.asarray(picture).reshape(size, size, channels)


def each(read: Callable[[Path], T], paths: Iterable[Path]) -> Iterator[T | str]:
    """read(path) for every path in order, by several threads; where it raises ValueError, the reason instead.

    They read a few pictures ahead, and not all: they may be faster than a disk that takes what they make.
    """

    def safely(path: Path) -> T | str:
        try:
            return read(path)
        except ValueError as error:
            return str(error)

    many = min(8, os.cpu_count() or 1)
    ahead: deque[Future[T | str]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(many) as threads:
        warnings.simplefilter("ignore", UserWarning)  # of Pillow, on odd metadata of pictures that it can read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            for path in paths:
                ahead.append(threads.submit(safely, path))
                if len(ahead) > 4 * many:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # whoever stops does not wait for what he did not want
            threads.shutdown(wait=False, cancel_futures=True)


def check(path: str) -> CheckReport:
    """Read every picture below the folder `path` as data=folder does. ValueError where there is no such folder."""
    listing = find(path)
    facts: list[Facts] = []
    bad, counts = list(listing.skipped), Counter[str]()
    results = each(lambda file: decode(file)[1], [listing.root / name for name in listing.names])
    for name, top, result in zip(listing.names, listing.classes or listing.names, results):
        if isinstance(result, str):
            bad.append((name, result))
        else:
            facts.append(result)
            counts[top] += 1
    report = CheckReport(
        path=listing.root,
        pictures=len(facts),
        classes=dict(sorted(counts.items())) if listing.classes else {},
        widths=_range([fact.width for fact in facts]),
        heights=_range([fact.height for fact in facts]),
        modes=dict(Counter(fact.mode for fact in facts).most_common()),
        formats=dict(Counter(fact.format for fact in facts).most_common()),
        bad=sorted(bad),
        suggestions=[],
    )
    if facts:
        report.suggestions = _suggestions(report, statistics.median(min(fact.width, fact.height) for fact in facts))
    return report


def _range(values: list[int]) -> tuple[int, int, int]:
    return (min(values), round(statistics.median(values)), max(values)) if values else (0, 0, 0)


def _suggestions(report: CheckReport, side: float) -> list[str]:
    size = next((s for s in (64, 32, 16) if s <= side), 8)  # 64 is what a small machine trains in a sitting
    command = f"gan train data=folder {shlex.quote(override('data.path', f'{report.path}/'))} data.size={size}"
    if all(mode in ("1", "L", "I") or mode.startswith("I;16") for mode in report.modes):
        command += " data.channels=1"
    if report.pictures < 128:  # most recipes' batch, which cannot be larger than the data
        command += f" data.batch_size={1 << report.pictures.bit_length() - 1}"
    if len(report.classes) > 1:
        command += " model=cgan"
    said = [command]
    if report.classes and max(report.classes.values()) >= 10 * min(report.classes.values()):
        rare = min(report.classes, key=lambda name: report.classes[name])
        said.append(f"class {rare} is rare, {report.classes[rare]} of {report.pictures}: add pictures or leave it out")
    if report.pictures < 500:
        said.append(f"{report.pictures} pictures are few for a GAN: it may learn them by heart; 500 and more do better")
    if report.bad:
        said.append("delete or repair the bad files; training leaves them out, or refuses them with data.strict=true")
    return said
