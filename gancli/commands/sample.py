"""gan sample: images from one checkpoint file and nothing else."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gancli import images as pixels
from gancli.checkpoint import format as checkpoint
from gancli.inference.generator import Generator
from gancli.inference.generator import load as load_generator
from gancli.inference.latents import of_files
from gancli.runtime.device import choose_device

FRAME_MS = 60
LARGEST_GRID = 10_000


def main(
    ckpt: str,
    out: str,
    n: int,
    seed: int,
    classes: Sequence[int | str],
    ema: bool,
    interpolate: int,
    images: Sequence[str],
    fit: str,
    device: str,
) -> None:
    """Make the images and write them in the form that `out` names; prints the path."""
    path, kind = form(out, "samples.png")
    if interpolate < 0:
        raise ValueError(f"interpolate counts images on the way, but interpolate={interpolate}; type interpolate=8")
    check_images(images, interpolate)
    if kind == ".png" and (len(images) or n) * max(interpolate, 1) > LARGEST_GRID:
        raise ValueError(f"a grid shows {LARGEST_GRID:,} images at most, but n={n}; type out=x.npz or out=DIR/")
    file = checkpoint.find(ckpt)
    G = load_generator(file, ema=ema, device=choose_device(device))
    if str(file) != ckpt:
        print(f"from {file}", file=sys.stderr)
    labels, columns = None, interpolate
    if images:
        z, c = of_files(G, [str(name) for name in images], classes, fit, seed)
        x = G.interpolate_latents((z[:-1], c[:-1]), (z[1:], c[1:]), torch.linspace(0, 1, interpolate).tolist())
    elif interpolate:
        x = G.interpolate(n, interpolate, seed, classes)
    else:
        # Points keep their decimals; pictures are 8-bit from here on, so that 50,000 of them fit in memory.
        blocks = [(x if pixels.is_points(x) else pixels.to_uint8(x), y) for x, y in G.blocks(n, seed, classes)]
        x, labels = (torch.cat(parts) for parts in zip(*blocks))
        columns = len(set(classes)) or G.classes
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    WRITERS[kind](path, x, labels if G.classes else None, columns if 1 < columns <= 16 or interpolate else None, G)
    print(path)


def form(out: str, default: str) -> tuple[Path, str]:
    """Where and in which of WRITERS the result goes; without `out` to `default`, never over another file."""
    path = Path(out).expanduser() if out else unused(Path(default))
    is_folder = out.endswith(("/", "\\")) or path.is_dir() or not path.suffix
    kind = "folder" if is_folder else path.suffix.lower()
    if kind not in WRITERS:
        raise ValueError(f"out={out} is no form that is written; type out=grid.png, out=x.npz, out=x.gif or out=DIR/")
    return path, kind


def check_images(images: Sequence[str], interpolate: int) -> None:
    """ValueError where no way goes from picture to picture."""
    if images and not interpolate:
        raise ValueError("images= names the pictures that a way goes through, and interpolate=0; type interpolate=8")
    if images and (len(images) < 2 or interpolate < 2):
        raise ValueError(
            f"a way has two ends or more, but images= names {len(images)} and interpolate={interpolate}; "
            f"type interpolate=8 images=[a.png,b.png]"
        )


def write_grid(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    pixels.write(pixels.grid(x, columns), path)


def write_arrays(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """`images` uint8 (N, H, W, C), or `points` float32 (N, 2); with classes `labels` int64 (N,)."""
    arrays: dict[str, Any] = {"images": pixels.to_array(x)}
    if pixels.is_points(x):
        arrays = {"points": x.flatten(1).cpu().numpy()}
    if labels is not None:
        arrays["labels"] = labels.numpy()
    partial = path.with_name(f".{path.name}.partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)


def write_frames(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    first, *others = [pixels.grid(image[None], 1) for image in x]
    partial = path.with_name(f".{path.name}.partial.gif")
    first.save(partial, save_all=True, append_images=others, duration=FRAME_MS, loop=0)
    partial.replace(path)


def write_folder(path: Path, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """NNNNNN.png by image number, in a folder a class, so that `data=folder` can read them again."""
    for i, array in enumerate(pixels.to_array(x)):
        folder = path if labels is None else path / class_folder(G, int(labels[i]))
        pixels.write(pixels.to_pil(array), folder / f"{i:06d}.png")


WRITERS = {".png": write_grid, ".npz": write_arrays, ".gif": write_frames, "folder": write_folder}


def class_folder(G: Generator, label: int) -> str:
    """A class as a folder's name. Names come from a file that may be a stranger's: only plain letters are kept."""
    name = G.class_names[label] if label < len(G.class_names) else str(label)
    return re.sub(r"[^\w-]+", "_", str(name))[:80] or str(label)


def unused(path: Path) -> Path:
    """`path`, or the first of its name with -2, -3, ... that is not there."""
    candidates = (path.with_stem(f"{path.stem}-{i}") if i > 1 else path for i in range(1, 100_000))
    return next(c for c in candidates if not c.exists())
