"""Recipes for few images next to each other: distance to images that were held out, recall, and copies.

    python benchmarks/few_images.py photos/ --images 300 --size 64 --minutes 30
    python benchmarks/few_images.py cifar10 --images 1000 --minutes 20

Of a folder all other images are held out, of a data set by name the test split. Typed again, it goes on where it was.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from gancli.data.by_name import load_by_name
from gancli.runtime.text import table

RECIPES = {
    "fastgan": ["model=fastgan"],
    "dcgan": ["model=dcgan", "model/augment=none"],
    "dcgan-diffaugment": ["model=dcgan", "model/augment=diffaugment"],
    "r3gan": ["model=r3gan", "model/augment=diffaugment"],
}
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
SCORES = ["kd_cifar", "fd_cifar", "precision_cifar", "recall_cifar", "coverage_cifar", "swd"]


def gan(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "gancli", *words], check=True)


def split_folder(source: Path, images: int, to: Path) -> list[str]:
    """Copy `images` of a folder to train/ and the others to test/, chosen by seed 0; return the words for data=."""
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES)
    random.Random(0).shuffle(files)
    for name, part in (("train", files[:images]), ("test", files[images:])):
        (to / name).mkdir(parents=True, exist_ok=True)
        for file in part:
            shutil.copy(file, to / name)
    return ["data=folder", f"data.path={to}"]


def split_set(name: str, images: int, to: Path) -> list[str]:
    """Write `images` training images of a data set, chosen by seed 0, and its test split; return the words."""
    train, test = (load_by_name(name, None, None, split) for split in ("train", "test"))
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:images]
    arrays = {}
    for split, data, indices in (("train", train, chosen), ("test", test, torch.arange(len(test)))):
        arrays[f"x_{split}"] = data.images[indices].permute(0, 2, 3, 1).numpy()
        arrays[f"y_{split}"] = data.labels[indices].numpy()
    to.mkdir(parents=True, exist_ok=True)
    np.savez(to / "data.npz", **arrays)
    return ["data=npz", f"data.path={to / 'data.npz'}"]


def scores(run: Path, n: int) -> dict[str, float]:
    """Return the scores of a run versus the held-out images, and the fraction of copies of training images."""
    result: dict[str, float] = {}
    for metrics, name in ((SCORES, "scores"), (["copies"], "copies")):
        file = run / f"{name}.json"
        if not file.exists():
            gan("evaluate", f"ckpt={run}", f"n={n}", f"metrics=[{','.join(metrics)}]", f"json={file}")
        result |= json.loads(file.read_text())["scores"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of images, or a data set by name")
    parser.add_argument("--images", type=int, default=300, help="training images")
    parser.add_argument("--size", type=int, default=0, help="pixels of a folder's images")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=Path("outputs/few-images"))
    options = parser.parse_args()
    source = Path(options.data)
    words = (split_folder(source, options.images, options.out / "data")) if source.is_dir() else []
    words = words or split_set(options.data, options.images, options.out / "data")
    words += [f"data.size={options.size}"] if options.size else []
    rows = [["", *SCORES, "copies"]]
    for recipe in options.recipes:
        run = options.out / recipe
        gan("train", *words, *RECIPES[recipe], f"run.dir={run}", f"trainer.minutes={options.minutes:g}")
        found = scores(run, 1000 if source.is_dir() else 10_000)
        rows.append([recipe, *(f"{found[key]:.4g}" if key in found else "" for key in (*SCORES, "copies"))])
        print(table(rows), flush=True)


if __name__ == "__main__":
    main()
