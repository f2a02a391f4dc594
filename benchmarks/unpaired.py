"""Two unpaired sets of digits where the true counterpart of each is known: does CycleGAN find it?

    python benchmarks/unpaired.py make bold unpaired.npz          # from MNIST, under GAN_DATA; or italic
    gan train experiment=bold-cyclegan run.dir=outputs/bold
    python benchmarks/unpaired.py measure outputs/bold unpaired.npz

The first set are MNIST's digits 0 to 29,999 as they are, the second its digits 30,000 to 59,999, changed: none is in
both. Bold: every pixel as white as the whitest of the nine around it. Italic: sheared. Of the 10,000 test digits both
are kept, so that what is made of one can be compared with the other: PSNR in dB of 8 bits, and the mean absolute error
of pixels in [-1, 1], each beside that of doing nothing.
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

SLANT = 0.4  # columns a row: the upper end of a digit of 20 rows goes 4 columns to the right, the lower 4 to the left
SHEAR = (1, SLANT, -SLANT * 13.5, 0, 1, 0)  # about the middle row
CHANGES = {
    "bold": lambda picture: picture.filter(ImageFilter.MaxFilter(3)),
    "italic": lambda picture: picture.transform((28, 28), Image.Transform.AFFINE, SHEAR, Image.Resampling.BILINEAR),
}


def make(change: str, file: Path) -> None:
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
    plain, changed = (to_float(part) for part in images.chunk(2))
    G = gancli.load(run).network
    for name, way, given, wanted in (("there", G.there, plain, changed), ("back", G.back, changed, plain)):
        made = torch.cat([way(x.new_zeros(len(x), 0), x) for x in given.split(500)])
        for what, x in (("nothing done", given), ("cyclegan", made)):
            error = (x - wanted).abs().mean()
            print(f"{name:<8}{what:<14}PSNR {rgb_psnr(x, wanted).mean():6.2f} dB  mean |error| {error:.4f}")


if __name__ == "__main__":
    command, *words = sys.argv[1:] or [""]
    if command == "make" and len(words) == 2 and words[0] in CHANGES:
        make(words[0], Path(words[1]))
    elif command == "measure" and len(words) == 2:
        measure(words[0], Path(words[1]))
    else:
        sys.exit(__doc__)
