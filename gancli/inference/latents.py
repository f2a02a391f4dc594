"""Latents of given images, by an encoder or a search, and directions in which to change them.

G = gancli.load("outputs/my-run")
z, c = find_latents(G, read_image(Path("seven.png"), G))
x = G.generate(z + 2 * first_layer_directions(G, 4), c.expand(4, -1))
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from gancli.data.classes import class_index, one_hot
from gancli.data.dataset import ImageDataset
from gancli.data.image_files import FIT_MODES, decode_image, fit_image, map_parallel
from gancli.data.npz import read_archive
from gancli.images import in_pixels, sides, to_float
from gancli.inference.generator import BLOCK, Generator, Latents, derive_seed, noise
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.files import typed_path, write_atomically
from gancli.runtime.hardware import in_batches
from gancli.runtime.text import printable

STEPS = 500  # of a search
STARTS = 8  # random latents that a search follows at once
# Tried on a DCGAN of MNIST and a conditional one of the digits. A rate of 0.1 and 300 steps ended 4 to 10 dB lower on
# G's own images. On other images a weight of 0.01 let z grow to 1.4 times its length for 0.5 dB.
LEARNING_RATE, LENGTH_WEIGHT = 0.3, 0.03
GRADIENT_BATCH = 16  # latents whose gradient is computed at once: all of a search would not fit in memory


# --- images and saved latents -------------------------------------------------------------------------------------


def read_image(path: Path, G: Generator, fit: str = "") -> Tensor:
    """Read an image file of any format as (1, C, size, size) in [-1, 1], with size and channels of G.

    Args:
        fit: "crop", "pad" or "squash" for an image of another size, which is refused otherwise.
    """
    if fit:
        check_choice("fit", fit, FIT_MODES)
    if G.channels not in (1, 3):
        raise ValueError("is an image, and this model generates points of the plane; type another ckpt=")
    image = next(map_parallel(lambda file: decode_image(file)[0], [path]))
    if isinstance(image, str):
        raise ValueError(image)
    if image.size[::-1] != sides(G.size) and not fit:
        sizes = f"is {image.width}x{image.height} and this model's images are {in_pixels(G.size)}"
        raise ValueError(f"{sizes}; type fit=crop or fit=pad to fit it")
    array = fit_image(image, G.size, G.channels, fit or "squash")  # unchanged at its own size
    return to_float(torch.from_numpy(array.copy()).permute(2, 0, 1)[None])


def write_latent(path: Path, z: Tensor, c: Tensor, several: bool = False) -> Path:
    """Write z (1, z_dim) as `z` float32 (z_dim,) and, of c (1, classes), the class as `label` int64.

    Args:
        several: c is one of several labels, written as `c` float32 (classes,).
    """
    arrays: dict[str, Any] = {"z": z[0].numpy()}
    if c.shape[1]:
        arrays |= {"c": c[0].numpy()} if several else {"label": c[0].argmax().numpy()}
    return write_atomically(path, lambda partial: np.savez(partial, **arrays))


def read_latent(path: Path, G: Generator) -> Latents:
    """Read what `write_latent` wrote; ValueError with the reason, without the path, if it does not fit G."""
    several = G.codes is not None
    try:
        file = read_archive(path, ["z", "c" if several else "label"])
        z, label = torch.from_numpy(file["z"]).float(), int(file["label"]) if "label" in file else -1
        c = torch.from_numpy(file["c"]).float() if "c" in file else torch.zeros(0)
    except FileNotFoundError:
        raise ValueError("is not a file that can be opened") from None
    except Exception:  # a file that is not ours can fail in any way inside NumPy
        raise ValueError("holds no latent; type a file that gan project wrote") from None
    fits = c.shape == (G.classes,) and bool(((c >= 0) & (c <= 1)).all()) if several else (label >= 0) == (G.classes > 0)
    if z.shape != (G.z_dim,) or not z.isfinite().all() or not fits:
        condition = "several labels" if several else "a class" if G.classes else "no class"
        wanted = f"{G.z_dim} numbers and {condition}"
        raise ValueError(f"is not a latent of this model, which has {wanted}; type gan project with this ckpt=")
    if several:
        return z[None], c[None]
    labels = [class_index(label, G.class_names, G.classes)] if G.classes else []
    return z[None], one_hot(G.labels(1, labels), G.classes)


def latents_of_files(
    G: Generator, files: Sequence[str], classes: Sequence[int | str] = (), fit: str = "", seed: int = 0
) -> Latents:
    """Return the latents of image files by `find_latents`, and of .npz files by `read_latent`, one row a file."""
    G.check_noise()
    rows = []
    for file in files:
        path = typed_path(file)
        try:
            if path.suffix.lower() == ".npz":
                rows.append(read_latent(path, G))
            else:
                rows.append(find_latents(G, read_image(path, G, fit), classes, seed))
        except ValueError as error:
            raise ValueError(f"{printable(file)}: {error}") from None
    z, c = (torch.cat(part) for part in zip(*rows))
    return z, c


# --- from images to latents ---------------------------------------------------------------------------------------


def has_encoder(G: Generator) -> bool:
    return hasattr(G.network, "encode")


@torch.no_grad()
def encode(G: Generator, x: Tensor, c: Tensor) -> Tensor:
    """Return the encoder's z (N, z_dim) for x (N, C, size, size), stored or in [-1, 1], and c (N, classes)."""
    network = G.network
    blocks = zip(x.split(BLOCK), c.split(BLOCK))
    return torch.cat([network.encode(to_float(a.to(G.device)), b.to(G.device)).cpu() for a, b in blocks])  # type: ignore[operator]


