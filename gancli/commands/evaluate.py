"""gan evaluate: how good a model is, in figures that carry their protocol; its network decides which."""

import json as jsons
from pathlib import Path

import torch

from gancli import checkpoint
from gancli import images as pixels
from gancli.config import choose_device
from gancli.data.pictures import printable
from gancli.evaluation import encoders, held_out, super_resolution, translation
from gancli.evaluation.common import Measured, storable
from gancli.evaluation.held_out import HeldOut
from gancli.kinds import command_for
from gancli.upscaling import STYLES, Upscaler, load


def main(
    ckpt: str,
    images: str,
    scale: int,
    data: str,
    split: str,
    n: int,
    samples: int,
    seed: int,
    out: str,
    json: str,
    device: str,
) -> None:
    """Print the figures and their protocol. ValueError at the end where a picture could not be measured."""
    if not ckpt:
        raise ValueError("no model was given; type ckpt=FILE, ckpt=RUN, ckpt=latest, ckpt=faithful or ckpt=sharp")
    for name, path, suffix in (("out", out, ".png"), ("json", json, ".json")):
        if path and Path(path).suffix.lower() != suffix:
            raise ValueError(f"{name}={path} is no form that is written; type {name}=x{suffix}")
    found = measured(ckpt, images, scale, data, split, n, samples, seed, bool(out), choose_device(device))
    if out and found.picture:
        print(pixels.write(found.picture, Path(out)))
    if json:
        text = jsons.dumps(storable({"protocol": found.protocol, **found.figures}), indent=1, allow_nan=False)
        Path(json).absolute().parent.mkdir(parents=True, exist_ok=True)
        Path(json).write_text(text + "\n", encoding="utf-8")
        print(json)
    if found.failed:
        raise ValueError(found.failed)


def measured(
    ckpt: str,
    images: str,
    scale: int,
    data: str,
    split: str,
    n: int,
    samples: int,
    seed: int,
    with_picture: bool,
    device: torch.device,
) -> Measured:
    """What a model of this kind is measured by, printed and given."""
    upscaler = None
    if ckpt in STYLES:
        upscaler, weights = load(style=ckpt, scale=scale, device=device), f"bundled style={ckpt} scale={scale}"
    elif (file := checkpoint.find(ckpt)).suffix.lower() in (".safetensors", ".pth"):
        upscaler, weights = load(file, scale=scale, device=device), str(file)
    else:
        content, G = checkpoint.read(file), checkpoint.load(file, device=device)
        config, kind = content["config"], command_for(G.network)
        name = printable(config["model"]["name"])
        weights = f"{name} of {content['step']:,} steps, averaged weights, {file}"
        if kind == "sample":
            raise ValueError(
                f"{file} is a {name}, which turns noise into images; gan evaluate measures models that enlarge, "
                f"encode or translate images so far: train model=sr_compact, vae or pix2pix, or type ckpt=faithful"
            )
        upscaler = Upscaler(G.network) if kind == "upscale" else None
    if upscaler:
        if data:
            raise ValueError(f"pictures to enlarge are of any size, and data={data} has one; type images=DIR")
        return super_resolution.measure(upscaler, weights, images, with_picture)
    if images:
        raise ValueError(
            f"images= are pictures to enlarge, and {file} is a {name}; type data=DIR, or leave both out for the data "
            f"that it was trained on"
        )
    held = HeldOut(*held_out.load(data, split, config["data"], G.size, G.channels), n, seed)
    if kind == "reconstruct":
        return encoders.measure(G, weights, held, samples)
    return translation.measure(G, weights, held, config)
