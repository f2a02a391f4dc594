"""How many planted copies of training images `gan evaluate metrics=[copies]` finds, and its false alarms.

    python benchmarks/copies.py mnist cifar10 photos/ --images 3000

Of each data set four fifths of so many images are training images. A hundred of them are changed and searched again,
and so are the other images, which were not trained on.
"""

import argparse
import time

import torch
from torch import Tensor
from torch.nn.functional import pad

from gancli.data.by_name import load_by_name
from gancli.images import to_float
from gancli.metrics.copies import CopyDetector
from gancli.metrics.feature_extractors import bundled_extractor, default_extractor
from gancli.runtime.text import table

PLANTED, OTHERS = 100, 300
SIDE = 64  # of the images of a folder


def moved(x: Tensor, right: int, down: int) -> Tensor:
    """Return images moved by a few pixels, their edges repeated."""
    by = max(abs(right), abs(down))
    height, width = x.shape[2:]
    return pad(x, (by, by, by, by), mode="replicate")[:, :, by - down :, by - right :][:, :, :height, :width]


def recoloured(x: Tensor) -> Tensor:
    """Return images with a little less contrast, brighter, and for colours a little bluer."""
    tint = torch.tensor([0.9, 1.05, 1.1])[: x.shape[1]].view(-1, 1, 1)
    return 0.85 * x * tint + 0.1


CHANGES = {
    "as they are": lambda x: x,
    "mirrored": lambda x: x.flip(3),
    "moved by 3 pixels": lambda x: moved(x, 3, -3),
    "recoloured": recoloured,
    "mirrored, moved by 3 and 2, recoloured": lambda x: recoloured(moved(x.flip(3), 3, 2)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="names as of gan train data=, or folders")
    parser.add_argument("--images", type=int, default=3000)
    options = parser.parse_args()
    rows = [["data", "training images", *CHANGES, "other images", "threshold", "seconds"]]
    for name in options.data:
        size = SIDE if "/" in name else None
        data = load_by_name(name, size, None, "train")
        chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: options.images]
        images = to_float(data.take(chosen))
        training, others = images.split([len(images) * 4 // 5, len(images) - len(images) * 4 // 5])
        begin = time.perf_counter()
        detector = CopyDetector(training, bundled_extractor(default_extractor(data.channels)))
        found = [detector(change(training[:PLANTED])).fraction for change in CHANGES.values()]
        found.append(detector(others[:OTHERS]).fraction)
        seconds = f"{time.perf_counter() - begin:.0f}"
        counts = [f"{100 * fraction:.1f} %" for fraction in found]
        rows.append([name, f"{len(training):,}", *counts, f"{detector.threshold:.3f}", seconds])
    print(table(rows, markdown=True))


if __name__ == "__main__":
    main()
