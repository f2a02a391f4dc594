"""gan upscale: every kind of picture, tile by tile, and whole folders of them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, write_generator
from PIL import Image, ImageCms
from safetensors.torch import save_file
from torch import nn

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.data.image_modes import Note
from gancli.inference import tiling
from gancli.inference import upscaler as upscaling
from gancli.inference.upscaler import Downscaled, Upscaler, upscale
from gancli.networks.sr import Compact

ARGUMENTS = {"channels": 3, "width": 8, "depth": 2}


def compact(scale: int = 4, channels: int = 3) -> Compact:
    """A small network that is not bicubic any more."""
    torch.manual_seed(scale)
    network = Compact(**{**ARGUMENTS, "channels": channels}, scale=scale)
    nn.init.normal_(network.last.weight, std=0.02)
    return network


@pytest.fixture(autouse=True)
def weights(tmp_path_factory, monkeypatch) -> Path:
    """What is bundled in these tests: x4 of the style faithful, in half precision, and x2 of sharp."""
    folder = tmp_path_factory.mktemp("weights")
    for style, scale in (("faithful", 4), ("sharp", 4), ("sharp", 2)):
        state = {name: x.half() for name, x in compact(scale).state_dict().items()}
        config = {"_target_": "gancli.networks.sr.Compact", **ARGUMENTS, "scale": scale}
        write_generator(folder / f"sr_compact-x{scale}-{style}.safetensors", config, state)
    monkeypatch.setattr(upscaling, "WEIGHTS", folder)
    upscaling._kept.cache_clear()
    return folder


def scene(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth shapes and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + i) + i) * np.cos(y / (5 - i)) for i in range(3)]
    noisy = np.stack(waves, 2) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def grey16(width: int = 20, height: int = 15) -> np.ndarray:
    return (np.arange(width * height).reshape(height, width) * 65535 // (width * height - 1)).astype(np.uint16)


# --- tiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tile", [7, 16, 33])
def test_tiles_equal_the_whole(scale, tile):
    for network in (compact(scale), Downscaled(compact(4), scale)):
        picture = scene(61, 47)
        whole = np.asarray(Upscaler(network, tile=1000)(picture)).astype(int)
        tiled = np.asarray(Upscaler(network, tile=tile)(picture)).astype(int)
        assert abs(whole - tiled).max() <= 1


def test_enlarge_is_the_network_and_takes_any_channels():
    network, x = compact(3), torch.rand(2, 3, 9, 14) * 2 - 1
    with torch.no_grad():
        expected = network(torch.zeros(2, 0), x).clamp(-1, 1)
    assert torch.allclose(Upscaler(network).enlarge(x), expected, atol=1e-6)
    assert torch.allclose(Upscaler(network, tile=4).enlarge(x), expected, atol=1e-5)
    grey = Upscaler(compact(3, channels=1), tile=5).enlarge(x)
    assert grey.shape == (2, 3, 27, 42)
    assert torch.allclose(grey[:, 1:2], Upscaler(compact(3, channels=1)).enlarge(x[:, 1:2]), atol=1e-5)


class Scarce(Compact):
    """A network on a device whose memory holds pictures of `most` pixels."""

    most, calls = 0, 0

    def forward(self, z, c):
        self.calls += 1
        if self.most and c.shape[2] * c.shape[3] > self.most:
            raise self.error
        return super().forward(z, c)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[...] DefaultCPUAllocator: can't allocate")]
)
def test_out_of_memory_halves_the_tile_and_changes_nothing(error):
    network = Scarce(**ARGUMENTS, scale=4)
    network.load_state_dict(compact().state_dict())
    network.error, picture = error, scene(150, 110)
    expected = np.asarray(Upscaler(network)(picture)).astype(int)
    network.most = 60 * 60
    got = np.asarray(Upscaler(network, tile=140)(picture)).astype(int)
    assert abs(got - expected).max() <= 1
    network.most = 30 * 30
    with pytest.raises(ValueError, match="memory ran out on a tile of"):
        Upscaler(network)(picture)
    network.error = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        Upscaler(network)(picture)


def test_the_tile_follows_from_the_memory(monkeypatch):
    upscaler = Upscaler(compact())
    # At the least: the small picture in 8 channels, and the large one in 3, of which bicubic and detail are added.
    assert 4 * (8 + 2 * 48) < upscaler.bytes_per_pixel < 4 * 20 * (8 + 2 * 48)
    edges = []
    for free in (1e6, 1e7, 1e8, 1e12):
        monkeypatch.setattr(tiling, "free_memory", lambda device, free=free: free)
        edges.append(upscaler.edge(10_000, 10_000))
    assert edges[0] == tiling.FLOOR and sorted(set(edges)) == edges
    upscaler.halo = upscaling.WHOLE_IMAGE  # a network whose tiles are not to be joined
    assert upscaler.edge(10_000, 9_000) == 10_000
    upscaler.halo = upscaler.network.halo
    assert (edges[-1] + 2 * upscaler.halo) ** 2 * upscaler.bytes_per_pixel <= tiling.MOST_BYTES["cpu"]


def test_what_is_no_number_is_not_written(gan, weights, tmp_path):
    file = weights / "sr_compact-x4-faithful.safetensors"
    state = {name: x * torch.nan for name, x in compact().state_dict().items()}
    config = {"_target_": "gancli.networks.sr.Compact", **ARGUMENTS, "scale": 4}
    write_generator(file, config, state)
    scene(5, 5).save("a.png")
    code, out, error = gan("upscale", "a.png")
    assert code == 1 and "no numbers" in error and not out
    assert here() == ["a.png"]


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 5)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_exact_sizes(size, scale):
    for mode in ("RGB", "RGBA", "L"):
        large = upscale(Image.new(mode, size, "red"), scale)
        assert large.size == (scale * size[0], scale * size[1]) and large.mode == mode


MODES = {
    **{"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
    **{"RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"},
}


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_its_colours(mode):
    colour = scene(24, 18)
    if mode == "LAB":
        change = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        picture = ImageCms.applyTransform(colour, change)
    elif mode in ("La", "PA"):
        picture = colour.convert("LA" if mode == "La" else "P").convert(mode)
    else:
        picture = colour.convert("RGBA").convert(mode) if mode == "RGBa" else colour.convert(mode)
    before = picture.tobytes()
    large = Upscaler(Bicubic(4))(picture)
    assert (large.mode, large.size) == (MODES[mode], (96, 72))
    assert picture.tobytes() == before, "the picture given is not changed"
    small = np.asarray(large.convert(MODES[mode].removesuffix("A")).resize(picture.size, Image.Resampling.BOX))
    if mode == "1":
        assert ((small > 127) == np.asarray(picture)).mean() > 0.98
    else:
        expected = np.asarray(
            (colour if mode == "LAB" else picture).convert(MODES[mode]).convert(MODES[mode].removesuffix("A"))
        )
        assert abs(small.astype(int) - expected).mean() < 9
    if "A" in large.mode:
        assert large.getchannel("A").getextrema() == (255, 255)


class Bicubic(nn.Module):
    """What is compared with: reaches two pixels."""

    z_dim, classes, channels, halo = 0, 0, 3, 2

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, z, c):
        size = (self.scale * c.shape[2], self.scale * c.shape[3])
        return nn.functional.interpolate(c, size, mode="bicubic", antialias=True)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_16_bits_of_grey_stay_16(mode):
    values = grey16()
    kind = {"I": np.int32, "I;16B": ">u2"}.get(mode, np.uint16)
    picture = Image.frombytes(mode, (20, 15), values.astype(kind).tobytes())
    large = Upscaler(Bicubic(4), tile=6)(picture)
    assert large.mode == "I;16" and large.size == (80, 60)
    got = np.asarray(large).astype(int)
    assert len(np.unique(got)) > 1000
    assert abs(got.reshape(15, 4, 20, 4).mean((1, 3)) - values)[1:-1, 1:-1].max() < 200
    # What an 8-bit picture would lose: two values that are one of 256.
    faint = Image.fromarray(np.full((5, 5), 700, np.uint16))
    assert np.unique(np.asarray(Upscaler(Bicubic(2))(faint))).tolist() == [700]


def test_values_without_a_range_get_one_sentence():
    for values, sentence in (
        (np.full((3, 3), 70_000, np.int32), "32-bit values from 70000 to 70000"),
        (np.full((3, 3), -1, np.int32), "from -1 to -1"),
        (np.full((3, 3), 0.5, np.float32), "floating-point"),
    ):
        with pytest.raises(ValueError, match=sentence):
            upscale(Image.fromarray(values))


def test_constant_alpha_stays_and_clear_parts_leave_no_fringe():
    picture = scene(13, 11, "RGBA")
    for value in (0, 1, 127, 254, 255):
        picture.putalpha(value)
        assert upscale(picture).getchannel("A").getextrema() == (value, value)
    # A disc of one colour; under what is clear lies black, or white.
    y, x = np.mgrid[:40, :40]
    inside = (x - 19.5) ** 2 + (y - 19.5) ** 2 < 200
    for hidden in (0, 255):
        pixels = np.full((40, 40, 4), (200, 60, 30, 255), np.uint8)
        pixels[~inside] = (hidden, hidden, hidden, 0)
        for upscaler in (Upscaler(Bicubic(4)), Upscaler(compact())):
            large = np.asarray(upscaler(Image.fromarray(pixels))).astype(int)
            seen = large[..., 3] > 0
            assert seen.any() and not seen.all()
            plain = np.asarray(upscaler(Image.new("RGB", (40, 40), (200, 60, 30)))).astype(int)
            assert abs(large[8:-8, 8:-8, :3] - plain[8:-8, 8:-8])[seen[8:-8, 8:-8]].max() <= 1
        alpha = large[..., 3]
        assert alpha[0, 0] == 0 and alpha[80, 80] == 255 and len(np.unique(alpha)) > 50


def test_a_palette_keeps_what_is_clear_in_it(gan):
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.paste(0, (0, 0, 4, 8))
    picture.save("bytes.png", transparency=bytes([0, 128]))
    picture.save("index.png", transparency=0)
    scene(8, 8).save("key.png", transparency=(255, 255, 255))
    scene(8, 8, "L").save("grey.png", transparency=3)
    for name, mode in (("bytes", "RGBA"), ("index", "RGBA"), ("key", "RGBA"), ("grey", "LA")):
        assert gan("upscale", f"{name}.png")[0] == 0
        with Image.open(f"{name}_x4.png") as large:
            assert large.mode == mode and large.size == (32, 32)
            if mode == "RGBA" and name != "key":
                assert large.getpixel((1, 16))[3] == 0
                assert large.getpixel((30, 16))[3] == (128 if name == "bytes" else 255)


def test_orientation_is_applied_and_other_exif_stays(gan):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0100] = 6, "a camera", 30
    exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003] = 30, 20
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8825)[1] = "N"
    picture = Image.new("RGB", (30, 20), "blue")
    picture.paste("red", (0, 0, 15, 20))
    picture.save("a.jpg", exif=exif, dpi=(300, 300))
    for kind in ("png", "jpg", "webp", "tiff"):
        assert gan("upscale", "a.jpg", f"out=x/large.{kind}")[0] == 0
        with Image.open(f"x/large.{kind}") as large:
            assert large.size == (80, 120)
            red, _, blue = large.convert("RGB").getpixel((40, 10))
            assert red > 200 and blue < 50, "what was on the left is on top"
            got = large.getexif()
            assert got.get(0x0112, 1) == 1 and got[0x010F] == "a camera" and got[0x0100] == 80
            inner = got.get_ifd(0x8769)
            assert (inner[0xA002], inner[0xA003], inner[0x9003]) == (80, 120, "2026:01:02 03:04:05")
            assert got.get_ifd(0x8825)[1] == "N"
            if kind != "webp":
                assert large.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_what_is_wrong_with_metadata_does_not_cost_the_picture(gan):
    scene(9, 7).save("odd.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", dpi=(0, 0), icc_profile=b"no profile")
    scene(9, 7).save("long.png", exif=Image.Exif().tobytes(), icc_profile=b"x" * 100)
    exif = Image.Exif()
    exif[0x010E] = "a" * 70_000
    scene(9, 7).save("long.png", exif=exif)
    code, out, error = gan("upscale", "odd.jpg", "long.png", "format=jpg")
    assert code == 0 and len(out.split()) == 2
    assert "long.png: its EXIF" in error
    tiff = Image.new("RGB", (9, 7))
    tiff.save("layout.tif", compression="tiff_lzw")
    for kind in ("tiff", "png", "jpg", "webp"):
        assert gan("upscale", "layout.tif", f"out=layout.{kind}")[0] == 0
        with Image.open(f"layout.{kind}") as large:
            assert large.size == (36, 28)
            assert kind == "tiff" or not {273, 278, 279} & {*large.getexif()}
            large.load()


def test_a_profile_goes_along_but_for_that_of_cmyk(gan):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    scene(8, 8).save("a.png", icc_profile=profile)
    for kind in ("png", "jpg", "webp", "tiff"):
        assert gan("upscale", "a.png", f"out=large.{kind}")[0] == 0
        with Image.open(f"large.{kind}") as large:
            assert large.info["icc_profile"] == profile
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for name, profile in (("with", b"damaged"), ("without", b"")):
        cmyk.save(f"{name}.jpg", icc_profile=profile)
        code, _, error = gan("upscale", f"{name}.jpg")
        assert code == 0 and "was CMYK and is sRGB now" in error
        with Image.open(f"{name}_x4.png") as large:
            assert large.mode == "RGB" and "icc_profile" not in large.info
            red, green, blue = large.getpixel((16, 16))
            assert red > 200 and green < 60 and blue < 60


# --- which network ------------------------------------------------------------------------------------------------


def test_a_scale_without_a_network_of_its_own_is_made_of_four_times(weights):
    picture = scene(15, 10)
    assert isinstance(upscaling.bundled("sharp", 2), Compact)
    for style, scale in (("faithful", 2), ("faithful", 3), ("sharp", 3)):
        network = upscaling.bundled(style, scale)
        assert isinstance(network, Downscaled)
        size = (15 * scale, 10 * scale)
        expected = upscale(picture, 4, style).resize(size, Image.Resampling.BICUBIC)
        difference = np.asarray(upscale(picture, scale, style)).astype(int) - np.asarray(expected)
        assert abs(difference).max() <= 2
    (weights / "sr_compact-x4-faithful.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights of style=faithful"):
        upscaling.bundled("faithful", 3)


@pytest.fixture(scope="module")
def dcgan(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("dcgan") / "run"
    assert cli.main(["train", *TINY, "model=dcgan", f"run.dir={run}", "trainer.steps=2"]) == 0
    return run / "checkpoints" / "last.safetensors"


def test_a_model_that_does_not_enlarge_is_refused(gan, dcgan):
    scene(5, 5).save("a.png")
    code, out, error = gan("upscale", "a.png", f"ckpt={dcgan}")
    assert code == 1 and not out and len(error.strip().splitlines()) == 1
    assert "is a dcgan, which turns noise into images" in error and "model=sr_compact" in error


def test_a_checkpoint_of_ones_own_is_used(gan, weights, monkeypatch):
    scene(6, 5).save("a.png")
    model = weights / "sr_compact-x2-sharp.safetensors"
    assert gan("upscale", "a.png", f"ckpt={model}", "scale=2")[0] == 0
    assert np.array_equal(np.asarray(Image.open("a_x2.png")), np.asarray(upscale(scene(6, 5), 2, "sharp")))
    code, _, error = gan("upscale", "a.png", f"ckpt={model}")
    assert code == 1 and "enlarges 2 times, but scale=4; type scale=2" in error


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_community_model_is_used_or_says_what_to_install(gan, suffix, monkeypatch):
    scene(40, 36).save("a.png")
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8)]
    state = {
        f"body.{name}": x for name, x in nn.Sequential(*layers, nn.Conv2d(8, 12, 3, padding=1)).state_dict().items()
    }
    if suffix == ".pth":
        torch.save({"params": state}, "model.pth")
    else:
        save_file(state, "model.safetensors")
    with monkeypatch.context() as without:
        without.setitem(__import__("sys").modules, "spandrel", None)
        code, _, error = gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2")
        assert code == 1 and "pip install 'gancli[spandrel]'" in error
    pytest.importorskip("spandrel")
    assert gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2", "tile=11")[0] == 0
    assert gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2", "out=whole.png")[0] == 0
    tiled, whole = (np.asarray(Image.open(name)).astype(int) for name in ("a_x2.png", "whole.png"))
    assert whole.shape == (72, 80, 3) and abs(tiled - whole).max() <= 1
    code, _, error = gan("upscale", "a.png", f"ckpt=model{suffix}")
    assert code == 1 and "type scale=2" in error


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_a_strangers_model_runs_no_code(gan):
    pytest.importorskip("spandrel")
    scene(5, 5).save("a.png")
    torch.save({"params": Bomb()}, "model.pth")
    Path("other.safetensors").write_bytes(b"nothing")
    save_file({"x": torch.zeros(2)}, "unknown.safetensors")
    write_generator(Path("call.safetensors"), {"_target_": "os.getcwd"}, {"x": torch.zeros(2)})
    for name in ("model.pth", "other.safetensors", "unknown.safetensors", "call.safetensors", "absent.pth"):
        code, out, error = gan("upscale", "a.png", f"ckpt={name}")
        assert code == 1 and ("os.getcwd" if name == "call.safetensors" else name) in error
        assert not out and len(error.strip().splitlines()) == 1
    assert not Path("touched").exists()


def test_checkpoints_are_looked_for_as_everywhere(gan):
    scene(5, 5).save("a.png")
    for ckpt in ("latest", "absent.safetensors"):
        code, _, error = gan("upscale", "a.png", f"ckpt={ckpt}")
        with pytest.raises(ValueError) as expected:
            checkpoint.read(checkpoint.find(ckpt))
        assert code == 1 and str(expected.value) in error


# --- files and folders --------------------------------------------------------------------------------------------


def test_a_file_a_folder_a_glob(gan, tmp_path):
    for name in (
        "pics/a.png",
        "pics/sub/deep/b.JPG",
        "pics/sub/a.webp",
        "pics/.hidden.png",
        "pics/.h/a.png",
        "c.d.png",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(5, 4).save(name)
    Path("pics/readme.txt").write_text("not a picture")
    code, out, error = gan("upscale", "c.d.png")
    assert code == 0 and out == "c.d_x4.png\n" and not error
    code, out, error = gan("upscale", "pics/", "scale=2")
    made = ["pics_x2/a_x2.png", "pics_x2/sub/a_x2.png", "pics_x2/sub/deep/b_x2.png"]
    assert code == 0 and out.split() == made and "3 pictures written" in error
    assert gan("upscale", "pics", "out=other", "format=webp")[0] == 0
    assert len([*Path("other").rglob("*_x4.webp")]) == 3
    code, out, _ = gan("upscale", "pics/**/*", "c.d.png", "out=flat/")
    assert code == 1 and out.split() == ["flat/a_x4.png", "flat/b_x4.png", "flat/c.d_x4.png"]  # two are called a
    monkey = tmp_path / "pics" / "sub"
    os.chdir(monkey)
    code, out, _ = gan("upscale", ".", "scale=3")
    assert code == 0 and len(out.splitlines()) == 2 and (tmp_path / "pics/sub_x3/deep/b_x3.png").exists()


def test_a_second_time(gan):
    Path("pics").mkdir()
    for name in ("pics/a.png", "pics/b.png", "c.png"):
        scene(5, 4).save(name)
    inside = ("upscale", "pics", "out=pics/large")
    for words in (("upscale", "pics"), inside, ("upscale", "*.png"), ("upscale", "pics", "c.png", "out=all")):
        assert gan(*words)[0] == 0
        files = {p: p.stat().st_mtime_ns for p in Path().rglob("*.*")}
        code, out, error = gan(*words)
        assert code == 1 and not out and "overwrite=true" in error and "skip=true" in error
        code, out, error = gan(*words, "skip=true")
        assert code == 0 and not out
        assert {p: p.stat().st_mtime_ns for p in Path().rglob("*.*")} == files
        code, out, _ = gan(*words, "overwrite=true")
        assert code == 0 and all(files[Path(p)] < Path(p).stat().st_mtime_ns for p in out.split())
        assert {*Path().rglob("*.*")} == {*files}
        first = Path(out.split()[0])
        first.unlink()
        code, out, _ = gan(*words, "skip=true")
        assert code == 0 and out.split() == [str(first)], "goes on where it stopped"


def test_no_result_goes_over_another_or_over_its_picture(gan):
    for name in ("a.png", "a.jpg", "b.png"):
        scene(5, 4).save(name)
    code, out, error = gan("upscale", "a.png", "a.jpg", "b.png", "./b.png")
    assert code == 1 and out.split() == ["a_x4.png", "b_x4.png"]
    assert "a.jpg: its result would be a_x4.png, which is that of a.png" in error and "out=" in error
    before = Path("b.png").read_bytes()
    code, _, error = gan("upscale", "b.png", "out=b.png", "overwrite=true")
    assert code == 1 and "its own result" in error and Path("b.png").read_bytes() == before


def bomb(path: str) -> None:
    """A PNG that says it is 20,000 x 20,000."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")
    )
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_bad_files_are_named_and_the_others_made(gan):
    scene(40, 40).save("whole.png")
    Path("truncated.png").write_bytes(Path("whole.png").read_bytes()[:700])
    Path("empty.png").touch()
    Path("text.png").write_text("a text")
    Path("link.png").symlink_to("nowhere")
    Image.fromarray(np.ones((3, 3), np.float32)).save("float.tif")
    bomb("bomb.png")
    reasons = {
        "truncated.png": "truncated",
        "empty.png": "is empty",
        "text.png": "is not an image that Pillow knows",
        "link.png": "is not a file that can be opened",
        "float.tif": "floating-point",
        "bomb.png": "more than the 178,956,970 pixels",
        "absent.png": "there is no such file",
        "none*.png": "no picture has such a name",
    }
    code, out, error = gan("upscale", *reasons, "whole.png")
    lines = error.splitlines()
    assert code == 1 and out == "whole_x4.png\n" and len(lines) == len(reasons) + 1
    for name, reason in reasons.items():
        assert any(line.startswith(f"gan: {name}: ") and reason in line for line in lines), name
    assert "8 of 9 pictures could not be enlarged" in lines[-1]
    assert not [p for p in here() if "partial" in p]
    for name, reason in reasons.items():  # alone: one sentence
        code, out, error = gan("upscale", name)
        assert code == 1 and not out and reason in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "[1].png",
        "x=1, (y).png",
        "scale.png",
        "猫 ~ü.png",
        "{a}.png",
        "*.png",
        "a'b\".png",
        "~.png",
        "-a.png",
    ],
)
def test_odd_names_are_ordinary(gan, name):
    folder = Path("in (b)=c, {d} [e] 猫")
    folder.mkdir()
    for path in (Path(name), folder / name):
        scene(4, 4).save(path)
        code, out, error = gan("upscale", f"./{path}" if name.startswith("-") else str(path))
        assert code == 0, error
        assert out.strip() == str(path.with_name(f"{path.stem}_x4.png")) and Path(out.strip()).is_file()
    code, out, error = gan("upscale", str(folder), f"out={folder} out", "skip=true")
    assert code == 0 and len(out.splitlines()) == 2, error


