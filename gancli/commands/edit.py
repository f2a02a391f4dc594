"""gan edit: what becomes of an image where its code is moved."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gancli.checkpoint import format as checkpoint
from gancli.commands.sample import LARGEST_GRID, WRITERS, form
from gancli.config import UsageError, choices
from gancli.data.by_name import load_by_name
from gancli.data.classes import class_index, one_hot
from gancli.inference import latents
from gancli.inference.generator import Generator, Latents, noise
from gancli.inference.generator import load as load_generator
from gancli.runtime.device import choose_device


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    seed: int,
    image: int,
    classes: Sequence[int | str],
    directions: int,
    plane: bool,
    steps: int,
    amount: float,
    data: str,
    fit: str,
    ema: bool,
    device: str,
) -> None:
    """Make the strip, a row a direction, and write it in the form that `out` names; prints the path."""
    path, kind = form(out, "edit.png")
    if len(inputs) > 1:
        raise UsageError(f"gan edit begins at one picture, but {len(inputs)} were given; type gan edit {inputs[0]}")
    if len(classes) > 2:
        raise ValueError(f"a row goes from one class to another, but {len(classes)} were named; type classes=[3,8]")
    if steps < 2:
        raise ValueError(f"a row has 2 images or more, but steps={steps}; type steps=9")
    if image < 0:
        raise ValueError(f"the images of a seed are numbered from 0, but image={image}; type image=0")
    if plane and classes[1:]:
        raise ValueError("a plane is of the two strongest directions, and classes= name another; leave one out")
    if kind == ".png" and steps * (steps if plane else max(directions, 1)) > LARGEST_GRID:
        raise ValueError(f"a grid shows {LARGEST_GRID:,} images at most, but steps={steps}; type steps=9")
    file = checkpoint.find(ckpt)
    G = load_generator(file, ema, choose_device(device))
    G.check_noise()
    if str(file) != ckpt:
        print(f"from {file}", file=sys.stderr)
    ends: Sequence[Tensor] = ()
    if plane:
        way = latents.first_layer_directions(G, 2)
    elif len(classes) < 2:
        way = latents.first_layer_directions(G, directions)
    elif G.classes:
        way, ends = torch.zeros(1, G.z_dim), one_hot(G.labels(2, classes), G.classes).split(1)
    else:
        way, classes = from_class_to_class(G, classes, data, file), ()
    z, c = start(G, inputs, classes[:1], seed, image, fit)
    a, b = ends or (c, c)
    t = torch.linspace(0, 1, steps)[:, None]
    moved = (2 * t - 1) * amount
    if plane:  # around the middle of all codes, where no picture is given
        z = z if inputs else torch.zeros_like(z)
        rows = [(z + moved * way[0] - down * way[1], c.expand(steps, -1)) for down in moved]
    else:
        rows = [(z + moved * direction, torch.lerp(a, b, t)) for direction in way]
    x = G.generate(*(torch.cat(part) for part in zip(*rows)))
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    WRITERS[kind](path, x, None, steps, G)
    print(path)


def start(
    G: Generator, inputs: Sequence[str], classes: Sequence[int | str], seed: int, image: int, fit: str
) -> Latents:
    """The code of the picture, or where none is given that of this image of `gan sample`."""
    if inputs:
        return latents.of_files(G, inputs, classes, fit, seed)
    return noise(range(image, image + 1), G.z_dim, seed), one_hot(G.labels(1, classes, image), G.classes)


def from_class_to_class(G: Generator, classes: Sequence[int | str], word: str, file: Path) -> Tensor:
    """The direction (1, z_dim) between two classes that G was not told of, by its encoder and labelled data."""
    if not latents.has_encoder(G):
        raise ValueError(
            "this model knows no classes and has no encoder to find them with; leave classes= out, or train model=cgan "
            "or model=vae"
        )
    if not word:
        # Of the file, which may be a stranger's, no more is taken than a name or a folder's path.
        trained = checkpoint.read(file)["config"]["data"]
        word = str(trained.get("path") or trained["name"])
        if word not in choices("data") and not Path(word).is_dir():
            raise ValueError(
                "what this model was trained on is not here; type data=mnist, or data=DIR of class folders"
            )
    labelled = load_by_name(word, G.size, G.channels)
    if not labelled.classes:
        raise ValueError(f"data={word} has no classes; type data=mnist, or data=DIR of class folders")
    a, b = (class_index(name, labelled.class_names, labelled.classes) for name in classes)
    return latents.class_direction(G, labelled, a, b)
