"""One decoder for all: formats that are never opened, damaged metadata, colour profiles."""

import ast
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from gancli.data.decoder import BadImage, open_image
from gancli.data.image_files import decode_image
from gancli.data.image_modes import ImageWarning, copy_metadata, standardize

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Red and blue of this profile have changed places.
SWAPPED = SRGB.replace(b"rXYZ", b"tttt").replace(b"bXYZ", b"rXYZ").replace(b"tttt", b"bXYZ")
ROOT = Path(__file__).parents[2]


def linear_grey() -> bytes:
    """Return an ICC profile of grey whose levels are proportional to light."""
    white = struct.pack(">iii", 63190, 65536, 54061)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, 256) + bytes(2),
        b"cprt": b"text\0\0\0\0x\0\0\0",
    }
    table, data, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    return head + bytes(12) + b"acsp" + bytes(28) + white + bytes(48) + table + data


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


def test_heic_is_read_with_the_extra(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    y, x = np.mgrid[:48, :64]
    image = Image.fromarray(np.stack([x * 4, y * 5, x + y], -1).astype(np.uint8))
    heif.from_pillow(image).save(tmp_path / "a.HEIC")
    heif.encode("RGB;16", (64, 48), np.asarray(image).astype(np.uint16).tobytes(), tmp_path / "deep.heic")
    decoded, info = decode_image(tmp_path / "a.HEIC")
    assert decoded.size == (64, 48) and not info.notes and info.format == "HEIF"
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(image)).mean() < 4
    assert "has 10 bits per channel and was read with 8" in decode_image(tmp_path / "deep.heic")[1].notes[0]
    (tmp_path / "cut.heic").write_bytes((tmp_path / "a.HEIC").read_bytes()[:300])
    with pytest.raises(BadImage):
        decode_image(tmp_path / "cut.heic")


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


def test_a_profile_of_16_bit_grey_is_converted(tmp_path):
    profile = linear_grey()
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.tif", icc_profile=profile)
    Image.fromarray((values // 257).astype(np.uint8)).save(tmp_path / "b.tif", icc_profile=profile)
    with pytest.warns(ImageWarning, match="was converted to sRGB by its ICC profile"):
        _, deep = both(tmp_path / "a.tif")
    with pytest.warns(ImageWarning):
        _, flat = both(tmp_path / "b.tif")
    assert np.abs(deep / 257 - flat).max() < 3 and deep.dtype == np.uint16 and (deep[1:-1] > values[1:-1]).all()
    assert decode_image(tmp_path / "a.tif")[1].notes == ("was converted to sRGB by its ICC profile",)


def test_twelve_bits_in_sixteen_fill_the_range_and_become_twelve_again(tmp_path):
    values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.warns(ImageWarning, match="was read as 12 bits"):
        training, commands = both(tmp_path / "a.png")
    assert training.max() == 255 and commands.max() == 65535
    with open_image(tmp_path / "a.png") as opened, pytest.warns(ImageWarning):
        once = standardize(opened)
    twice = standardize(once)
    assert (np.asarray(twice) == np.asarray(once)).all()
    assert (np.asarray(copy_metadata(twice, twice)) == values).all()


def test_iptc_data_are_not_dropped_without_a_word(tmp_path):
    caption = b"\x1c\x02\x78\0\x04news"
    block = b"8BIM\x04\x04\0\0" + len(caption).to_bytes(4, "big") + caption + b"\0"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    marker = b"Photoshop 3.0\0" + block
    segment = b"\xff\xed" + (2 + len(marker)).to_bytes(2, "big") + marker
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    with open_image(tmp_path / "a.jpg") as opened, pytest.warns(ImageWarning, match="its IPTC data cannot be written"):
        standardize(opened)
