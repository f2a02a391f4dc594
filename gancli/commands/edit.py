"""gan edit: how an image changes as its latent follows directions, or goes from class to class."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from gancli.checkpoint import format as checkpoint
from gancli.config import UsageError, choices
from gancli.data.by_name import load_by_name
from gancli.data.classes import class_index, one_hot, say_how_read
from gancli.data.listing import is_source
from gancli.inference import latents
from gancli.inference.generator import Generator, noise
from gancli.inference.generator import load as load_generator
from gancli.inference.sample_files import WRITERS, check_samples, output_path
from gancli.runtime.checks import check_number
from gancli.runtime.device import choose_device


def main(
    inputs: Sequence[str],
    ckpt: str,
    out: str,
    seed: int,
    image: int,
    classes: Sequence[int | str],
    labels: Mapping[str, str],
    directions: int,
    plane: bool,
    steps: int,
    amount: float,
    data: str,
    fit: str,
    ema: bool,
    overwrite: bool,
    device: str,
) -> None:
    """Generate a row of images for each direction, write them in the form that `out` names and print the path."""
    if len(inputs) > 1:
        raise UsageError(f"gan edit takes one image, but {len(inputs)} were given; type gan edit {inputs[0]}")
    if len(classes) > 2:
        raise ValueError(f"classes= takes one class or two, but {len(classes)} were given; type classes=[3,8]")
    check_number("steps", steps, 2, example=9)
    check_number("image", image, 0)
    if plane and classes[1:]:
        raise ValueError("plane=true spans the two strongest directions, so it takes no second class; leave one out")
    path, form = output_path(out, "edit.png", steps * (steps if plane else max(directions, 1)))
    if form == "folder":
        check_samples(path, overwrite)
    file = checkpoint.find(ckpt)
    G = load_generator(file, ema, choose_device(device))
    G.check_noise()
    if str(file) != ckpt:
        print(f"from {file}", file=sys.stderr)
    say_how_read(classes, G.class_names)
    classes = G.choose(labels) or classes
    ends: Sequence[Tensor] = ()
    if plane or len(classes) < 2:
        vectors = latents.first_layer_directions(G, 2 if plane else directions)
    elif G.classes:
        vectors, ends = torch.zeros(1, G.z_dim), one_hot(G.labels(2, classes), G.classes).split(1)
    else:
        vectors, classes = direction_between_classes(G, classes, data, file), ()
    z, c = (
        latents.latents_of_files(G, inputs, classes[:1], fit, seed)
        if inputs
        else sample_latent(G, image, classes, seed)
    )
    first, last = ends or (c, c)
    t = torch.linspace(0, 1, steps)[:, None]
    amounts = (2 * t - 1) * amount
    if plane:  # around the mean latent, unless an image is given
        z = z if inputs else torch.zeros_like(z)
        rows = [(z + amounts * vectors[0] - down * vectors[1], c.expand(steps, -1)) for down in amounts]
    else:
        rows = [(z + amounts * vector, torch.lerp(first, last, t)) for vector in vectors]
    x = G.generate(*(torch.cat(part) for part in zip(*rows)))
    WRITERS[form](path, x, None, steps, G)
    print(path)


def sample_latent(G: Generator, image: int, classes: Sequence[int | str], seed: int) -> tuple[Tensor, Tensor]:
    """Return the latent (1, z_dim) and the class (1, classes) of an image of `gan sample` by its number."""
    return noise(range(image, image + 1), G.z_dim, seed), G.condition(G.labels(1, classes[:1], image))


def direction_between_classes(G: Generator, classes: Sequence[int | str], data: str, file: Path) -> Tensor:
    """Return the direction (1, z_dim) between two classes for an unconditional G, by its encoder and labelled data."""
    if not latents.has_encoder(G):
        advice = "leave classes= out, or train model=cgan or model=vae"
        raise ValueError(f"this model has no classes, and no encoder to find them with; {advice}")
    if not data:
        # The file may be untrusted: only a name or a folder's path is taken from it.
        trained = checkpoint.read(file)["config"]["data"]
        data = str(trained.get("path") or trained["name"])
        if data not in choices("data") and not is_source(Path(data)):
            raise ValueError("this model's training data is not here; type data=mnist, or data=DIR of class folders")
    labelled = load_by_name(data, G.size, G.channels)
    if not labelled.classes:
        raise ValueError(f"data={data} has no classes; type data=mnist, or data=DIR of class folders")
    say_how_read(classes, labelled.class_names)
    a, b = (class_index(name, labelled.class_names, labelled.classes) for name in classes)
    return latents.class_direction(G, labelled, a, b)
