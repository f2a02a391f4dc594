"""gan evaluate: how good a model is, or images that somebody has made, in figures that carry their protocol."""

import json as jsons
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gancli import images as pixels
from gancli.checkpoint import format as checkpoint
from gancli.config import CONFIGS
from gancli.data.by_name import load_by_name
from gancli.evaluation import autoencoders, generative, image_to_image, reference, super_resolution
from gancli.evaluation.image_folder import Pictures
from gancli.evaluation.reference import EvaluationSet
from gancli.evaluation.result import EvaluationResult, storable
from gancli.inference.generator import command_for
from gancli.inference.generator import load as load_generator
from gancli.inference.upscaler import STYLES, Upscaler, load_upscaler
from gancli.runtime.device import choose_device
from gancli.runtime.text import printable

SCORES = "scores.jsonl"  # in the folder of a run: what was measured of its checkpoints, a line each


class Asked(NamedTuple):
    """What was typed: the keys of configs/evaluate.yaml."""

    ckpt: str
    images: str
    reference: str
    data: str
    split: str
    n: int
    metrics: Sequence[str]
    inception: str
    ema: bool
    size: int
    channels: int
    scale: int
    samples: int
    seed: int
    out: str
    json: str
    device: str

    def again(self, ckpt: str) -> str:
        """The command that measures this once more; ckpt: the file that was meant."""
        import yaml

        defaults = yaml.safe_load((CONFIGS / "evaluate.yaml").read_text())
        words = {**self._asdict(), "ckpt": ckpt, "out": "", "json": "", "device": defaults["device"]}
        typed = {key: value for key, value in words.items() if value != defaults[key]}
        shown = {key: f"[{','.join(map(str, value))}]" if key == "metrics" else value for key, value in typed.items()}
        return shlex.join(
            ["gan", "evaluate", *(f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in shown.items())]
        )


def main(**keys: Any) -> None:
    """Print the figures and their protocol, and keep them in the run that a checkpoint is of.

    keys: as Asked has them. ValueError at the end where a picture could not be measured.
    """
    asked = Asked(**keys)
    for name, path, suffix in (("out", asked.out, ".png"), ("json", asked.json, ".json")):
        if path and Path(path).suffix.lower() != suffix:
            raise ValueError(f"{name}={path} is no form that is written; type {name}=x{suffix}")
    device = choose_device(asked.device)
    if not asked.ckpt and not asked.images:
        raise ValueError(
            "nothing to measure was given; type ckpt=FILE, ckpt=RUN, ckpt=latest, ckpt=faithful or ckpt=sharp, or "
            "images=DIR reference=DIR"
        )
    if asked.ckpt and (asked.reference or asked.size or asked.channels):
        raise ValueError("reference=, size= and channels= are for images= without a model; leave them out, or ckpt=")
    found = of_model(asked, device) if asked.ckpt else of_images(asked, device)
    if asked.out and found.picture:
        print(pixels.write(found.picture, Path(asked.out)))
    if asked.json:
        text = jsons.dumps(storable({"protocol": found.protocol, **found.figures}), indent=1, allow_nan=False)
        Path(asked.json).absolute().parent.mkdir(parents=True, exist_ok=True)
        Path(asked.json).write_text(text + "\n", encoding="utf-8")
        print(asked.json)
    if found.failed:
        raise ValueError(found.failed)


# --- models -------------------------------------------------------------------------------------------------------


def of_model(asked: Asked, device: torch.device) -> EvaluationResult:
    """What a model of its kind is measured by, printed and given."""
    if asked.ckpt in STYLES:
        upscaler = load_upscaler(style=asked.ckpt, scale=asked.scale, device=device)
        return enlarging(asked, upscaler, f"bundled style={asked.ckpt} scale={asked.scale}")
    file = checkpoint.find(asked.ckpt)
    if file.suffix.lower() == ".pth" or not checkpoint.is_checkpoint(file):
        return enlarging(asked, load_upscaler(file, scale=asked.scale, device=device), str(file))
    content, G = checkpoint.read(file), load_generator(file, asked.ema, device)
    config, kind = content["config"], command_for(G.network)
    name = printable(config["model"]["name"])
    weights = (
        f"{name} of {content['step']:,} steps, {'averaged weights' if asked.ema else 'weights as trained'}, {file}"
    )
    if kind == "upscale":
        found = enlarging(asked, Upscaler(G.network), weights)
    else:
        if asked.images:
            raise ValueError(
                f"images= are pictures to enlarge, and {file} is a {name}; type data=DIR, or leave both out for the "
                f"data that it was trained on"
            )
        if kind != "sample" and asked.metrics and not G.z_dim:
            raise ValueError(
                f"metrics= are scores of images made of noise, and {file} is a {name}, which makes none; leave "
                f"metrics= out"
            )
        data = reference.load(asked.data, asked.split, config["data"], G.size, G.channels)
        held = EvaluationSet(*data, asked.n, asked.seed)
        if kind == "sample" or asked.metrics:
            found = generative.of_model(G, weights, asked.ema, held, asked.metrics, asked.inception)
        elif kind == "reconstruct":
            found = autoencoders.measure(G, weights, held, asked.samples)
        else:
            found = image_to_image.measure(G, weights, held, config)
    keep(found, asked, file, content["step"])
    return found


def enlarging(asked: Asked, upscaler: Upscaler, weights: str) -> EvaluationResult:
    """Super-resolution."""
    if asked.data:
        raise ValueError(f"pictures to enlarge are of any size, and data={asked.data} has one; type images=DIR")
    return super_resolution.measure(upscaler, weights, asked.images, bool(asked.out))


def keep(found: EvaluationResult, asked: Asked, ckpt: Path, step: int) -> None:
    """Another line in the folder of the run that this checkpoint is of, for `gan report`; not of a lone file."""
    run = ckpt.absolute().parent.parent
    if ckpt.absolute().parent.name != "checkpoints" or not (run / "config.yaml").is_file():
        return
    row = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "command": asked.again(str(ckpt)),
        "step": step,
        "figures": storable(found.ranked),
        "protocol": storable(found.protocol),
    }
    file = run / SCORES
    torn = file.is_file() and not file.read_bytes().endswith(b"\n")  # by a process that was killed
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" * torn + jsons.dumps(row) + "\n")


# --- images -------------------------------------------------------------------------------------------------------


def of_images(asked: Asked, device: torch.device) -> EvaluationResult:
    """Scores of a folder or an .npz file of images beside real ones."""
    if bool(asked.reference) == bool(asked.data):
        both = "both were given" if asked.data else "no ckpt= to enlarge them was given, nor either of these"
        raise ValueError(
            f"images= are compared with reference=DIR, pictures, or with data=NAME, and {both}; type one of them"
        )
    made = Pictures("images", asked.images, asked.size, asked.channels, asked.n, asked.seed)
    real: Pictures | EvaluationSet
    if asked.reference:
        real = Pictures("reference", asked.reference, asked.size, asked.channels, asked.n, asked.seed)
    else:
        data = load_by_name(asked.data, asked.size or None, asked.channels or None, asked.split)
        split = asked.split if reference.has_split(asked.data) else "none"
        real = EvaluationSet(data, printable(asked.data), split, asked.n, asked.seed)
    return generative.of_images(made, real, asked.metrics, asked.inception, device)
