"""JPEG on the device, against Pillow's."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.transforms.jpeg import jpeg


def smooth_image(height: int, width: int) -> np.ndarray:
    """Return colours with edges and a little noise, as a photo has them."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    image = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return (image + rng.normal(0, 4, image.shape)).round().clip(0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg_is_pillows(quality, subsampling):
    """The difference between the two is far smaller than what JPEG itself loses."""
    image = smooth_image(67, 90)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    expected = np.asarray(Image.open(file))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    y = jpeg(x, torch.tensor([float(quality)]), torch.tensor([subsampling == "4:2:0"]))
    ours = y[0].permute(1, 2, 0).numpy()
    assert psnr(ours, expected) > psnr(expected, image) + 8
    assert abs(psnr(ours, image) - psnr(expected, image)) < 0.1
