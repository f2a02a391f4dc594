import numpy as np
import pytest
import torch
from PIL import Image
from scenes import MODES, SIZES, difference, holed, scene, with_statistics
from torch import nn

from gancli.data.image_modes import ImageWarning, image_to_array, standardize
from gancli.inference.inpainter import Inpainter, centre_mask
from gancli.networks.unet import UNet

ignore_warnings = pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")


class Painter(nn.Module):
    """Paints holes with one value, plus the mean of its input if `around`; returns garbage elsewhere."""

    z_dim, classes, scale, masked, multiple, halo = 0, 0, 1, True, 4, 8

    def __init__(self, channels: int = 3, value: float = 0.5, around: bool = False):
        super().__init__()
        self.channels, self.source_channels = channels, channels + 1
        self.value, self.around, self.pixels = value, around, 0

    def forward(self, z, c):
        x, hole = c[:, :-1], c[:, -1:]
        assert {*hole.unique().tolist()} <= {0.0, 1.0} and not (x * hole).any() and not c.shape[2] % 4
        self.pixels += c.shape[2] * c.shape[3]
        y = torch.full_like(x, self.value)
        if self.around:
            y = y + x.mean((1, 2, 3), keepdim=True)
        return hole * y - (1 - hole)


@pytest.mark.parametrize("size", [(2, 1), (3, 1), *SIZES[1:]])
@pytest.mark.parametrize("channels", [1, 3])
@ignore_warnings
def test_pixels_outside_the_mask_and_alpha_stay_exactly_equal(size, channels):
    hole = np.asarray(holed(*size))
    for mode, standard in MODES.items():
        image = scene(*size, mode)
        before = image_to_array(standardize(image))
        result = Inpainter(Painter(channels))(image, holed(*size))
        assert (result.mode, result.size) == (standard, size)
        after = image_to_array(result)
        assert np.array_equal(after[~hole], before[~hole])
        n = 3 if standard.startswith("RGB") else 1
        painted = after[hole][:, :n] / np.iinfo(after.dtype).max
        assert abs(painted - 0.75).max() < 0.5 / 255
        assert np.array_equal(after[..., n:], before[..., n:]), "alpha"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "I;16"])
def test_masked_pixels_do_not_influence_the_result(mode):
    mask, image = holed(40, 30), scene(40, 30, mode)
    pixels = image_to_array(image)
    pixels[np.asarray(mask), : 3 if "RGB" in mode else 1] = 0
    other = Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[..., 0])
    inpainter = Inpainter(Painter(3 if "RGB" in mode else 1, 0.1, around=True))
    assert inpainter(image, mask).tobytes() == inpainter(other, mask).tobytes()


def test_only_the_surroundings_of_the_hole_are_computed():
    mask = Image.new("L", (1000, 800))
    mask.paste(255, (501, 402, 504, 404))
    network = Painter()
    result = np.asarray(Inpainter(network)(Image.new("RGB", (1000, 800), "red"), mask))
    assert network.pixels - 64 * 64 == (2 * 8 + 4) ** 2, "besides the measurement of memory"
    assert (result[402:404, 501:504] == round(0.75 * 255)).all()


def test_tiles_equal_the_whole():
    network = with_statistics(UNet(3, 4, size=8, width=4, masked=True))
    image, mask = scene(190, 61), holed(190, 61)
    whole, tiled = (Inpainter(network, tile)(image, mask) for tile in (0, 8))
    assert difference(whole, tiled) <= 1 and difference(whole, image) > 20


def test_masks_of_any_mode_are_white_from_half_on():
    levels = np.array([[0, 127, 128, 255]] * 3, np.uint8)
    deep = np.array([[0, 32767, 32768, 65535]] * 3, np.uint16)
    transparent = np.full((3, 4, 4), 255, np.uint8)
    transparent[..., 3] = levels
    masks = [Image.fromarray(a) for a in (levels, deep, transparent, np.stack([levels] * 3, 2), levels >= 128)]
    for mask in (*masks, Image.fromarray(levels).convert("P")):
        result = image_to_array(Inpainter(Painter(1, -0.5))(Image.new("L", (4, 3), 7), mask))
        assert (result[:, :2] == 7).all() and (result[:, 2:] == 64).all()


def test_a_warning_says_that_colour_is_repainted_in_grey(recwarn):
    Inpainter(Painter(3))(scene(9, 9, "L"), holed(9, 9))
    Inpainter(Painter(1))(scene(9, 9, "L").convert("RGB"), holed(9, 9))
    assert not recwarn
    with pytest.warns(ImageWarning, match="was repainted in grey"):
        Inpainter(Painter(1))(scene(9, 9), holed(9, 9))


@pytest.mark.parametrize(
    ("size", "box"), [((100, 40), (25, 10, 75, 30)), ((7, 13), (2, 3, 5, 9)), ((2, 3), (0, 1, 1, 2))]
)
def test_the_centre_mask_is_the_middle_half_of_each_side(size, box):
    mask = centre_mask(size)
    assert mask.size == size and mask.getbbox() == box and mask.crop(box).getextrema() == (255, 255)
