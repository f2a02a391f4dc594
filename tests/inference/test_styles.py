"""Damage of images, estimated from files and pixels, and the style that is chosen by it."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import write_generator
from PIL import Image, ImageDraw
from scenes import compact, difference, scene

from gancli.data.image_modes import standardize
from gancli.inference.damage import NO_TRACE, Damage, estimate
from gancli.inference.styles import choose, load_style
from gancli.inference.upscaler import Upscaler, load_upscaler

pytestmark = pytest.mark.usefixtures("weights")


def photo(side: int = 160, seed: int = 1) -> Image.Image:
    """Return something like a photo: 1/f texture with edges, and a calm part."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    spectrum = np.fft.fft2(rng.normal(size=(side, side))) / np.maximum(frequency, 1 / side) ** 1.7
    y = np.fft.ifft2(spectrum).real
    y = 120 + 45 * y / y.std()
    y[side // 3 : side // 2] += 50
    y[: side // 4, : side // 2] = 150 + np.arange(side // 2) / 9
    return Image.fromarray((y[..., None] * (1, 0.9, 0.8)).clip(3, 252).astype(np.uint8))


def as_jpeg(image: Image.Image, quality: int, **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, **options)
    return Image.open(file)


def noisy(image: Image.Image, sigma: float, channels: int = 3) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, sigma, (image.height, image.width, channels))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def test_a_clean_image_shows_no_damage():
    for image in (
        photo(),
        photo(40),
        Image.new("RGB", (50, 50), "red"),
        Image.new("L", (1, 1)),
        photo().convert("RGBA"),
    ):
        damage = estimate(standardize(image))
        assert damage.quality == NO_TRACE and damage.noise < 1


@pytest.mark.parametrize("quality", [20, 40, 60, 75, 90])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}])
def test_the_quality_of_a_jpeg_is_read_from_its_file_and_from_its_pixels(quality, options):
    image = as_jpeg(photo(), quality, **options)
    assert abs(estimate(standardize(image)).quality - quality) <= 4
    for left, top in ((0, 0), (3, 5)):  # saved again as PNG, cropped
        pixels = image.convert("RGB").crop((left, top, 130, 120))
        assert abs(estimate(pixels).quality - quality) <= 4
    grey = image.convert("L").crop((1, 2, 150, 140))
    assert abs(estimate(grey).quality - quality) <= 4


def test_tables_that_lie_do_not_hide_a_worse_jpeg():
    poor = as_jpeg(photo(), 25).convert("RGB")
    assert as_jpeg(poor, 98).quantization[0][0] == 1
    assert estimate(standardize(as_jpeg(poor, 98))).quality < 50
    for tables in ("a text", {0: [1]}, {1: [1] * 64}, {0: [0] * 64}):  # of a damaged file
        image = photo()
        image.info["quantization"] = tables
        assert 1 <= estimate(image).quality <= NO_TRACE
    grown = load_style("faithful")(as_jpeg(photo(24), 25))
    assert "quantization" not in grown.info, "they are not those of the result"


@pytest.mark.parametrize("sigma", [3, 6, 12])
def test_noise_is_measured_in_colour_and_in_grey(sigma):
    assert abs(estimate(noisy(photo(), sigma)).noise - sigma) < 0.25 * sigma
    if sigma > 5:  # less is not told from texture in a grey image
        assert abs(estimate(noisy(photo(), sigma, 1)).noise - sigma) < 0.35 * sigma
        assert abs(estimate(noisy(photo(), sigma, 1).convert("L")).noise - sigma) < 0.35 * sigma
    deep = Image.fromarray(np.asarray(noisy(photo(), 12).convert("L")).astype(np.uint16) * 257)
    assert estimate(deep).noise > 5


def test_text_and_drawings_on_a_grid_of_8_are_not_taken_for_a_jpeg():
    screen = Image.new("RGB", (240, 160), "white")
    draw = ImageDraw.Draw(screen)
    for y in range(0, 160, 16):
        draw.text((8, y), "The quick brown fox jumps over the lazy dog", fill="black")
    draw.rectangle((160, 80, 223, 143), fill="#3366cc")
    assert estimate(screen).quality > 85 and estimate(screen).noise < 1
    checkerboard = Image.fromarray(np.kron(np.indices((20, 20)).sum(0) % 2 * 255, np.ones((8, 8))).astype(np.uint8))
    assert estimate(checkerboard).noise == 0


