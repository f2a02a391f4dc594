"""Animated GIF, WebP and PNG, enlarged frame by frame."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scenes import here, scene

from gancli.inference import animation
from gancli.inference.styles import upscale

pytestmark = pytest.mark.usefixtures("weights")

TIMES = [40, 80, 1200, 160, 200]


def drawn(mode: str, n: int = len(TIMES)) -> list[Image.Image]:
    images = []
    for i in range(n):
        image = Image.new(mode, (40, 30), (0, 0, 0, 0) if mode == "RGBA" else (20, 90, 40))
        ImageDraw.Draw(image).ellipse((5 + 3 * i, 5, 20 + 3 * i, 20), fill=(200, 60, 30, 255)[: len(mode)])
        images.append(image)
    return images


def save(name: str, images: list[Image.Image], **options: object) -> None:
    options |= {"lossless": True} if name.endswith(".webp") else {"disposal": 2} if name.endswith(".gif") else {}
    images[0].save(name, save_all=True, append_images=images[1:], duration=TIMES[: len(images)], **options)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(("given", "wanted"), list(itertools.product(animation.FORMATS, repeat=2)))
def test_every_frame_keeps_its_pixels_its_time_and_its_transparency(given, wanted, mode, tmp_path):
    images = drawn(mode)
    save(f"{tmp_path}/a.{given}", images, loop=3)
    target = tmp_path / f"b.{wanted}"
    with Image.open(tmp_path / f"a.{given}") as file:
        plays = animation.read_timing(file).plays
        animation.convert(file, target, wanted, 100, lambda frame: frame.resize((80, 60), Image.Resampling.NEAREST))
    with Image.open(target) as file:
        assert animation.read_timing(file) == (TIMES, plays, mode == "RGBA")
        for image, frame in zip(images, animation.frames(file)):
            result = np.asarray(frame.convert("RGBA")).astype(int)
            expected = np.asarray(image.resize((80, 60), Image.Resampling.NEAREST).convert("RGBA")).astype(int)
            assert (result[..., 3] == expected[..., 3]).all()
            assert abs(result - expected)[expected[..., 3] > 0].max() <= 1


def test_an_animation_keeps_its_format_unless_another_is_asked_for(gan):
    save("a.gif", drawn("RGBA"), loop=0)
    save("b.webp", drawn("RGB"))
    save("c.png", drawn("RGB"))
    code, out, error = gan("upscale", "a.gif", "b.webp", "c.png", "style=faithful")
    assert (code, out) == (0, "a_x4.gif\nb_x4.webp\nc_x4.png\n"), error
    for name in out.split():
        with Image.open(name) as file:
            assert file.size == (160, 120) and animation.read_timing(file).milliseconds == TIMES
            file.seek(2)
            expected = np.asarray(upscale(drawn("RGB")[2], style="faithful")).astype(int)
            assert abs(np.asarray(file.convert("RGB")) - expected).mean() < 3 or name == "a_x4.gif"
    assert gan("upscale", "a.gif", "out=d.png", "style=sharp")[0] == 0 and Image.open("d.png").n_frames == len(TIMES)
    code, _, error = gan("upscale", "a.gif", "out=e.jpg", "style=sharp")
    assert code == 0 and "has several frames; only the first was used" in error
    scene(9, 8).save("still.gif")
    assert gan("upscale", "still.gif", "style=sharp")[:2] == (0, "still_x4.png\n")
    code, _, error = gan("upscale", "still.gif", "out=f.gif")
    assert code == 1 and "gif has 256 colours and is for animations" in error


def test_the_style_is_chosen_once_for_all_frames(gan):
    save("a.gif", drawn("RGB"))
    code, _, error = gan("upscale", "a.gif")
    assert code == 0 and error == "gan: a.gif: style=faithful: no JPEG blocks and no noise\n"


@pytest.mark.parametrize("format", animation.FORMATS)
def test_a_damaged_frame_is_named_and_nothing_is_overwritten(format, gan):
    save(f"a.{format}", [scene(40, 30, seed=i) for i in range(5)])
    data = Path(f"a.{format}").read_bytes()
    Path(f"a.{format}").write_bytes(data[: len(data) * 3 // 4])
    Path(f"a_x4.{format}").write_text("mine")
    before = here()
    code, out, error = gan("upscale", f"a.{format}", "overwrite=true", "style=faithful")
    assert code == 1 and not out and len(error.strip().splitlines()) == 1, error
    assert "damaged" in error if format != "webp" else f"a.{format}: " in error
    assert here() == before and Path(f"a_x4.{format}").read_text() == "mine"


def test_memory_is_that_of_one_frame(tmp_path):
    save(f"{tmp_path}/a.gif", drawn("RGB", 5))
    alive = []

    def model(frame: Image.Image) -> Image.Image:
        alive[:] = [ref for ref in alive if ref()]
        assert len(alive) <= 2
        result = frame.resize((80, 60))
        alive.append(__import__("weakref").ref(result))
        return result

    with Image.open(tmp_path / "a.gif") as file:
        animation.convert(file, tmp_path / "b.gif", "gif", 100, model)
