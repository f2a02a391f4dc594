"""Degraded images against Pillow, SciPy and closed forms; test_tasks.py tests what all tasks have in common."""

import io
import re

import numpy as np
import pytest
import torch
from helpers import soft_images
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from gancli.images import to_array, to_float, to_pil, to_uint8
from gancli.transforms.degradation import Degradation
from gancli.transforms.tasks import gaussian_blur

SINGLE = [{"blur": 3.0}, {"noise": 20.0}, {"jpeg": 30}]
ALL = {"blur": 3.0, "noise": 20.0, "jpeg": 30}


def levels(y: Tensor) -> Tensor:
    """Return grey levels, 0 to 255."""
    return (y + 1) * 255 / 2


def changed(x: Tensor, degrade: Degradation) -> Tensor:
    """Return which images get more than bicubic downsampling, (N,)."""
    return (degrade(x) != Degradation(degrade.scale)(x)).flatten(1).any(1)


@pytest.mark.parametrize("options", [{}, *SINGLE, ALL])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (3, 1, 1), (3, 1, 5), (1, 6, 2), (3, 9, 7)])
def test_results_have_the_right_shape_range_and_steps(options, scale, channels, height, width):
    y = Degradation(scale, **options)(torch.rand(3, channels, scale * height, scale * width) * 2 - 1)
    assert y.shape == (3, channels, height, width)
    assert torch.equal(to_float(to_uint8(y)), y) and y.abs().max() <= 1


def test_overshoot_is_clipped():
    x = torch.ones(1, 1, 16, 16)
    x[..., 6:] = -1  # bicubic rings next to an edge that lies off its grid
    y = Degradation(4)(x)
    assert y.max() == 1 and y.min() == -1


@pytest.mark.parametrize("options", [{}, {"fraction": 0.5}, {**ALL, "fraction": 0.0}])
def test_what_is_off_uses_no_random_numbers(options):
    before = torch.get_rng_state()
    assert not changed(soft_images(), Degradation(4, **options)).any()
    assert torch.equal(torch.get_rng_state(), before)


def test_blur_is_scipys_gaussian_with_the_sigma_of_the_image():
    x, sigmas = soft_images(4, 3, 13), [0.0, 0.3, 1.0, 2.5]
    y = gaussian_blur(x, torch.tensor(sigmas).view(4, 1, 1, 1), 2.5)
    for image, blurred, sigma in zip(x.double().numpy(), y.numpy(), sigmas):
        expected = [gaussian_filter(plane, sigma, mode="nearest", radius=10) for plane in image]
        assert np.allclose(blurred, expected, atol=1e-5)
    assert torch.equal(y[0], x[0])


def test_blur_is_uniform_up_to_its_largest():
    # A Gaussian multiplies a cosine by exp(-(sigma w)^2 / 2), and bicubic keeps nearly all of a slow one.
    w = 2 * torch.pi / 64
    x = (w * (torch.arange(256) + 0.5)).cos().expand(400, 1, 2, 256)
    left = Degradation(2, blur=8.0)(x)[:, 0, 0, 32:96].amax(1) / Degradation(2)(x)[0, 0, 0].amax()
    sigma = (-2 * left.clamp(max=1).log()).sqrt() / w
    assert abs(sigma.mean() - 4) < 0.4 and abs(sigma.std() - 8 / 12**0.5) < 0.25 and 7.5 < sigma.max() < 8.3


def test_noise_is_in_grey_levels_and_uniform_up_to_its_largest():
    noise = levels(Degradation(2, noise=20.0)(torch.zeros(500, 3, 32, 32))) - 127.5
    std = noise.flatten(1).std(1)
    assert std.min() < 1 and 19 < std.max() < 21
    assert abs(std.mean() - 10) < 0.8 and abs(std.std() - 20 / 12**0.5) < 0.4
    loud = noise[std > 10] / std[std > 10].view(-1, 1, 1, 1)
    assert abs(loud.mean()) < 0.03 and abs((loud.abs() < 1).float().mean() - 0.683) < 0.02  # a normal distribution


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("lowest", "qualities"), [(92, range(92, 96)), (95, [95]), (98, [98])])
def test_jpeg_has_a_random_quality(channels, lowest, qualities):
    x = soft_images(32, channels, 32)
    small, results = to_array(Degradation(2)(x)), to_array(Degradation(2, jpeg=lowest)(x))

    def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
        file = io.BytesIO()
        to_pil(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    equal = [[np.array_equal(jpeg(a, quality), b) for a, b in zip(small, results)] for quality in qualities]
    assert np.any(equal, 0).all() and np.any(equal, 1).all(), "each image has one of them, each is used"


@pytest.mark.parametrize("options", [*SINGLE, ALL])
def test_fraction_is_that_of_the_disturbed_images(options):
    x = soft_images(400, 1, 16)
    assert 0.15 < changed(x, Degradation(2, **options, fraction=0.25)).float().mean() < 0.33
    assert changed(x, Degradation(2, **options)).float().mean() > 0.8  # weak ones may change no level


def test_a_disturbed_image_gets_all_disturbances():
    torch.manual_seed(5)
    disturbed = torch.rand(400, 1, 1, 1).flatten() < 0.5  # the first random numbers
    torch.manual_seed(5)
    assert torch.equal(changed(soft_images(400, 1, 16), Degradation(2, **ALL, fraction=0.5)), disturbed)


@pytest.mark.parametrize(("h", "w", "bad", "fits"), [(50, 50, 50, 48), (48, 50, 50, 48), (3, 3, 3, 4), (1, 1, 1, 4)])
def test_sizes_that_cannot_be_divided_are_refused(h, w, bad, fits):
    message = f"data.size={bad} is not a multiple of model.scale=4; type data.size={fits}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Degradation(4)(torch.zeros(2, 3, h, w))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("scale", v) for v in (1, 5, 2.5, "four", True, None, float("nan"))),
        *(("degrade.blur", v) for v in (-0.1, float("nan"), float("inf"), "much", None, True)),
        *(("degrade.noise", v) for v in (-1, float("inf"), None)),
        *(("degrade.jpeg", v) for v in (0, 101, 50.5, "low", None, True)),
        *(("degrade.fraction", v) for v in (-0.1, 1.1, "half", None)),
    ],
)
def test_impossible_options_are_refused(key, value):
    with pytest.raises(ValueError, match=rf"model\.{key}={re.escape(str(value))} .*; type model\.{key}=\d"):
        Degradation(**{"scale": 4, key.removeprefix("degrade."): value})


def test_whole_numbers_may_be_typed_with_a_point():
    degrade = Degradation(4.0, jpeg=50.0)
    assert (degrade.scale, degrade.jpeg) == (4, 50) and isinstance(degrade.jpeg, int)
    assert degrade(soft_images()).shape == (8, 3, 6, 6)
