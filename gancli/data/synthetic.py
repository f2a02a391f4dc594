"""Data with known answers: mixtures of Gaussians in the plane, whose modes can be counted, and coloured shapes."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gancli.data.dataset import ImageDataset, check_size_and_channels
from gancli.runtime.checks import check_choice, check_number

SIGMA = 0.02  # of every Gaussian; the outermost centre is ten of them away from the edge of [-1, 1]
MIXTURES = ("ring", "grid")


def synthetic(
    kind: str = "ring", n: int = 10000, size: int | None = None, channels: int | None = None, seed: int = 0
) -> ImageDataset:
    """Return n points or images; number i depends on (kind, seed, i) alone, so a larger n only adds to a smaller one.

    Args:
        kind: "ring", 8 Gaussians on a circle of radius 0.8; "grid", 25 Gaussians on {-0.8, -0.4, 0, 0.4, 0.8}^2; all
            equally likely, with standard deviation SIGMA in each direction: points float32 (N, 2, 1, 1), whose class
            is the Gaussian in the order of `centres`. "shapes", a bright shape on a dark ground with random colours,
            position and extent: uint8 images, whose class is the shape.
        size, channels: of shapes, 32 and 3 unless given; points have neither.
    """
    check_choice("data.kind", kind, (*MIXTURES, "shapes"))
    check_number("data.n", n, 1, example=10000, whole=True)
    check_number("data.seed", seed, 0, whole=True)
    if kind == "shapes":
        return _shapes(n, 32 if size is None else size, channels, seed)
    means = centres(kind)
    which, noise = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    labels = torch.from_numpy(which.integers(len(means), size=n))
    offsets = torch.from_numpy(noise.standard_normal((n, 2)) * SIGMA).float()
    points = (means[labels] + offsets).reshape(n, 2, 1, 1)
    return ImageDataset(points, labels, [str(i) for i in range(len(means))]).resized(size, channels)


def centres(kind: str) -> Tensor:
    """Return the means of the Gaussians, float32 (K, 2): "ring" counter-clockwise from (0.8, 0), "grid" row by row."""
    check_choice("data.kind", kind, MIXTURES)
    if kind == "ring":
        angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return torch.stack([0.8 * angle.cos(), 0.8 * angle.sin()], 1).float()
    steps = torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8])
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def mode_counts(points: Tensor, kind: str) -> tuple[Tensor, float]:
    """Count points, (N, 2) or (N, 2, 1, 1), within three SIGMA of each centre.

    Returns int64 (K,), and the fraction of points that are counted: 1 - exp(-9/2) = 0.9889 of the true data.
    """
    means = centres(kind).double()
    points = points.detach().cpu().double().reshape(len(points), 2)
    # The matrix-product form of cdist loses the digits that a sigma of 0.02 needs.
    nearest = torch.cdist(points, means, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    close = nearest.values <= 3 * SIGMA
    counts = torch.bincount(nearest.indices[close], minlength=len(means))
    return counts, counts.sum().item() / max(1, len(points))


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
    check_size_and_channels(size, channels, square=True)
    if size < 8:
        raise ValueError(f"data.size={size} is too small for shapes that differ; type data.size=8 or more")
    names = list(SHAPES)
    labels = np.random.default_rng([seed, 2]).integers(len(names), size=n)
    uniform = np.random.default_rng([seed, 3]).random((n, 9))  # one row per image
    radius = 0.22 + 0.14 * uniform[:, 0]
    margin = radius[:, None] + 1.1 / size  # the outermost pixels are ground
    middle = margin + (1 - 2 * margin) * uniform[:, 1:3]
    ground = 70 * uniform[:, 3:6]
    # One channel full and none below 0.35: brighter than any ground in grey, too.
    colour = uniform[:, 6:9] - uniform[:, 6:9].min(1, keepdims=True)
    colour = 255 * (0.35 + 0.65 * colour / colour.max(1, keepdims=True))
    factor = max(4, math.ceil(64 / size))  # drawn this much larger, then averaged: the antialiasing
    images = np.empty((n, 3, size, size), np.uint8)
    for i in range(n):
        side = size * factor
        corners = (middle[i] + radius[i] * np.asarray(SHAPES[names[labels[i]]])) * side - 0.5
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners], fill=255)
        cover = np.asarray(mask.reduce(factor), np.float64) / 255
        images[i] = np.rint(ground[i, :, None, None] + (colour[i] - ground[i])[:, None, None] * cover)
    return ImageDataset(torch.from_numpy(images), torch.from_numpy(labels), names).resized(None, channels)
