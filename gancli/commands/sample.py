"""gan sample: images from one checkpoint file and nothing else."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gancli import checkpoint, images
from gancli.config import choose_device
from gancli.sampling import Generator

FRAME_MS = 60
LARGEST_GRID = 10_000


def main(
    ckpt: str, out: str, n: int, seed: int, classes: Sequence[int | str], ema: bool, interpolate: int, device: str
) -> None:
    """Make the images and write them in the form that `out` names; prints the path."""
    if interpolate < 0:
        raise ValueError(f"interpolate counts images on the way, but interpolate={interpolate}; type interpolate=8")
    path = Path(out).expanduser() if out else unused(Path("samples.png"))
    kind = "folder" if out.endswith(("/", "\\")) or path.is_dir() or not path.suffix else path.suffix.lower()
    if kind not in ("folder", ".png", ".npz", ".gif"):
        raise ValueError(f"out={out} is of no kind that is written; type out=grid.png, out=x.npz, out=x.gif or out=DIR/")
    G = checkpoint.load(ckpt, ema=ema, device=choose_device(device))
    G.labels(1, classes)  # what cannot be made is said before anything is
    if kind == ".png" and n * max(interpolate, 1) > LARGEST_GRID:
        raise ValueError(f"a grid shows {LARGEST_GRID:,} images at most, but n={n}; type out=x.npz or out=DIR/")
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    if interpolate:
        way = G.interpolate(n, interpolate, seed, classes)
        write(path, kind, way, None, columns=interpolate, G=G)
    else:
        blocks = [(x if kind == ".png" or images.is_points(x) else images.to_uint8(x), y) for x, y in G.blocks(n, seed, classes)]
        x, labels = (torch.cat(parts) for parts in zip(*blocks))
        columns = len(set(classes) or range(G.classes)) if G.classes else 0
        write(path, kind, x, labels, columns=columns if 1 < columns <= 16 else None, G=G)
    print(path)


def write(path: Path, kind: str, x: Tensor, labels: Tensor | None, columns: int | None, G: Generator) -> None:
    """Write images (N, C, H, W), float in [-1, 1] or uint8, in the form asked for."""
    if kind == ".png":
        images.write(images.grid(x, columns), path)
        return
    if kind == ".npz":
        arrays = {"points": x.flatten(1).cpu().numpy()} if images.is_points(x) else {"images": images.to_array(x)}
        if labels is not None and G.classes:
            arrays["labels"] = labels.numpy()
        partial = path.with_name(f".{path.name}.partial.npz")
        np.savez_compressed(partial, **arrays)
        partial.replace(path)
        return
    pictures = [images.grid(image[None], 1) if kind == ".gif" else images.to_picture(a) for image, a in zip(x, images.to_array(x))]
    if kind == ".gif":
        partial = path.with_name(f".{path.name}.partial.gif")
        pictures[0].save(partial, save_all=True, append_images=pictures[1:], duration=FRAME_MS, loop=0)
        partial.replace(path)
        return
    for i, picture in enumerate(pictures):
        folder = path / class_folder(G, int(labels[i])) if labels is not None and G.classes else path
        images.write(picture, folder / f"{i:06d}.png")


def class_folder(G: Generator, label: int) -> str:
    """A class as a folder's name. Names come from a file that may be a stranger's: only plain letters are kept."""
    name = G.class_names[label] if label < len(G.class_names) else str(label)
    return re.sub(r"[^\w-]+", "_", str(name))[:80] or str(label)


def unused(path: Path) -> Path:
    """`path`, or the first of its name with -2, -3, ... that is not there."""
    candidates = (path.with_stem(f"{path.stem}-{i}") if i > 1 else path for i in range(1, 100_000))
    return next(c for c in candidates if not c.exists())

