"""The form that every evaluation's results take: metrics with their protocol, text for a person, example images."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw
from torch import Tensor

from gancli import images

EXAMPLES = 8  # rows of a contact sheet
CELL = 96  # pixels a side to which small images are enlarged in a contact sheet


class EvaluationResult(NamedTuple):
    """Metrics with the protocol they were measured by."""

    results: dict[str, Any]  # everything that was measured, as it is stored
    protocol: dict[str, Any]
    headline: dict[str, float]  # the metrics that runs are compared by
    text: str  # tables and protocol for a person
    image: Image.Image | None  # contact sheet of examples
    warnings: Sequence[str] = ()  # one sentence for each metric or image that could not be measured
    error: str = ""  # sentence on images that could not be measured; the other images were

    def __str__(self) -> str:
        return self.text


def finite(generated: Tensor) -> Tensor:
    """Return images clamped to [-1, 1] on the CPU; raise ValueError if a value is not finite."""
    if not generated.isfinite().all():
        raise ValueError("the network gave values that are no numbers, so nothing is measured; type another ckpt=")
    return generated.clamp(-1, 1).cpu()


def paired_means(rows: list[dict[str, Any]], columns: tuple[str, str]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the means of two columns over the images that have a finite value in both.

    Means over different images would show a gain that no image has.

    Args:
        rows: for each image {column: {metric: value}}.

    Returns:
        {column: {metric: mean}} and {metric: number of images}.
    """
    means: dict[str, dict[str, float]] = {column: {} for column in columns}
    counts = {}
    for key in rows[0][columns[0]]:
        complete = [row for row in rows if all(math.isfinite(row[column][key]) for column in columns)]
        counts[key] = len(complete)
        for column in columns:
            means[column][key] = statistics.fmean(row[column][key] for row in complete) if complete else math.nan
    return means, counts


def note_on_means(counts: dict[str, int], n: int, names: dict[str, str], reason: str) -> list[str]:
    """Return a line on the metrics whose means cover fewer than n images, or none."""
    fewer = ", ".join(f"{names.get(key, key)} over {count:,}" for key, count in counts.items() if count < n)
    return [f"means of {fewer} of {n:,} images: the others {reason}"] if fewer else []


def examples(columns: dict[str, Tensor]) -> Image.Image:
    """Return the first images of each column, uint8 or float (N, C, H, W) with C 1 or 3, side by side."""
    cells = []
    for x in columns.values():
        array = images.to_array(x[:EXAMPLES])
        factor = max(1, CELL // array.shape[1])
        cells.append([images.to_pil(a.repeat(factor, 0).repeat(factor, 1)).convert("RGB") for a in array])
    return contact_sheet(list(columns), list(zip(*cells)))


def contact_sheet(names: Sequence[str], rows: Sequence[Sequence[Image.Image]], width: int = CELL) -> Image.Image:
    """Return rows of images under column names; a column is at least `width` pixels wide."""
    step, header = max(width, *(cell.width for row in rows for cell in row)) + 4, 16
    heights = [row[0].height + 4 for row in rows]
    sheet = Image.new("RGB", (len(names) * step - 4, header + sum(heights) - 4), "white")
    for i, name in enumerate(names):
        ImageDraw.Draw(sheet).text((i * step + 2, 1), name, "black")
        for j, row in enumerate(rows):
            sheet.paste(row[i], (i * step, header + sum(heights[:j])))
    return sheet
