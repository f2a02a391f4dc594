"""Files for the commands that make pictures of pictures: which there are, where results go, reading and writing them.

One that is bad is named and the others are made.
"""

import contextlib
import glob
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile
from tqdm import tqdm

from gancli import images
from gancli.config import UsageError, nearest
from gancli.data.image_files import EXTENSIONS, walk_images
from gancli.data.image_modes import Note, plain
from gancli.runtime.hardware import free_memory
from gancli.runtime.text import printable

# The first suffix of each is the one that is given.
FORMATS = {"png": (".png",), "jpg": (".jpg", ".jpeg"), "webp": (".webp",), "tiff": (".tif", ".tiff")}
LONGEST = {"jpg": 65_500, "webp": 16_383}  # sides that these formats can hold
# Pillow keeps a pixel of the result in 4 bytes, of alpha in one more; what WebP takes was measured.
BYTES_A_PIXEL = {"webp": 34}
ROOM = 0.8e9  # for a tile's activations and what torch itself takes
# On photographs level 4 takes half the time of zlib's own 6 and 2 to 3 % more bytes.
PNG_LEVEL = 4


class Job(NamedTuple):
    source: Path
    target: Path
    below: Path = Path()  # the folder that the picture lies in, as seen from the one that was named


Progress = Callable[[int], object]  # told of each part of a picture how many pixels it has
Make = Callable[[Job, Progress], None]  # makes the result of one picture and writes it


class Plan:
    """What is to be done: `jobs`, and what is not: `failures` (name, reason), `skipped` and `left_out`, counted."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.failures: list[tuple[str, str]] = []
        self.skipped = self.left_out = 0


def run(
    command: str,
    done: str,
    inputs: Sequence[str],
    out: str,
    mark: str,
    kind: str,
    overwrite: bool,
    skip: bool,
    begin: Callable[[], Make],
) -> None:
    """Make the result of every picture that is named; prints the paths written. ValueError at the end where one failed.

    done: what becomes of a picture, as "enlarged". mark: what its name gets. kind: of `form`. begin: loads the network.
    """
    if not inputs:
        example = "photo.jpg" if command == "upscale" else "photo.jpg ckpt=latest"
        raise UsageError(
            f"gan {command} was given no picture; type gan {command} {example}, a folder, or several of either"
        )
    if overwrite and skip:
        raise UsageError("overwrite=true and skip=true contradict each other; leave one out")
    plan = planned(found([str(word) for word in inputs], out, mark, FORMATS[kind][0]), overwrite, skip)
    total = len(plan.jobs) + len(plan.failures) + plan.skipped
    alone = total == 1
    if plan.failures and alone:
        raise ValueError(": ".join(plan.failures[0]))
    for failure in plan.failures:
        say(*failure)
    if plan.left_out:
        say(f"{plan.left_out} of the inputs are results of others and were left out")
    if plan.jobs:
        plan.failures += work(plan.jobs, begin(), alone)
    if plan.failures:
        raise ValueError(f"{len(plan.failures)} of {total} pictures could not be {done}: see above")
    if not alone:
        there = f", {plan.skipped} were there already" if plan.skipped else ""
        print(f"{len(plan.jobs)} pictures written{there}", file=sys.stderr)


def form(out: str, format: str, quality: int = 100) -> str:
    """The key of FORMATS that is meant."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality is between 1 and 100, but quality={quality}; type quality=95")
    kind = {"jpeg": "jpg", "tif": "tiff"}.get(format.lower(), format.lower())
    if kind and kind not in FORMATS:
        raise ValueError(f"there is no format {format!r}{nearest(kind, FORMATS)}; there are: {', '.join(FORMATS)}")
    if not names_file(out):
        return kind or "png"
    suffix = Path(out).suffix.lower()
    named = next((k for k, suffixes in FORMATS.items() if suffix in suffixes), "")
    if not named:
        raise ValueError(f"out={out} is no form that is written; type out=x.png, x.jpg, x.webp, x.tiff, or out=DIR/")
    if kind and kind != named:
        raise ValueError(f"out={out} is not format={format}; leave format= out")
    return named


def names_file(out: str) -> bool:
    return bool(Path(out).suffix) and not out.endswith(("/", "\\")) and not Path(out).expanduser().is_dir()


# --- which pictures, and where their results go -------------------------------------------------------------------


