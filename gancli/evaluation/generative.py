"""Generators of images from noise, and folders of generated images: scores by features against real images."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gancli.checkpoint.format import versions
from gancli.evaluation.features import Images, cached_statistics, collect, content_hash, random_images
from gancli.evaluation.image_folder import ImageFolder
from gancli.evaluation.reference import EvaluationSet, batched
from gancli.evaluation.result import EXAMPLES, EvaluationResult, examples, finite
from gancli.evaluation.scores import (
    SCORES,
    SWD,
    SWD_IMAGES,
    Scores,
    compute_scores,
    estimators,
    parse_metrics,
    patch_scores,
)
from gancli.images import to_uint8
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import bundled_extractor, inception_extractor
from gancli.metrics.terms import higher_is_better
from gancli.runtime.text import table


class GeneratedImages:
    """The first n images of a generator for a seed, cycling through its classes."""

    def __init__(self, G: Generator, n: int, seed: int):
        self.G, self.count, self.seed, self.channels, self.size = G, n, seed, G.channels, G.size

    def first(self, n: int) -> "GeneratedImages":
        return GeneratedImages(self.G, min(n, self.count), self.seed)

    def uint8_batches(self, progress: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        steps = batched(torch.arange(self.count), "generated images" if progress else "")
        for (x, labels), _ in zip(self.G.blocks(self.count, self.seed), steps):
            yield to_uint8(finite(x)), labels


class Comparison:
    """Statistics of real images, ready to score any number of sets of generated images.

    `metrics` names scores or networks. Without any, all metrics of the bundled network for such images are computed.
    """

    def __init__(
        self,
        real: Images,
        metrics: Sequence[str],
        device: torch.device,
        inception: str = "",
        seed: int = 0,
        progress: bool = False,
    ):
        self.real, self.metrics, self.seed = real, [str(metric) for metric in metrics], seed
        self.metrics_of = parse_metrics(metrics, real.channels)
        self.extractors = [
            inception_extractor(inception, device) if name == "inception" else bundled_extractor(name, device)
            for name in self.metrics_of
        ]
        self.content = content_hash(real)
        self.statistics = [cached_statistics(e, real, self.content, seed, progress) for e in self.extractors]
        self.examples = random_images(real, 2 * SWD_IMAGES, seed) if SWD in self.metrics else None

    def __call__(self, fake: Images, class_names: Sequence[str] = (), progress: bool = False) -> Scores:
        """Return the scores of generated images; `class_names`: classes they were conditioned on."""
        scores = Scores()
        statistics = collect(self.extractors, fake, self.seed, progress)
        for extractor, ours, theirs in zip(self.extractors, statistics, self.statistics):
            metrics = self.metrics_of[extractor.name]
            scores.update(compute_scores(ours, theirs, extractor, metrics, class_names, self.seed))
        if self.examples is not None:
            few = fake.first(SWD_IMAGES) if isinstance(fake, GeneratedImages) else fake  # not all of them again
            scores.update(patch_scores(random_images(few, SWD_IMAGES, self.seed), self.examples, self.seed))
        for name in self.metrics:
            if name in SCORES and name not in scores.values | scores.skipped:
                scores.skipped[name] = "the images have no classes, or classes that the network does not know"
        return scores

    def protocol(self, fake: Images) -> dict[str, Any]:
        """Return the preprocessing of both sides and the estimators."""
        features = [e.protocol(fake.channels, fake.size) for e in self.extractors]
        of_real = [e.protocol(self.real.channels, self.real.size) for e in self.extractors]
        return {
            "features": "; ".join(features),
            **({"features of real images": "; ".join(of_real)} if of_real != features else {}),
            "generated": fake.count,
            "real": self.real.count,
            "real images": self.content[:12],
            "seed": self.seed,
            "estimators": estimators(fake.count, self.real.count, self.metrics),
        }


def evaluate_generator(
    G: Generator, weights: str, ema: bool, reference: EvaluationSet, metrics: Sequence[str], inception: str
) -> EvaluationResult:
    """Score as many generated images as `reference.n` against the evaluation set; `ema`: G has averaged weights."""
    compare = Comparison(reference, metrics, G.device, inception, reference.seed, progress=True)
    fake = GeneratedImages(G, reference.n, reference.seed)
    facts = {key: value for key, value in reference.protocol.items() if key != "n"}
    described = f"{weights}, classes in turn" if G.classes else weights
    protocol = {"weights": described, "averaged": ema, **facts, **compare.protocol(fake)}
    same_classes = G.classes and list(reference.data.class_names) == G.class_names
    scores = compare(fake, G.class_names if same_classes else (), progress=True)
    return _result(scores, protocol, [str(reference), weights], fake, reference)


def evaluate_images(
    fake: ImageFolder | EvaluationSet,
    real: ImageFolder | EvaluationSet,
    metrics: Sequence[str],
    inception: str,
    device: Any,
) -> EvaluationResult:
    """Score generated images against real ones."""
    if fake.channels != real.channels:
        modes = {1: "grey", 3: "in colour"}
        name = f"{fake.key}={fake.path}" if isinstance(fake, ImageFolder) else fake.name
        raise ValueError(
            f"{name} is {modes[fake.channels]} and the real images are {modes[real.channels]}; type "
            f"channels=1 to compare both in grey, or channels=3 to repeat grey in all three channels"
        )
    compare = Comparison(real, metrics, device, inception, fake.seed, progress=True)
    protocol = {"images": str(fake), "reference": str(real), **compare.protocol(fake)}
    return _result(compare(fake, progress=True), protocol, [str(fake), str(real)], fake, real)


def _result(
    scores: Scores, protocol: dict[str, Any], sources: list[str], fake: Images, real: Images
) -> EvaluationResult:
    warnings = [f"{name} was not computed: {reason}" for name, reason in scores.skipped.items()]
    if not scores.values:
        raise ValueError("; ".join(warnings))
    parts = {"scores": scores.values, "deviations": scores.deviations, "real": scores.real, "by class": scores.by_class}
    first = {
        name: next(iter(side.uint8_batches(progress=False)))[0][:EXAMPLES]
        for name, side in (("generated", fake), ("real", real))
    }
    return EvaluationResult(
        {key: value for key, value in parts.items() if value},
        protocol | {"skipped": scores.skipped, "versions": versions()},
        scores.values,
        _text(scores, protocol, sources),
        examples(first) if fake.size == real.size else None,
        warnings,
    )


def _text(scores: Scores, protocol: dict[str, Any], sources: list[str]) -> str:
    rows = [["", "generated", "", "real", ""]]
    for name, value in scores.values.items():
        spread = f"± {scores.deviations[name]:.4f}" if name in scores.deviations else ""
        real = f"{scores.real[name]:.4f}" if name in scores.real else ""
        rows.append(
            [name, f"{value:.4f}", spread, real, f"{'higher' if higher_is_better(name) else 'lower'} is better"]
        )
    lines = [table(rows), ""]
    for name, classes in scores.by_class.items():
        lines += [table([[f"{name} by class", ""], *([label, f"{x:.4f}"] for label, x in classes.items())]), ""]
    lines += [f"{protocol['generated']:,} generated, {protocol['real']:,} real, as 8 bits; seed {protocol['seed']}"]
    lines += [*sources, *filter(None, [protocol["features"]])]
    if of_real := protocol.get("features of real images"):
        lines += [f"real images: {of_real}"]
    return "\n".join([*lines, protocol["estimators"]])
