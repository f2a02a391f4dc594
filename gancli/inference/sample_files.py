"""Generated images in files: a grid, arrays, an animation, or a folder with an image a file."""

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gancli import images
from gancli.data.classes import class_folders
from gancli.data.listing import UNFINISHED_SAMPLES
from gancli.inference.film import FORMATS, check_film, write_film
from gancli.inference.generator import Generator
from gancli.runtime.files import (
    check_writable,
    partial_path,
    remove_partials,
    typed_path,
    write_atomically,
    write_text,
)
from gancli.runtime.text import plural, printable

LARGEST_GRID = 10_000  # images
REMOVED = "removed.txt"  # in UNFINISHED_SAMPLES: the older samples that no new one replaces
MARK = b"Software\0gan sample"  # near the start of every image in a folder: by it they are known as samples


def output_path(out: str, default: str, n: int, size: int = 0) -> tuple[Path, str]:
    """Return where n images go and in which of WRITERS' forms; without `out` a new file named as `default`.

    Args:
        size: width of the frames of a film.

    Raises:
        ValueError: it cannot be written.
    """
    path = typed_path(out) if out else unused(Path(default))
    is_folder = out.endswith(("/", "\\")) or path.is_dir() or not path.suffix
    form = "folder" if is_folder else path.suffix.lower()
    if form not in WRITERS:
        known = "out=grid.png, out=x.npz, out=x.gif, out=x.mp4 or out=DIR/"
        raise ValueError(f"out={out} is not a known format; type {known}")
    if form in FORMATS:
        check_film(path, size)
    elif size:
        raise ValueError(f"size={size} is the width of a film's frames, and {path} is no film; type out=x.gif")
    if form == ".png" and n > LARGEST_GRID:
        raise ValueError(f"a grid holds at most {LARGEST_GRID:,} images, but {n:,} were given; type out=x.npz")
    check_writable("out", path)
    return path, form


def unused(path: Path) -> Path:
    """Return `path`, or the first of its name with -2, -3, ... that does not exist."""
    candidates = (path.with_stem(f"{path.stem}-{i}") if i > 1 else path for i in range(1, 100_000))
    return next(c for c in candidates if not c.exists())


def check_samples(path: Path, overwrite: bool) -> None:
    """Complete what a killed `gan sample` began in a folder; raise ValueError where older samples lie and must stay.

    Args:
        overwrite: replace the samples of an earlier `gan sample`, and no other file.
    """
    remove_partials(path)
    complete(path)
    older = older_samples(path)
    if older and not overwrite:
        raise ValueError(
            f"{path} holds {plural(len(older), 'older sample')}, the first {older[0]}; type overwrite=true to replace "
            f"them, or another out="
        )
    for file in older:
        if not is_sample(file):
            raise ValueError(f"{file} was not written by gan sample and stays; type another out=")


def older_samples(path: Path) -> list[Path]:
    """Return the files of a folder that are named as `gan sample` names them."""
    names = [*path.glob("*.png"), *path.glob("*/*.png")]
    return sorted(file for file in names if re.fullmatch(r"[0-9]{6,}", file.stem))


def is_sample(file: Path) -> bool:
    with file.open("rb") as opened:
        return MARK in opened.read(200)


def complete(path: Path) -> None:
    """Put the new samples of a folder in their places and remove the older ones; repeatable after a kill."""
    new = path / UNFINISHED_SAMPLES
    if not new.is_dir():
        return
    names = [file.relative_to(new) for file in sorted(new.rglob("*.png"))]
    removed = set((new / REMOVED).read_text(encoding="utf-8", errors="replace").split("\n"))
    emptied = set()
    for file in older_samples(path):  # those alone, whatever a received list says
        if printable(file.relative_to(path).as_posix()) in removed and is_sample(file):
            file.unlink()
            emptied.add(file.parent)
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (new / name).replace(path / name)
    shutil.rmtree(new)
    for folder in emptied - {path}:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def write_grid(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    images.write(images.grid(x, columns), path)


def write_arrays(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """Write `images` uint8 (N, H, W, C), or `points` float32 (N, 2), and if conditional `labels` int64 (N,)."""
    arrays: dict[str, Any] = {"images": images.to_array(x)}
    if images.is_points(x):
        arrays = {"points": x.flatten(1).cpu().numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    write_atomically(path, lambda partial: np.savez_compressed(partial, **arrays))


def write_frames(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    write_film(path, iter(x.split(1)), len(x))


def write_folder(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """Write NNNNNN.png by image number, in a folder a class, so that `data=folder` can read them again.

    All are written next to older ones, then take their place: a kill leaves the older or the new ones, and while they
    change places no command reads the folder.
    """
    info = PngInfo()
    info.add_text("Software", "gan sample")
    folders = class_folders([G.class_name(label) for label in range(G.classes)])
    path.mkdir(parents=True, exist_ok=True)
    new = partial_path(path / "samples")
    try:
        new.mkdir()
        names = set()
        for i, array in enumerate(images.to_array(x)):
            folder = "" if labels is None else folders[int(labels[i])]
            (new / folder).mkdir(exist_ok=True)
            images.to_pil(array).save(new / folder / f"{i:06d}.png", pnginfo=info)
            names.add(printable(f"{folder}/{i:06d}.png".lstrip("/")))
        older = {printable(file.relative_to(path).as_posix()) for file in older_samples(path)}
        write_text(new / REMOVED, "\n".join(sorted(older - names)))
        new.replace(path / UNFINISHED_SAMPLES)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    complete(path)


# x is (N, C, H, W) in [-1, 1] or uint8; labels (N,) or None; columns those of a grid.
WRITERS = {".png": write_grid, ".npz": write_arrays, "folder": write_folder, **dict.fromkeys(FORMATS, write_frames)}
