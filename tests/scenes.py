"""Pictures to try commands on, and tiny checkpoints to try them with."""

from pathlib import Path

import numpy as np
from helpers import TINY
from PIL import Image

from gancli.cli import main as cli

# What Pillow may give, and what a picture of it is in the program.
MODES = {
    **{"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
    **{"CMYK": "RGB", "I;16": "I;16"},
}
SIZES = [(1, 1), (7, 13), (100, 37)]


def scene(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Smooth shapes and a little noise, in any of MODES; where there is alpha, clear at the left."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + i) + i) * np.cos(y / (5 - i)) for i in range(3)]
    noisy = np.stack(waves, 2) + rng.normal(0, 8, (height, width, 3))
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((np.asarray(picture.convert("L")).astype(np.uint16) * 257 + x + y).astype(np.uint16))
    if mode.endswith("A"):
        picture.putalpha(Image.fromarray((x * 40).clip(0, 255).astype(np.uint8)))
    return picture.convert("P").convert("PA") if mode == "PA" else picture.convert(mode)


def train(folder: Path, name: str, *words: str) -> Path:
    """The checkpoint of a tiny run of two steps."""
    run = folder / name
    assert cli.main(["train", *TINY, f"run.dir={run}", "trainer.steps=2", *words]) == 0
    return run / "checkpoints" / "last.safetensors"


def here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())