def test_the_style_and_its_strength_follow_the_damage():
    assert choose(Damage(100, 0.4))[:2] == ("faithful", 1)
    assert choose(Damage(95, 1.4)).reason == "style=faithful: JPEG of quality 95 and noise of 1.4 grey levels"
    assert choose(Damage(40, 0.4)) == ("restore", 1, "style=restore: JPEG of quality 40")
    assert choose(Damage(85, 0)) == ("restore", 0.6, "style=restore strength=0.6: JPEG of quality 85")
    assert choose(Damage(100, 20))[:2] == ("restore", 1)
    strengths = [choose(Damage(quality, 0)).strength for quality in (92, 80, 70, 60)]
    assert strengths == sorted(strengths) and choose(Damage(92, 6)).strength > choose(Damage(92, 0)).strength


def test_strength_blends_a_style_with_faithful_and_faithful_with_bicubic(weights):
    image = scene(20, 14)
    bicubic = image.resize((80, 56), Image.Resampling.BICUBIC)
    faithful, sharp = (load_upscaler(style=style)(image) for style in ("faithful", "sharp"))
    for style, milder, full in (("faithful", bicubic, faithful), ("sharp", faithful, sharp)):
        half = np.asarray(load_upscaler(style=style, strength=0.5)(image)).astype(int)
        assert abs(half - (np.asarray(milder).astype(int) + np.asarray(full)) / 2).max() <= 2
        assert difference(load_upscaler(style=style, strength=0)(image), milder) <= 1
        assert difference(load_upscaler(style=style, strength=0.5, tile=8)(image), half.astype(np.uint8)) == 0
    for strength in (2, -0.1, float("nan")):
        with pytest.raises(ValueError, match=f"strength={strength} is out of range"):
            load_upscaler(style="sharp", strength=strength)
    with pytest.raises(ValueError, match=r"strength=0.5 is for the bundled styles; leave it out, or ckpt="):
        load_upscaler(weights / "sr_compact-x4-sharp.safetensors", strength=0.5)


def test_auto_restores_what_is_damaged(weights, gan):
    as_jpeg(photo(40), 30).convert("RGB").save("a.png")
    network = compact(4)
    network.last.bias.data += 0.1
    config = {"_target_": "gancli.networks.sr.Compact", "channels": 3, "width": 8, "depth": 2, "scale": 4}
    write_generator(weights / "sr_compact-x4-restore.safetensors", config, network.state_dict())
    code, _, error = gan("upscale", "a.png")
    assert code == 0 and error.startswith("gan: a.png: style=restore: JPEG of quality ")
    assert difference("a_x4.png", Upscaler(network)(Image.open("a.png"))) <= 1
    x = torch.rand(2, 3, 30, 30) * 2 - 1
    assert load_style("auto").enlarge(x).shape == (2, 3, 120, 120)


def test_several_styles_are_named_in_their_files(gan):
    scene(9, 8).save("a.png")
    code, out, _ = gan("upscale", "a.png", "style=faithful,sharp")
    assert (code, out) == (0, "a_x4_faithful.png\na_x4_sharp.png\n")
    assert difference("a_x4_sharp.png", load_style("sharp")(scene(9, 8))) == 0
    code, out, _ = gan("upscale", "a.png", "style=[sharp,auto]", "out=b.webp")
    assert (code, out) == (0, "b_sharp.webp\nb_auto.webp\n") and not Path("b.webp").exists()
    code, _, error = gan("upscale", "a.png", "style=[faithful,sharp]")
    assert code == 1 and "a_x4_faithful.png exists already" in error
    for words in ("style=[]", "style=[sharp,soft]", "ckpt=x style=[faithful,sharp]", "strength=2"):
        code, out, error = gan("upscale", "a.png", "out=c/", *words.split())
        assert code != 0 and not out and len(error.strip().splitlines()) == 1, error
