"""Degradations, augmentation and resampling against Pillow, scipy and distributions."""

import math

import numpy as np
import pytest
import scipy
import torch
from helpers import normal, soft_images
from PIL import Image

from gancli.images import enlarge, to_float, to_uint8
from gancli.transforms import augment, masks
from gancli.transforms.augment import AdaptiveAugment, warp
from gancli.transforms.degradation import Degradation, compress
from gancli.transforms.tasks import Deblur, Denoise, Edges, gaussian_blur

SOFT = soft_images(4, 3, 48)
ADA, DIFFAUGMENT = "Karras et al. 2020, appendix B", "Zhao et al. 2020, section 3"


def arrays(x: torch.Tensor) -> np.ndarray:
    return to_uint8(x).permute(0, 2, 3, 1).numpy()


def levels(x: torch.Tensor) -> torch.Tensor:
    return to_uint8(x).double() / 255


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_resampling(scale, oracle):
    def pillow(x: torch.Tensor, size: int) -> np.ndarray:
        """Resize plane by plane in float32: of 8-bit images Pillow rounds between rows and columns."""
        planes = [
            Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC) for plane in x.flatten(0, 1).numpy()
        ]
        return np.stack(planes).reshape(4, 3, size, size)

    low = Degradation(scale)(SOFT)
    theirs = np.clip(np.rint((pillow(SOFT, 48 // scale).astype(float) + 1) * 127.5), 0, 255) / 255
    oracle(
        "Bicubic reduction, in 8 bits",
        "Keys 1981, a = -1/2",
        "Pillow, to one grey level",
        levels(low),
        theirs,
        1.01 / 255,
    )
    oracle(
        "Bicubic enlargement", "Keys 1981, a = -1/2", "Pillow in float32", enlarge(low, scale), pillow(low, 48), 1e-5
    )


def test_blur_noise_edges_and_jpeg(oracle):
    x = SOFT.double()
    theirs = scipy.ndimage.gaussian_filter(x.numpy(), (0, 0, 1.7, 1.7), mode="nearest", truncate=7 / 1.7)
    sigma = torch.full((4, 1, 1, 1), 1.7)
    oracle(
        "Gaussian blur",
        "a Gaussian to four deviations",
        "scipy.ndimage.gaussian_filter",
        gaussian_blur(x, sigma, 1.7),
        theirs,
        1e-6,
    )
    theirs = scipy.ndimage.gaussian_filter(SOFT.numpy(), (0, 0, 1.6, 1.6), mode="nearest")
    oracle(
        "Source of task=deblur, in 8 bits",
        "a Gaussian",
        "scipy, to one grey level",
        levels(Deblur()(SOFT)),
        (theirs + 1) / 2,
        1.01 / 255,
    )
    y = SOFT.mul(torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1).numpy()
    y = np.rint((y + 1) * 127.5) / 127.5 - 1
    magnitude = np.hypot(*(np.stack([scipy.ndimage.sobel(p, axis, mode="nearest") for p in y]) for axis in (0, 1)))
    oracle(
        "Source of task=edges, in 8 bits",
        "Sobel's filter",
        "scipy.ndimage.sobel, to one grey level",
        levels(Edges()(SOFT))[:, 0],
        np.clip(magnitude / 8, 0, 1),
        0.02,
    )
    flat = torch.zeros(8, 1, 64, 64)
    noise = (Denoise(sigma=25.0)(flat) - flat).flatten() * 127.5
    oracle("Noise of task=denoise, deviation in grey levels", "Zhang et al. 2017", "25", noise.std() / 25, 1.0, 0.02)
    ours = compress(to_uint8(SOFT), [30] * 4).permute(0, 2, 3, 1).double() / 255
    import io

    theirs = []
    for a in arrays(SOFT):
        Image.fromarray(a).save(file := io.BytesIO(), "JPEG", quality=30)
        theirs.append(np.asarray(Image.open(file)) / 255)
    oracle("JPEG of a degradation", "quality 30", "Pillow", ours, np.stack(theirs), 0)


def test_diffaugment(oracle):
    x = normal(500, 3, 32, 32, dtype=torch.float32)
    y = augment.translation(x)
    for i in range(3):
        shifts = [(r, c) for r in range(-4, 5) for c in range(-4, 5)]
        padded = np.pad(x[i].numpy(), ((0, 0), (4, 4), (4, 4)))
        candidates = [padded[:, 4 + r : 36 + r, 4 + c : 36 + c] for r, c in shifts]
        nearest = min(candidates, key=lambda candidate: np.abs(candidate - y[i].numpy()).max())
        oracle("DiffAugment's translation at 32 pixels: one of 9x9 shifts", DIFFAUGMENT, "numpy.pad", y[i], nearest, 0)
    zeros = (augment.cutout(x) == 0).all(1).flatten(1).sum(1)
    oracle("DiffAugment's cutout, pixels of the largest hole", DIFFAUGMENT, "half of either side", zeros.max(), 256, 0)
    images = soft_images(400, 3, 8)
    y = augment.color(images)
    # The mean over all pixels moves by the brightness alone, and the deviation about it grows with the contrast.
    brightness = (y.mean((1, 2, 3)) - images.mean((1, 2, 3))).double().numpy()
    distance = scipy.stats.kstest(brightness, scipy.stats.uniform(-0.5, 1).cdf).statistic
    oracle(
        "DiffAugment's brightness, distance from U(-1/2, 1/2)", DIFFAUGMENT, "scipy.stats.kstest", distance, 0.0, 0.08
    )


def test_ada_adapts_by_images(oracle):
    """p moves by the number of images over ada_kimg, whatever the number of logits."""
    for shape in ((16,), (16, 6, 6), (8,)):
        ada = AdaptiveAugment(target=0.5, kimg=10)
        for _ in range(40):
            ada.observe(torch.ones(shape), 16)
        oracle(
            "ADA's probability after 640 images at kimg=10",
            "Karras et al. 2020, section 3.1",
            "640 / 10,000",
            ada.p,
            0.064,
            1e-6,
        )


def test_ada_transforms(oracle):
    ada = AdaptiveAugment()
    ada.p.fill_(1.0)
    x = torch.zeros(4000, 1, 16, 16)
    source = ada.source(x).double()
    scale = source[:, :, :2].det().abs().log2() / 2
    distance = scipy.stats.kstest(scale.numpy(), scipy.stats.norm(0, 0.2).cdf).statistic
    oracle("ADA's scaling, distance from N(0, 0.2) in octaves", ADA, "scipy.stats.kstest", distance, 0.0, 0.03)
    images = soft_images(2, 2, 16).double()
    turn, shift = 0.4, (1.3, -2.2)
    matrix = torch.tensor(
        [[math.cos(turn), -math.sin(turn), shift[0]], [math.sin(turn), math.cos(turn), shift[1]]]
    ).double()
    ours = warp(images, matrix.expand(2, 2, 3))
    grid = np.stack(np.meshgrid(np.arange(16) - 7.5, np.arange(16) - 7.5))
    at = np.einsum("ij,jrc->irc", matrix[:, :2].numpy(), grid) + matrix[:, 2, None, None].numpy() + 7.5
    theirs = [
        [scipy.ndimage.map_coordinates(p, [at[1], at[0]], order=1, mode="mirror") for p in image]
        for image in images.numpy()
    ]
    oracle("ADA's warp", "bilinear, edges reflected", "scipy.ndimage.map_coordinates", ours, np.array(theirs), 1e-6)
    colours = soft_images(300, 3, 8) + torch.tensor([0.0, 3, 6]).view(3, 1, 1)  # no pixel is grey
    changed = ada.recolour(colours).double()
    grey = ada.recolour(torch.full((300, 3, 2, 2), 0.3))
    oracle(
        "ADA's colours keep the axis of greys",
        ADA,
        "equal channels",
        grey.std(1, correction=0),
        torch.zeros(300, 2, 2),
        1e-6,
    )
    # Hue turns about that axis, so distances from it grow by one factor for all pixels of an image.
    away = [
        np.linalg.norm((t - t.mean(1, keepdim=True)).numpy(), axis=1).reshape(300, -1)
        for t in (colours.double(), changed)
    ]
    ratio = away[1] / away[0]
    oracle(
        "ADA's hue and saturation, spread of the factor within an image",
        ADA,
        "one factor",
        (ratio.max(1) - ratio.min(1)) / ratio.mean(1),
        np.zeros(300),
        1e-3,
    )


def test_masks(oracle):
    x = torch.zeros(4000, 1, 32, 32)
    oracle("Centre mask, pixels", "Pathak et al. 2016", "a quarter", masks.centre(x[:1]).sum(), 256, 0)
    rows = masks.box(x).any(3).sum((1, 2)).numpy()
    frequency = np.bincount(rows, minlength=17)[8:]
    oracle(
        "Box mask, height's distance from uniform in 8..16",
        "uniform",
        "scipy.stats.chisquare, p above 0.001",
        scipy.stats.chisquare(frequency).pvalue > 0.001,
        True,
        0,
    )


def test_grey_levels_of_degradation_noise(oracle):
    flat = torch.zeros(600, 1, 32, 32)
    y = (Degradation(4, noise=10.0)(flat) * 127.5).flatten(1).std(1).numpy()
    # Rounding adds 1/12 of a squared grey level.
    sigma = np.sqrt(np.maximum(y**2 - 1 / 12, 0))
    distance = scipy.stats.kstest(sigma, scipy.stats.uniform(0, 10).cdf).statistic
    oracle(
        "Noise of a degradation, deviation's distance from U(0, 10)",
        "Wang et al. 2021, eq. 1",
        "scipy.stats.kstest",
        distance,
        0.0,
        0.08,
    )
    assert to_float(to_uint8(flat[:1])).shape == flat[:1].shape
