"""Charts of the benchmarks' reports, by Pillow."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from gancli.images import label_font

GREY = (90, 90, 90)
WIDTH, LEFT, RIGHT, GAP = 900, 140, 260, 16  # pixels: a chart's width and its margins, and the gap between charts
BAR, HEIGHT = 24, 260  # pixels: from bar to bar, and the height of a line chart
CAPTION = 52  # pixels above a captioned image

Colour = tuple[int, int, int]


class Measurement(NamedTuple):
    """The median of a measured number with its range, and its colour."""

    name: str
    median: float
    least: float
    most: float
    colour: Colour
    note: str = ""


def captioned(title: str, caption: str, image: Image.Image) -> Image.Image:
    """Return an image under a title and a caption, which is wrapped at commas."""
    large, small = label_font(15), label_font(11)
    lines = [""]
    for part in caption.split(", "):
        longer = f"{lines[-1]}, {part}".removeprefix(", ")
        lines = [*lines[:-1], longer] if small.getlength(longer) <= image.width else [*lines, part]
    sheet = Image.new("RGB", (image.width, image.height + CAPTION), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((0, 0), title, "black", large)
    pen.multiline_text((0, 20), "\n".join(lines), GREY, small, spacing=2)
    sheet.paste(image.convert("RGB"), (0, CAPTION))
    pen.rectangle((0, CAPTION, sheet.width - 1, sheet.height - 1), outline=(205, 205, 205))
    return sheet


def side_by_side(columns: Sequence[Image.Image], gap: int) -> Image.Image:
    """Return images of one size next to each other on white."""
    w, h = columns[0].size
    sheet = Image.new("RGB", (len(columns) * (w + gap) - gap, h), "white")
    for i, image in enumerate(columns):
        sheet.paste(image, (i * (w + gap), 0))
    return sheet


def bar_chart(title: str, rates: Sequence[Measurement]) -> Image.Image:
    """Return one bar per rate, with a line from the least to the most."""
    sheet = Image.new("RGB", (WIDTH, 26 + BAR * len(rates)), "white")
    pen, small = ImageDraw.Draw(sheet), label_font(12)
    pen.text((0, 0), title, "black", label_font(15))
    scale = (WIDTH - LEFT - RIGHT) / max(rate.most for rate in rates)
    for i, rate in enumerate(rates):
        top, end = 26 + i * BAR, LEFT + rate.most * scale
        middle = top + (BAR - 8) / 2
        pen.text((0, top), rate.name, "black", small)
        pen.rectangle((LEFT, top, LEFT + rate.median * scale, top + BAR - 8), rate.colour)
        pen.line((LEFT + rate.least * scale, middle, end, middle), "black")
        pen.text((end + 8, top), f"{rate.median:,.0f} images/s{rate.note}", GREY, small)
    return sheet


def line_chart(title: str, curves: Sequence[dict[int, Measurement]]) -> Image.Image:
    """Return one line per curve {place: measurement}, with an upright line from the least to the most.

    Places are evenly spaced.
    """
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen, small = ImageDraw.Draw(sheet), label_font(12)
    pen.text((0, 0), title, "black", label_font(15))
    sizes = sorted({size for curve in curves for size in curve})
    most = max(rate.most for curve in curves for rate in curve.values())
    left, right, top, bottom = LEFT, WIDTH - RIGHT, 30, HEIGHT - 22

    def x(size: int) -> float:
        return left + (right - left) * sizes.index(size) / max(len(sizes) - 1, 1)

    def y(rate: float) -> float:
        return bottom - (bottom - top) * rate / most

    for quarter in range(5):
        level = most * quarter / 4
        pen.line((left, y(level), right, y(level)), (225, 225, 225))
        pen.text((left - 8, y(level)), f"{level:,.0f}", GREY, small, anchor="rm")
    for size in sizes:
        pen.text((x(size), bottom + 4), str(size), GREY, small, anchor="ma")
    for i, curve in enumerate(curves):
        points = sorted(curve.items())
        first = points[0][1]
        pen.line([(x(size), y(rate.median)) for size, rate in points], first.colour, 2)
        for size, rate in points:
            pen.line((x(size), y(rate.least), x(size), y(rate.most)), rate.colour)
        pen.rectangle((right + 16, top + i * 20, right + 28, top + i * 20 + 12), first.colour)
        pen.text((right + 34, top + i * 20), first.name, "black", small)
    return sheet
