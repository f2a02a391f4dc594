"""The last grids of several runs in one image."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from gancli.report.columns import caption
from gancli.report.ranking import RunRow

GRIDS = 100  # at most
SIDE, GAP, CAPTION = 240, 12, 38  # pixels: largest side of a grid, space between grids, height of two lines of text
COLUMNS = 6  # at most
INKS = ("#1c1e21", "#666c75")


def contact_sheet(rows: Sequence[RunRow]) -> Image.Image | None:
    """Return the last grid of each run with a caption, in the order of rows; None when there is no grid."""
    grids = []
    for row in [row for row in rows if row.run.samples][:GRIDS]:
        try:
            with Image.open(row.run.samples[-1][1]) as opened:
                image = opened.convert("RGB")
        except OSError:
            continue  # a file that cannot be read
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        grids.append((row, image))
    if not grids:
        return None
    columns = min(COLUMNS, math.ceil(math.sqrt(len(grids))))
    height = math.ceil(len(grids) / columns) * (SIDE + GAP + CAPTION) + GAP
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (row, image) in enumerate(grids):
        left, top = GAP + i % columns * (SIDE + GAP), GAP + i // columns * (SIDE + GAP + CAPTION)
        sheet.paste(image, (left + (SIDE - image.width) // 2, top + (SIDE - image.height) // 2))
        for line, (text, ink) in enumerate(zip(caption(row), INKS)):
            while pen.textlength(text, font) > SIDE:
                text = f"{text[:-2]}…"
            pen.text((left, top + SIDE + 3 + 16 * line), text, ink, font)
    return sheet