def find_latents(G: Generator, x: Tensor, classes: Sequence[int | str] = (), seed: int = 0) -> Latents:
    """Return the latents of x (N, C, size, size) in [-1, 1]: by the encoder, or without one by `project`."""
    return project(G, x, classes, 0 if has_encoder(G) else STEPS, seed)


def project(G: Generator, x: Tensor, classes: Sequence[int | str] = (), steps: int = STEPS, seed: int = 0) -> Latents:
    """Search the latents whose images are nearest to x (N, C, size, size), by gradient descent.

    Zhu et al. 2016, https://arxiv.org/abs/1609.03552, and Creswell and Bharath 2018, https://arxiv.org/abs/1611.05644:
    Adam on z, on the squared error of the pixels. The error has many minima, so several random z are followed at once.
    A penalty keeps z near the length sqrt(z_dim) of noise: longer z come nearer to x, but their neighbours look unlike
    G's images (Lipton and Tripathi 2017, https://arxiv.org/abs/1702.04782, clip z instead).

    Args:
        classes: classes that the images may be of, all if empty. The nearest result decides.
        steps: of Adam. With an encoder the search begins at its latents, and 0 steps return those.
        seed: of the random starts.
    """
    G.check_noise()
    check_number("steps", steps, 0, example=STEPS)
    labels, best = G.labels(len(classes) or max(G.conditions, 1), classes), []
    with tqdm(total=len(x) * steps, desc="searching", unit="step", leave=False, disable=None, file=sys.stderr) as bar:
        for image in x.to(G.device).split(1):
            z, c = initial_latents(G, image, labels, seed)
            searched = search(G, image, z, c, steps, bar)
            # A start may be the best, above all an encoder's.
            best.append(nearest_latents(G, image, torch.cat([z, searched[0]]), torch.cat([c, searched[1]]), 1))
    z, c = (torch.cat(part).cpu() for part in zip(*best))
    return z, c


def initial_latents(G: Generator, x: Tensor, labels: Tensor, seed: int) -> Latents:
    """Return the starts of a search for x (1, C, size, size): for each label the encoder's z, or STARTS random ones."""
    n = 1 if has_encoder(G) else STARTS
    c = G.condition(labels).repeat_interleave(n, 0)
    if has_encoder(G):
        z = encode(G, x.expand(len(c), -1, -1, -1), c)
    else:  # other noise than that of `sample`, whose images would be results of 0 steps
        z = noise(range(n), G.z_dim, derive_seed(seed, "project")).repeat(len(labels), 1)
    return z.to(x.device), c.to(x.device)


