"""Pictures as people have them: every mode, odd names, damage, links."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.commands.data import main as run
from gancli.data.folder import folder
from gancli.data.image_files import check


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(array: np.ndarray, path: Path) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def only(path: Path, size: int = 8, channels: int = 3, fit: str = "crop") -> np.ndarray:
    """The one picture of a folder as (H, W, C)."""
    data = folder(str(path), size, channels, fit)
    assert len(data) == 1 and not data.skipped, data.skipped
    return data.images[0].permute(1, 2, 0).numpy()


def bomb(path: Path, width: int, height: int) -> None:
    """A valid PNG header that announces far more pixels than the file has."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def test_same_size_is_identity(tmp_path):
    array = save(noise(8, 8, 3), tmp_path / "a.png")
    for fit in ("crop", "pad", "squash"):
        assert (only(tmp_path, fit=fit) == array).all()


def test_grey_is_pillows(tmp_path):
    array = save(noise(8, 8, 3), tmp_path / "a.png")
    assert (only(tmp_path, channels=1)[..., 0] == np.asarray(Image.fromarray(array).convert("L"))).all()


def test_grey_becomes_three_equal_channels(tmp_path):
    array = save(noise(8, 8), tmp_path / "a.png")
    assert (only(tmp_path) == array[..., None]).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path, suffix):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    values[0, :2] = 0, 65535
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    assert (only(tmp_path, channels=1)[..., 0] == np.rint(values / 257)).all()


def test_transparent_is_white(tmp_path):
    array = noise(8, 8, 4)
    array[..., 3] = np.where(np.arange(8) < 4, 0, 255)
    save(array, tmp_path / "a.png")
    read = only(tmp_path)
    assert (read[:, :4] == 255).all() and (read[:, 4:] == array[:, 4:, :3]).all()


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.paste(1, (4, 0, 8, 8))
    picture.save(tmp_path / "a.png", transparency=0)
    read = only(tmp_path)
    assert (read[:, :4] == 255).all() and (read[:, 4:] == [200, 100, 50]).all()


def test_one_bit_cmyk_and_grey_with_alpha(tmp_path):
    Image.new("1", (8, 8), 1).save(tmp_path / "a.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "b.jpg", quality=100)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "c.png")
    data = folder(str(tmp_path), size=8)
    assert not data.skipped
    assert (data.images[0] == 255).all() and (data.images[2] == 255).all()
    red = data.images[1].float().mean((1, 2))
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    array = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    up = {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}
    turned = array.transpose(1, 0, 2)
    up |= {5: turned, 6: turned[:, ::-1], 7: turned[::-1, ::-1], 8: turned[::-1]}
    assert (only(tmp_path) == up[orientation]).all()


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (only(tmp_path) == [255, 0, 0]).all()


def test_fits(tmp_path):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, 4:12] = 200
    save(array, tmp_path / "a.png")
    assert (only(tmp_path, fit="crop") == 200).all()
    padded = only(tmp_path, fit="pad")
    assert (padded[:2] == 255).all() and (padded[6:] == 255).all() and (padded[2:6, 0] < 10).all()
    squashed = only(tmp_path, fit="squash")
    assert (squashed[:, 0] < 10).all() and (squashed[:, 4] > 190).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_line_of_pixels(tmp_path, fit):
    save(np.full((1, 900), 7, np.uint8), tmp_path / "a.png")
    assert only(tmp_path, fit=fit).shape == (8, 8, 3)


def test_large_jpeg_is_what_a_full_decode_gives(tmp_path):
    y, x = np.mgrid[:512, :640]
    array = np.stack([x / 640 * 255, y / 512 * 255, 127 + 100 * np.sin(x / 40)], -1).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=95)
    full = Image.open(tmp_path / "a.jpg").crop((64, 0, 576, 512)).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.abs(only(tmp_path, size=16).astype(int) - np.asarray(full)).max() <= 3


