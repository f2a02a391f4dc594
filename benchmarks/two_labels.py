"""A model asked by two labels: shapes by form and colour, and whether images are what they were asked for.

    python benchmarks/two_labels.py FOLDER [--minutes 5] [--images 2000]

Draws images of 32x32 pixels and a table of their labels, trains `model=cgan` on them, and asks for 200 images of each
of the nine pairs. Their hue and how far the shape fills its bounding box tell which pair an image is. The same check is
right on 99 % or more of the drawn images.
"""

import argparse
import colorsys
import csv
import itertools
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gancli.cli.main import main as gan

SHAPES, COLOURS = ("circle", "square", "triangle"), ("red", "green", "blue")
RGB = {"red": (215, 35, 35), "green": (35, 170, 55), "blue": (40, 70, 215)}
HUES = {"red": 0.0, "green": 1 / 3, "blue": 2 / 3}
SIDE, SCALE = 32, 8  # drawn eight times as large, then reduced: smooth edges, as in photos
# Means over the drawn images, a little more than pi / 4, 1 and 1 / 2, as whole pixels are counted.
FILL = {"circle": 0.79, "square": 1.0, "triangle": 0.54}
CONTRAST = 0.5  # of the largest difference from white from which on a pixel is foreground


def draw(shape: str, colour: str, rng: random.Random) -> Image.Image:
    image = Image.new("RGB", (SIDE * SCALE,) * 2, "white")
    size = rng.uniform(12, 24) * SCALE
    x, y = (rng.uniform(1, SIDE - 1) * (SIDE * SCALE - size - 2 * SCALE) / (SIDE - 2) + SCALE for _ in "xy")
    box = [x, y, x + size, y + size]
    fill = tuple(min(255, max(0, round(v + rng.uniform(-25, 25)))) for v in RGB[colour])
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    else:
        pen.polygon([(x, y + size), (x + size, y + size), (x + size / 2, y)], fill=fill)
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def classify(array: np.ndarray) -> tuple[str, str]:
    """Return shape and colour of an image uint8 (H, W, 3): the nearest fill of its bounding box, and the nearest hue.

    The fill is the number of pixels of the foreground over the area of its box.
    """
    coverage = 1 - array.min(2) / 255.0  # of these saturated colours one channel is near 0
    most = np.quantile(coverage, 0.98)
    if most < 0.3:
        return "nothing", "nothing"
    coverage = np.clip(coverage / most, 0, 1)
    inside = coverage > CONTRAST
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    fill = inside.sum() / (height * width)
    r, g, b = array[inside].mean(0) / 255
    hue = colorsys.rgb_to_hsv(r, g, b)[0]
    shape = min(FILL, key=lambda name: abs(FILL[name] - fill))
    return shape, min(HUES, key=lambda name: abs((hue - HUES[name] + 0.5) % 1 - 0.5))


def draw_images(folder: Path, n: int) -> list[tuple[str, str, np.ndarray]]:
    """Write n images and folder.csv; return form, colour and pixels of each."""
    rng, drawn = random.Random(0), []
    folder.mkdir(parents=True)
    with folder.with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "shape", "colour"])
        for i in range(n):
            shape, colour = rng.choice(SHAPES), rng.choice(COLOURS)
            image = draw(shape, colour, rng)
            image.save(folder / f"{i:05}.png")
            table.writerow([f"{i:05}.png", shape, colour])
            drawn.append((shape, colour, np.asarray(image)))
    return drawn


def check(images: list[tuple[str, str, np.ndarray]], title: str) -> float:
    """Print how many images are as they were asked for, by pair; return the fraction of all."""
    found = [(shape, colour, *classify(array)) for shape, colour, array in images]
    print(f"\n{title:18}{'images':>8}{'shape':>8}{'colour':>8}{'both':>8}   taken for")
    for shape, colour in [*itertools.product(SHAPES, COLOURS), ("", "")]:
        some = [row for row in found if row[:2] == (shape, colour) or not shape]
        right = [(row[2] == row[0], row[3] == row[1]) for row in some]
        s, c, both = (sum(map(of, right)) / len(some) for of in (lambda r: r[0], lambda r: r[1], all))
        wrong = sorted({" ".join(row[2:]) for row in some if row[2:] != row[:2]}) if shape else []
        print(f"{f'{shape} {colour}'.strip() or 'all':18}{len(some):8}{s:8.1%}{c:8.1%}{both:8.1%}   {', '.join(wrong)}")
    return both


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    shapes, run = options.folder / "shapes", options.folder / "run"
    if check(draw_images(shapes, options.images), "drawn") < 0.99:
        raise SystemExit("the check itself is wrong")
    words = ["model=cgan", "data=folder", f"data.path={shapes}", f"data.labels={shapes}.csv", "data.size=32"]
    if gan(["train", *words, "data.flip=false", "seed=0", f"run.dir={run}", f"trainer.minutes={options.minutes:g}"]):
        return 1
    asked = []
    for shape, colour in itertools.product(SHAPES, COLOURS):
        out = options.folder / f"{shape}-{colour}.npz"
        gan(["sample", f"ckpt={run}", "n=200", f"labels.shape={shape}", f"labels.colour={colour}", f"out={out}"])
        asked += [(shape, colour, array) for array in np.load(out)["images"]]
    gan(["sample", f"ckpt={run}", "n=72", f"out={options.folder / 'all.png'}"])
    return int(check(asked, "asked for") < 0.95)


if __name__ == "__main__":
    sys.exit(main())
