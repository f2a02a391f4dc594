"""Low-resolution images: against Pillow, SciPy and closed forms; what each option draws, and for which images."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.images import to_array, to_float, to_pil, to_uint8
from gancli.transforms.degradation import Degradation, blurred


def pictures(n: int = 8, channels: int = 3, side: int = 48) -> Tensor:
    """Soft clouds with some grain, in steps of 8 bits."""
    generator = torch.Generator().manual_seed(0)
    clouds = interpolate(torch.randn(n, channels, 6, 6, generator=generator), (side, side), mode="bicubic")
    return to_float(to_uint8(0.4 * clouds + 0.1 * torch.randn(n, channels, side, side, generator=generator)))


def levels(y: Tensor) -> Tensor:
    """Grey levels 0 to 255."""
    return (y + 1) * 255 / 2


def bicubic(x: Tensor, scale: int) -> Tensor:
    return Degradation(scale)(x)


def changed(y: Tensor, plain: Tensor) -> Tensor:
    """Which images are not pure bicubic, (N,)."""
    return (y != plain).flatten(1).any(1)


ONE_AT_A_TIME = [{"blur": 3.0}, {"noise": 20.0}, {"jpeg": 30}]
EVERY = [{}, *ONE_AT_A_TIME, {"blur": 3.0, "noise": 20.0, "jpeg": 30}]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_bicubic_is_pillows(scale, channels):
    x, size = pictures(4, channels), (48 // scale, 48 // scale)
    y = levels(bicubic(x, scale)).round().numpy()
    for ours, image in zip(y, to_array(x)):
        theirs = np.asarray(to_pil(image).resize(size, Image.Resampling.BICUBIC)).reshape(*size, channels)
        assert abs(ours - theirs.transpose(2, 0, 1)).max() <= 1  # it rounds once more, between rows and columns
        for channel, plane in zip(ours, image.transpose(2, 0, 1)):
            exact = Image.fromarray(plane.astype(np.float32)).resize(
                size, Image.Resampling.BICUBIC
            )  # of floats: not so
            assert abs(channel - np.asarray(exact).clip(0, 255)).max() < 0.501


@pytest.mark.parametrize("options", EVERY)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 1, 1), (3, 1, 1), (3, 1, 5), (1, 6, 2), (3, 9, 7)])
def test_shape_range_and_steps(options, scale, channels, height, width):
    x = torch.rand(3, channels, scale * height, scale * width) * 2 - 1
    before = x.clone()
    for seen in (x, x.contiguous(memory_format=torch.channels_last), x.bfloat16()):
        y = Degradation(scale, **options)(seen)
        assert y.shape == (3, channels, height, width) and y.dtype == torch.float32
        assert torch.equal(to_float(to_uint8(y)), y) and y.abs().max() <= 1
    assert torch.equal(x, before)


def test_overshoot_is_clipped_and_nothing_has_a_slope():
    x = torch.ones(1, 1, 16, 16)
    x[..., 6:] = -1  # bicubic rings beside an edge that lies off its grid
    y = bicubic(x.requires_grad_(), 4)
    assert y.max() == 1 and y.min() == -1 and not y.requires_grad


@pytest.mark.parametrize("options", EVERY[1:])
def test_same_seed_same_images(options):
    x, degrade, seen = pictures(), Degradation(4, **options), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(degrade(x))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("options", [{}, {"share": 0.5}, {"blur": 3.0, "noise": 20.0, "jpeg": 30, "share": 0.0}])
def test_what_is_off_draws_nothing(options):
    before = torch.get_rng_state()
    assert torch.equal(Degradation(4, **options)(pictures()), bicubic(pictures(), 4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_a_gaussian(sigma):
    x = pictures(2, 3, 13)
    expected = [[gaussian_filter(p, sigma, mode="nearest", radius=10) for p in image] for image in x.double().numpy()]
    y = blurred(x, torch.full((2, 1, 1, 1), sigma), 2.5)
    assert np.allclose(y, np.array(expected), atol=1e-5)


def test_each_image_has_its_own_blur():
    dot = torch.zeros(3, 2, 41, 41)
    dot[..., 20, 20] = 1
    sigmas = torch.tensor([0.0, 1.0, 3.0])
    y = blurred(dot, sigmas.view(3, 1, 1, 1), 3.0)
    assert torch.equal(y[0], dot[0])
    away = torch.arange(41.0) - 20
    for line in (y.sum(2), y.sum(3)):
        assert torch.allclose(line.sum(-1), torch.ones(3, 2))
        assert torch.allclose((line * away**2).sum(-1), (sigmas**2)[:, None].expand(3, 2), rtol=5e-3)


def test_blur_is_uniform_up_to_its_largest():
    # Of a cosine, a Gaussian leaves exp(-(sigma w)^2 / 2), and bicubic nearly all of it where it is slow.
    w = 2 * torch.pi / 64
    x = (w * (torch.arange(256) + 0.5)).cos().expand(400, 1, 2, 256)
    left = Degradation(2, blur=8.0)(x)[:, 0, 0, 32:96].amax(1) / bicubic(x, 2)[0, 0, 0].amax()
    sigma = (-2 * left.clamp(max=1).log()).sqrt() / w
    assert abs(sigma.mean() - 4) < 0.4 and abs(sigma.std() - 8 / 12**0.5) < 0.25 and 7.5 < sigma.max() < 8.3


def test_noise_is_in_grey_levels_and_uniform_up_to_its_largest():
    y = Degradation(2, noise=20.0)(torch.zeros(500, 3, 32, 32))
    noise = levels(y) - 127.5
    std = noise.flatten(1).std(1)
    assert std.min() < 1 and 19 < std.max() < 21
    assert abs(std.mean() - 10) < 0.8 and abs(std.std() - 20 / 12**0.5) < 0.4
    loud = noise[std > 10] / std[std > 10].view(-1, 1, 1, 1)
    assert abs(loud.mean()) < 0.03 and abs((loud.abs() < 1).float().mean() - 0.683) < 0.02  # a normal one's share


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("lowest", "qualities"), [(92, range(92, 96)), (95, [95]), (98, [98])])
def test_jpeg_is_that_of_a_drawn_quality(channels, lowest, qualities):
    x = pictures(32, channels, 32)
    small, seen = to_array(bicubic(x, 2)), to_array(Degradation(2, jpeg=lowest)(x))
    files = {quality: [] for quality in qualities}
    for image in small:
        for quality, made in files.items():
            file = io.BytesIO()
            to_pil(image).save(file, "JPEG", quality=quality)
            made.append(np.asarray(Image.open(file)).reshape(image.shape))
    hits = np.array([(np.array(made) == seen).reshape(32, -1).all(1) for made in files.values()])
    assert hits.any(0).all() and hits.any(1).all()  # each image has one of these qualities, and each is drawn


def test_lower_quality_is_worse():
    x = pictures(channels=1)
    errors = [(Degradation(2, jpeg=1)(x) - bicubic(x, 2)).square().mean() for _ in range(8)]
    assert max(errors) > 1.2 * min(errors) > 0
    assert (Degradation(2, jpeg=95)(x) - bicubic(x, 2)).square().mean() < min(errors) / 4


@pytest.mark.parametrize("options", [*ONE_AT_A_TIME, EVERY[-1]])
def test_share_is_how_many_images_are_disturbed(options):
    x = pictures(400, 1, 16)
    plain = bicubic(x, 2)
    disturbed = changed(Degradation(2, **options, share=0.25)(x), plain).float().mean()
    assert 0.15 < disturbed < 0.33
    assert changed(Degradation(2, **options)(x), plain).float().mean() > 0.8  # a weak draw may change no level


def test_a_disturbed_image_is_so_in_every_way():
    x = pictures(400, 1, 16)
    every = Degradation(2, blur=3.0, noise=20.0, jpeg=30, share=0.5)
    torch.manual_seed(5)
    disturbed = torch.rand(400, 1, 1, 1).flatten() < 0.5  # the first draw
    torch.manual_seed(5)
    assert torch.equal(changed(every(x), bicubic(x, 2)), disturbed)


def test_waits_for_nothing_but_jpeg():
    # On meta there is nothing to read, so a step that reads a value would fail.
    x = torch.empty(2, 3, 16, 16, device="meta")
    assert Degradation(4, blur=3.0, noise=20.0, share=0.5)(x).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("options", EVERY)
def test_autocast_changes_nothing(options):
    x, seen = pictures(), []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            seen.append(Degradation(4, **options)(x))
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((2, 3, 50, 50), "data.size=50 is no multiple of model.scale=4; type data.size=48"),
        ((2, 3, 48, 50), "data.size=50 is no multiple of model.scale=4; type data.size=48"),
        ((2, 1, 3, 3), "data.size=3 is no multiple of model.scale=4; type data.size=4"),
        ((2, 2, 1, 1), "data.size=1 is no multiple of model.scale=4; type data.size=4"),
    ],
)
def test_sizes_that_cannot_be_divided(shape, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        Degradation(4)(torch.zeros(shape))


@pytest.mark.parametrize("scale", [1, 5, 0, -2, 2.5, "four", True, None, float("nan")])
def test_scales_that_make_no_sense(scale):
    with pytest.raises(ValueError, match=re.escape(f"model.scale={scale}; type model.scale=4")):
        Degradation(scale)


@pytest.mark.parametrize(
    "option",
    [
        *({"blur": v} for v in (-0.1, float("nan"), float("inf"), "much", None, True)),
        *({"noise": v} for v in (-1, float("nan"), float("inf"), "much", None)),
        *({"jpeg": v} for v in (0, 101, -5, 50.5, "low", None, True)),
        *({"share": v} for v in (-0.1, 1.1, float("nan"), "half", None)),
    ],
)
def test_options_that_make_no_sense(option):
    ((name, value),) = option.items()
    said = rf"model\.degrade\.{name}={re.escape(str(value))}; type model\.degrade\.{name}=\d"
    with pytest.raises(ValueError, match=said):
        Degradation(4, **option)


def test_whole_numbers_may_be_typed_with_a_point():
    x = pictures()
    torch.manual_seed(1)
    expected = Degradation(4, jpeg=50)(x)
    torch.manual_seed(1)
    assert torch.equal(Degradation(4.0, jpeg=50.0)(x), expected)