def found(words: list[str], out: str, mark: str, suffix: str) -> list[Job | tuple[str, str]]:
    """For every picture that the words name a job, in order; (name, reason) for what cannot be one."""
    to = Path(out).expanduser() if out else None
    listed: list[Job | tuple[str, str]] = []
    for word in words:
        path = Path(word)
        # What is there by that very name is meant, also where the name could be read otherwise: [1].png, ~.png.
        if not os.path.lexists(path):
            with contextlib.suppress(RuntimeError):  # ~somebody, who is not known here
                path = path.expanduser()
        paths = [path]
        if not os.path.lexists(path):  # Path.glob takes no absolute pattern
            matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
            paths = [p for p in matches if p.is_file() and p.suffix.lower() in EXTENSIONS]
        if not paths:
            what = "no picture has such a name" if glob.has_magic(str(path)) else "there is no such file or folder"
            listed.append((printable(word), what))
        for path in paths:
            if not path.is_dir():
                target = to if to and names_file(out) else (to or path.parent) / f"{path.stem}{mark}{suffix}"
                listed.append(Job(path, target))
                continue
            if to and names_file(out):
                raise ValueError(f"out={out} names one picture, but {path} is a folder; type out=DIR/")
            # Beside the folder, not in it: done a second time, its own results are not taken for pictures of it.
            whole = path if path.name and path.name != ".." else path.resolve()
            jobs = mirrored(path, to or whole.with_name(whole.name + mark), mark, suffix)
            listed += jobs or [(printable(word), "no picture is in it")]
    if names_file(out) and len(listed) > 1:
        raise ValueError(f"out={out} names one picture, but {len(listed)} were given; type out=DIR/")
    return listed


def mirrored(folder: Path, to: Path, mark: str, suffix: str) -> list[Job | tuple[str, str]]:
    """Every picture at any depth of a folder, into the same sub-folder of `to`; what already lies in `to` is none."""
    names, refused = walk_images(folder)
    sources = [folder / name for name in names]
    inside = to.resolve() if folder.resolve() != to.resolve() else None
    jobs = [
        Job(source, to / below / f"{source.stem}{mark}{suffix}", below)
        for source, below in ((source, source.relative_to(folder).parent) for source in sources)
        if not (inside and source.resolve().is_relative_to(inside))
    ]
    return [*jobs, *((printable(f"{folder / name}"), reason) for name, reason in refused)]


def planned(listed: list[Job | tuple[str, str]], overwrite: bool, skip: bool) -> Plan:
    """What of it is done: nothing twice, and no result over another, over its own picture, or over one that is there.

    An input that is the result of another one is left out: `gan upscale *.png` again means the same pictures again.
    """
    plan = Plan()
    results = {job.target.resolve(): job.source.resolve() for job in listed if isinstance(job, Job)}
    taken: dict[Path, Path] = {}
    for job in listed:
        if not isinstance(job, Job):
            plan.failures.append(job)
            continue
        name, source, target = printable(str(job.source)), job.source.resolve(), job.target.resolve()
        before = taken.get(target)
        if before and before.resolve() == source:
            continue
        if results.get(source, source) != source:
            plan.left_out += 1
        elif source == target:
            plan.failures.append((name, "would be written over by its own result; type another out="))
        elif before:
            reason = f"its result would be {job.target}, which is that of {before}; run it by itself with another out="
            plan.failures.append((name, printable(reason)))
        else:
            taken[target] = job.source
            if not target.exists() or overwrite:
                plan.jobs.append(job)
            elif skip:
                plan.skipped += 1
            else:
                reason = f"{job.target} is there already; type overwrite=true, or skip=true to leave it"
                plan.failures.append((name, printable(reason)))
    return plan


# --- the work -----------------------------------------------------------------------------------------------------


def work(jobs: list[Job], make: Make, alone: bool) -> list[tuple[str, str]]:
    """Do every job and print its path; gives (name, reason) of those that failed. The only one's reason is raised."""
    failures: list[tuple[str, str]] = []
    sizes = [pixels(job.source) for job in jobs]
    written = 0
    with tqdm(total=sum(sizes), unit="px", unit_scale=True, file=sys.stderr, disable=None) as bar:
        for job, size in zip(jobs, sizes):
            name = printable(str(job.source))
            bar.set_description_str(printable(job.source.name))
            end = bar.n + size
            with warnings.catch_warnings(record=True) as caught:  # Pillow's own, on odd metadata say, are not shown
                warnings.simplefilter("always")
                try:
                    make(job, bar.update)
                    written += 1
                    reason = ""
                except KeyboardInterrupt as error:
                    whole = f"{written} of {len(jobs)} pictures are written, each whole; skip=true goes on from there"
                    raise KeyboardInterrupt(whole) from error
                except Exception as error:  # a damaged file can fail in any way inside Pillow
                    if alone or os.environ.get("GAN_TRACEBACK") == "1":
                        raise ValueError(f"{name}: {explained(error)}") from error
                    reason = explained(error)
            for warning in caught:
                if issubclass(warning.category, Note):
                    say(name, str(warning.message))
            if reason:
                failures.append((name, reason))
                say(name, reason)
            else:
                tqdm.write(printable(str(job.target)), file=sys.stdout)
            bar.update(end - bar.n)
    return failures


