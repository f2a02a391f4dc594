"""Latents: the z, and the class, of which a generator makes a given image, and directions to move them in.

G = gancli.load("outputs/my-run")
z, c = codes(G, picture(Path("seven.png"), G))             # by its encoder, or by a search
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

from gancli.config import nearest
from gancli.data.classes import class_index, one_hot
from gancli.data.dataset import ImageDataset
from gancli.data.image_files import FIT_MODES, decode_image, fit_image, map_parallel
from gancli.images import to_float
from gancli.inference.generator import BLOCK, Generator, Latents, derive_seed, noise
from gancli.runtime.text import printable

STEPS, STARTS = 500, 8  # of a search
# EvaluationResult on a DCGAN of MNIST and a conditional one of the digits: a rate of 0.1 and 300 steps ended 4 to 10 dB lower
# on G's own images, and of others a pull of 0.01 let z grow to 1.4 times its length for 0.5 dB.
RATE, PULL = 0.3, 0.03
ROWS = 16  # that have a gradient taken at a time: all of a search would not fit in memory


# --- pictures and what is saved of them ---------------------------------------------------------------------------


def picture(path: Path, G: Generator, fit: str = "") -> Tensor:
    """A picture file of any kind as an image of G's size and channels, (1, C, size, size) in [-1, 1].

    fit: "crop", "pad" or "squash" for one of another size. ValueError with the reason, without the path, where that is
    not said, or where the picture cannot be read.
    """
    if fit and fit not in FIT_MODES:
        raise ValueError(f"fit={fit} is not one of {', '.join(FIT_MODES)}{nearest(fit, FIT_MODES)}")
    if G.channels not in (1, 3):
        raise ValueError("is a picture, and this model makes points of the plane; type another ckpt=")
    read = next(map_parallel(lambda file: decode_image(file)[0], [path]))
    if isinstance(read, str):
        raise ValueError(read)
    if read.size != (G.size, G.size) and not fit:
        raise ValueError(
            f"is {read.width}x{read.height} and this model's images are {G.size}x{G.size}; "
            f"type fit=crop or fit=pad to fit it"
        )
    # At its own size any fit leaves a picture as it is.
    array = fit_image(read, G.size, G.channels, fit or "squash")
    return to_float(torch.from_numpy(array.copy()).permute(2, 0, 1)[None])


def save(path: Path, z: Tensor, c: Tensor) -> Path:
    """One code, z (1, z_dim) and c (1, classes), as `z` float32 (z_dim,) and with classes `label` int64."""
    arrays: dict[str, Any] = {"z": z[0].numpy()}
    if c.shape[1]:
        arrays["label"] = c[0].argmax().numpy()
    partial = path.with_name(f".{path.name}.partial.npz")
    try:
        np.savez(partial, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def saved(path: Path, G: Generator) -> Latents:
    """What `save` wrote. ValueError with the reason, without the path, where that is no code of G's."""
    try:
        with np.load(path, allow_pickle=False) as file:
            z, label = torch.from_numpy(file["z"]).float(), int(file["label"]) if "label" in file else -1
    except FileNotFoundError:
        raise ValueError("is not a file that can be opened") from None
    except Exception:  # a file that is not one of ours can fail in any way inside NumPy
        raise ValueError("holds no code; type one that gan project wrote") from None
    if z.shape != (G.z_dim,) or not z.isfinite().all() or (label >= 0) != (G.classes > 0):
        kind = f"{G.z_dim} numbers {'and a class' if G.classes else 'and no class'}"
        raise ValueError(f"is no code of this model, which has {kind}; type gan project with this ckpt=")
    labels = [class_index(label, G.class_names, G.classes)] if G.classes else []
    return z[None], one_hot(G.labels(1, labels), G.classes)


