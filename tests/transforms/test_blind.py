"""Blind degradation: whole grey levels, the clean case, and closed forms of its parts."""

import pytest
import torch

from gancli.transforms.blind import BlindDegradation
from gancli.transforms.degradation import Degradation


def test_images_are_in_steps_of_8_bits_and_each_is_degraded_differently():
    torch.manual_seed(0)
    x = (torch.rand(1, 3, 24, 32) * 2 - 1).expand(8, -1, -1, -1)
    y = BlindDegradation(scale=4)(x)
    assert y.shape == (8, 3, 6, 8) and y.abs().max() <= 1
    levels = (y + 1) * 127.5
    assert (levels - levels.round()).abs().max() < 1e-3
    assert len({tuple(image.flatten().tolist()) for image in y}) > 4


def test_without_any_degraded_image_it_is_bicubic():
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    assert torch.equal(BlindDegradation(scale=2, fraction=0)(x), Degradation(scale=2)(x))


def test_blur_keeps_the_mean_and_an_image_of_one_colour():
    task, x = BlindDegradation(scale=4), torch.zeros(16, 1, 41, 41)
    assert torch.allclose(task.blurred(x + 0.5), x + 0.5, atol=1e-5)
    x[:, :, 20, 20] = 1
    y = task.blurred(x)
    assert torch.allclose(y.sum((1, 2, 3)), torch.ones(16), atol=1e-5)
    assert (y >= 0).all() and (y.amax((1, 2, 3)) < 1).all()


def test_noise_has_its_size_and_no_bias():
    torch.manual_seed(0)
    task = BlindDegradation(scale=4, noise=10)
    noise = task.noisy(torch.full((400, 3, 16, 16), 128.0)) - 128
    sizes = noise.flatten(1).std(1)
    assert abs(noise.mean()) < 0.1
    assert 4.5 < sizes.mean() < 6 and sizes.max() < 12  # uniform from 0.5 to 10


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_images_are_taken(channels):
    assert BlindDegradation(scale=3)(torch.zeros(4, channels, 9, 12)).shape == (4, channels, 3, 4)