def say(*parts: str) -> None:
    """A line on standard error, above the bar."""
    tqdm.write(f"gan: {': '.join(parts)}", file=sys.stderr)


def explained(error: Exception) -> str:
    """What went wrong with one picture, in one line."""
    if isinstance(error, MemoryError):
        return "memory ran out; close other programs, or cut it into parts first"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def pixels(path: Path) -> int:
    """How many pixels a picture has, by its header; 0 where that cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened(path) as picture:
                return picture.width * picture.height
    except Exception:  # it is named when its turn comes
        return 0


def opened(path: Path) -> ImageFile.ImageFile:
    """Image.open with its reasons in plain words."""
    if not path.is_file():  # a broken link, or a pipe that would be waited on for ever
        raise ValueError("is not a file that can be opened")
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"has more than the {most:,} pixels that Pillow opens; cut it into parts first") from None
    except Image.UnidentifiedImageError:
        raise ValueError("is empty" if not path.stat().st_size else "is not a picture that Pillow knows") from None


def read(path: Path, scale: int, kind: str) -> Image.Image:
    """A picture as `plain` gives it. ValueError where a result `scale` times as large could not be held."""
    with opened(path) as file:
        check_size(file, scale, kind)
        if getattr(file, "is_animated", False) and file.format != "MPO":  # a photograph with a preview beside it
            warn("has several frames, of which the first was taken")
        # What Pillow is about to unpack. It has no mode for 16 bits of several channels, and takes the upper 8.
        if ";16" in "".join(str(tile[3]) for tile in file.tile) and not file.mode.startswith("I"):
            warn("has 16 bits a channel, of which 8 were read: 16 are kept of grey pictures alone")
        return plain(file)


def reduced(picture: Image.Image, kind: str) -> Image.Image:
    """A picture as `plain` gives it, as one that the format can hold."""
    if kind == "jpg" and picture.mode in ("LA", "RGBA"):
        warn("is transparent, which jpg cannot be, and was laid on white; type format=png to keep it")
        white = Image.new("RGBA", picture.size, "white")
        held = Image.alpha_composite(white, picture.convert("RGBA")).convert(picture.mode.removesuffix("A"))
    elif kind in ("jpg", "webp") and picture.mode == "I;16":
        warn(f"has 16 bits, of which {kind} holds 8; type format=png to keep them")
        held = Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    else:
        return picture
    held.info = picture.info
    return held


def warn(text: str) -> None:
    warnings.warn(text, Note, stacklevel=2)


def check_size(picture: Image.Image, scale: int, kind: str) -> None:
    """ValueError where the result would be more than the format or the memory holds."""
    w, h = scale * picture.width, scale * picture.height
    becomes, less = ("becomes", "type a smaller scale=, or cut it") if scale > 1 else ("is", "cut it")
    if max(w, h) > LONGEST.get(kind, sys.maxsize):
        raise ValueError(
            f"{becomes} {w:,} x {h:,} pixels, but {kind} holds at most {LONGEST[kind]:,} a side; type format=png"
        )
    # Of what is read: Pillow's copies and the array, and where it is transparent floats of its colours.
    needed = w * h * BYTES_A_PIXEL.get(kind, 5) + picture.width * picture.height * 60 + ROOM
    if needed > (free := free_memory()):
        raise ValueError(
            f"{becomes} {w:,} x {h:,} pixels, for which about {needed / 1e9:.1f} GB of memory are needed and "
            f"{free / 1e9:.1f} are free; {less} into parts first"
        )


def save(picture: Image.Image, path: Path, kind: str, quality: int) -> None:
    options: dict[str, dict[str, Any]] = {
        "png": {"format": "PNG", "compress_level": PNG_LEVEL},
        "jpg": {"format": "JPEG", "quality": quality},
        "webp": {"format": "WEBP", "quality": quality, "lossless": quality == 100, "exact": quality == 100},
        "tiff": {"format": "TIFF"},  # what compresses it in Pillow cannot write EXIF
    }
    metadata = {key: picture.info[key] for key in ("exif", "icc_profile", "dpi") if key in picture.info}
    try:
        images.write(picture, path, **options[kind], **metadata)
    except (OSError, MemoryError):
        raise
    except Exception:
        if not metadata:
            raise
        # What is wrong with metadata, too long for jpg say, must not cost the picture.
        warn(f"its EXIF, ICC profile or dpi cannot be written to {kind} and were left out")
        picture.info = {}
        images.write(picture, path, **options[kind])
