"""Two unpaired sets of digits where the true counterpart of each is known: does CycleGAN find it?

    python benchmarks/italics.py make italics.npz              # from MNIST, under GAN_DATA
    gan train model=cyclegan data=npz data.path=italics.npz ...
    python benchmarks/italics.py measure RUN italics.npz

Upright are MNIST's digits 0 to 29,999 as they are, italic its digits 30,000 to 59,999, sheared: none is in both. Of the
10,000 test digits both are kept, so that what is made of one can be compared with the other: PSNR in dB of 8 bits, and
the mean absolute error of pixels in [-1, 1], each beside that of doing nothing.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gancli
from gancli.data.sets import mnist
from gancli.images import to_float
from gancli.metrics.fidelity import rgb_psnr

SLANT = 0.4  # columns a row: the upper end of a digit of 20 rows goes 4 columns to the right, the lower 4 to the left


def sheared(images: np.ndarray) -> np.ndarray:
    """uint8 (N, 28, 28), about the middle row, bilinear."""
    affine = (1, SLANT, -SLANT * 13.5, 0, 1, 0)
    pictures = (Image.fromarray(image) for image in images)
    return np.stack([np.asarray(p.transform((28, 28), Image.Transform.AFFINE, affine, 2)) for p in pictures])


def make(file: Path) -> None:
    root = os.environ.get("GAN_DATA", "~/.cache/gan/data")
    train, test = (mnist(root, split=split).images[:, 0].numpy() for split in ("train", "test"))
    half = len(train) // 2
    np.savez_compressed(
        file,
        x_train=np.concatenate([train[:half], sheared(train[half:])]),
        y_train=np.repeat([0, 1], half),
        x_test=np.concatenate([test, sheared(test)]),
        y_test=np.repeat([0, 1], len(test)),
    )
    print(file)


@torch.no_grad()
def measure(run: str, file: Path) -> None:
    images = torch.from_numpy(np.load(file)["x_test"])[:, None]
    upright, italic = (to_float(part) for part in images.chunk(2))
    G = gancli.load(run).network
    for name, way, given, wanted in (("to italic", G.there, upright, italic), ("to upright", G.back, italic, upright)):
        made = torch.cat([way(x.new_zeros(len(x), 0), x) for x in given.split(500)])
        for what, x in (("nothing done", given), ("cyclegan", made)):
            error = (x - wanted).abs().mean()
            print(f"{name:<12}{what:<14}PSNR {rgb_psnr(x, wanted).mean():6.2f} dB  mean |error| {error:.4f}")


if __name__ == "__main__":
    command, *words = sys.argv[1:] or [""]
    if command == "make" and len(words) == 1:
        make(Path(words[0]))
    elif command == "measure" and len(words) == 2:
        measure(words[0], Path(words[1]))
    else:
        sys.exit(__doc__)
