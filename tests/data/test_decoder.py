"""One decoder for all: formats that are never opened, damaged metadata, colour profiles."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gancli.data.decoder import BadImage, open_image
from gancli.data.image_files import decode_image
from gancli.data.image_modes import standardize

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Red and blue of this profile have changed places.
SWAPPED = SRGB.replace(b"rXYZ", b"tttt").replace(b"bXYZ", b"rXYZ").replace(b"tttt", b"bXYZ")
ROOT = Path(__file__).parents[2]


def test_no_other_module_opens_an_image():
    """Only the decoder knows which formats are safe to open."""
    for file in [*(ROOT / "gancli").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            opens = (
                isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image")
            )
            imports = isinstance(node, ast.ImportFrom) and node.module == "PIL.Image"
            assert not (opens or imports) or file.name == "decoder.py", f"{file}: {ast.unparse(node)}"


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_is_never_opened_whatever_its_name(tmp_path):
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    for source in (tmp_path / "a.png", io.BytesIO(POSTSCRIPT)):
        with pytest.raises(BadImage, match="is not an image that Pillow knows"):
            open_image(source)


def test_heic_without_the_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(BadImage, match=r"pip install 'gancli\[heif\]'"):
        open_image(tmp_path / "a.HEIC")


def both(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return an image as training and as the file commands read it."""
    with open_image(path) as image:
        return np.asarray(decode_image(path)[0]), np.asarray(standardize(image))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("format", ["png", "jpg", "webp"])
def test_damaged_exif_does_not_cost_the_image(tmp_path, format, exif):
    Image.new("RGB", (9, 6), "red").save(tmp_path / f"a.{format}", exif=exif)
    training, commands = both(tmp_path / f"a.{format}")
    assert training.shape == (6, 9, 3) and (training == commands).all()


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
@pytest.mark.parametrize("profile", [SRGB, SWAPPED, b"damaged"], ids=["sRGB", "swapped", "damaged"])
def test_profiles_are_converted_to_srgb_alike_everywhere(tmp_path, mode, profile):
    image = Image.new("RGB", (8, 8), (250, 20, 10)).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile)
    training, commands = both(tmp_path / "a.png")
    assert (training == commands[..., :3]).all() if mode == "RGBA" else (training == commands).all()
    if mode != "L":
        red, _, blue = training[0, 0].tolist()
        assert (red < blue) == (profile == SWAPPED)
    with open_image(tmp_path / "a.png") as opened:
        assert ("icc_profile" in standardize(opened).info) == (profile == SRGB or (mode == "L" and profile == SWAPPED))
