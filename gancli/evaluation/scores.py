"""Scores of made images beside real ones, by what a frozen network sees of both: FID and its kin, and what they are of.

    viewer = Viewer(extractor("mnist"), n=10_000)
    for images in blocks:                     # nothing is kept of them but moments, and features of some
        viewer.add(images)
    scores(viewer.view(), real, see)          # {"fd_mnist": 4.2, "precision_mnist": 0.71, ...}

The figures of the literature's network, Inception, have the literature's names, fid, kid and is; those of our own
networks have the network in theirs, for they are other numbers.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from gancli.config import nearest
from gancli.metrics.feature_extractors import BUNDLED, FeatureExtractor, extractor, for_images, inception
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import kid
from gancli.metrics.precision_recall import density_coverage, precision_recall
from gancli.runtime import cache
from gancli.runtime.seeding import derive_seed

KEPT = 10_000  # images, drawn at random, whose features are kept: distances between all pairs of more take minutes
SPLITS = 10
SUBSETS, SUBSET = 100, 1000
PRECISION_K, DENSITY_K = 3, 5
FEWEST = 2 * SPLITS  # a covariance, a nearest neighbour and every split have something
FORM = 1  # of a file in it, and of what is counted

# What is measured, in the order of a table, and of each whether less of it is better.
FIGURES = {
    "fd": True,
    "kd": True,
    "score": False,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "accuracy": False,
    "class_fd": True,
}
LITERATURE = {"fd": "fid", "kd": "kid", "score": "is"}
NETWORKS = (*BUNDLED, "inception")
ESTIMATORS = (
    f"kd, precision, recall, density, coverage and classes of {KEPT:,} drawn at most; kd: {SUBSETS} subsets of "
    f"{SUBSET:,}; score: {SPLITS} splits; precision and recall k={PRECISION_K}, density and coverage k={DENSITY_K}"
)


class Images(Protocol):
    """Images in a form that scores can be made of, however many: gone through block by block."""

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> int:
        """Pixels a side."""

    @property
    def count(self) -> int: ...

    def stored(self, bar: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 (N, C, H, H) and classes (N,), zeros where there are none, from the beginning; with a bar if wanted."""


def digest(images: Images) -> str:
    """64 hexadecimal digits that change with every pixel and class."""
    found = hashlib.sha256(repr((images.count, images.channels, images.size)).encode())
    for x, labels in images.stored(bar=False):
        found.update(x.numpy().tobytes() + labels.numpy().tobytes())
    return found.hexdigest()


# --- names --------------------------------------------------------------------------------------------------------


def called(figure: str, network: str) -> str:
    """How a figure by a network is called."""
    return LITERATURE.get(figure, f"{figure}_inception") if network == "inception" else f"{figure}_{network}"


MEANINGS = {called(figure, network): (network, figure) for network in NETWORKS for figure in FIGURES}


def lower_is_better(name: str) -> bool:
    """Of a score by name."""
    return FIGURES[MEANINGS[name][1]]


def chosen(metrics: Sequence[str], channels: int) -> dict[str, list[str]]:
    """The figures that are asked for, by network. metrics: names of scores, or of networks for all of theirs.

    Without any, all by the network that came along for images of so many channels. ValueError for other names.
    """
    found: dict[str, list[str]] = {}
    for word in [str(metric) for metric in metrics] or [for_images(channels)]:
        if word not in NETWORKS and word not in MEANINGS:
            names = ", ".join([*NETWORKS, *(called("fd", network) for network in NETWORKS)])
            raise ValueError(
                f"there is no score {word!r}{nearest(word, [*MEANINGS, *NETWORKS])}; there are {names} and those that "
                f"gan evaluate --help names"
            )
        network, figures = (word, list(FIGURES)) if word in NETWORKS else (MEANINGS[word][0], [MEANINGS[word][1]])
        found[network] = list(dict.fromkeys([*found.get(network, []), *figures]))
    return found


def network(name: str, weights: str, device: torch.device | str) -> FeatureExtractor:
    """The network of this name. weights: Inception's file, "" for where torch keeps downloads."""
    return inception(weights, device) if name == "inception" else extractor(name, device)


# --- looking at images --------------------------------------------------------------------------------------------


@dataclass
class View:
    """What a network has seen of n images: the moments of all, and features, classes and finds of those kept.

    features: (K, D). labels: int64 (K,), the classes that they have. found: int64 (K,), the network's own opinion.
    score: the classifier score and its standard deviation over the splits.
    """

    n: int
    moments: Moments
    features: Tensor
    labels: Tensor
    found: Tensor
    score: tuple[float, float]


class Viewer:
    """A view of n images as they come, block by block. seed: of which features are kept, and of the splits."""

    def __init__(self, see: FeatureExtractor, n: int, seed: int = 0):
        if n < FEWEST:
            raise ValueError(f"scores need {FEWEST} images or more on either side, but there are {n}; type n=10000")
        self.see, self.n, self.seen = see, n, 0
        # The first would not do: a folder's pictures come sorted, and often by class.
        kept = torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed(seed, "kept")))[:KEPT]
        self.kept = torch.zeros(n, dtype=torch.bool)
        self.kept[kept] = True
        self.moments, self.score = Moments(), InceptionScore(n, SPLITS, seed)
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, images: Tensor, labels: Tensor) -> None:
        """images: (N, C, H, H), uint8 or float in [-1, 1]; labels: int64 (N,)."""
        features, logits = self.see(images)
        self.moments.add(features)
        self.score.add(logits)
        kept = self.kept[self.seen : self.seen + len(images)]
        self.parts.append((features[kept], labels[kept], logits.argmax(1)[kept]))
        self.seen += len(images)

    def view(self) -> View:
        """Once all n have come."""
        assert self.seen == self.n, (self.seen, self.n)
        features, labels, found = (torch.cat(parts) for parts in zip(*self.parts))
        return View(self.n, self.moments, features, labels, found, self.score.score())


