"""The generator that ships: a network, what its images are, and images by number."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import find, read
from gancli.checkpoint.rebuild import BLOCK, generator_weights, restore
from gancli.data.classes import class_index, one_hot
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import one_line

Latents = tuple[Tensor, Tensor]  # z (N, z_dim) and c (N, classes) of N images


def noise(indices: range, z_dim: int, seed: int) -> Tensor:
    """z (len(indices), z_dim) for these image numbers: a pure function of (seed, image number), on the CPU."""
    first, last = indices.start // BLOCK, -(-indices.stop // BLOCK)
    blocks = [
        torch.randn(BLOCK, z_dim, generator=torch.Generator().manual_seed(derive_seed(seed, "z", b)))
        for b in range(first, last)
    ]
    start = first * BLOCK
    return torch.cat(blocks)[indices.start - start : indices.stop - start]


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """From a at t = 0 to b at t = 1 along the arc between them, each row by itself; (N, z_dim).

    Gaussian noise lies near a sphere; a straight line would pass through its empty middle. White 2016,
    https://arxiv.org/abs/1609.04468, section 2.1.
    """
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    straight = angle.sin() < 1e-4
    arc = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin().clamp_min(1e-8)
    return torch.where(straight, (1 - t) * a + t * b, arc)


class Generator:
    """What a checkpoint gives back: `sample` and `interpolate` make images, float (N, C, H, W) in [-1, 1].

    Where z_dim is 0 nothing is made of noise, and only the network itself is of use.
    network: G(z, c) with `z_dim` and `classes`, in eval mode. class_names: of the data it was trained on.
    """

    def __init__(self, network: nn.Module, size: int, channels: int, class_names: Sequence[str] = ()):
        self.network = network.eval().requires_grad_(False)
        self.size, self.channels, self.class_names = size, channels, list(class_names)
        self.z_dim, self.classes = int(network.z_dim), int(network.classes)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def labels(self, n: int, classes: Sequence[int | str] = (), start: int = 0) -> Tensor:
        """The class (n,) of images start, start + 1, ...: those asked for (all, if none is named) in turn."""
        if not self.classes:
            if len(classes):
                raise ValueError(
                    "classes were asked for, but this model is unconditional: it was trained without classes; "
                    "leave classes= out, or train model=cgan"
                )
            return torch.zeros(n, dtype=torch.int64)
        numbers = [class_index(c, self.class_names, self.classes) for c in classes] or list(range(self.classes))
        return torch.tensor([numbers[i % len(numbers)] for i in range(start, start + n)], dtype=torch.int64)

    def blocks(self, n: int, seed: int = 0, classes: Sequence[int | str] = ()) -> Iterator[tuple[Tensor, Tensor]]:
        """`sample` in pieces of BLOCK images, (images, labels), for when all of them do not fit in memory."""
        self.check_noise()
        if n < 1:
            raise ValueError(f"at least one image is made, but n={n}; type n=64")
        for start in range(0, n, BLOCK):
            labels = self.labels(BLOCK, classes, start)
            images = self.forward(noise(range(start, start + BLOCK), self.z_dim, seed), labels)
            keep = min(BLOCK, n - start)
            yield images[:keep], labels[:keep]

    def sample(self, n: int = 64, seed: int = 0, classes: Sequence[int | str] = ()) -> Tensor:
        """n images (n, C, H, W). Image i of a seed is the same at any n; `classes` are taken in turn."""
        return torch.cat([images for images, _ in self.blocks(n, seed, classes)])

    def interpolate(self, n: int, frames: int, seed: int = 0, classes: Sequence[int | str] = ()) -> Tensor:
        """From each of images 0 to n - 1 of a seed to the next (the last to the first): (n * frames, C, H, W).

        frames: images a stretch, its start included and its end not. A class turns into the next one gradually.
        """
        self.check_noise()
        if n < 2 or frames < 1:
            raise ValueError(
                f"a way goes between two images or more, but n={n} interpolate={frames}; type n=8 interpolate=8"
            )
        z, c = noise(range(n), self.z_dim, seed), one_hot(self.labels(n, classes), self.classes)
        return self.interpolate_latents((z, c), (z.roll(-1, 0), c.roll(-1, 0)), [f / frames for f in range(frames)])

    def interpolate_latents(self, start: Latents, end: Latents, times: Sequence[float]) -> Tensor:
        """On the way from each code of `start`, time 0, to that of `end`, time 1: (N * len(times), C, H, W)."""
        points = [(slerp(start[0], end[0], t), (1 - t) * start[1] + t * end[1]) for t in times]
        z, c = (torch.stack(part, 1).flatten(0, 1) for part in zip(*points))
        return self.generate(z, c)

    @torch.no_grad()
    def generate(self, z: Tensor, c: Tensor) -> Tensor:
        """Images (N, C, H, W) of codes z (N, z_dim) and c (N, classes), a one-hot class each or a blend of them."""
        blocks = zip(z.to(self.device).split(BLOCK), c.to(self.device).split(BLOCK))
        # A network without tanh may leave the range by a little.
        return torch.cat([self.network(*block).clamp(-1, 1) for block in blocks])

    def check_noise(self) -> None:
        """ValueError where this is a model that makes nothing of noise."""
        if not self.z_dim:
            raise ValueError(
                "this model makes images of images and none of noise; "
                "type gan upscale IN ckpt=..., or gan translate or gan inpaint"
            )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Images (N, C, H, W) of noise z (N, z_dim) and classes (N,)."""
        return self.generate(z, one_hot(labels, self.classes))


