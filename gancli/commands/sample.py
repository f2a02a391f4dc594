"""gan sample: images from a checkpoint and nothing else."""

import sys
from collections.abc import Sequence

import torch

from gancli import images as pixels
from gancli.checkpoint import format as checkpoint
from gancli.data.classes import say_how_read
from gancli.inference.generator import load as load_generator
from gancli.inference.latents import latents_of_files
from gancli.inference.sample_files import WRITERS, check_samples, output_path
from gancli.runtime.checks import check_number
from gancli.runtime.device import choose_device


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
    overwrite: bool,
    device: str,
) -> None:
    """Generate images, write them in the form that `out` names and print the path."""
    path, form = output_path(out, "samples.png", (len(images) or n) * max(interpolate, 1))
    if form == "folder":
        check_samples(path, overwrite)
    check_number("interpolate", interpolate, 0, example=8)
    if images and (len(images) < 2 or interpolate < 2):
        raise ValueError(
            f"images= are two or more to interpolate between, but {len(images)} were given with "
            f"interpolate={interpolate}; type interpolate=8 images=[a.png,b.png]"
        )
    file = checkpoint.find(ckpt)
    G = load_generator(file, ema=ema, device=choose_device(device))
    if str(file) != ckpt:
        print(f"from {file}", file=sys.stderr)
    say_how_read(classes, G.class_names)
    labels, columns = None, interpolate
    if images:
        z, c = latents_of_files(G, [str(name) for name in images], classes, fit, seed)
        x = G.interpolate_latents((z[:-1], c[:-1]), (z[1:], c[1:]), torch.linspace(0, 1, interpolate).tolist())
    elif interpolate:
        x = G.interpolate(n, interpolate, seed, classes)
    else:
        # Points keep their decimals; images become 8-bit block by block, so that 50,000 of them fit in memory.
        blocks = [(x if pixels.is_points(x) else pixels.to_uint8(x), y) for x, y in G.blocks(n, seed, classes)]
        x, labels = (torch.cat(parts) for parts in zip(*blocks))
        columns = len(set(classes)) or G.classes
    WRITERS[form](path, x, labels if G.classes else None, columns if 1 < columns <= 16 or interpolate else None, G)
    print(path)
