"""What the network of a checkpoint does, and the command that puts it to use."""

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gancli.checkpoint import format as checkpoint
from gancli.inference.generator import Generator
from gancli.inference.generator import load as load_generator

# By command: what a network does that the command is for, what is typed behind it, and where another one comes from.
USES = {
    "sample": ("turns noise into images", "", ""),
    "upscale": ("enlarges pictures", " scale={scale}", "leave ckpt= out or train model=sr_compact"),
    "translate": ("translates whole pictures", "", "train model=pix2pix or model=cyclegan"),
    "inpaint": ("repaints what a mask says", " mask=centre", "train model=inpainting"),
    "reconstruct": ("encodes images and decodes them", "", "train model=aegan or model=vae"),
}


def command_for(network: nn.Module) -> str:
    """The command that a network is for."""
    if hasattr(network, "encode"):
        return "reconstruct"
    if hasattr(network, "source_channels"):
        return "inpaint" if getattr(network, "masked", False) else "translate"
    return "upscale" if hasattr(network, "scale") else "sample"


def load(ckpt: str | Path, command: str, ema: bool = True, device: torch.device | str = "cpu") -> Generator:
    """The generator of a checkpoint: a file, a run folder or "latest". ValueError where it is for another command."""
    path = checkpoint.find(ckpt)
    generator = load_generator(path, ema, device)
    right = command_for(generator.network)
    if right == command:
        return generator
    name = called(checkpoint.read(path)["config"]["model"])
    does, words, _ = USES[right]
    file = shlex.quote(f"ckpt={path}")
    more = words.format(scale=getattr(generator.network, "scale", 1))
    typed = f"gan {right} {'' if right == 'sample' else 'IN '}{file}{more}"
    advice = f"type {typed}, or for gan {command} {USES[command][2]}"
    if (right, command) == ("sample", "reconstruct"):
        advice = f"type gan project IN {file}, which searches z"
    raise ValueError(f"{path} is {'an' if name[:1] in 'aeiou' else 'a'} {name}, which {does}; {advice}")


def called(model: dict[str, Any]) -> str:
    """A model's name, and its task where it has one."""
    task = model.get("task")
    kind = str(task.get("_target_")).rpartition(".")[2].lower() if isinstance(task, dict) else ""
    return f"{model['name']} on task={kind}" if kind.isidentifier() else model["name"]
