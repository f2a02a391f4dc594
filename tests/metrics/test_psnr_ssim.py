"""PSNR, SSIM and sharpness: closed forms, the reference library, and the literature's values of bicubic enlargement."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.images import enlarge, to_float
from gancli.metrics.psnr_ssim import BINS, fidelity, psnr, shave, spectrum, ssim, studio_luma


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return a uint8 image (1, *shape), smooth and with detail."""
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    return ((0.7 * smooth + 0.3 * noise) * 255).to(torch.uint8)


def test_luma_of_colour_has_studio_range_and_grey_is_unchanged():
    """BT.601's corner values: black 16, white 235, and red, green and blue in between."""
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    y = studio_luma(to_float(colours[:, :, None, None]))
    assert torch.allclose(y.flatten(), torch.tensor([16, 235, 81.481, 144.553, 40.966], dtype=torch.float64))
    assert studio_luma(to_float(torch.tensor([[[[200]]]], dtype=torch.uint8))).item() == 200


def test_a_known_error_has_its_psnr():
    a = torch.full((1, 20, 20), 100.0)
    for error in (1.0, 5.0, 20.0):
        assert psnr(a, a + error).item() == pytest.approx(20 * math.log10(255 / error))
    assert psnr(a, a).item() == math.inf


def test_images_are_rounded_to_8_bits_and_a_border_of_scale_pixels_does_not_count():
    real = to_float(image(3, 24, 24))
    fake = torch.ones_like(real)
    fake[..., 4:-4, 4:-4] = real[..., 4:-4, 4:-4]
    assert fidelity(fake, real, 4)["psnr"] == fidelity(real + 0.4 / 127.5, real, 2)["psnr"] == math.inf
    assert fidelity(fake, real, 3)["psnr"] < 40
    assert shave(torch.zeros(1, 8, 9), 4).shape == (1, 8, 9), "nothing would be left"


def test_ssim_of_a_shift_has_a_closed_form_and_small_images_have_none():
    """Constant planes differ in their means only: (2 m n + c1) / (m^2 + n^2 + c1)."""
    m, n, c1 = 100.0, 130.0, 2.55**2
    value = ssim(torch.full((1, 12, 12), m), torch.full((1, 12, 12), n)).item()
    assert value == pytest.approx((2 * m * n + c1) / (m * m + n * n + c1))
    assert math.isnan(ssim(torch.zeros(1, 10, 30), torch.zeros(1, 10, 30)).item())


def test_ssim_needs_the_memory_of_a_few_planes():
    """A convolution in float64 holds 121 planes at a time: 12 GB for a photo of 12 megapixels."""
    y = torch.rand(1, 100, 120, dtype=torch.float64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        ssim(y, y)
    assert max(event.self_cpu_memory_usage for event in profile.events()) <= 2 * y.nbytes


def test_a_wave_has_all_its_power_at_its_frequency():
    """A cosine of amplitude A has the power A^2 / 2."""
    x = torch.arange(128, dtype=torch.float64)
    for cycles, amplitude in ((8, 10.0), (40, 30.0)):
        y = 128 + amplitude * torch.cos(2 * math.pi * cycles / 128 * x).expand(1, 128, 128)
        power = spectrum(y)[0]
        assert power.argmax().item() == int(cycles / 128 * 2 * BINS)
        assert power.sum().item() == pytest.approx(amplitude**2 / 2, rel=1e-3)


def test_the_power_of_white_noise_follows_the_area_of_the_rings():
    y = 128 + 20 * torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    power = spectrum(y)[0]
    area = torch.tensor([(2 * i + 1) * math.pi / (2 * BINS) ** 2 for i in range(BINS)], dtype=torch.float64)
    assert torch.allclose(power.view(4, 8).sum(1)[1:], 400 * area.view(4, 8).sum(1)[1:], rtol=0.06)


def test_the_high_frequencies_of_a_flat_image_are_zero():
    """Rounding leaves 1e-30 of them, and any detail would be +300 dB above that."""
    flat, rough = torch.zeros(1, 3, 24, 24), to_float(image(3, 24, 24))
    assert math.isnan(fidelity(flat, flat, 2)["high_frequency"])
    assert fidelity(rough, flat, 2)["high_frequency"] == math.inf
    assert fidelity(flat, rough, 2)["high_frequency"] == -math.inf
    assert fidelity(flat, flat, 2)["ssim"] == pytest.approx(1)


def test_blur_lowers_sharpness_and_high_frequencies_and_noise_raises_them():
    real = to_float(image(3, 64, 64))
    blurred = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    noisy = blurred + 0.1 * torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    same, soft = (fidelity(x, real, 2) for x in (real, blurred))
    rough = fidelity(noisy, blurred, 2)
    assert same["sharpness"] == 1 and same["high_frequency"] == 0
    assert soft["sharpness"] < 0.7 and soft["high_frequency"] < -3
    assert rough["sharpness"] > 1.2 and rough["high_frequency"] > 1


@pytest.mark.data
@pytest.mark.parametrize(("name", "decibels", "similarity"), [("Set5", 28.4, 0.811), ("Set14", 26.0, 0.703)])
def test_bicubic_has_the_values_of_the_literature(name, decibels, similarity):
    """SRGAN, table 2: 28.43 and 25.99 dB; Wang's SSIM of bicubic is .810 and .702 in later tables."""
    folder = Path(os.environ["GAN_DATA"]).expanduser() / "sr" / name
    if not folder.is_dir():
        pytest.skip(f"needs {name} under $GAN_DATA/sr")
    results = []
    for high in sorted(folder.glob("*_HR.png")):
        pair = [torch.from_numpy(np.array(Image.open(p))) for p in (high, Path(str(high).replace("_HR", "_LR")))]
        real, low = (to_float(t.reshape(*t.shape[:2], -1).permute(2, 0, 1)[None]) for t in pair)
        fake = enlarge(low, 4)
        results.append(fidelity(fake, real[:, :, : fake.shape[2], : fake.shape[3]], 4))
    for key, expected, tolerance in (("psnr", decibels, 0.06), ("ssim", similarity, 0.005)):
        assert sum(values[key] for values in results) / len(results) == pytest.approx(expected, abs=tolerance), key