def search(G: Generator, x: Tensor, z: Tensor, c: Tensor, steps: int, bar: tqdm) -> Latents:
    """Run Adam on z (N, z_dim), with c (N, classes) fixed, towards x (1, C, size, size).

    After a fifth of the steps only the STARTS nearest latents go on: most of many classes are soon far behind.
    """
    first = steps // 5 if len(z) > STARTS else 0
    for begin, end in ((0, first), (first, steps)):
        if begin:
            z, c = nearest_latents(G, x, z, c, STARTS)
        z = z.clone()
        adam = torch.optim.Adam([z], betas=(0.9, 0.99))
        for step in range(begin, end):
            adam.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            z.grad = torch.cat(in_batches(lambda z, c: gradient(G, x, z, c), z, c, size=GRADIENT_BATCH))
            adam.step()
            bar.update()
    return z, c


def gradient(G: Generator, x: Tensor, z: Tensor, c: Tensor) -> Tensor:
    """Return the gradient of the search's loss by z (N, z_dim): mean squared error plus the penalty on its length."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        length = z.norm(dim=1) / G.z_dim**0.5
        loss = (G.network(z, c) - x).square().flatten(1).mean(1) + LENGTH_WEIGHT * (length - 1).square()
        return torch.autograd.grad(loss.sum(), z)[0]


def nearest_latents(G: Generator, x: Tensor, z: Tensor, c: Tensor, n: int) -> Latents:
    """Return the n latents whose images are nearest to x (1, C, size, size) by squared error, nearest first."""
    errors = (G.generate(z, c) - x).square().flatten(1).mean(1)
    order = errors.argsort(stable=True)[:n]
    return z[order], c[order]


# --- directions ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def first_layer_directions(G: Generator, k: int) -> Tensor:
    """Return the k directions (k, z_dim) of length 1 that change the first layer most, strongest first.

    Shen and Zhou 2021 (SeFa), https://arxiv.org/abs/2007.06600: eigenvectors of A^T A, where A is the weight of the
    first layer, that is the right singular vectors of A. Signs are chosen so that the largest component is positive.
    """
    A = first_layer_weight(G)
    check_number("directions", k, 1, min(A.shape))
    directions = torch.linalg.svd(A.double(), full_matrices=False).Vh[:k]
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    return (directions * signs).float()


def first_layer_weight(G: Generator) -> Tensor:
    """Return A (outputs, z_dim) of the first layer that takes z: its outputs are A z plus what is independent of z.

    G is run to see which layer's input begins with z. A is measured column by column instead of read off the
    layer's weight, so that linear, convolutional and transposed layers need no cases.
    """
    G.check_noise()
    z, c = noise(range(1), G.z_dim, 0).to(G.device), G.condition(G.labels(1)).to(G.device)
    calls: list[tuple[nn.Module, Tensor]] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and torch.equal(inputs[0].flatten(1)[:, : G.z_dim], z):
            calls.append((layer, inputs[0]))

    types = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_pre_hook(record) for m in G.network.modules() if isinstance(m, types)]
    try:
        G.network(z, c)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls:
        raise ValueError("no layer of this model takes z unchanged, so it has no directions; type another ckpt=")
    layer, given = calls[0]
    units = torch.eye(G.z_dim + 1, given.flatten(1).shape[1], device=G.device)
    units[-1] = 0
    *columns, constant = layer(units.unflatten(1, given.shape[1:]))
    return (torch.stack(columns) - constant).flatten(1).T.cpu()


def class_direction(G: Generator, data: ImageDataset, a: int, b: int) -> Tensor:
    """Return the direction (1, z_dim) of length 1 from the mean latent of class a to that of class b.

    Radford et al. 2016, section 6.3.2, https://arxiv.org/abs/1511.06434, average noise; here the encoder's latents of
    labelled images are averaged, as in Larsen et al. 2016, https://arxiv.org/abs/1512.09300. G is unconditional.
    """
    means = []
    for label in (a, b):
        x = data.images[data.labels == label]
        if not len(x):
            raise ValueError(f"the data has no image of class {data.class_names[label]}; type other classes=")
        means.append(encode(G, x, torch.zeros(len(x), 0)).mean(0))
    return normalize(means[1] - means[0], dim=0)[None]
