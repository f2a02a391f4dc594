"""Scores of generated images against real ones by the features of a frozen network: FID and its relatives.

Scores by Inception have the names of the literature: fid, kid, is. Scores by a bundled network end in its name, such as
fd_mnist, because their values are on another scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gancli.config import nearest
from gancli.evaluation.features import MAX_FEATURES, SPLITS, FeatureStatistics
from gancli.metrics.feature_extractors import (
    BUNDLED,
    FeatureExtractor,
    bundled_extractor,
    default_extractor,
    inception_extractor,
)
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.kid import kid
from gancli.metrics.precision_recall import density_coverage, precision_recall

SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance
PRECISION_K, DENSITY_K = 3, 5

# In the order of a table; True where lower is better.
METRICS = {
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
LITERATURE_NAMES = {"fd": "fid", "kd": "kid", "score": "is"}
NETWORKS = (*BUNDLED, "inception")
ESTIMATORS = (
    f"kd, precision, recall, density, coverage and classes from at most {MAX_FEATURES:,} random images; "
    f"kd: {SUBSETS} subsets of {SUBSET_SIZE:,}; score: {SPLITS} splits; "
    f"precision and recall k={PRECISION_K}, density and coverage k={DENSITY_K}"
)


# --- names --------------------------------------------------------------------------------------------------------


def score_name(metric: str, network: str) -> str:
    """Return the name of a metric by a network's features: ("fd", "mnist") is fd_mnist, ("fd", "inception") fid."""
    return LITERATURE_NAMES.get(metric, f"{metric}_inception") if network == "inception" else f"{metric}_{network}"


SCORES = {score_name(metric, network): (network, metric) for network in NETWORKS for metric in METRICS}


def lower_is_better(name: str) -> bool:
    """Tell the direction of a score."""
    return METRICS[SCORES[name][1]]


def parse_metrics(names: Sequence[str], channels: int) -> dict[str, list[str]]:
    """Return {network: metrics} for names of scores and of networks, a network standing for all of its metrics.

    Without names, all metrics of the bundled network for images of `channels`. Raise ValueError for unknown names.
    """
    metrics_of: dict[str, list[str]] = {}
    for name in [str(name) for name in names] or [default_extractor(channels)]:
        if name not in NETWORKS and name not in SCORES:
            known = ", ".join([*NETWORKS, *(score_name("fd", network) for network in NETWORKS)])
            raise ValueError(
                f"there is no score {name!r}{nearest(name, [*SCORES, *NETWORKS])}; there are {known} and those that "
                f"gan evaluate --help names"
            )
        network, metrics = (name, list(METRICS)) if name in NETWORKS else (SCORES[name][0], [SCORES[name][1]])
        metrics_of[network] = list(dict.fromkeys([*metrics_of.get(network, []), *metrics]))
    return metrics_of


def get_extractor(name: str, inception: str, device: torch.device | str) -> FeatureExtractor:
    """Return the network of this name; `inception`: file of Inception's weights, or "" to download them."""
    return inception_extractor(inception, device) if name == "inception" else bundled_extractor(name, device)


# --- values -------------------------------------------------------------------------------------------------------


@dataclass
class Scores:
    """Scores by name.

    Attributes:
        values: in the order of METRICS.
        deviations: standard deviation over splits or subsets, of some.
        by_class: {score: {class: value}}.
        real: the real images' own value, where it is not fixed by definition.
        skipped: {score: reason} of those that could not be computed.
    """

    values: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def update(self, other: "Scores") -> None:
        """Add the scores of another network."""
        for name, values in vars(other).items():
            getattr(self, name).update(values)

    def named(self, network: str, metrics: set[str]) -> "Scores":
        """Return scores under their full names, instead of the metrics' names, only of these metrics."""

        def renamed(values: dict[str, Any]) -> dict[str, Any]:
            return {score_name(m, network): values[m] for m in METRICS if m in metrics and m in values}

        return Scores(*(renamed(values) for values in vars(self).values()))


def compute_scores(
    fake: FeatureStatistics,
    real: FeatureStatistics,
    extractor: FeatureExtractor,
    metrics: Sequence[str],
    class_names: Sequence[str] = (),
    seed: int = 0,
) -> Scores:
    """Return the scores of generated images against real ones.

    Args:
        metrics: keys of METRICS.
        class_names: classes that the generated images were conditioned on; without any nothing is computed by class.
        seed: of the kernel distance's subsets.
    """
    wanted, found = {*metrics}, Scores(real={"score": real.inception_score[0]})
    if "fd" in wanted:
        if fake.moments.singular or real.moments.singular:
            wanted.add("kd")
            found.skipped["fd"] = (
                f"{min(fake.n, real.n):,} images are no more than its {extractor.dim:,} features, which biases it "
                f"upwards by an unknown amount; {score_name('kd', extractor.name)} is unbiased for any number of images"
            )
        else:
            found.values["fd"] = frechet(fake.moments, real.moments)
    if "kd" in wanted:
        distance = kid(fake.features, real.features, SUBSETS, SUBSET_SIZE, seed)
        found.values["kd"], found.deviations["kd"] = distance
    found.values["score"], found.deviations["score"] = fake.inception_score
    if wanted & {"precision", "recall"}:
        precision, recall = precision_recall(fake.features, real.features, PRECISION_K)
        found.values |= {"precision": precision, "recall": recall}
    if wanted & {"density", "coverage"}:
        density, coverage = density_coverage(fake.features, real.features, DENSITY_K)
        found.values |= {"density": density, "coverage": coverage}
    if "accuracy" in wanted and class_names and list(class_names) == extractor.class_names:
        found.values["accuracy"], found.by_class["accuracy"] = accuracy(fake, class_names)
        found.real["accuracy"], _ = accuracy(real, class_names)
    if "class_fd" in wanted and class_names:
        distances, too_few = class_frechet(fake, real, class_names)
        if too_few:
            found.skipped["class_fd"] = (
                f"the classes {', '.join(too_few)} have no more images than its {extractor.dim:,} features among "
                f"{len(fake.features):,} generated and {len(real.features):,} real ones; type a larger n="
            )
        else:
            found.values["class_fd"] = sum(distances.values()) / len(distances)
            found.by_class["class_fd"] = distances
    return found.named(extractor.name, wanted)


def accuracy(statistics: FeatureStatistics, class_names: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Return the fraction of images that are classified as their class, in total and by class."""
    correct = (statistics.predicted == statistics.labels).double()
    members = {name: statistics.labels == k for k, name in enumerate(class_names) if (statistics.labels == k).any()}
    return float(correct.mean()), {name: float(correct[chosen].mean()) for name, chosen in members.items()}


def class_frechet(
    fake: FeatureStatistics, real: FeatureStatistics, class_names: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Return the Fréchet distance within each class, and the classes with too few images for one."""
    distances: dict[str, float] = {}
    too_few = []
    for k, name in enumerate(class_names):
        sides = []
        for statistics in (fake, real):
            sides.append(Moments())
            if (statistics.labels == k).any():
                sides[-1].add(statistics.features[statistics.labels == k])
        if any(moments.n < 2 or moments.singular for moments in sides):
            too_few.append(name)
        else:
            distances[name] = frechet(*sides)
    return distances, too_few
