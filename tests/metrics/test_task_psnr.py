"""PSNR of image-to-image networks, against NumPy and a known error."""

import math

import numpy as np
import pytest
import torch
from helpers import soft_images
from torch import Tensor

from gancli.images import to_array, to_float
from gancli.metrics.psnr_ssim import fidelity
from gancli.metrics.task_psnr import task_psnr
from gancli.transforms.degradation import Degradation
from gancli.transforms.tasks import Colorize, Denoise, GivenSources, Inpaint


def psnr(fake: Tensor, real: Tensor) -> list[float]:
    squares = [(a.astype(float) - b) ** 2 for a, b in zip(to_array(fake), to_array(real))]
    return [10 * math.log10(255**2 / square.mean()) for square in squares]


@pytest.mark.parametrize("task", [Colorize(), Denoise(), Inpaint("box"), GivenSources(channels=3)])
def test_psnr_is_the_mean_over_images_of_all_channels(task):
    x = soft_images()
    c = task.condition(x, soft_images(9)[1:])
    baseline = task.baseline(c)
    assert task_psnr(task, baseline, x, c)["psnr"] == pytest.approx(np.mean(psnr(baseline, x)))


def test_psnr_of_a_known_error():
    x = to_float(torch.full((2, 3, 4, 4), 100, dtype=torch.uint8))
    fake = x.clone()
    fake[0] += 2 * 10 / 255  # ten levels everywhere
    fake[1, 2] += 2 * 10 / 255  # in one of three channels
    expected = (20 * math.log10(25.5) + 20 * math.log10(25.5 * 3**0.5)) / 2
    assert task_psnr(Denoise(), fake, x, x)["psnr"] == pytest.approx(expected)
    assert task_psnr(Denoise(), x + 0.4 * 2 / 255, x, x)["psnr"] == math.inf  # equal in 8 bits


def test_hole_psnr_counts_the_hole_alone():
    x, task, fake = soft_images(), Inpaint("mixed"), soft_images(9)[1:]
    c = task(x)
    holes = [(a[None, :, m][..., None], b[None, :, m][..., None]) for a, b, m in zip(fake, x, c[:, -1] == 1)]
    values = task_psnr(task, fake, x, c)
    assert list(values) == ["psnr", "hole_psnr"]
    assert values["hole_psnr"] == pytest.approx(np.mean([psnr(a, b)[0] for a, b in holes]))
    composed = task_psnr(task, torch.where(c[:, -1:] == 1, fake, x), x, c)
    assert composed["hole_psnr"] == values["hole_psnr"] < composed["psnr"]


def test_super_resolution_follows_its_literature():
    x, task = soft_images(), Degradation(4)
    c = task(x)
    fake = task.baseline(c)
    assert task_psnr(task, fake, x, c) == {"psnr": fidelity(fake, x, 4)["psnr"]}