def test_folders_are_classes_and_nested_pictures_belong_to_the_top(tmp_path):
    for i, name in enumerate(["dog/a.png", "cat/deep/er/a.PNG", "cat/z.bmp", ".hidden/a.png", "dog/.x.png"]):
        save(np.full((8, 8), i, np.uint8), tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no picture")
    data = folder(str(tmp_path), size=8, channels=1)
    assert data.class_names == ["cat", "dog"] and data.labels.tolist() == [0, 0, 1]
    assert data.images[:, 0, 0, 0].tolist() == [1, 2, 0] and data.skipped == []


def test_no_folders_no_classes(tmp_path):
    save(noise(8, 8), tmp_path / "a.png")
    data = folder(str(tmp_path), size=8)
    assert data.classes == 0 and data.labels.tolist() == [0] and data.labels.dtype == torch.int64


def test_loose_pictures_beside_classes_are_named(tmp_path):
    save(noise(8, 8), tmp_path / "cover.png")
    save(noise(8, 8), tmp_path / "cat" / "a.png")
    data = folder(str(tmp_path), size=8)
    assert len(data) == 1 and data.class_names == ["cat"]
    assert [name for name, _ in data.skipped] == ["cover.png"] and "beside" in data.skipped[0][1]


def test_odd_names(tmp_path):
    names = ["猫 (1)/a=b,{c}.png", "[x]/ä ~'\".png", "spaced out/ 1 .png"]
    for name in names:
        save(noise(8, 8), tmp_path / name)
    data = folder(str(tmp_path), size=8)
    assert data.class_names == sorted(["猫 (1)", "[x]", "spaced out"]) and len(data) == 3


def test_a_name_that_is_not_text(tmp_path, capsys):
    try:
        (tmp_path / os.fsdecode(b"\xff.png")).write_text("text")
    except OSError:
        pytest.skip("this file system wants valid text")
    save(noise(8, 8), tmp_path / "a.png")
    folder(str(tmp_path), size=8).skipped[0][0].encode()
    with pytest.raises(ValueError, match="1 of 2 files"):
        run("check", str(tmp_path))
    assert "udcff.png" in capsys.readouterr().out


@pytest.fixture
def damaged(tmp_path):
    """Two good pictures and six that are not."""
    save(noise(8, 8, 3), tmp_path / "good.png")
    save(noise(40, 40, 3), tmp_path / "good.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-60])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-300])
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    bomb(tmp_path / "bomb.png", 60_000, 60_000)
    (tmp_path / "notes.txt").write_text("ignored")
    return tmp_path


BAD = ["bomb.png", "cut.jpg", "cut.png", "empty.png", "link.png", "text.png"]


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_named_and_skipped(damaged):
    data = folder(str(damaged), size=8)
    assert len(data) == 2 and [name for name, _ in data.skipped] == BAD
    reasons = dict(data.skipped)
    assert reasons["empty.png"] == "is empty" and "limit" in reasons["bomb.png"] and "truncated" in reasons["cut.jpg"]


def test_strict_names_the_first(damaged):
    with pytest.raises(ValueError, match=r"bomb\.png cannot be used .*data\.strict=false"):
        folder(str(damaged), size=8, strict=True)


@pytest.mark.filterwarnings("error")
def test_a_picture_above_the_limit_but_below_twice_is_skipped_too(tmp_path, monkeypatch):
    save(noise(8, 8), tmp_path / "a.png")
    save(noise(12, 12), tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = folder(str(tmp_path), size=8)
    assert len(data) == 1 and data.skipped == [("b.png", "has more than Pillow's limit of 100 pixels")]


def test_floats_have_no_known_range(tmp_path):
    save(noise(8, 8), tmp_path / "a.png")
    Image.fromarray(noise(8, 8).astype(np.float32)).save(tmp_path / "b.tif")
    assert "floating-point" in folder(str(tmp_path), size=8).skipped[0][1]


def test_links_do_not_hang_and_do_not_count_twice(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    save(noise(8, 8), root / "cat" / "a.png")
    save(noise(8, 8), outside / "b.png")
    (root / "cat" / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "again").symlink_to(root / "cat")
    (root / "dog").symlink_to(outside)
    (outside / "self").symlink_to(outside)
    data = folder(str(root), size=8)
    assert data.class_names == ["cat", "dog"] and len(data) == 2 and not data.skipped


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"path": ""}, r"data=folder needs data\.path=DIR"),
        ({"path": "/no/such"}, r"/no/such is nothing, not a folder"),
        ({"path": __file__}, r"is a file, not a folder"),
        ({"fit": "corp"}, r"data\.fit=corp .* did you mean crop"),
        ({"size": 0}, r"data\.size=0"),
        ({"size": "big"}, r"data\.size=big"),
        ({"size": None}, r"data\.size=None"),
        ({"channels": 4}, r"data\.channels=4"),
        ({}, r"it has no pictures"),
    ],
)
def test_sentences(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        folder(**{"path": str(tmp_path), "size": 8, **settings})
    assert "\n" not in str(error.value)


def test_only_bad_pictures(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="none of its 1 pictures can be read"):
        folder(str(tmp_path), size=8)


def test_check_report(tmp_path):
    for i in range(3):
        save(noise(40, 60 + i, 3), tmp_path / "cat" / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "dog").mkdir()
    Image.fromarray(noise(100, 50)).save(tmp_path / "dog" / "a.jpg", exif=exif)
    (tmp_path / "dog" / "b.png").touch()
    report = check(str(tmp_path))
    assert report.pictures == 4 and report.classes == {"cat": 3, "dog": 1}
    assert report.widths == (60, 62, 100) and report.heights == (40, 40, 50)
    assert report.modes == {"RGB": 3, "L": 1} and report.formats == {"PNG": 3, "JPEG": 1}
    assert report.bad == [("dog/b.png", "is empty")]
    assert report.suggestions[0].startswith(f"gan train data=folder data.path={tmp_path}/ data.size=32")
    assert "data.batch_size=4" in report.suggestions[0]


def test_check_command(tmp_path, capsys, damaged):
    with pytest.raises(ValueError, match=r"6 of 8 files in .* cannot be used"):
        run("check", str(damaged))
    out = capsys.readouterr().out
    assert "empty.png: is empty" in out and "gan train data=folder" in out
    for name in BAD:
        (damaged / name).unlink()
    assert run("check", str(damaged)) == 0
    with pytest.raises(ValueError, match="has no picture"):
        (tmp_path / "void").mkdir()
        run("check", str(tmp_path / "void"))
    with pytest.raises(ValueError, match="gan data check DIR"):
        run("chekc", str(damaged))


def test_check_does_not_import_torch(tmp_path):
    save(noise(8, 8), tmp_path / "a.png")
    code = (
        "import sys; from gancli.commands.data import main; main('check', sys.argv[1]); "
        "sys.exit(bool({'torch', 'hydra'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