def of_files(
    G: Generator, files: Sequence[str], classes: Sequence[int | str] = (), fit: str = "", seed: int = 0
) -> Latents:
    """The codes of picture files by `codes`, and those that `gan project` saved."""
    G.check_noise()
    found = []
    for file in files:
        path = Path(file) if Path(file).exists() else Path(file).expanduser()
        try:
            if path.suffix.lower() == ".npz":
                found.append(saved(path, G))
            else:
                found.append(codes(G, picture(path, G, fit), classes, seed))
        except ValueError as error:
            raise ValueError(f"{printable(file)}: {error}") from None
    z, c = (torch.cat(part) for part in zip(*found))
    return z, c


# --- from images to codes -----------------------------------------------------------------------------------------


def has_encoder(G: Generator) -> bool:
    return hasattr(G.network, "encode")


@torch.no_grad()
def encoded(G: Generator, x: Tensor, c: Tensor) -> Tensor:
    """The encoder's z (N, z_dim) of images x (N, C, size, size), stored or in [-1, 1], of classes c (N, classes)."""
    encode = G.network.encode
    blocks = zip(x.split(BLOCK), c.split(BLOCK))
    return torch.cat([encode(to_float(a.to(G.device)), b.to(G.device)).cpu() for a, b in blocks])  # type: ignore[operator]


def codes(G: Generator, x: Tensor, classes: Sequence[int | str] = (), seed: int = 0) -> Latents:
    """z (N, z_dim) and c (N, classes) of images x (N, C, size, size) in [-1, 1], by the encoder if there is one.

    classes: those that the images may be of, all if none is named; what comes nearest to an image says which it is of.
    """
    return project(G, x, classes, 0 if has_encoder(G) else STEPS, seed)


def project(G: Generator, x: Tensor, classes: Sequence[int | str] = (), steps: int = STEPS, seed: int = 0) -> Latents:
    """z (N, z_dim) and c (N, classes) of which G makes what is nearest to x (N, C, size, size), by gradient search.

    Zhu et al. 2016, https://arxiv.org/abs/1609.03552, and Creswell and Bharath 2018, https://arxiv.org/abs/1611.05644:
    here Adam on z, on the squared error of the pixels. The error has many valleys, so several random z are followed at
    once and the best is kept. z is pulled gently to the length sqrt(z_dim), which noise has: beyond it the image may be
    near and its neighbours none of G's (Lipton and Tripathi 2017, https://arxiv.org/abs/1702.04782, clip z instead).

    classes: as of `codes`. With an encoder the search begins at its codes. The same seed gives the same codes.
    """
    G.check_noise()
    if steps < 0:
        raise ValueError(f"a search takes 0 steps or more, but steps={steps}; type steps={STEPS}")
    labels, found = G.labels(len(classes) or max(G.classes, 1), classes), []
    with tqdm(total=len(x) * steps, desc="searching", unit="step", leave=False, disable=None, file=sys.stderr) as bar:
        for image in x.to(G.device).split(1):
            z, c = starts(G, image, labels, seed)
            searched = search(G, image, z, c, steps, bar)
            # A start may be the best, an encoder's code above all.
            found.append(closest(G, image, torch.cat([z, searched[0]]), torch.cat([c, searched[1]]), 1))
    z, c = (torch.cat(part).cpu() for part in zip(*found))
    return z, c


def starts(G: Generator, x: Tensor, labels: Tensor, seed: int) -> Latents:
    """Where a search for x (1, C, size, size) begins: with each label the encoder's code, or STARTS random ones."""
    n = 1 if has_encoder(G) else STARTS
    c = one_hot(labels, G.classes).repeat_interleave(n, 0)
    if has_encoder(G):
        z = encoded(G, x.expand(len(c), -1, -1, -1), c)
    else:  # not the noise of `sample`: its own images would be found before they are searched
        z = noise(range(n), G.z_dim, derive_seed(seed, "project")).repeat(len(labels), 1)
    return z.to(x.device), c.to(x.device)