def test_forms_that_hold_less_say_so(gan, monkeypatch):
    picture = scene(12, 12, "RGBA")
    picture.putalpha(Image.new("L", (12, 12), 0))
    picture.save("clear.png")
    Image.fromarray(grey16()).save("grey.png")
    Image.new("LA", (4, 4), (0, 0)).save("la.png")
    code, _, error = gan("upscale", "clear.png", "grey.png", "la.png", "format=jpg", "quality=90")
    assert code == 0
    for line in ("clear.png: is transparent, which jpg cannot be", "grey.png: has 16 bits, of which jpg holds 8"):
        assert line in error
    with Image.open("clear_x4.jpg") as large:
        white = np.asarray(upscale(Image.new("RGB", (12, 12), "white"))).astype(int)
        assert large.mode == "RGB" and abs(np.asarray(large) - white).mean() < 20
    with Image.open("grey_x4.jpg") as large:
        assert large.mode == "L" and large.getextrema()[1] > 250 and np.asarray(large).std() > 60
    with Image.open("la_x4.jpg") as large:
        white = np.asarray(upscale(Image.new("L", (4, 4), "white"))).astype(int)
        assert large.mode == "L" and abs(np.asarray(large) - white).mean() < 20
    code, _, error = gan("upscale", "clear.png", "grey.png", "format=webp", "quality=100")
    assert code == 0 and "webp holds 8" in error and "clear.png" not in error
    for kind in ("tiff", "png"):
        assert gan("upscale", "grey.png", "clear.png", f"format={kind}", "overwrite=true")[0] == 0
    for file in ("grey_x4.tif", "grey_x4.png"):
        with Image.open(file) as large:
            assert large.mode == "I;16" and len(np.unique(np.asarray(large))) > 1000
    Image.new("L", (4100, 1)).save("wide.png")
    code, _, error = gan("upscale", "wide.png", "out=wide.webp")
    assert code == 1 and "webp holds at most 16,383 a side; type format=png" in error
    assert gan("upscale", "wide.png", "out=wide.jpg")[0] == 0