# By command: what its networks do, what is typed after the checkpoint, and where another network comes from.
COMMANDS = {
    "sample": ("turns noise into images", "", ""),
    "upscale": ("enlarges images", " scale={scale}", "leave ckpt= out or train model=sr_compact"),
    "translate": ("translates whole images", "", "train model=pix2pix or model=cyclegan"),
    "inpaint": ("fills what a mask hides", " mask=centre", "train model=inpainting"),
    "reconstruct": ("encodes images and decodes them", "", "train model=aegan or model=vae"),
}


def load(path: str | Path, ema: bool = True, device: torch.device | str = "cpu", command: str = "") -> Generator:
    """Return the generator of a checkpoint, ready to sample.

    Args:
        path: a file, a run folder or "latest".
        ema: the averaged weights, which are usually better; False gives the live ones.
        command: the command of COMMANDS that asks.

    Raises:
        ValueError: the file cannot be read or rebuilt, or its network is for another command.
    """
    file = find(path)
    content = read(file)
    try:
        output = content["output"]
        network = restore(content["networks"]["G"]["config"], generator_weights(content, ema), output)
        generator = Generator(network.to(device), output["size"], output["channels"], output["class_names"])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an untrusted file can fail in any way
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {one_line(error, 200)}"
        raise ValueError(f"{path} cannot be rebuilt: {reason}") from error
    if command and command_for(network) != command:
        raise ValueError(f"{file} is {_another_command(network, content['config']['model'], file, command)}")
    return generator


def command_for(network: nn.Module) -> str:
    """Return the command that a network is for."""
    if hasattr(network, "encode"):
        return "reconstruct"
    if hasattr(network, "source_channels"):
        return "inpaint" if getattr(network, "masked", False) else "translate"
    return "upscale" if hasattr(network, "scale") else "sample"


def _another_command(network: nn.Module, model: dict[str, Any], file: Path, command: str) -> str:
    """Return what a network is and does, and what to type with it and for `command`."""
    name, task, right = model["name"], model.get("task"), command_for(network)
    kind = str(task.get("_target_")).rpartition(".")[2].lower() if isinstance(task, dict) else ""
    name = f"{name} on task={kind}" if kind.isidentifier() else name
    does, more, _ = COMMANDS[right]
    ckpt = shlex.quote(f"ckpt={file}")
    typed = f"gan {right} {'' if right == 'sample' else 'IN '}{ckpt}{more.format(scale=getattr(network, 'scale', 1))}"
    advice = f"type {typed}, or for gan {command} {COMMANDS[command][2]}"
    if (right, command) == ("sample", "reconstruct"):
        advice = f"type gan project IN {ckpt}, which searches z"
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}, which {does}; {advice}"
