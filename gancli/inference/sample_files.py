"""Generated images in files: a grid, arrays, an animation, or a folder with an image a file."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gancli import images
from gancli.data.classes import class_folders
from gancli.inference.generator import Generator
from gancli.runtime.files import typed_path, write_atomically
from gancli.runtime.text import plural

FRAME_MS = 60  # of an animation
LARGEST_GRID = 10_000  # images
MARK = b"Software\0gan sample"  # near the start of every image in a folder: by it they are known as samples


def output_path(out: str, default: str, n: int) -> tuple[Path, str]:
    """Return where n images go and in which of WRITERS' forms; without `out` a new file named as `default`."""
    path = typed_path(out) if out else unused(Path(default))
    is_folder = out.endswith(("/", "\\")) or path.is_dir() or not path.suffix
    form = "folder" if is_folder else path.suffix.lower()
    if form not in WRITERS:
        raise ValueError(f"out={out} is not a known format; type out=grid.png, out=x.npz, out=x.gif or out=DIR/")
    if form == ".png" and n > LARGEST_GRID:
        raise ValueError(f"a grid holds at most {LARGEST_GRID:,} images, but {n:,} were given; type out=x.npz")
    return path, form


def unused(path: Path) -> Path:
    """Return `path`, or the first of its name with -2, -3, ... that does not exist."""
    candidates = (path.with_stem(f"{path.stem}-{i}") if i > 1 else path for i in range(1, 100_000))
    return next(c for c in candidates if not c.exists())


def check_samples(path: Path, overwrite: bool) -> list[Path]:
    """Return the samples of an earlier gan sample in a folder, for overwrite=true to replace.

    Raises:
        ValueError: there are such and `overwrite` is false, or one of their names belongs to another file.
    """
    names = [*path.glob("*.png"), *path.glob("*/*.png")]
    older = sorted(file for file in names if re.fullmatch(r"[0-9]{6,}", file.stem))
    if older and not overwrite:
        raise ValueError(
            f"{path} holds {plural(len(older), 'older sample')}, the first {older[0]}; type overwrite=true to replace "
            f"them, or another out="
        )
    for file in older:
        with file.open("rb") as opened:
            if MARK not in opened.read(200):
                raise ValueError(f"{file} was not written by gan sample and stays; type another out=")
    return older


def remove_samples(older: list[Path]) -> None:
    """Remove older samples, and the folders of classes that this empties."""
    for file in older:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in older}:
        if not any(folder.iterdir()):
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
    first, *others = [images.grid(image[None], 1) for image in x]
    options: dict[str, Any] = {"save_all": True, "append_images": others, "duration": FRAME_MS, "loop": 0}
    write_atomically(path, lambda partial: first.save(partial, **options))


def write_folder(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """Write NNNNNN.png by image number, in a folder a class, so that `data=folder` can read them again."""
    info = PngInfo()
    info.add_text("Software", "gan sample")
    folders = class_folders([G.class_name(label) for label in range(G.classes)])
    for i, array in enumerate(images.to_array(x)):
        folder = path if labels is None else path / folders[int(labels[i])]
        save = partial(images.to_pil(array).save, pnginfo=info)
        write_atomically(folder / f"{i:06d}.png", save)


# x is (N, C, H, W) in [-1, 1] or uint8; labels (N,) or None; columns those of a grid.
WRITERS = {".png": write_grid, ".npz": write_arrays, ".gif": write_frames, "folder": write_folder}
