"""Made images beside real ones: scores by features, in training and after it, and the protocol behind them."""

import sys
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from gancli.checkpoint.format import versions
from gancli.evaluation import scores
from gancli.evaluation.image_folder import Pictures
from gancli.evaluation.reference import EvaluationSet, blocks
from gancli.evaluation.result import EXAMPLES, EvaluationResult, examples, finite
from gancli.evaluation.scores import ESTIMATORS, Images, Scores, Viewer, digest, view_of
from gancli.images import to_uint8
from gancli.inference.generator import Generator


class Samples:
    """The first n images of a generator's seed, its classes in turn."""

    def __init__(self, G: Generator, n: int, seed: int):
        self.G, self.count, self.seed, self.channels, self.size = G, n, seed, G.channels, G.size

    def stored(self, bar: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        shown = blocks(torch.arange(self.count), "made images") if bar else repeat(None)
        for (x, labels), _ in zip(self.G.blocks(self.count, self.seed), shown):
            yield to_uint8(finite(x)), labels


class Comparison:
    """Real images as networks see them, and whatever is to be compared with them.

    metrics: names of scores or of networks; without any, all by the network that came along for such images.
    inception: the file of its weights. seed: of what is drawn of either side's features.
    """

    def __init__(
        self,
        real: Images,
        metrics: Sequence[str],
        device: torch.device,
        inception: str = "",
        seed: int = 0,
        bar: bool = False,
    ):
        self.real, self.metrics, self.seed = real, [str(metric) for metric in metrics], seed
        self.wanted = scores.chosen(metrics, real.channels)
        self.networks = [scores.network(name, inception, device) for name in self.wanted]
        self.digest = digest(real)
        self.views = [view_of(see, real, self.digest, seed, bar) for see in self.networks]

    def __call__(self, made: Images, class_names: Sequence[str] = (), bar: bool = False) -> Scores:
        """The scores of made images. class_names: of the classes that these were asked for."""
        viewers = [Viewer(see, made.count, self.seed) for see in self.networks]
        for x, labels in made.stored(bar):
            for viewer in viewers:
                viewer.add(x, labels)
        found = Scores()
        for see, viewer, real in zip(self.networks, viewers, self.views):
            found.add(scores.scores(viewer.view(), real, see, self.wanted[see.name], class_names, self.seed))
        for name in self.metrics:
            if name in scores.MEANINGS and name not in found.values | found.untold:
                found.untold[name] = "the images are of no classes, or of others than the network knows"
        return found

    def protocol(self, made: Images) -> dict[str, Any]:
        """What became of the images of both sides, and how the figures are taken."""
        features = [see.protocol(made.channels, made.size) for see in self.networks]
        theirs = [see.protocol(self.real.channels, self.real.size) for see in self.networks]
        return {
            "features": "; ".join(features),
            **({"features of the real images": "; ".join(theirs)} if theirs != features else {}),
            "made": made.count,
            "real": self.real.count,
            "real images": self.digest[:12],
            "seed": self.seed,
            "estimators": ESTIMATORS,
        }


def of_model(
    G: Generator, weights: str, averaged: bool, held: EvaluationSet, metrics: Sequence[str], inception: str
) -> EvaluationResult:
    """Print the scores of held.n images of G's beside real ones, and the protocol."""
    compare, made = Comparison(held, metrics, G.device, inception, held.seed, bar=True), Samples(G, held.n, held.seed)
    named = {key: value for key, value in held.protocol.items() if key != "n"}
    protocol = {
        "weights": f"{weights}, its classes in turn" if G.classes else weights,
        "averaged": averaged,
        **named,
        **compare.protocol(made),
    }
    same = G.classes and list(held.data.class_names) == G.class_names
    return told(compare(made, G.class_names if same else (), bar=True), protocol, [str(held), weights], made, held)


def of_images(
    made: Pictures, real: Pictures | EvaluationSet, metrics: Sequence[str], inception: str, device: Any
) -> EvaluationResult:
    """Print the scores of somebody's images beside real ones, and the protocol."""
    if made.channels != real.channels:
        kinds = {1: "grey", 3: "in colour"}
        raise ValueError(
            f"{made.word}={made.path} is {kinds[made.channels]} and the real images are {kinds[real.channels]}; type "
            f"channels=1 to compare both in grey, or channels=3 to count grey as the colour that it is"
        )
    compare = Comparison(real, metrics, device, inception, made.seed, bar=True)
    protocol = {"images": str(made), "reference": str(real), **compare.protocol(made)}
    return told(compare(made, bar=True), protocol, [str(made), str(real)], made, real)


def told(found: Scores, protocol: dict[str, Any], lines: list[str], made: Images, real: Images) -> EvaluationResult:
    """Print it all; what could not be told to standard error."""
    print_table(found)
    print(f"made: {protocol['made']:,}, real: {protocol['real']:,}, both as 8 bits; seed {protocol['seed']}")
    print("\n".join([*lines, protocol["features"]]))
    if theirs := protocol.get("features of the real images"):
        print(f"real images: {theirs}")
    print(protocol["estimators"])
    for name, why in found.untold.items():
        print(f"gan: {name} is not told: {why}", file=sys.stderr)
    if not found.values:
        raise ValueError("none of the scores that were asked for could be told: see above")
    figures = {"scores": found.values, "deviations": found.deviations, "real": found.real, "by class": found.details}
    shown = {name: next(iter(side.stored(bar=False)))[0][:EXAMPLES] for name, side in (("made", made), ("real", real))}
    picture = examples(shown) if made.size == real.size else None
    return EvaluationResult(
        {key: value for key, value in figures.items() if value},
        protocol | {"untold": found.untold, "versions": versions()},
        picture,
        ranked=found.values,
    )


def print_table(found: Scores) -> None:
    """A line a score, then a line a class."""
    print(f"{'':<24}{'made':>10}{'':>10}{'real':>10}")
    for name, value in found.values.items():
        spread = f"± {found.deviations[name]:.4f}" if name in found.deviations else ""
        real = f"{found.real[name]:.4f}" if name in found.real else ""
        better = "lower" if scores.lower_is_better(name) else "higher"
        print(f"{name:<24}{value:10.4f}{spread:>10}{real:>10}   {better} is better")
    for name, classes in found.details.items():
        print(f"\n{name} by class")
        print("\n".join(f"  {label:<22}{value:10.4f}" for label, value in classes.items()))
    print()
