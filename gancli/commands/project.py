"""gan project: for every picture the code of which a generator makes what is nearest to it."""

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from gancli import images
from gancli.data.image_files import printable
from gancli.inference import batch as files
from gancli.inference import latents
from gancli.inference.generator import load as load_generator
from gancli.metrics.psnr_ssim import psnr
from gancli.runtime.device import choose_device
from gancli.runtime.text import one_line


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    steps: int,
    seed: int,
    classes: Sequence[int | str],
    fit: str,
    overwrite: bool,
    skip: bool,
    ema: bool,
    device: str,
) -> None:
    """Search every picture that is named; prints the paths written. ValueError at the end where one failed."""
    if files.form(out, "", 95) != "png":
        raise ValueError(f"out={out} is no form that is written; type out=x.png or out=DIR/")
    where = choose_device(device)

    def begin() -> files.Make:
        G = load_generator(ckpt, ema, where)
        G.check_noise()

        def find(job: files.Job, progress: files.Progress) -> None:
            code = job.target.with_suffix(".npz")
            if code.exists() and not overwrite:
                raise ValueError(f"{code} is there already; type overwrite=true, or another out=")
            x = latents.picture(job.source, G, fit)
            z, c = latents.project(G, x, classes, steps, seed)
            found = G.generate(z, c).cpu()
            images.write(images.grid(torch.cat([x, found]), 2), job.target)
            tqdm.write(printable(str(latents.save(code, z, c))))
            error = psnr(*(images.to_uint8(image).flatten(2) for image in (x, found))).item()
            name = dict(enumerate(G.class_names)).get(k := int(c.argmax()), k) if G.classes else ""
            said = f"PSNR {error:.1f} dB{', class ' * bool(G.classes)}{name}"
            tqdm.write(f"{printable(str(job.source))}: {one_line(said, 1000)}", file=sys.stderr)

        return find

    files.run("project", "projected", inputs, out, "_projected", "png", overwrite, skip, begin)
