"""Agreement of fd_mnist, the Fréchet distance by a bundled network, with an independent classifier's ranking of models.

    python benchmarks/rank_agreement.py CHECKPOINT_OR_RUN ...
    python benchmarks/rank_agreement.py outputs/*/checkpoints/step-*.safetensors --n 10000 --json ranks.json

Needs MNIST under $GAN_DATA (or --root). For n images of each checkpoint, of seed 0 and the averaged weights:

fd_mnist    Fréchet distance to the 10,000 test digits by the features of the bundled network
kl          KL(classes of the images || classes of the test digits) in nats, by the classifier of tests/classifier.py,
            which is trained first, in about a minute
coverage    fraction of test digits that are the nearest neighbour of some image in pixel space
confidence  mean confidence of the classifier

Then Spearman's rank correlation of fd_mnist with kl, with negated coverage, and with the mean of both ranks. In the
table, but not in the correlation: as many training digits as images, and copies of a hundred of these.
"""

import argparse
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

import gancli
from gancli.checkpoint.format import versions
from gancli.data.builtin import mnist
from gancli.images import to_float, to_uint8
from gancli.inference.generator import BLOCK
from gancli.metrics.feature_extractors import FeatureExtractor, bundled_extractor
from gancli.metrics.fid import Moments, frechet
from gancli.runtime.hardware import describe
from gancli.runtime.text import without_nan

CLASSIFIER = Path(__file__).resolve().parent.parent / "tests" / "classifier.py"
COLUMNS = ("fd_mnist", "kl", "coverage", "confidence")
COPIED = 100  # digits in the set of copies


def import_script(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Measure:
    """COLUMNS of images against real ones, uint8 (N, 1, 28, 28)."""

    def __init__(self, extractor: FeatureExtractor, predict: Callable[[Tensor], Tensor], real: Tensor):
        self.extractor, self.predict = extractor, predict
        self.real, self.moments = to_float(real).flatten(1), Moments()
        self.moments.add(extractor(real)[0])
        self.classes = self.predict(to_float(real)).argmax(1).bincount(minlength=10)

    def __call__(self, blocks: Iterable[Tensor]) -> dict[str, float]:
        """Return COLUMNS of images in blocks (N, 1, 28, 28), rounded to 8 bits as in a file."""
        moments, nearest, probabilities = Moments(), torch.zeros(len(self.real), dtype=torch.bool), []
        for block in blocks:
            images = to_uint8(block)
            x = to_float(images)
            moments.add(self.extractor(images)[0])
            nearest[torch.cdist(x.flatten(1), self.real).argmin(1)] = True
            probabilities.append(self.predict(x))
        confidence, predicted = torch.cat(probabilities).max(1)
        p, q = (count.double() / count.sum() for count in (predicted.bincount(minlength=10), self.classes))
        kl = (p.xlogy(p) - p.xlogy(q)).sum()
        values = (frechet(moments, self.moments), kl, nearest.double().mean(), confidence.double().mean())
        return {name: float(value) for name, value in zip(COLUMNS, values)}


def ranks(values: Iterable[float]) -> Tensor:
    """Return ranks from 1 for the smallest; equal values have the mean of their ranks."""
    x = torch.tensor(list(values), dtype=torch.float64)
    return (x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1).double() + 1) / 2


def spearman(a: Iterable[float], b: Iterable[float]) -> float:
    """Return the correlation of the ranks, -1 to 1; nan if one side is constant."""
    return float(torch.corrcoef(torch.stack([ranks(a), ranks(b)]))[0, 1])


def agreement(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return Spearman's correlation of fd_mnist with other measures for which lower is better."""
    fd, kl = ([row[name] for row in rows] for name in ("fd_mnist", "kl"))
    missed = [-row["coverage"] for row in rows]
    both = (ranks(kl) + ranks(missed)) / 2
    return {"kl": spearman(fd, kl), "-coverage": spearman(fd, missed), "mean rank of both": spearman(fd, both.tolist())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="CHECKPOINT_OR_RUN")
    parser.add_argument("--n", type=int, default=10_000, help="images of each")
    parser.add_argument("--json", type=Path, default=None, help="also write the results to this file")
    parser.add_argument("--root", default=os.environ.get("GAN_DATA", "~/.cache/gan/data"))
    options = parser.parse_args()
    try:
        generators = {path: gancli.load(path) for path in options.paths}  # before the minute of training the classifier
    except ValueError as error:
        parser.error(str(error))
    for path, G in generators.items():
        if (G.channels, G.size) != (1, 28) or not G.z_dim:
            parser.error(f"{path} does not generate grey images of 28x28 pixels from noise")

    module = import_script(CLASSIFIER)
    train, test = (mnist(options.root, split=split) for split in ("train", "test"))
    classifier = module.train_classifier(options.root)
    extractor = bundled_extractor("mnist")
    measure = Measure(extractor, lambda x: module.predict(classifier.network, x), test.images)
    right = f"the classifier is right on {classifier.accuracy:.2%} of the test digits"
    print(f"{extractor.protocol(1, 28)}; {right}; {options.n:,} images each")

    width = max(map(len, [*options.paths, "training digits"]))
    print(" " * width + "".join(f"{name:>12}" for name in COLUMNS))

    def row(name: str, blocks: Iterable[Tensor]) -> dict[str, float]:
        values = measure(blocks)
        print(f"{name:<{width}}" + "".join(f"{values[column]:12.4f}" for column in COLUMNS), flush=True)
        return values

    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: options.n]
    again = chosen[torch.arange(options.n) % COPIED]
    anchors = {
        name: row(name, train.images[indices].split(BLOCK))
        for name, indices in (("training digits", chosen), (f"{COPIED} of them", again))
    }
    rows = {path: row(path, (x for x, _ in G.blocks(options.n, seed=0))) for path, G in generators.items()}
    rho = agreement(list(rows.values())) if len(rows) > 1 else {}
    for name, value in rho.items():
        print(f"Spearman's rho of fd_mnist and {name}, of {len(rows)} checkpoints: {value:.3f}")
    if options.json:
        content = {
            "n": options.n,
            "classifier_accuracy": classifier.accuracy,
            "anchors": anchors,
            "checkpoints": rows,
            "rho": rho,
            "protocol": extractor.protocol(1, 28),
            "command": shlex.join(["python", *sys.argv]),
            "machine": describe(torch.device("cpu")),
            "versions": versions(),
        }
        options.json.write_text(json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
