"""gan project: for every image the latent whose generated image is nearest to it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from gancli import images
from gancli.data.classes import say_how_read
from gancli.inference import latents
from gancli.inference.batch import Batch, say
from gancli.inference.generator import load as load_generator
from gancli.metrics.psnr_ssim import psnr
from gancli.runtime.device import choose_device
from gancli.runtime.text import one_line, printable


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    steps: int,
    seed: int,
    classes: Sequence[int | str],
    labels: Mapping[str, str],
    fit: str,
    ema: bool,
    device: str,
    **results: Any,
) -> None:
    """Search the latent of every image that is named and print the paths written; `results` are keywords of `Batch`."""
    batch = Batch("project", inputs, "_projected", out, **results)
    if batch.format != "png":
        raise ValueError(f"out={out} is not a known format; type out=x.png or out=DIR/")
    if batch.items:
        G = load_generator(ckpt, ema, choose_device(device))
        G.check_noise()
        say_how_read(classes, G.class_names)
        classes = G.choose(labels) or classes
        for item in batch:
            with batch.attempt(item):
                latent = item.target.with_suffix(".npz")
                if latent.exists() and not batch.overwrite:
                    raise ValueError(f"{latent} exists already; type overwrite=true, or another out=")
                x = latents.read_image(item.source, G, fit)
                z, c = latents.project(G, x, classes, steps, seed)
                y = G.generate(z, c).cpu()
                latent.unlink(missing_ok=True)  # that of an older image, should a kill come between the two files
                images.write(images.grid(torch.cat([x, y]), 2), item.target)
                tqdm.write(printable(str(latents.write_latent(latent, z, c, G.codes is not None))), file=sys.stdout)
                decibels = psnr(*(images.to_uint8(image).flatten(2) for image in (x, y))).item()
                found = ", ".join(filter(None, [f"PSNR {decibels:.1f} dB", G.describe(c[0])]))
                say(printable(str(item.source)), one_line(found))
    batch.finish()
