"""Six types of small image, enlarged 4 times in every style of `gan upscale`: one table and one picture.

    python benchmarks/upscale_page.py Set14/ [--out docs/images/upscale-types.png] [--short docs/images/upscale.png]

Each small image is made of one whose real pixels are known, an image of Set14 or a drawn icon. PSNR is that of the
colours, of an icon that of its colours on white; NIQE has no reference, and lower is better.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from upscale_damage import jpeg, tensor

from gancli import images
from gancli.data.decoder import open_image
from gancli.inference.damage import estimate
from gancli.inference.styles import AutoUpscaler, choose
from gancli.inference.upscaler import STYLES, load_upscaler
from gancli.metrics.niqe import niqe
from gancli.metrics.psnr_ssim import rgb_psnr, studio_luma

SCALE, SIDE, GAP, LABEL = 4, 160, 4, 18  # SIDE: of the part that is drawn, in pixels
BICUBIC, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.LANCZOS


def small(image: Image.Image) -> Image.Image:
    return image.resize((image.width // SCALE, image.height // SCALE), BICUBIC)


def noisy(image: Image.Image, sigma: float, grey: bool = False) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, sigma, (image.height, image.width, 1 if grey else 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def phone(image: Image.Image) -> Image.Image:
    """A small sensor: blur, noise, sharpening, JPEG of quality 85."""
    taken = noisy(small(image).filter(ImageFilter.GaussianBlur(0.7)), 4)
    return jpeg(taken.filter(ImageFilter.UnsharpMask(1, 80)), 85)


def scan(image: Image.Image) -> Image.Image:
    """An old print: soft, grain of the paper, JPEG of quality 70."""
    return jpeg(noisy(small(image).filter(ImageFilter.GaussianBlur(0.9)), 9, grey=True), 70)


def meme(image: Image.Image) -> Image.Image:
    """Saved three times, resized in between."""
    first = jpeg(small(image), 60)
    second = jpeg(first.resize((round(0.9 * first.width), round(0.9 * first.height)), BICUBIC), 45)
    return jpeg(second.resize(first.size, BICUBIC), 35)


def captioned(image: Image.Image) -> Image.Image:
    """The image with two lines of white text with a black outline."""
    draw, font = ImageDraw.Draw(image), images.label_font(image.height // 9)
    for text, y, anchor in (("ONE DOES NOT SIMPLY", 0.03, "ma"), ("SAVE A JPEG ONCE", 0.97, "md")):
        where = (image.width / 2, y * image.height)
        draw.text(where, text, "white", font, anchor, stroke_width=3, stroke_fill="black")
    return image


def icon() -> Image.Image:
    """A drawn icon with transparency, "RGBA" 256x256."""
    large = Image.new("RGBA", (1024, 1024))
    draw = ImageDraw.Draw(large)
    draw.ellipse((60, 60, 964, 964), "#2b6cb0")
    draw.regular_polygon((512, 512, 360), 3, 0, "#f6e05e")
    draw.rectangle((470, 380, 554, 600), "#1a202c")
    draw.ellipse((466, 630, 558, 722), "#1a202c")
    return large.resize((256, 256), LANCZOS)


def on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


class Type(NamedTuple):
    """A type of image: its real pixels, the small image, and the corner of the part that is drawn."""

    name: str
    real: Image.Image
    small: Image.Image
    corner: tuple[int, int]


def types(folder: Path) -> list[Type]:
    def of_set14(number: int, degrade: Callable[[Image.Image], Image.Image]) -> tuple[Image.Image, Image.Image]:
        image = open_image(folder / f"img_{number:03d}_SRF_4_HR.png").convert("RGB")
        image = image.crop((0, 0, image.width // SCALE * SCALE, image.height // SCALE * SCALE))
        image = captioned(image) if degrade is meme else image
        return image, degrade(image)

    return [
        Type("phone", *of_set14(7, phone), (170, 110)),
        Type("scan", *of_set14(10, scan), (150, 60)),
        Type("meme", *of_set14(12, meme), (130, 10)),
        Type("screenshot", *of_set14(13, small), (20, 190)),
        Type("photograph", *of_set14(11, small), (300, 160)),
        Type("icon", icon(), small(icon()), (48, 40)),
    ]


def scores(image: Image.Image, real: Image.Image) -> str:
    x, y = tensor(on_white(image)), tensor(on_white(real))
    border = (..., slice(SCALE, -SCALE), slice(SCALE, -SCALE))
    quality = niqe(studio_luma(x).round()[:, None])
    return f"{float(rgb_psnr(x[border], y[border])):.2f}, {quality:.1f}"


def row(pictures: list[Image.Image], corner: tuple[int, int]) -> Image.Image:
    """Return the same part of each image, next to each other."""
    box = (*corner, corner[0] + SIDE, corner[1] + SIDE)
    line = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE), "white")
    for k, picture in enumerate(pictures):
        line.paste(on_white(picture).crop(box), (k * (SIDE + GAP), 0))
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, help="picture of every type in every style")
    parser.add_argument("--short", type=Path, help="picture of three types as gan upscale enlarges them")
    options = parser.parse_args()
    upscalers, auto = {style: load_upscaler(style=style) for style in STYLES}, AutoUpscaler()
    columns = ["bicubic", "lanczos", *upscalers]
    print(f"| PSNR (dB), NIQE | auto takes | {' | '.join([*columns, 'auto'])} |")
    print("|" + "---|" * (len(columns) + 3))
    every, few = [], []
    for name, real, degraded, corner in types(options.images):
        results = {"bicubic": degraded.resize(real.size, BICUBIC), "lanczos": degraded.resize(real.size, LANCZOS)}
        results |= {style: upscaler(degraded) for style, upscaler in upscalers.items()}
        best = auto(degraded)
        taken = choose(estimate(degraded))
        style = taken.style if taken.strength == 1 else f"{taken.strength:g} of {taken.style}"
        print(f"| {name} | {style} | {' | '.join(scores(x, real) for x in [*results.values(), best])} |")
        nearest = degraded.resize(real.size, Image.Resampling.NEAREST)
        every.append((f"{name}: auto takes {style}", row([nearest, *results.values(), real], corner)))
        few.append((name, row([nearest, results["bicubic"], best, real], corner)))
    if options.out:
        draw_page(["small", *columns, "real"], every, options.out)
    if options.short:
        draw_page(["small", "bicubic", "gan upscale", "real"], [few[4], few[5], few[2]], options.short)


def draw_page(columns: list[str], rows: list[tuple[str, Image.Image]], out: Path) -> None:
    """Write one picture: a title of each column, and a line of text above each row."""
    width = rows[0][1].width
    page = Image.new("RGB", (width, LABEL + len(rows) * (LABEL + SIDE + GAP)), "white")
    draw, font = ImageDraw.Draw(page), images.label_font(14)
    for k, column in enumerate(columns):
        draw.text((k * (SIDE + GAP) + 2, 0), column, "black", font)
    for k, (title, line) in enumerate(rows):
        top = LABEL + k * (LABEL + SIDE + GAP)
        draw.text((2, top), title, "#555555", font)
        page.paste(line, (0, top + LABEL))
    images.write(page, out)


if __name__ == "__main__":
    main()
