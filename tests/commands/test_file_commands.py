"""Common behaviour of the commands that read image files and write image files."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from scenes import here, png, scene

from gancli.inference import image_io
from gancli.inference.styles import upscale

pytestmark = pytest.mark.usefixtures("weights")

# Command: (checkpoint, arguments, suffix of the results).
COMMANDS = {
    "upscale": ("", ["style=faithful"], "_x4"),
    "translate": ("cyclegan", [], "_translated"),
    "inpaint": ("inpainting", ["mask=centre"], "_inpainted"),
    "reconstruct": ("aegan", [], "_reconstructed"),
    "project": ("dcgan", ["steps=1", "fit=squash"], "_projected"),
}
every_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def run(gan, checkpoints):
    """Run a command with its checkpoint and arguments; returns exit code, lines of the images written, and errors."""

    def call(command: str, *words: str) -> tuple[int, list[str], str]:
        name, arguments, _ = COMMANDS[command]
        ckpt = [f"ckpt={checkpoints[name]}"] if name and not any(word.startswith("ckpt=") for word in words) else []
        code, out, error = gan(command, *words, *ckpt, *arguments)
        return code, [line for line in out.splitlines() if not line.endswith(".npz")], error

    return call


# --- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "format"),
    [*itertools.product(("upscale", "translate"), image_io.FORMATS), ("inpaint", "webp"), ("reconstruct", "png")],
)
def test_orientation_is_applied_and_metadata_copied(run, command, format):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0100] = 6, "a camera", 30
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 30, 20
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (30, 20), "blue")
    image.paste("red", (0, 0, 15, 20))
    image.save("a.jpg", exif=exif, dpi=(300, 300), icc_profile=profile)
    code, out, error = run(command, "a.jpg", f"out=x/result.{format}")
    assert code == 0 and out == [f"x/result.{format}"], error
    s = 4 if command == "upscale" else 1
    with Image.open(out[0]) as result:
        assert result.size == (20 * s, 30 * s)
        if command == "upscale":
            top = result.convert("RGB").getpixel((40, 10))
            assert np.abs(np.subtract(top, (255, 0, 0))).max() < 60, "the left side is on top"
        tags = result.getexif()
        assert tags.get(0x0112, 1) == 1 and tags[0x010F] == "a camera" and tags[0x0100] == 20 * s
        inner = tags.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003], inner[0x9003]) == (20 * s, 30 * s, "2026:01:02 03:04:05")
        assert tags.get_ifd(0x8825)[1] == "N" and result.info["icc_profile"] == profile
        if format != "webp":
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_texts_are_copied_where_the_format_holds_them_and_their_loss_is_said_once(run):
    chunks, xmp = PngInfo(), '<x tiff:Orientation="6"/>'
    chunks.add_text("parameters", "a cat, seed 1")
    chunks.add_itxt("XML:com.adobe.xmp", xmp)
    for name in "abc":
        scene(6, 5).save(f"{name}.png", pnginfo=chunks)
    scene(6, 5).save("d.jpg", comment=b"mine", xmp=xmp.encode())
    code, out, error = run("upscale", *here(), "out=o")
    assert code == 0 and "cannot" not in error
    for name in out:
        with Image.open(name) as result:
            result.load()
            assert b'tiff:Orientation="1"' in result.info["xmp"]
            kept = {"Comment": "mine"} if name.startswith("o/d") else {"parameters": "a cat, seed 1"}
            assert kept.items() <= result.info.items()
    code, _, error = run("upscale", "a.png", "b.png", "c.png", "format=webp", "out=o")
    assert code == 0 and error.count("text chunks cannot be written to webp") == 2
    assert "the same of 2 other images" in error
    code, _, error = run("upscale", "d.jpg", "out=large.jpg")
    with Image.open("large.jpg") as result:
        assert code == 0 and not error and result.info["comment"] == b"mine" and "xmp" in result.info


def test_bad_metadata_does_not_cost_the_image(run):
    scene(9, 7).save("odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", dpi=(0, 0), icc_profile=b"no profile")
    exif = Image.Exif()
    exif[0x010E] = "a" * 70_000
    scene(9, 7).save("long.png", exif=exif)
    code, out, error = run("upscale", "odd.jpg", "long.png", "format=jpg")
    assert code == 0 and len(out) == 2
    assert "long.png: EXIF, ICC profile or dpi cannot be written to jpg" in error
    Image.new("RGB", (9, 7)).save("layout.tif", compression="tiff_lzw")
    for format in ("tiff", "png", "jpg", "webp"):
        assert run("upscale", "layout.tif", f"out=layout.{format}")[0] == 0
        with Image.open(f"layout.{format}") as large:
            large.load()
            assert format == "tiff" or not {273, 278, 279} & {*large.getexif()}, "layout tags of TIFF"


@pytest.mark.parametrize("profile", [b"damaged", b""])
def test_cmyk_becomes_srgb_without_its_profile(run, profile):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save("a.jpg", icc_profile=profile)
    code, _, error = run("upscale", "a.jpg")
    assert code == 0 and "CMYK was converted to sRGB" in error
    with Image.open("a_x4.png") as large:
        assert large.mode == "RGB" and "icc_profile" not in large.info
        assert np.abs(np.subtract(large.getpixel((16, 16)), (255, 0, 0))).max() < 60


def test_transparency_of_palettes_and_key_colours_becomes_alpha(run):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))
    image.save("bytes.png", transparency=bytes([0, 128]))
    image.save("index.png", transparency=0)
    scene(8, 8).save("key.png", transparency=(255, 255, 255))
    scene(8, 8, "L").save("grey.png", transparency=3)
    assert run("upscale", *here())[0] == 0
    large = {name: Image.open(f"{name}_x4.png") for name in ("bytes", "index", "key", "grey")}
    assert [image.mode for image in large.values()] == ["RGBA", "RGBA", "RGBA", "LA"]
    for name, opaque in (("bytes", 128), ("index", 255)):
        assert [large[name].getpixel((x, 16))[3] for x in (1, 30)] == [0, opaque]


def test_warnings_say_what_the_format_cannot_hold(run):
    image = scene(12, 12).convert("RGBA")
    image.putalpha(Image.new("L", (12, 12), 0))
    image.save("clear.png")
    scene(60, 40, "I;16").save("deep.png")
    Image.new("LA", (4, 4), (0, 0)).save("la.png")
    code, _, error = run("upscale", "clear.png", "deep.png", "la.png", "format=jpg", "quality=90")
    assert code == 0
    assert "clear.png: transparency was replaced by white" in error and "deep.png: 16 bits were reduced to 8" in error
    for name, mode, size in (("clear_x4.jpg", "RGB", 12), ("la_x4.jpg", "L", 4)):
        with Image.open(name) as large:
            white = np.asarray(upscale(Image.new(mode, (size, size), "white"))).astype(int)
            assert large.mode == mode and abs(np.asarray(large) - white).mean() < 20
    with Image.open("deep_x4.jpg") as large:
        assert large.mode == "L" and large.getextrema()[1] > 200 and np.asarray(large).std() > 30
    code, _, error = run("upscale", "clear.png", "deep.png", "format=webp", "quality=100")
    assert code == 0 and "as webp has no more" in error and "clear.png" not in error
    for suffix in ("tif", "png"):
        code, _, error = run("upscale", "deep.png", f"out=large.{suffix}")
        assert code == 0 and not error
        with Image.open(f"large.{suffix}") as large:
            assert large.mode == "I;16" and len(np.unique(np.asarray(large))) > 1000
    Image.new("L", (4100, 1)).save("wide.png")
    code, _, error = run("upscale", "wide.png", "out=wide.webp")
    assert code == 1 and "webp holds at most 16,383 a side; type format=png" in error
    assert run("upscale", "wide.png", "out=wide.jpg")[0] == 0


def test_warnings_say_what_was_not_read(run):
    scene(6, 5).save("frames.gif", save_all=True, append_images=[scene(6, 5, seed=1)])
    Path("deep.png").write_bytes(png(6, 5, bits=16, colour=2, data=b"".join(b"\0" + bytes(36) for _ in range(5))))
    scene(6, 5, "I;16").save("key.png", transparency=0)
    code, _, error = run("upscale", "frames.gif", "deep.png", "key.png", "format=tiff")
    lines = ("frames.gif: has several frames", "deep.png: has 16 bits per channel", "key.png: transparency was")
    assert code == 0 and all(line in error for line in lines)


# --- which files, and where results go ----------------------------------------------------------------------------


@every_command
def test_subfolders_are_copied_and_existing_results_are_replaced_only_with_overwrite(run, command):
    for name in ("photos/a.png", "photos/sub (1)/deep/b c.JPG", "photos/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(8, 6).save(name)
    Path("photos/readme.txt").write_text("a text")
    suffix = COMMANDS[command][2]
    results = [f"photos{suffix}/a{suffix}.png", f"photos{suffix}/sub (1)/deep/b c{suffix}.png"]
    code, out, error = run(command, "photos/")
    assert code == 0 and out == results and "2 images written" in error
    times = [Path(name).stat().st_mtime_ns for name in results]
    code, out, error = run(command, "photos/")
    assert code == 1 and not out and "overwrite=true" in error and "skip=true" in error
    assert "2 of 2 images failed" in error
    code, out, error = run(command, "photos/", "skip=true")
    assert code == 0 and not out and "0 images written, 2 existed already" in error
    assert [Path(name).stat().st_mtime_ns for name in results] == times
    code, out, _ = run(command, "photos/", "overwrite=true")
    assert code == 0 and out == results and all(Path(p).stat().st_mtime_ns > t for p, t in zip(results, times))
    for path in Path(results[0]).parent.glob(f"a{suffix}.*"):
        path.unlink()
    code, out, error = run(command, "photos/", "skip=true")
    assert code == 0 and out == results[:1] and "1 image written, 1 existed already" in error


@every_command
def test_bad_files_are_named_and_the_others_processed(run, command):
    scene(40, 40).save("whole.png")
    Path("truncated.png").write_bytes(Path("whole.png").read_bytes()[:700])
    Path("empty.png").touch()
    Path("text.png").write_text("a text")
    Path("link.png").symlink_to("nowhere")
    Image.fromarray(np.ones((3, 3), np.float32)).save("float.tif")
    Path("bomb.png").write_bytes(png(20_000, 20_000, bits=8, colour=2))
    reasons = {
        "truncated.png": "truncated",
        "empty.png": "empty",
        "text.png": "not an image",
        "link.png": "is not a file that can be opened",
        "float.tif": "floating-point",
        "bomb.png": "pixels",
        "absent.png": "there is no such file",
        "none*.png": "no image matches",
    }
    before = {*here()}
    code, out, error = run(command, *reasons, "whole.png")
    assert code == 1 and out == [f"whole{COMMANDS[command][2]}.png"] and "8 of 9 images failed" in error
    for name, reason in reasons.items():
        assert any(line.startswith(f"gan: {name}: ") and reason in line for line in error.splitlines()), name
    assert {Path(name).stem for name in {*here()} - before} == {Path(out[0]).stem}
    for name, reason in reasons.items():
        code, out, error = run(command, name)
        assert code == 1 and not out and reason in error and len(error.strip().splitlines()) == 1


def test_files_folders_and_globs_can_be_mixed(run, tmp_path, monkeypatch):
    for name in ("in/a.png", "in/sub/deep/b.JPG", "in/sub/a.webp", "in/.h/a.png", "c.d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(5, 4).save(name)
    assert run("upscale", "c.d.png") == (0, ["c.d_x4.png"], "")
    assert run("upscale", "in", "out=other", "format=webp")[0] == 0
    assert len([*Path("other").rglob("*_x4.webp")]) == 3
    code, out, error = run("upscale", "in/**/*", "c.d.png", "out=flat/")
    assert code == 1 and out == ["flat/a_x4.png", "flat/b_x4.png", "flat/c.d_x4.png"]
    assert "in/sub/a.webp: its result flat/a_x4.png is also that of in/a.png" in error and "out=" in error
    monkeypatch.chdir(tmp_path / "in" / "sub")
    code, out, _ = run("upscale", ".", "scale=3")
    assert code == 0 and len(out) == 2 and (tmp_path / "in/sub_x3/deep/b_x3.png").exists()


@pytest.mark.parametrize(
    "words", [["photos", "out=photos/large"], ["*.png"], ["photos", "c.png", "out=all"]], ids=" ".join
)
def test_results_are_not_taken_for_inputs_the_second_time(run, words):
    Path("photos").mkdir()
    for name in ("photos/a.png", "photos/b.png", "c.png"):
        scene(5, 4).save(name)
    assert run("upscale", *words)[0] == 0
    files = {p: p.stat().st_mtime_ns for p in Path().rglob("*.*")}
    assert run("upscale", *words, "skip=true")[:2] == (0, [])
    code, out, _ = run("upscale", *words, "overwrite=true")
    assert code == 0 and all(files[Path(p)] < Path(p).stat().st_mtime_ns for p in out)
    assert {*Path().rglob("*.*")} == {*files}


def test_results_inside_the_folder_are_never_inputs(run):
    Path("photos").mkdir()
    scene(5, 4).save("photos/a.png")
    assert run("upscale", "photos", "out=photos/large")[:2] == (0, ["photos/large/a_x4.png"])
    assert run("upscale", "photos", "out=photos/large", "scale=2")[:2] == (0, ["photos/large/a_x2.png"])


def test_an_input_named_twice_is_processed_once(run):
    scene(5, 4).save("b.png")
    assert run("upscale", "b.png", "./b.png") == (0, ["b_x4.png"], "")


def test_brackets_of_a_folder_are_part_of_its_name(run):
    for name in ("scans [2024]/a.png", "scans [2024]/b.png", "scans 2/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        scene(4, 4).save(name)
    assert run("upscale", "scans [2024]/*.png", "out=o")[:2] == (0, ["o/a_x4.png", "o/b_x4.png"])
    assert run("upscale", "scans [2]/*.png", "out=p")[:2] == (0, ["p/c_x4.png"])


ODD_NAMES = (
    *("a b.png", "[1].png", "x=1, (y).png", "scale.png", "猫 ~ü.png"),
    *("{a}.png", "*.png", "a'b\".png", "~.png", "-a.png"),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_file_names_are_ordinary(run, name):
    folder = Path("in (b)=c, {d} [e] 猫")
    folder.mkdir()
    for path in (Path(name), folder / name):
        scene(4, 4).save(path)
        code, out, error = run("upscale", f"./{path}" if name.startswith("-") else str(path))
        assert code == 0 and out == [str(path.with_name(f"{path.stem}_x4.png"))], error
        assert Path(out[0]).is_file()
    code, out, error = run("upscale", str(folder), f"out={folder} out", "skip=true")
    assert code == 0 and len(out) == 2, error


# --- limits and interruption --------------------------------------------------------------------------------------


def test_an_image_that_memory_cannot_hold_is_refused(run, monkeypatch):
    scene(100, 100).save("a.png")
    monkeypatch.setattr(image_io, "free_memory", lambda: 1e8)
    code, _, error = run("upscale", "a.png")
    assert code == 1 and "becomes 400 x 400 pixels" in error and "0.1 are free" in error


def test_pillows_limit_of_pixels_is_an_error_and_its_warning_is_silent(run, monkeypatch):
    scene(30, 30).save("a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert run("upscale", "a.png") == (0, ["a_x4.png"], "")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    code, _, error = run("upscale", "a.png", "overwrite=true")
    assert code == 1 and "more than the 800 pixels" in error


def test_an_interrupted_batch_leaves_whole_files(run, monkeypatch):
    for name in "abc":
        scene(5, 5).save(f"{name}.png")
    done, save = [], Image.Image.save

    def interrupted(self, path, **options):
        Path(path).write_bytes(b"half")
        if done:
            raise KeyboardInterrupt
        done.append(save(self, path, **options))

    monkeypatch.setattr(Image.Image, "save", interrupted)
    code, out, error = run("upscale", "a.png", "b.png", "c.png")
    assert code == 130 and out == ["a_x4.png"] and "1 of 3 images written; skip=true continues" in error
    assert here() == ["a.png", "a_x4.png", "b.png", "c.png"]
