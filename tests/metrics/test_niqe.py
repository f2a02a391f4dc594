import math

import numpy as np
import pytest
import torch

from gancli.metrics.niqe import niqe


def texture(side: int, power: float) -> torch.Tensor:
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    y = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) / np.maximum(frequency, 1 / side) ** power).real
    return torch.from_numpy((128 + 40 * y / y.std()).round().clip(0, 255))[None, None]


# Of BasicSR 1.4.2, whose figures are those of the authors' program to three digits.
@pytest.mark.parametrize(("power", "expected"), [(0.5, 12.64567), (1.0, 6.57015), (1.6, 6.28698)])
def test_niqe_equals_the_reference(power, expected):
    assert abs(niqe(texture(200, power)) - expected) < 1e-3


def test_images_without_two_blocks_of_texture_have_no_score():
    assert math.isnan(niqe(texture(95, 1.0)))
    assert math.isnan(niqe(torch.full((1, 1, 200, 200), 9.0)))
