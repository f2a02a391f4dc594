"""Scores of generated images against real ones by the features of a frozen network: FID and its relatives.

Scores by Inception have the names of the literature: fid, kid, is. Scores by a bundled network end in its name, such as
fd_mnist, because their values are on another scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gancli.config import nearest
from gancli.evaluation.features import MAX_FEATURES, SPLITS, FeatureStatistics
from gancli.metrics.feature_extractors import BUNDLED, FeatureExtractor, default_extractor
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.kid import kid, subsets_of
from gancli.metrics.precision_recall import overlap
from gancli.metrics.sliced_wasserstein import patch_distances
from gancli.metrics.term import score_name
from gancli.runtime.text import plural

SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance
PRECISION_K, DENSITY_K = 3, 5
OVERLAP = ("precision", "recall", "density", "coverage")  # computed together
SWD, SWD_IMAGES = "swd", 2000  # the patches' sliced Wasserstein distance, and the images on either side as in its paper

METRICS = ("fd", "kd", "score", *OVERLAP, "accuracy", "class_fd")
NETWORKS = (*BUNDLED, "inception")
SCORES = {score_name(metric, network): (network, metric) for network in NETWORKS for metric in METRICS}


def estimators(fake: int, real: int, metrics: Sequence[str]) -> str:
    """Return how the scores of this many generated and real images are computed."""
    patches = f"swd: 16 patches of 7x7 at each size of {min(SWD_IMAGES, real // 2, fake):,} images on either side"
    if {*metrics} == {SWD}:
        return patches
    subsets, size = subsets_of(min(fake, MAX_FEATURES), min(real, MAX_FEATURES), SUBSETS, SUBSET_SIZE)
    return (
        f"kd, precision, recall, density, coverage and classes from at most {MAX_FEATURES:,} random images; "
        f"kd: {plural(subsets, 'subset')} of {size:,}; score: {SPLITS} splits; "
        f"precision and recall k={PRECISION_K}, density and coverage k={DENSITY_K}"
        f"{'; ' + patches if SWD in metrics else ''}"
    )


def parse_metrics(names: Sequence[str], channels: int) -> dict[str, list[str]]:
    """Return {network: metrics} for names of scores and of networks, a network standing for all of its metrics.

    Without names, all metrics of the bundled network for images of `channels`. Raise ValueError for unknown names.
    `swd` needs no network.
    """
    metrics_of: dict[str, list[str]] = {}
    for name in [str(name) for name in names if name != SWD] if names else [default_extractor(channels)]:
        if name not in NETWORKS and name not in SCORES:
            known = ", ".join([*NETWORKS, SWD, *(score_name("fd", network) for network in NETWORKS)])
            raise ValueError(
                f"there is no score {name!r}{nearest(name, [*SCORES, *NETWORKS, SWD])}; there are {known} and those "
                f"that gan evaluate --help names"
            )
        network, metrics = (name, list(METRICS)) if name in NETWORKS else (SCORES[name][0], [SCORES[name][1]])
        metrics_of[network] = list(dict.fromkeys([*metrics_of.get(network, []), *metrics]))
    return metrics_of


@dataclass
class Scores:
    """Scores by name, in the order of METRICS."""

    values: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)  # standard ones over splits or subsets, of some scores
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)  # the real images' own value, where it is not fixed
    skipped: dict[str, str] = field(default_factory=dict)  # reasons why scores could not be computed

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
    wanted, scores = {*metrics}, Scores(real={"score": real.inception_score[0]})
    if "fd" in wanted:
        if fake.moments.singular or real.moments.singular:
            wanted.add("kd")
            scores.skipped["fd"] = (
                f"{min(fake.moments.n, real.moments.n):,} images are no more than its {extractor.dim:,} features, "
                f"which biases it upwards by an unknown amount; {score_name('kd', extractor.name)} is unbiased for any "
                f"number of images"
            )
        else:
            scores.values["fd"] = frechet(fake.moments, real.moments)
    if "kd" in wanted:
        distance = kid(fake.features, real.features, SUBSETS, SUBSET_SIZE, seed)
        scores.values["kd"], scores.deviations["kd"] = distance
    scores.values["score"], scores.deviations["score"] = fake.inception_score
    if wanted & {*OVERLAP}:
        scores.values |= dict(zip(OVERLAP, overlap(fake.features, real.features, PRECISION_K, DENSITY_K)))
    if "accuracy" in wanted and class_names and list(class_names) == extractor.class_names:
        scores.values["accuracy"], scores.by_class["accuracy"] = accuracy(fake, class_names)
        scores.real["accuracy"], _ = accuracy(real, class_names)
    if "class_fd" in wanted and class_names:
        distances, too_few = class_frechet(fake, real, class_names)
        if too_few:
            scores.skipped["class_fd"] = (
                f"the classes {', '.join(too_few)} have no more images than its {extractor.dim:,} features among "
                f"{len(fake.features):,} generated and {len(real.features):,} real ones; type a larger n="
            )
        else:
            scores.values["class_fd"] = sum(distances.values()) / len(distances)
            scores.by_class["class_fd"] = distances
    return scores.named(extractor.name, wanted)


def patch_scores(fake: Tensor, real: Tensor, seed: int = 0) -> Scores:
    """Return the distance of patches at each size and their mean, next to that of other real images: the floor.

    Half of the real images is compared with both, so that each side has as many. Images are uint8 (N, C, H, W).
    """
    n = min(len(fake), len(real) // 2)
    scores = Scores()
    for values, images in ((scores.values, fake[:n]), (scores.real, real[n : 2 * n])):
        distances = patch_distances(images, real[:n], seed=seed)
        values |= {SWD: sum(distances.values()) / len(distances)}
        values |= {f"{SWD}_{level}": distance for level, distance in distances.items()}
    return scores


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
