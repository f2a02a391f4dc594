"""What every kind of evaluation gives, and how its figures and its pictures are brought into one form."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from gancli import images

EXAMPLES = 8  # rows of the picture, where there are more images than a person looks at
CELL = 96  # pixels a side that small images are enlarged to in it


class EvaluationResult(NamedTuple):
    """figures and protocol: what is stored. picture: of examples. failed: a sentence on what could not be measured.

    ranked: the figures that runs are compared by, by name.
    """

    figures: dict[str, Any]
    protocol: dict[str, Any]
    picture: Image.Image | None
    failed: str = ""
    ranked: dict[str, float] = {}  # noqa: RUF012


def finite(made: Tensor) -> Tensor:
    """Images as they are, in [-1, 1] on the CPU. ValueError where they hold what is no number."""
    if not made.isfinite().all():
        raise ValueError("the network gave values that are no numbers, so nothing is measured; type another ckpt=")
    return made.clamp(-1, 1).cpu()


def averaged(rows: list[dict[str, Any]], columns: tuple[str, str]) -> tuple[dict[str, Any], dict[str, int]]:
    """The means of both columns, and of how many images each figure's is; of rows {column: {figure: value}}.

    Of those alone that have it, finite, in both columns: the means of different images would show a gain that no
    image has.
    """
    means: dict[str, dict[str, float]] = {column: {} for column in columns}
    counted = {}
    for key in rows[0][columns[0]]:
        finite = [row for row in rows if all(math.isfinite(row[column][key]) for column in columns)]
        counted[key] = len(finite)
        for column in columns:
            means[column][key] = statistics.fmean(row[column][key] for row in finite) if finite else math.nan
    return means, counted


def storable(figures: dict[str, Any]) -> dict[str, Any]:
    """With None for what is not finite: JSON knows neither nan nor inf, and other programs refuse them."""

    def value(x: Any) -> Any:
        if isinstance(x, dict):
            return storable(x)
        if isinstance(x, list):
            return [value(item) for item in x]
        return None if isinstance(x, float) and not math.isfinite(x) else x

    return {key: value(x) for key, x in figures.items()}


def examples(columns: dict[str, Tensor]) -> Image.Image:
    """The first images of each column, uint8 or float (N, C, H, W) with C 1 or 3, side by side under its name."""
    cells = []
    for x in columns.values():
        array = images.to_array(x[:EXAMPLES])
        factor = max(1, CELL // array.shape[1])
        cells.append([images.to_pil(a.repeat(factor, 0).repeat(factor, 1)).convert("RGB") for a in array])
    return sheet(list(columns), list(zip(*cells)))


def sheet(names: Sequence[str], rows: Sequence[Sequence[Image.Image]], least: int = CELL) -> Image.Image:
    """A row of pictures for each of `rows` under the names of the columns, which are `least` pixels wide or more."""
    step, header = max(least, *(cell.width for row in rows for cell in row)) + 4, 16
    heights = [row[0].height + 4 for row in rows]
    whole = Image.new("RGB", (len(names) * step - 4, header + sum(heights) - 4), "white")
    for i, name in enumerate(names):
        ImageDraw.Draw(whole).text((i * step + 2, 1), name, "black")
        for j, row in enumerate(rows):
            whole.paste(row[i], (i * step, header + sum(heights[:j])))
    return whole