def test_frames_and_16_bits_of_colour_are_told(gan):
    scene(6, 5).save("moves.gif", save_all=True, append_images=[scene(6, 5, seed=1)])
    raw = b"".join(b"\0" + bytes(6 * 3 * 2) for _ in range(5))
    header = b"IHDR" + struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(raw), b"IEND")
    data = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    Path("deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    code, out, error = gan("upscale", "moves.gif", "deep.png")
    assert code == 0 and len(out.splitlines()) == 2
    Image.fromarray(grey16()).save("key.png", transparency=0)
    assert "key.png: one of its grey values was transparent" in gan("upscale", "key.png")[2]
    assert "moves.gif: has several frames" in error and "deep.png: has 16 bits a channel" in error


def test_what_memory_cannot_hold_is_not_begun(gan, monkeypatch):
    from gancli.inference import batch as command

    scene(100, 100).save("a.png")
    monkeypatch.setattr(command, "free_memory", lambda: 1e8)
    code, _, error = gan("upscale", "a.png")
    assert code == 1 and "400 x 400 pixels" in error and "0.1 are free" in error


def test_above_pillows_warning_nothing_is_said(gan, monkeypatch):
    scene(30, 30).save("a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    code, _, error = gan("upscale", "a.png")
    assert code == 0 and not error
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    code, _, error = gan("upscale", "a.png", "overwrite=true")
    assert code == 1 and "more than the 800 pixels" in error


def test_stopped_in_between_leaves_whole_files(gan, monkeypatch):
    for name in "abc":
        scene(5, 5).save(f"{name}.png")
    done = []

    def save(self, path, **options):
        Path(path).write_bytes(b"half")
        if done:
            raise KeyboardInterrupt
        done.append(original(self, path, **options))

    original = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", save)
    code, out, error = gan("upscale", "a.png", "b.png", "c.png")
    assert code == 130 and out == "a_x4.png\n" and "1 of 3 pictures are written" in error
    assert here() == ["a.png", "a_x4.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "type gan upscale photo.jpg"),
        (["a.png", "scale=8"], 1, "twice"),
        (["a.png", "scale=1"], 1, "2, 3 and 4"),
        (["a.png", "style=sharpp"], 1, "did you mean sharp?"),
        (["a.png", "format=bmp"], 1, "there are: png, jpg, webp, tiff"),
        (["a.png", "out=a.gif"], 1, "out=DIR/"),
        (["a.png", "out=a.jpg", "format=png"], 1, "leave format= out"),
        (["a.png", "a.png", "out=b.png", "b.png"], 1, "names one picture"),
        ([".", "out=b.png"], 1, "is a folder; type out=DIR/"),
        (["empty"], 1, "no picture is in it"),
        (["a.png", "quality=0"], 1, "between 1 and 100"),
        (["a.png", "tile=-1"], 1, "tile=256"),
        (["a.png", "overwrite=true", "skip=true"], 2, "contradict"),
        (["a.png", "device=cuda:9"], 1, "device=cpu"),
        (["a.png", "styl=sharp"], 2, "did you mean style?"),
    ],
)
def test_bad_input_gets_one_sentence(gan, words, code, sentence):
    scene(5, 5).save("a.png")
    Path("empty").mkdir()
    got, out, error = gan("upscale", *words)
    assert got == code and sentence in error and len(error.strip().splitlines()) == 1
    assert not out and here() == ["a.png", "empty"]


def test_from_python_a_picture_in_a_picture_out(recwarn):
    large = upscale(scene(10, 7), scale=2, style="sharp")
    assert isinstance(large, Image.Image) and large.size == (20, 14)
    file = io.BytesIO()
    scene(10, 7).convert("CMYK").save(file, "TIFF")
    upscale(Image.open(file))
    assert [w.category for w in recwarn if issubclass(w.category, Note)] == [Note]
    with pytest.raises(ValueError, match="scale=5 is not one of 2, 3 and 4"):
        upscale(large, 5)
