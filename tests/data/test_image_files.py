"""Image files as people have them: every mode, odd names, damage, links."""

import os
import shlex
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from gancli.commands.data import main as run
from gancli.commands.data import report_text, suggestions
from gancli.data.folder import folder
from gancli.data.image_files import FIT_MODES, check_folder
from gancli.data.listing import count_skipped, skipped_lines


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(array: np.ndarray, path: Path) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


def only(path: Path, size: int = 8, channels: int = 3, fit: str = "crop") -> np.ndarray:
    """Return the one image of a folder as (H, W, C)."""
    data = folder(str(path), size, channels, fit)
    assert len(data) == 1 and not data.skipped, data.skipped
    return data.images[0].permute(1, 2, 0).numpy()


def bomb(path: Path, width: int, height: int) -> None:
    """Write a valid PNG header that announces far more pixels than the file has."""

    Image.new("RGB", (1, 1)).save(path)
    content = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])


def test_an_image_of_the_right_size_keeps_its_pixels_and_its_grey_is_pillows(tmp_path):
    array = save(noise(8, 8, 3), tmp_path / "colour" / "a.png")
    for fit in FIT_MODES:
        assert (only(tmp_path / "colour", fit=fit) == array).all()
    data = folder(str(tmp_path / "colour"), size=8)
    assert data.classes == 0 and data.labels.tolist() == [0] and data.labels.dtype == torch.int64
    theirs = np.asarray(Image.fromarray(array).convert("L"))
    assert (only(tmp_path / "colour", channels=1)[..., 0] == theirs).all()
    grey = save(noise(8, 8), tmp_path / "grey" / "a.png")
    assert (only(tmp_path / "grey") == grey[..., None]).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_divided_by_257(tmp_path, suffix):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    values[0, :2] = 0, 65535
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    assert (only(tmp_path, channels=1)[..., 0] == np.rint(values / 257)).all()


def test_transparent_pixels_become_white(tmp_path):
    array = noise(8, 8, 4)
    array[..., 3] = np.where(np.arange(8) < 4, 0, 255)
    save(array, tmp_path / "a.png")
    decoded = only(tmp_path)
    assert (decoded[:, :4] == 255).all() and (decoded[:, 4:] == array[:, 4:, :3]).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.paste(1, (4, 0, 8, 8))
    palette.save(tmp_path / "a.png", transparency=0)
    decoded = only(tmp_path)
    assert (decoded[:, :4] == 255).all() and (decoded[:, 4:] == [200, 100, 50]).all()


def test_one_bit_cmyk_grey_with_alpha_and_animations(tmp_path):
    Image.new("1", (8, 8), 1).save(tmp_path / "a.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "b.jpg", quality=100)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "c.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:])
    data = folder(str(tmp_path), size=8)
    assert not data.skipped
    assert (data.images[0] == 255).all() and (data.images[2] == 255).all()
    for red in data.images[1].float().mean((1, 2)), data.images[3].float().mean((1, 2)):
        assert red[0] > 240 and red[1] < 15 and red[2] < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    array = noise(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    upright = {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1]}
    rotated = array.transpose(1, 0, 2)
    upright |= {5: rotated, 6: rotated[:, ::-1], 7: rotated[::-1, ::-1], 8: rotated[::-1]}
    assert (only(tmp_path) == upright[orientation]).all()


def test_fit_crops_pads_or_squashes(tmp_path):
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, 4:12] = 200
    save(array, tmp_path / "a.png")
    assert (only(tmp_path, fit="crop") == 200).all()
    padded = only(tmp_path, fit="pad")
    assert (padded[:2] == 255).all() and (padded[6:] == 255).all() and (padded[2:6, 0] < 10).all()
    squashed = only(tmp_path, fit="squash")
    assert (squashed[:, 0] < 10).all() and (squashed[:, 4] > 190).all()
    save(np.full((1, 900), 7, np.uint8), tmp_path / "a.png")
    for fit in FIT_MODES:
        assert only(tmp_path, fit=fit).shape == (8, 8, 3)


def test_a_large_jpeg_looks_like_its_full_decode(tmp_path):
    y, x = np.mgrid[:512, :640]
    array = np.stack([x / 640 * 255, y / 512 * 255, 127 + 100 * np.sin(x / 40)], -1).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.jpg", quality=95)
    full = Image.open(tmp_path / "a.jpg").crop((64, 0, 576, 512)).resize((16, 16), Image.Resampling.BICUBIC)
    assert np.abs(only(tmp_path, size=16).astype(int) - np.asarray(full)).max() <= 3


