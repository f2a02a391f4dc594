"""NIQE, the distance of an image's local statistics from those of photographs; it needs no real image. Lower is better.

Mittal, Soundararajan and Bovik 2013, https://doi.org/10.1109/LSP.2012.2227726, with the parameters of the
authors' release.
"""

import functools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from gancli.runtime.bundled import verified

PRISTINE = Path(__file__).resolve().parent.parent / "weights" / "niqe.safetensors"
BLOCK = 96  # pixels a side, as for the pristine parameters
BORDER = 8  # pixels that the kernel of the halving does not exceed
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = np.arange(0.2, 10.001, 0.001)  # candidates of the shape of a generalized Gaussian


def niqe(y: Tensor) -> float:
    """Return the score of a brightness y (1, 1, H, W) in whole numbers 0 to 255; NaN below two blocks of 96 pixels."""
    h, w = (side // BLOCK * BLOCK for side in y.shape[2:])
    if h * w < 2 * BLOCK * BLOCK:
        return float("nan")
    y = y[..., :h, :w].double()
    features = np.concatenate([block_features(y, BLOCK), block_features(halved(y), BLOCK // 2)], 1)
    usable = features[~np.isnan(features).any(1)]  # a flat block has no statistics
    if len(usable) < 2:
        return float("nan")
    pristine_mean, pristine_covariance = pristine()
    inverse = np.linalg.pinv((pristine_covariance + np.cov(usable, rowvar=False)) / 2)
    difference = pristine_mean - np.nanmean(features, 0)
    return float(np.sqrt(difference @ inverse @ difference))


@functools.cache
def pristine() -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (36,) and the covariance (36, 36) of the features of 125 photographs."""
    tensors = load_file(verified(PRISTINE))
    return tensors["mean"].numpy(), tensors["covariance"].numpy()


def halved(y: Tensor) -> Tensor:
    """Return y at half the size by antialiased bicubic, reflected at the borders, as Matlab's imresize does."""
    size = [side // 2 for side in y.shape[2:]]
    mirrored = torch.from_numpy(np.pad(y[0, 0].numpy(), BORDER, mode="symmetric"))[None, None]
    small = interpolate(mirrored, scale_factor=0.5, mode="bicubic", antialias=True)
    return small[..., BORDER // 2 :, BORDER // 2 :][..., : size[0], : size[1]]


def block_features(y: Tensor, block: int) -> np.ndarray:
    """Return the features (blocks, 18) of the locally normalised brightness."""
    normalised = normalise(y)
    h, w = normalised.shape
    corners = [(top, left) for left in range(0, w, block) for top in range(0, h, block)]
    return np.array([features(normalised[top : top + block, left : left + block]) for top, left in corners])


def normalise(y: Tensor) -> np.ndarray:
    """Return (y - local mean) / (local standard deviation + 1), by a Gaussian of 7x7 pixels."""
    at = torch.arange(-3, 4, dtype=torch.float64)
    line = (-0.5 * (at / (7 / 6)) ** 2).exp()
    kernel = line[:, None] * line
    kernel = (kernel / kernel.sum())[None, None]
    mean, square = (conv2d(pad(x, (3, 3, 3, 3), mode="replicate"), kernel) for x in (y, y * y))
    return ((y - mean) / ((square - mean**2).abs().sqrt() + 1))[0, 0].numpy()


def features(block: np.ndarray) -> list[float]:
    """Return 18 parameters of generalized Gaussians: of a block, and of its products with four neighbours."""
    shape, left, right = asymmetric_gaussian(block)
    result = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = asymmetric_gaussian(block * np.roll(block, shift, (0, 1)))
        result += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return result


def asymmetric_gaussian(x: np.ndarray) -> tuple[float, float, float]:
    """Return shape, left and right scale of the generalized Gaussian that fits the values by their moments."""
    if not ((x < 0).any() and (x > 0).any()):
        return (float("nan"),) * 3
    left, right = (float(np.sqrt(np.mean(side**2))) for side in (x[x < 0], x[x > 0]))
    ratio = left / right
    moments = float(np.mean(np.abs(x)) ** 2 / np.mean(x**2))
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = float(SHAPES[np.argmin((moment_ratios() - wanted) ** 2)])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale


@functools.cache
def moment_ratios() -> np.ndarray:
    """Return the ratio of the squared mean of absolutes and the mean of squares for each of SHAPES."""
    return gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


def gamma(x: np.ndarray | float) -> np.ndarray:
    return np.exp(torch.lgamma(torch.as_tensor(x, dtype=torch.float64)).numpy())