def view_of(see: FeatureExtractor, images: Images, name: str, seed: int = 0, bar: bool = False) -> View:
    """What `see` sees of images that stay as they are, the real ones: once, and then from a file of ours.

    name: their `digest`. It, the network and the seed name the file, so nothing of another set is ever taken.
    """
    file = cache.cache_path("statistics", FORM, see.name, see.hash, name, seed, KEPT, SPLITS)
    with contextlib.suppress(KeyError):
        return unpacked(cache.read_cached(file))
    viewer = Viewer(see, images.count, seed)
    for x, labels in images.stored(bar):
        viewer.add(x, labels)
    view = viewer.view()
    cache.write_cached(file, packed(view))
    return view


def packed(view: View) -> dict[str, Tensor]:
    """A view as tensors by name."""
    return {
        "n": torch.tensor(view.n),
        "mean": view.moments.mean,
        "scatter": view.moments.scatter,
        "features": view.features,
        "labels": view.labels,
        "found": view.found,
        "score": torch.tensor(view.score, dtype=torch.float64),
    }


def unpacked(held: dict[str, Tensor]) -> View:
    """The view of `packed`. KeyError where something is missing."""
    n, score = int(held["n"]), (float(held["score"][0]), float(held["score"][1]))
    moments = Moments(n, held["mean"], held["scatter"])
    return View(n, moments, held["features"], held["labels"], held["found"], score)


# --- scores -------------------------------------------------------------------------------------------------------


@dataclass
class Scores:
    """values: by name, in the order of FIGURES. deviations: of some, over splits or subsets. details: by class.

    real: what real images themselves have, where that is no matter of definition. untold: why a score is not there.
    """

    values: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    details: dict[str, dict[str, float]] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Scores") -> None:
        """Those of another network too."""
        for name, found in vars(other).items():
            getattr(self, name).update(found)


def scores(
    made: View,
    real: View,
    see: FeatureExtractor,
    figures: Sequence[str],
    class_names: Sequence[str] = (),
    seed: int = 0,
) -> Scores:
    """The figures of made images beside real ones.

    class_names: of the classes that made images were asked for, in their order; without any nothing is told by class.
    seed: of the subsets.
    """
    wanted = {*figures}
    values: dict[str, float] = {}
    deviations: dict[str, float] = {}
    details: dict[str, dict[str, float]] = {}
    of_real: dict[str, float] = {"score": real.score[0]}
    untold: dict[str, str] = {}
    if "fd" in wanted:
        if made.moments.singular or real.moments.singular:
            wanted.add("kd")
            untold["fd"] = (
                f"{min(made.n, real.n):,} images are no more than its {see.dim:,} features, so it would read high by "
                f"nobody knows how much; {called('kd', see.name)} is right on average for any number"
            )
        else:
            values["fd"] = frechet(made.moments, real.moments)
    if "kd" in wanted:
        values["kd"], deviations["kd"] = kid(made.features, real.features, SUBSETS, SUBSET, seed)
    values["score"], deviations["score"] = made.score
    if wanted & {"precision", "recall"}:
        values["precision"], values["recall"] = precision_recall(made.features, real.features, PRECISION_K)
    if wanted & {"density", "coverage"}:
        values["density"], values["coverage"] = density_coverage(made.features, real.features, DENSITY_K)
    if "accuracy" in wanted and class_names and list(class_names) == see.class_names:
        values["accuracy"], details["accuracy"] = accuracy(made, class_names)
        of_real["accuracy"], _ = accuracy(real, class_names)
    if "class_fd" in wanted and class_names:
        apart, few = within_classes(made, real, class_names)
        if few:
            untold["class_fd"] = (
                f"of the classes {', '.join(few)} there are no more images than its {see.dim:,} features among the "
                f"{len(made.features):,} made and {len(real.features):,} real ones kept; type a larger n="
            )
        else:
            values["class_fd"], details["class_fd"] = sum(apart.values()) / len(apart), apart

    def named(found: dict[str, Any]) -> dict[str, Any]:
        return {called(figure, see.name): found[figure] for figure in FIGURES if figure in wanted and figure in found}

    return Scores(named(values), named(deviations), named(details), named(of_real), named(untold))


def accuracy(view: View, class_names: Sequence[str]) -> tuple[float, dict[str, float]]:
    """The share of images whose class the network finds, and of each class that is there."""
    right = (view.found == view.labels).double()
    there = {name: view.labels == k for k, name in enumerate(class_names) if (view.labels == k).any()}
    return float(right.mean()), {name: float(right[chosen].mean()) for name, chosen in there.items()}


def within_classes(made: View, real: View, class_names: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """The Fréchet distance within each class, and the classes of which there are too few images for one."""
    apart: dict[str, float] = {}
    few = []
    for k, name in enumerate(class_names):
        moments = []
        for view in (made, real):
            moments.append(Moments())
            if (view.labels == k).any():
                moments[-1].add(view.features[view.labels == k])
        if any(m.n < 2 or m.singular for m in moments):
            few.append(name)
        else:
            apart[name] = frechet(*moments)
    return apart, few