def test_folders_are_classes_at_any_depth_and_images_outside_them_are_skipped(tmp_path):
    for i, name in enumerate(["dog/a.png", "cat/deep/er/a.PNG", "cat/z.bmp", ".hidden/a.png", "dog/.x.png"]):
        save(np.full((8, 8), i, np.uint8), tmp_path / name)
    save(noise(8, 8), tmp_path / "cover.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("no image")
    data = folder(str(tmp_path), size=8, channels=1)
    assert data.class_names == ["cat", "dog"] and data.labels.tolist() == [0, 0, 1]
    assert data.images[:, 0, 0, 0].tolist() == [1, 2, 0]
    assert data.skipped == [
        ("cover.png", "is in no class folder, so it has no class"),
        ("notes/readme.txt", "is no image"),
    ]


def test_files_without_a_known_suffix_are_known_by_how_they_begin(tmp_path):
    for format in ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF"):
        Image.fromarray(noise(16, 16, 3)).save(tmp_path / format, format)
    (tmp_path / "PNG").rename(tmp_path / "photo.jpg_large")
    for name, content in (
        ("notes", b"P5 is a camera"),
        ("BM", b"BM, a text"),
        ("README.md", b""),
        ("raw.CR2", b"II*\0"),
    ):
        (tmp_path / name).write_bytes(content)
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).touch()
    data = folder(str(tmp_path), size=8)
    assert len(data) == 9
    assert count_skipped(data.skipped) == "skipped 4: 3 not images, 1 of formats that are not read"
    assert not check_folder(str(tmp_path)).bad, "other files need no repair"


def test_what_is_left_out_is_counted_in_the_same_words_by_the_report_and_by_training(damaged):
    skipped = "skipped 8: 4 broken, 2 not images, 1 links to nothing, 1 too large"
    assert skipped_lines(folder(str(damaged), size=8).skipped)[0] == skipped
    assert skipped in report_text(check_folder(str(damaged)))


def test_what_decoding_changes_is_said_with_the_number_of_images_also_by_a_later_run(tmp_path):
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "a.png")
    for name in ("b", "c"):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        frames[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=frames[1:])
    notes = [
        "2 images: has several frames; only the first was used",
        "1 image: has 16 bits but no value above 4,095, and was read as 12 bits",
    ]
    for _ in range(2):  # decoded, then mapped
        data = folder(str(tmp_path), size=8)
        assert data.notes == notes and (data.images[0] == 255).all()
    assert all(note in report_text(check_folder(str(tmp_path))) for note in notes)


def test_odd_names(tmp_path, capsys):
    names = ["猫 (1)/a=b,{c}.png", "[x]/ä ~'\".png", "spaced out/ 1 .png"]
    for name in names:
        save(noise(8, 8), tmp_path / name)
    data = folder(str(tmp_path), size=8)
    assert data.class_names == sorted(["猫 (1)", "[x]", "spaced out"]) and len(data) == 3
    try:
        (tmp_path / "[x]" / os.fsdecode(b"\xff.png")).touch()
    except OSError:
        pytest.skip("this file system wants valid text")
    folder(str(tmp_path), size=8).skipped[0][0].encode()
    with pytest.raises(ValueError, match="1 of 4 files"):
        run("check", str(tmp_path))
    assert "udcff.png" in capsys.readouterr().out


def test_links_are_followed_once_and_never_in_a_circle(tmp_path):
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


def test_loose_images_next_to_one_folder_are_all_used_and_thumbnails_of_systems_are_none(tmp_path):
    for name in ("a.png", "b.png", "holiday/c.png", "@eaDir/a.png/thumb.png", "__MACOSX/._a.png", "__MACOSX/x.png"):
        save(noise(8, 8), tmp_path / name)
    data = folder(str(tmp_path), size=8)
    assert len(data) == 3 and data.classes == 0 and not data.skipped


def test_train_and_test_folders_are_a_layout_and_no_classes(tmp_path):
    for i, name in enumerate(["Train/cat/a.png", "Train/dog/b.png", "Train/fox/c.png", "VALID/cat/d.png"]):
        save(np.full((8, 8), i, np.uint8), tmp_path / name)
    data = folder(str(tmp_path), size=8)
    assert data.class_names == ["cat", "dog", "fox"] and len(data) == 3 and data.split == "train"
    assert "Train/ 3, VALID/ 1 images: Train/ is trained on" in data.notes[0]
    held_out = folder(str(tmp_path), size=8, split="test")
    assert held_out.split == "val" and held_out.images.unique().tolist() == [3] and held_out.classes == 3
    for name in ("test/dog/e.png", "test/wolf/f.png"):
        save(np.full((8, 8), 9, np.uint8), tmp_path / name)
    held_out = folder(str(tmp_path), size=8, split="test")
    assert held_out.split == "test" and held_out.labels.tolist() == [1]
    assert held_out.skipped == [("test/wolf/f.png", "is of class wolf, which is not in train")]
    save(noise(8, 8), tmp_path / "extra" / "g.png")
    data = folder(str(tmp_path), size=8)
    assert data.class_names == ["cat", "dog", "fox"]
    assert data.skipped == [("extra/g.png", "is in no folder of the layout")]


