"""Data with a known answer: mixtures of Gaussians in the plane, whose modes can be counted, and coloured shapes."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gancli.config import nearest
from gancli.data.dataset import ImageDataset, check_size_and_channels

SIGMA = 0.02  # of every Gaussian; the outermost centre is ten of them away from the edge of [-1, 1]
KINDS = ["ring", "grid", "shapes"]


def synthetic(
    kind: str = "ring", n: int = 10000, size: int | None = None, channels: int | None = None, seed: int = 0
) -> ImageDataset:
    """n points or pictures; the i-th is a function of (kind, seed, i) alone, so a larger n only adds to a smaller one.

    "ring":   8 Gaussians on a circle of radius 0.8, "grid": 25 Gaussians on {-0.8, -0.4, 0, 0.4, 0.8}^2; all equally
              likely, standard deviation SIGMA in each direction. Points float32 (N, 2, 1, 1); the class is the
              Gaussian, numbered as in `centres`. They have no size and no channels to choose.
    "shapes": a bright shape on a dark plain ground, colours, place and extent random; the class is the shape. uint8,
              size 32 and channels 3 unless given.
    """
    _check_kind(kind, KINDS)
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"data.n={n} makes no data: give a whole number from 1 on, such as data.n=10000")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"data.seed={seed} is not a seed: give a whole number from 0 on, such as data.seed=0")
    if kind == "shapes":
        return _shapes(n, 32 if size is None else size, channels, seed)
    places = centres(kind)
    which, noise = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    labels = torch.from_numpy(which.integers(len(places), size=n))
    offsets = torch.from_numpy(noise.standard_normal((n, 2)) * SIGMA).float()
    points = (places[labels] + offsets).reshape(n, 2, 1, 1)
    return ImageDataset(points, labels, [str(i) for i in range(len(places))]).resized(size, channels)


def centres(kind: str) -> Tensor:
    """The true centres (K, 2), float32: "ring" counter-clockwise from (0.8, 0), "grid" row by row from below."""
    _check_kind(kind, KINDS[:2])
    if kind == "ring":
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return torch.stack([0.8 * angle.cos(), 0.8 * angle.sin()], 1).float()
    steps = torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8])
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def mode_counts(points: Tensor, kind: str) -> tuple[Tensor, float]:
    """How many points lie within three SIGMA of each centre, int64 (K,), and the fraction of all points that do.

    points: (N, 2) or (N, 2, 1, 1). Of the true data a fraction 1 - exp(-9/2) = 0.9889 lies within.
    """
    places = centres(kind).double()
    points = points.detach().cpu().double().reshape(len(points), 2)
    # the matrix-product form of cdist loses the digits that a sigma of 0.02 needs
    nearest = torch.cdist(points, places, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    close = nearest.values <= 3 * SIGMA
    counts = torch.bincount(nearest.indices[close], minlength=len(places))
    return counts, counts.sum().item() / max(1, len(points))


def _check_kind(kind: str, kinds: list[str]) -> None:
    if kind not in kinds:
        raise ValueError(f"data.kind={kind} is not one of {', '.join(kinds)}{nearest(str(kind), kinds)}")


# Corners inside the unit circle, y downwards.
SHAPES: dict[str, list[tuple[float, float]]] = {
    "circle": [(math.cos(2 * math.pi * k / 64), math.sin(2 * math.pi * k / 64)) for k in range(64)],
    "square": [(x * math.sqrt(0.5), y * math.sqrt(0.5)) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    "triangle": [(math.sin(2 * math.pi * k / 3), -math.cos(2 * math.pi * k / 3)) for k in range(3)],
    "cross": [
        *((-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3)),
        *((0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3), (-0.3, -0.3)),
    ],
}


def _shapes(n: int, size: int, channels: int | None, seed: int) -> ImageDataset:
    check_size_and_channels(size, channels)
    if size < 8:
        raise ValueError(f"data.size={size} is too small to tell shapes apart: give data.size=8 or more")
    names = list(SHAPES)
    labels = np.random.default_rng([seed, 2]).integers(len(names), size=n)
    chance = np.random.default_rng([seed, 3]).random((n, 9))  # a row a picture
    radius = 0.22 + 0.14 * chance[:, 0]
    margin = radius[:, None] + 1.1 / size  # the outermost pixels are ground
    middle = margin + (1 - 2 * margin) * chance[:, 1:3]
    ground = 70 * chance[:, 3:6]
    # One channel full and none below 0.35: brighter than any ground in grey, too.
    colour = chance[:, 6:9] - chance[:, 6:9].min(1, keepdims=True)
    colour = 255 * (0.35 + 0.65 * colour / colour.max(1, keepdims=True))
    factor = max(4, math.ceil(64 / size))  # drawn so many times larger, then averaged: that is the antialiasing
    images = np.empty((n, 3, size, size), np.uint8)
    for i in range(n):
        side = size * factor
        corners = (middle[i] + radius[i] * np.asarray(SHAPES[names[labels[i]]])) * side - 0.5
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners], fill=255)
        cover = np.asarray(mask.reduce(factor), np.float64) / 255
        images[i] = np.rint(ground[i, :, None, None] + (colour[i] - ground[i])[:, None, None] * cover)
    return ImageDataset(torch.from_numpy(images), torch.from_numpy(labels), names).resized(None, channels)
