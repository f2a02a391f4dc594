import numpy as np
import pytest
from PIL import Image, ImageCms
from scenes import MODES, SIZES, Same, Strided, difference, scene

from gancli.data.image_modes import ImageWarning, standardize
from gancli.inference.translator import Translator

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
def test_every_mode_at_every_size(size, channels):
    for mode, standard in MODES.items():
        image = scene(*size, mode)
        result = Translator(Strided(channels[1], channels[0]))(image)
        colours = "RGB" if channels[1] == 3 else "I;16" if standard == "I;16" else "L"
        assert (result.mode, result.size) == (colours + ("A" if standard.endswith("A") else ""), size)
        if standard.endswith("A"):
            assert result.getchannel("A").tobytes() == standardize(image).getchannel("A").tobytes()


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
def test_colour_becomes_grey_and_grey_becomes_colour():
    image = scene(30, 20)
    grey = np.asarray(image.convert("L"))
    assert difference(Translator(Same(1, 1))(image), grey) <= 1
    assert difference(Translator(Same(3, 1))(image), grey[..., None].repeat(3, 2)) <= 1
    assert difference(Translator(Same(1, 3))(image.convert("L")), grey) == 0


def test_16_bit_grey_is_read_and_written_with_16_bits():
    image = scene(21, 10, "I;16")
    assert difference(Translator(Same(1, 1))(image), image) == 0
    network = Same(3, 1)
    network.forward = lambda z, c: (c + 1).expand(-1, 3, -1, -1) * 5 - 1  # 5,600 of 65535 lies between levels of 8 bits
    with pytest.warns(ImageWarning):
        result = Translator(network)(Image.fromarray(np.full((5, 5), 5600, np.uint16)))
    assert np.unique(np.asarray(result)).tolist() == [round(255 * 5 * 5600 / 65535)]


@pytest.mark.parametrize(
    ("network", "image", "profile", "message"),
    [
        (Same(3, 1), scene(9, 9), b"", "colours were converted to grey"),
        (Same(3, 1), scene(9, 9).convert("L").convert("RGB"), b"", ""),
        (Same(3, 1), scene(9, 9, "I;16"), b"", "16 bits were reduced to 8, as the result is in colour"),
        (Same(1, 1), scene(9, 9, "I;16"), SRGB, ""),
        (Same(3, 3), scene(9, 9, "RGBA"), SRGB, ""),
        (Same(1, 3), scene(9, 9), SRGB, "its ICC profile for colour does not fit the result"),
        (Same(3, 3), scene(9, 9, "L"), SRGB, "its ICC profile for grey does not fit the result"),
    ],
)
def test_warnings_say_what_is_lost(network, image, profile, message, recwarn):
    image.info["icc_profile"] = profile
    result = Translator(network)(image)
    messages = [str(w.message) for w in recwarn if issubclass(w.category, ImageWarning)]
    assert len(messages) == bool(message) and all(message in text for text in messages)
    assert result.info.get("icc_profile", b"") == (b"" if message else profile)