@pytest.fixture
def damaged(tmp_path):
    """Two images and seven files that cannot be decoded."""
    save(noise(8, 8, 3), tmp_path / "good.png")
    save(noise(40, 40, 3), tmp_path / "good.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-60])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:-300])
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    Image.fromarray(noise(8, 8).astype(np.float32)).save(tmp_path / "float.tif")
    bomb(tmp_path / "bomb.png", 60_000, 60_000)
    (tmp_path / "notes.txt").write_text("ignored")
    return tmp_path


BAD = {
    "bomb.png": "more than the", "cut.jpg": "truncated", "cut.png": "", "empty.png": "is empty",
    "float.tif": "floating-point values", "link.png": "is not a file",
    "notes.txt": "is no image", "text.png": "is not an image that Pillow knows",
}  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_damaged_files_are_skipped_with_a_reason_or_refused(damaged, monkeypatch):
    data = folder(str(damaged), size=8)
    assert len(data) == 2 and [name for name, _ in data.skipped] == sorted(BAD)
    assert all(BAD[name] in reason for name, reason in data.skipped)
    with pytest.raises(ValueError, match=r"bomb\.png cannot be used .*data\.strict=false"):
        folder(str(damaged), size=8, strict=True)
    (damaged / "good.jpg").touch()  # a new time: decoded again
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself fails from twice the limit on
    assert len(folder(str(damaged), size=8)) == 2, "Pillow only warns"
    (damaged / "good.jpg").touch()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    data = folder(str(damaged), size=8)
    reason = "has more than the 1,400 pixels that Pillow opens; cut it into parts first"
    assert len(data) == 1 and ("good.jpg", reason) in data.skipped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, r"data=folder needs data\.path=DIR"),
        ({"path": "/no/such"}, r"/no/such is nothing, not a folder; type data\.path=DIR or gan data check DIR"),
        ({"path": __file__}, r"is a file, not a folder"),
        ({"fit": "corp"}, r"data\.fit=corp .* did you mean crop"),
        ({"size": 0}, r"data\.size=0"),
        ({"size": "big"}, r"data\.size=big"),
        ({"size": None}, r"data\.size=None"),
        ({"channels": 4}, r"data\.channels=4"),
        ({}, r"it has no image that can be used, skipped 1: 1 broken; type gan data check"),
        ({"path": "void"}, r"it has no images; type gan data check"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    Path("void").mkdir()
    Path("empty.png").touch()
    with pytest.raises(ValueError, match=message) as error:
        folder(**{"path": str(tmp_path), "size": 8, **settings})
    assert "\n" not in str(error.value)


def test_the_report_counts_classes_sizes_modes_and_formats(tmp_path):
    for i in range(3):
        save(noise(40, 60 + i, 3), tmp_path / "cat" / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "dog").mkdir()
    Image.fromarray(noise(100, 50)).save(tmp_path / "dog" / "a.jpg", exif=exif)
    (tmp_path / "dog" / "b.png").touch()
    report = check_folder(str(tmp_path))
    assert report.classes == {"cat": 3, "dog": 1} and report.bad == [("dog/b.png", "is empty")]
    assert report_text(report).splitlines()[1:] == [
        "images    4",
        "classes   2",
        "                  3  cat",
        "                  1  dog",
        "width     60 to 100 pixels, median 62",
        "height    40 to 50 pixels, median 40",
        "modes     RGB 3, L 1",
        "formats   PNG 3, JPEG 1",
        "          skipped 1: 1 broken",
        "bad       1",
        "          dog/b.png: is empty",
        f"try       gan train data=folder data.path={tmp_path}/ data.size=32 model=cgan",
        "          squares cut their ends off; data.size=[32,48] keeps their shape",
        "          4 images are few: gan train augments what D sees, unless model/augment=none is typed",
        "          gan evaluate ckpt=RUN metrics=[copies] says whether a model repeats its training images",
        "          of fewer than 200 images a GAN repeats more than it invents; add some if you can",
        "          delete or repair the bad files; training skips them, or stops at them with data.strict=true",
    ]


def test_the_command_reports_and_fails_on_bad_files(tmp_path, capsys, damaged):
    with pytest.raises(ValueError, match=r"7 of 9 files in .* cannot be used"):
        run("check", str(damaged))
    assert "empty.png: is empty" in capsys.readouterr().out
    for name in BAD:
        (damaged / name).unlink()
    assert run("check", str(damaged)) == 0
    (tmp_path / "void").mkdir()
    with pytest.raises(ValueError, match="has no image"):
        run("check", str(tmp_path / "void"))
    with pytest.raises(ValueError, match="gan data check DIR"):
        run("chekc", str(damaged))


def test_the_command_imports_neither_torch_nor_hydra(tmp_path):
    save(noise(8, 8), tmp_path / "a.png")
    code = (
        "import sys; from gancli.commands.data import main; main('check', sys.argv[1]); "
        "sys.exit(bool({'torch', 'hydra'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["(c)", "猫 [x],{y}=~", 'it\'s "so"', 'end\\"', "back\\slash\\", "a:b"])
def test_the_suggested_command_survives_shell_and_hydra(name, tmp_path):
    save(noise(8, 8), tmp_path / name / "a.png")
    words = shlex.split(suggestions(check_folder(str(tmp_path / name)))[0])
    (typed,) = (word for word in words if word.startswith("data.path="))
    parsed = OverridesParser.create().parse_override(typed)
    assert parsed.key_or_group == "data.path" and parsed.value() == f"{tmp_path / name}/"
