"""Estimates of what an image has been through: JPEG compression, from its file and from its pixels, and noise."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image

from gancli.transforms.jpeg import LUMA

SIDE = 1024  # of the part in the middle that is measured, in pixels
GRID_SIDE = 384  # the same for the 64 grids, which take longer
NO_TRACE = 100  # quality of an image that shows no compression
TEXTURE = 4.5  # noise of the brightness in grey levels below which fine texture reads the same
BLOCK = 8  # side of a block of JPEG, and of those in which noise is measured
LARGEST_STEP = 16.0  # grey levels of a difference that counts towards blockiness; more is an edge of the scene
# Median blockiness in grey levels of 54 photos after JPEG of each quality.
BLOCKINESS = (
    (0.18, 100),
    (0.27, 90),
    (0.42, 85),
    (0.57, 80),
    (0.86, 70),
    (1.21, 60),
    (1.42, 50),
    (1.78, 40),
    (2.95, 20),
)
LOW_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0))
K = np.arange(BLOCK)
DCT = (np.cos((2 * K + 1) * K[:, None] * math.pi / 16) / 2 * np.where(K, 1, 0.5**0.5)[:, None]).astype(np.float32)
TABLE = np.reshape(LUMA, (BLOCK, BLOCK))

Offset = tuple[int, int] | None  # of the first block, down and right, below 8


class Damage(NamedTuple):
    """What an image has been through.

    quality: of the worst JPEG that shows, 1 to 100, and NO_TRACE without one.
    noise: standard deviation in grey levels.
    """

    quality: int
    noise: float


def estimate(image: Image.Image) -> Damage:
    """Return the damage of a standardized image; its `info` may hold the tables of its JPEG file as "quantization".

    The tables are those of the last JPEG alone. Pixels show an earlier and worse one, and one saved again as PNG.
    """
    left, top = (max(0, (side - SIDE) // 2) for side in image.size)
    middle = image.crop((left, top, min(image.width, left + SIDE), min(image.height, top + SIDE)))
    tables = from_tables(image.info.get("quantization", {}))
    if middle.mode == "I;16":
        return Damage(round(tables), noise_of([np.asarray(middle).astype(np.float32) / np.float32(257)]))
    colours = middle.convert("RGB")
    y, *rgb = (np.asarray(plane).astype(np.float32) for plane in (colours.convert("L"), *colours.split()))
    exact, at = from_grid(y)
    rough, steps_at = from_blockiness(y)
    # The steps are less exact, and count where they are those of another JPEG.
    quality = exact if at == steps_at or rough > exact - 20 else rough
    return Damage(round(min(tables, quality)), noise_of([y, *rgb]))


def noise_of(planes: Sequence[np.ndarray]) -> float:
    """Return the noise of the brightness, and that of the colours where the planes are brightness, red, green, blue.

    Texture is nearly the same in all colours, so their differences show noise of less than the texture.
    """
    y, *rgb = planes
    noise = noise_level(y)
    differences = [noise_level((a - b) / math.sqrt(2) + 128) for a, b in pairwise(rgb)]
    return max(noise if noise > TEXTURE else 0.0, min(differences, default=0.0))


# --- JPEG ---------------------------------------------------------------------------------------------------------


def quality_of(percent: float) -> float:
    """Return libjpeg's quality whose tables are `percent` of those of ITU-T T.81, annex K."""
    return min(100, max(1, 100 - percent / 2 if percent <= 100 else 5000 / percent))


def from_tables(tables: Mapping[int, Sequence[int]]) -> float:
    """Return the quality of a JPEG by its table of the brightness; cameras have tables of their own, near a quality."""
    table = tables.get(0, ()) if isinstance(tables, Mapping) else ()
    return quality_of(100 * sum(table) / sum(LUMA)) if len(table) == 64 else NO_TRACE