def search(G: Generator, x: Tensor, z: Tensor, c: Tensor, steps: int, bar: tqdm) -> Latents:
    """Where Adam arrives from z (N, z_dim), with c (N, classes), looking for x (1, C, size, size).

    After a fifth of the steps only the STARTS that are nearest to x go on: of many classes most are soon out of it.
    """
    first = steps // 5 if len(z) > STARTS else 0
    for begin, end in ((0, first), (first, steps)):
        if begin:
            z, c = closest(G, x, z, c, STARTS)
        z = z.clone()
        adam = torch.optim.Adam([z], betas=(0.9, 0.99))
        for step in range(begin, end):
            adam.param_groups[0]["lr"] = RATE * (1 - step / steps)
            z.grad = torch.cat([slope(G, x, *rows) for rows in zip(z.split(ROWS), c.split(ROWS))])
            adam.step()
            bar.update()
    return z, c


def slope(G: Generator, x: Tensor, z: Tensor, c: Tensor) -> Tensor:
    """The gradient of what is searched for the least of, by z (N, z_dim)."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        length = z.norm(dim=1) / G.z_dim**0.5
        loss = (G.network(z, c) - x).square().flatten(1).mean(1) + PULL * (length - 1).square()
        return torch.autograd.grad(loss.sum(), z)[0]


def closest(G: Generator, x: Tensor, z: Tensor, c: Tensor, n: int) -> Latents:
    """The n of these codes whose images are nearest to x (1, C, size, size) by squared error, nearest first."""
    errors = (G.generate(z, c) - x).square().flatten(1).mean(1)
    order = errors.argsort(stable=True)[:n]
    return z[order], c[order]


# --- directions ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def first_layer_directions(G: Generator, k: int) -> Tensor:
    """The k directions (k, z_dim) of length 1 that the first layer changes most at, most first.

    Shen and Zhou 2021 (SeFa), https://arxiv.org/abs/2007.06600: eigenvectors of A^T A, A being the weight of the first
    layer, which are the right singular vectors of A. The signs, which are free, are such that the largest number is
    positive.
    """
    A = first_layer(G)
    if not 1 <= k <= min(A.shape):
        most = min(A.shape)
        raise ValueError(f"this model's first layer has {most} directions, but directions={k}; type directions={most}")
    found = torch.linalg.svd(A.double(), full_matrices=False).Vh[:k]
    signs = found.gather(1, found.abs().argmax(1, keepdim=True)).sign()
    return (found * signs).float()


def first_layer(G: Generator) -> Tensor:
    """A (outputs, z_dim) of the first layer that z goes into, outputs being A z + what does not depend on z.

    Which layer that is shows when G runs: its input begins with z. A is asked of the layer, column by column, rather
    than read off its weight, so that every kind of layer is the same here.
    """
    G.check_noise()
    z, c = noise(range(1), G.z_dim, 0).to(G.device), one_hot(G.labels(1), G.classes).to(G.device)
    met: list[tuple[nn.Module, Tensor]] = []

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and torch.equal(inputs[0].flatten(1)[:, : G.z_dim], z):
            met.append((layer, inputs[0]))

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_pre_hook(look) for m in G.network.modules() if isinstance(m, kinds)]
    try:
        G.network(z, c)
    finally:
        for hook in hooks:
            hook.remove()
    if not met:
        raise ValueError("no layer of this model takes its noise as it is, so it has no directions; type another ckpt=")
    layer, given = met[0]
    units = torch.eye(G.z_dim + 1, given.flatten(1).shape[1], device=G.device)
    units[-1] = 0
    *columns, constant = layer(units.unflatten(1, given.shape[1:]))
    return (torch.stack(columns) - constant).flatten(1).T.cpu()


def class_direction(G: Generator, data: ImageDataset, a: int, b: int) -> Tensor:
    """From the mean code of class a of labelled images to that of class b, (1, z_dim) of length 1.

    Radford et al. 2016, section 6.3.2, https://arxiv.org/abs/1511.06434, who took means of noise; here of the encoder's
    codes, as Larsen et al. 2016, https://arxiv.org/abs/1512.09300. G is unconditional.
    """
    means = []
    for label in (a, b):
        x = data.images[data.labels == label]
        if not len(x):
            raise ValueError(f"the data has no image of class {data.class_names[label]}; type other classes=")
        means.append(encoded(G, x, torch.zeros(len(x), 0)).mean(0))
    return normalize(means[1] - means[0], dim=0)[None]
