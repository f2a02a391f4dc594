"""CycleGAN on two unpaired sets of digits whose true counterparts are known.

    python benchmarks/unpaired.py make bold unpaired.npz          # from MNIST, under GAN_DATA; or italic
    gan train experiment=bold-cyclegan run.dir=outputs/bold
    python benchmarks/unpaired.py measure outputs/bold unpaired.npz

The first set is MNIST's digits 0 to 29,999, the second its digits 30,000 to 59,999, changed: none is in both. Bold:
every pixel is the brightest of its 3x3 neighbourhood. Italic: sheared. The 10,000 test digits are in both sets, so that
a translated digit can be compared with its counterpart: PSNR in dB of 8 bits, and mean absolute error of pixels in
[-1, 1], each next to that of the unchanged digit.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

import gancli
from gancli.data.builtin import mnist
from gancli.images import to_float
from gancli.metrics.psnr_ssim import rgb_psnr

SLANT = 0.4  # columns per row: the top of a digit of 20 rows moves 4 columns to the right, the bottom 4 to the left
SHEAR = (1, SLANT, -SLANT * 13.5, 0, 1, 0)  # about the middle row
CHANGES = {
    "bold": lambda image: image.filter(ImageFilter.MaxFilter(3)),
    "italic": lambda image: image.transform((28, 28), Image.Transform.AFFINE, SHEAR, Image.Resampling.BILINEAR),
}


def write_sets(change: str, file: Path) -> None:
    def changed(images: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(CHANGES[change](Image.fromarray(image))) for image in images])

    root = os.environ.get("GAN_DATA", "~/.cache/gan/data")
    train, test = (mnist(root, split=split).images[:, 0].numpy() for split in ("train", "test"))
    half = len(train) // 2
    np.savez_compressed(
        file,
        x_train=np.concatenate([train[:half], changed(train[half:])]),
        y_train=np.repeat([0, 1], half),
        x_test=np.concatenate([test, changed(test)]),
        y_test=np.repeat([0, 1], len(test)),
    )
    print(file)


@torch.no_grad()
def measure(run: str, file: Path) -> None:
    images = torch.from_numpy(np.load(file)["x_test"])[:, None]
    original, changed = (to_float(part) for part in images.chunk(2))
    G = gancli.load(run).network
    for name, network, given, target in (("there", G.there, original, changed), ("back", G.back, changed, original)):
        translated = torch.cat([network(x.new_zeros(len(x), 0), x) for x in given.split(500)])
        for what, x in (("unchanged", given), ("cyclegan", translated)):
            error = (x - target).abs().mean()
            print(f"{name:<8}{what:<14}PSNR {rgb_psnr(x, target).mean():6.2f} dB  mean |error| {error:.4f}")


if __name__ == "__main__":
    command, *words = sys.argv[1:] or [""]
    if command == "make" and len(words) == 2 and words[0] in CHANGES:
        write_sets(words[0], Path(words[1]))
    elif command == "measure" and len(words) == 2:
        measure(words[0], Path(words[1]))
    else:
        sys.exit(__doc__)
