"""The last grids of several runs in one image."""

import contextlib
import math
from collections import Counter
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageOps

from gancli.data.decoder import BadImage
from gancli.data.image_files import decode_image
from gancli.images import drawable, label_font
from gancli.report.columns import caption
from gancli.report.ranking import RunRow
from gancli.runtime.publish import published

GRIDS = 100  # at most
SIDE, GAP, CAPTION = 240, 12, 38  # pixels: width of a tile, space between tiles, height of two lines of text
SHAPES = (0.4, 1.5)  # height of a tile by its width, smallest and largest
COLUMNS = 6  # at most
INKS, WASH = ("#1c1e21", "#666c75"), "#f1f2f4"


def contact_sheet(rows: Sequence[RunRow]) -> Image.Image | None:
    """Return the last grid of each run with a caption, in the order of rows; None when there is no grid."""
    grids = []
    for row in [row for row in rows if row.run.samples][:GRIDS]:
        with contextlib.suppress(BadImage):
            grids.append((row, decode_image(row.run.samples[-1][1])[0].convert("RGB")))
    if not grids:
        return None
    shape = tile_shape([image.size for _, image in grids])
    height = round(SIDE * shape)
    columns = min(COLUMNS, math.ceil(math.sqrt(len(grids))))
    lines = math.ceil(len(grids) / columns)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, lines * (height + GAP + CAPTION) + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), label_font(13)
    for i, (row, image) in enumerate(grids):
        left, top = GAP + i % columns * (SIDE + GAP), GAP + i // columns * (height + GAP + CAPTION)
        sheet.paste(ImageOps.pad(image, (SIDE, height), Image.Resampling.LANCZOS, WASH), (left, top))
        for line, (text, ink) in enumerate(zip(published(caption(row)), INKS)):
            text = drawable(text, font)
            while pen.textlength(text, font) > SIDE:
                text = drawable(f"{text[:-2]}…", font)
            pen.text((left, top + height + 3 + 16 * line), text, ink, font)
    return sheet


def tile_shape(sizes: Sequence[tuple[int, int]]) -> float:
    """Return the height by the width of all tiles: the commonest of images of these sizes (width, height)."""
    ((width, height), _), *_ = Counter(sizes).most_common(1)
    return min(max(height / width, SHAPES[0]), SHAPES[1])