def coefficients(y: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the DCT (N, 8, 8) of the blocks of a grid that begins at the pixel (down, right)."""
    h, w = ((side - start) // BLOCK * BLOCK for side, start in zip(y.shape, (down, right)))
    blocks = y[down : down + h, right : right + w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).swapaxes(1, 2)
    return (DCT @ blocks @ DCT.T).reshape(-1, BLOCK, BLOCK)


def from_grid(y: np.ndarray) -> tuple[float, Offset]:
    """Return the quality by the steps of the DCT, and where its blocks begin; NO_TRACE where no grid stands out.

    On the grid of a JPEG more coefficients are zero than on the 63 others. After Nikoukhah et al. 2021 (ZERO),
    https://doi.org/10.5201/ipol.2021.390.
    """
    top, left = (max(0, (side - GRID_SIDE) // 2) // BLOCK * BLOCK for side in y.shape)
    y = y[top : top + GRID_SIDE, left : left + GRID_SIDE]
    if min(y.shape) < 3 * BLOCK:
        return NO_TRACE, None
    zeros = np.zeros((BLOCK, BLOCK))
    for down, right in np.ndindex(zeros.shape):
        small = np.abs(coefficients(y, down, right)) < 0.5
        textured = small[(~small).sum((1, 2)) > 3]  # flat blocks are zero on every grid
        zeros[down, right] = textured.mean() if len(textured) > 12 else 0
    down, right = (int(i) for i in np.unravel_index(zeros.argmax(), zeros.shape))
    others = np.delete(zeros, zeros.argmax())
    lead, spread = zeros.max() - np.median(others), np.median(np.abs(others - np.median(others)))
    if lead < 0.08 or lead < 6 * 1.4826 * spread:
        return NO_TRACE, None
    c = np.abs(coefficients(y, down, right))
    steps = {(u, v): quantisation_step(c[:, u, v]) for u, v in LOW_FREQUENCIES}
    percents = [100 * step / TABLE[at] for at, step in steps.items() if step]
    # With a grid but no steps of 2 or more, the compression is mild.
    return quality_of(float(np.median(percents))) if len(percents) > 1 else 95, (down, right)


def quantisation_step(c: np.ndarray) -> int:
    """Return the largest step, 2 or more, near whose multiples these absolute coefficients lie; 0 without one."""
    best = 0
    for step in range(2, 120):
        beyond = c[c > 0.6 * step]  # the zeros are multiples of every step
        if len(beyond) < 8:
            break
        closeness = np.cos(2 * np.pi * beyond / step).mean()  # 1 at multiples, about 0 by chance
        if closeness > 0.5 and closeness * math.sqrt(2 * len(beyond)) > 5:
            best = step
    return best


def from_blockiness(y: np.ndarray) -> tuple[float, Offset]:
    """Return the quality by the steps at every eighth pixel, and where they are; noise does not hide them."""
    if min(y.shape) <= 4 * BLOCK:
        return NO_TRACE, None
    found = [blockiness(plane) for plane in (y.T, y)]
    if min(sure for _, sure, _ in found) < 4.5:
        return NO_TRACE, None
    heights, qualities = zip(*BLOCKINESS)
    quality = float(np.interp((found[0][0] + found[1][0]) / 2, heights, qualities))
    return quality, (found[0][2], found[1][2])


def blockiness(y: np.ndarray) -> tuple[float, float, int]:
    """Return the excess of the steps at every eighth column, in grey levels and in deviations, and where they are."""
    d = np.minimum(np.abs(np.diff(y, axis=1)), LARGEST_STEP)
    excess = (d[:, 1:-1] - (d[:, :-2] + d[:, 2:]) / 2).mean(0)
    phases = [excess[k::BLOCK] for k in range(BLOCK)]
    means = np.array([phase.mean() for phase in phases])
    best = int(means.argmax())
    others = np.concatenate([phase for k, phase in enumerate(phases) if k != best])
    sure = (means[best] - others.mean()) / (others.std() + 1e-3) * math.sqrt(len(phases[best]))
    # excess[k] is the step from column k + 1 to column k + 2, where a block begins.
    return float(means[best] - np.median(np.delete(means, best))), float(sure), (best + 2) % BLOCK


# --- noise --------------------------------------------------------------------------------------------------------


def noise_level(y: np.ndarray) -> float:
    """Return the standard deviation of the noise, measured in the blocks with the least texture.

    The mask is that of Immerkaer 1996, https://doi.org/10.1006/cviu.1996.0060, which ignores edges and gradients.
    """
    h, w = (side - 2 for side in y.shape)
    if min(h, w) < 2 * BLOCK:
        return 0.0
    across = y[:, :-2] - 2 * y[:, 1:-1] + y[:, 2:]
    response = np.abs(across[:-2] - 2 * across[1:-1] + across[2:])
    clipped = ((y <= 1) | (y >= 254))[1:-1, 1:-1]  # black and white have lost half of their noise
    h, w = h // BLOCK * BLOCK, w // BLOCK * BLOCK
    blocks = (plane[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK) for plane in (response, clipped))
    means, dark_or_white = (plane.mean((1, 3)) for plane in blocks)
    usable = means[dark_or_white < 0.05]
    if len(usable) < 4:
        return 0.0
    # 6 is the norm of the mask. 1.42 corrects for the choice of the calmest blocks; it was measured on pure noise.
    return float(1.42 * np.percentile(usable, 2) * math.sqrt(math.pi / 2) / 6)
