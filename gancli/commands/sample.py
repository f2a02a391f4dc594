"""gan sample: images from a checkpoint and nothing else."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gancli import images as pixels
from gancli.checkpoint import format as checkpoint
from gancli.data.classes import say_how_read
from gancli.inference.film import FORMATS, walk, write_film
from gancli.inference.generator import Generator
from gancli.inference.generator import load as load_generator
from gancli.inference.latents import latents_of_files
from gancli.inference.sample_files import WRITERS, check_samples, output_path
from gancli.report.history import write_history
from gancli.report.run_folder import read_run
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.device import choose_device


def main(
    ckpt: str,
    out: str,
    n: int,
    seed: Sequence[int],
    classes: Sequence[int | str],
    labels: Mapping[str, str],
    truncation: float,
    ema: bool,
    interpolate: int,
    images: Sequence[str],
    size: int,
    animate: str,
    fit: str,
    overwrite: bool,
    device: str,
) -> None:
    """Generate images, write them in the form that `out` names and print the path."""
    default = "history.gif" if animate else "samples.png"
    path, form = output_path(out, default, (len(images) or n) * max(interpolate, 1), size)
    if animate:
        write_animation(animate, ckpt, path, size)
        return
    if form == "folder":
        check_samples(path, overwrite)
    is_film = form in FORMATS
    check_interpolation(interpolate, images, seed, is_film)
    file = checkpoint.find(ckpt)
    G = load_generator(file, ema=ema, device=choose_device(device))
    if str(file) != ckpt:
        print(f"from {file}", file=sys.stderr)
    say_how_read(classes, G.class_names)
    classes = G.choose(labels) or classes
    given = None
    if images:
        z, c = latents_of_files(G, [str(name) for name in images], classes, fit, seed[0])
        given = G.truncated(z, truncation), c
    if is_film and interpolate:
        stops = [given] if given else [G.stops(n, interpolate, one, classes, truncation) for one in seed]
        z, c = (torch.stack(part) for part in zip(*stops))
        write_film(path, walk(G, (z, c), interpolate), z.shape[1] * interpolate + 1, size)
    elif interpolate:
        rows = between(G, *given, interpolate) if given else G.interpolate(n, interpolate, seed[0], classes, truncation)
        WRITERS[form](path, rows, None, interpolate, G)
    else:
        x, y = sample(G, n, seed[0], classes, truncation)
        of_class = G.classes > 0 and G.codes is None
        shown = len(set(classes)) or G.classes * of_class
        # Each column a class; few classes repeat until the grid is about square.
        columns = shown * max(1, round(n**0.5 / shown)) if 1 < shown <= 16 else None
        if is_film:
            write_film(path, iter(x.split(1)), n, size)
        else:
            WRITERS[form](path, x, y if of_class else None, columns, G)
    print(path)


def between(G: Generator, z: Tensor, c: Tensor, frames: int) -> Tensor:
    """Return a row of images from each latent to the next, with both of them."""
    return G.interpolate_latents((z[:-1], c[:-1]), (z[1:], c[1:]), torch.linspace(0, 1, frames).tolist())


def check_interpolation(interpolate: int, images: Sequence[str], seed: Sequence[int], is_film: bool) -> None:
    """Raise ValueError for images with nothing between them, and for several seeds that no film shows."""
    check_number("interpolate", interpolate, 0, example=8)
    if images and (len(images) < 2 or interpolate < 2):
        raise ValueError(
            f"images= are two or more to interpolate between, but {len(images)} were given with "
            f"interpolate={interpolate}; type interpolate=8 images=[a.png,b.png]"
        )
    if len(seed) != 1 and (not is_film or not interpolate or images or not seed):
        typed = f"seed=[{','.join(map(str, seed))}]"
        raise ValueError(f"{typed} is for walks side by side in a film; type seed=0, or add interpolate=16 out=x.gif")


def sample(G: Generator, n: int, seed: int, classes: Sequence[int | str], truncation: float) -> tuple[Tensor, Tensor]:
    """Return n images and labels; images 8-bit, block by block, so that 50,000 fit in memory; points keep decimals."""
    blocks = G.blocks(n, seed, classes, truncation)
    parts = [(x if pixels.is_points(x) else pixels.to_uint8(x), y) for x, y in blocks]
    x, labels = (torch.cat(part) for part in zip(*parts))
    return x, labels


def write_animation(animate: str, ckpt: str, path: Path, size: int) -> None:
    """Write the film of a run's saved grids, and print its path."""
    check_choice("animate", animate, ["history"])
    file = checkpoint.find(ckpt).absolute()
    if file.parent.name != "checkpoints":
        raise ValueError(f"ckpt={ckpt} lies in no run, whose grids animate=history shows; type ckpt=RUN or ckpt=latest")
    print(write_history(read_run(file.parent.parent), path, size))
