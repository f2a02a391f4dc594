"""Features of a set of images by one frozen network: moments of all images, features of a random subset."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gancli.images import Size
from gancli.metrics.feature_extractors import FeatureExtractor
from gancli.metrics.fid import Moments
from gancli.metrics.inception_score import InceptionScore
from gancli.runtime import cache
from gancli.runtime.seeding import derive_seed

MAX_FEATURES = 10_000  # images in the subset; distances between all pairs of more take minutes
SPLITS = 10  # of the Inception score
MIN_IMAGES = 2 * SPLITS  # enough for a covariance, nearest neighbours and every split
CACHE_FORMAT = 3


class Images(Protocol):
    """A set of square images of any length, read in batches."""

    @property
    def channels(self) -> int: ...

    @property
    def size(self) -> Size: ...

    @property
    def count(self) -> int: ...

    def uint8_batches(self, progress: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (N, C, H, H) uint8 and classes (N,), zeros without classes, from the first image on."""


def content_hash(images: Images) -> str:
    """Return the SHA-256 of all pixels and classes."""
    digest = hashlib.sha256(repr((images.count, images.channels, images.size)).encode())
    for x, labels in images.uint8_batches(progress=False):
        digest.update(x.numpy().tobytes() + labels.numpy().tobytes())
    return digest.hexdigest()


def random_images(images: Images, n: int, seed: int) -> Tensor:
    """Return n of the images (n, C, H, W) uint8 in random order, or all if there are fewer."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "random images"))
    chosen = torch.randperm(images.count, generator=generator)[:n]
    is_chosen = torch.zeros(images.count, dtype=torch.bool)
    is_chosen[chosen] = True
    parts, count = [], 0
    for x, _ in images.uint8_batches(progress=False):
        parts.append(x[is_chosen[count : count + len(x)]])
        count += len(x)
    return torch.cat(parts)[chosen.argsort().argsort()]


@dataclass
class FeatureStatistics:
    """Features of n images, from which the metrics are computed."""

    moments: Moments  # of the features of all images
    features: Tensor  # (K, D) of a random subset of at most MAX_FEATURES images
    labels: Tensor  # int64 (K,), the subset's classes
    predicted: Tensor  # int64 (K,), the network's predictions
    inception_score: tuple[float, float]  # mean and standard deviation over SPLITS splits of all images

    def tensors(self) -> dict[str, Tensor]:
        return {
            "n": torch.tensor(self.moments.n),
            "mean": self.moments.mean,
            "scatter": self.moments.scatter,
            "features": self.features,
            "labels": self.labels,
            "predicted": self.predicted,
            "inception_score": torch.tensor(self.inception_score, dtype=torch.float64),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "FeatureStatistics":
        """Rebuild from `tensors()`; raise KeyError if one is missing."""
        mean, deviation = tensors["inception_score"].tolist()
        moments = Moments(int(tensors["n"]), tensors["mean"], tensors["scatter"])
        return cls(moments, tensors["features"], tensors["labels"], tensors["predicted"], (mean, deviation))


class FeatureCollector:
    """Statistics of n images, collected batch by batch; `seed` chooses the subset and the splits."""

    def __init__(self, extractor: FeatureExtractor, n: int, seed: int = 0):
        if n < MIN_IMAGES:
            raise ValueError(f"scores need {MIN_IMAGES} images or more on either side, but there are {n}; type n=10000")
        self.extractor, self.n, self.count = extractor, n, 0
        subset = torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed(seed, "kept")))[:MAX_FEATURES]
        self.in_subset = torch.zeros(n, dtype=torch.bool)
        self.in_subset[subset] = True
        self.moments, self.inception_score = Moments(), InceptionScore(n, SPLITS, seed)
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, images: Tensor, labels: Tensor) -> None:
        features, logits = self.extractor(images)
        self.moments.add(features)
        self.inception_score.add(logits)
        chosen = self.in_subset[self.count : self.count + len(images)]
        self.parts.append((features[chosen], labels[chosen], logits.argmax(1)[chosen]))
        self.count += len(images)

    def statistics(self) -> FeatureStatistics:
        assert self.count == self.n, (self.count, self.n)
        features, labels, predicted = (torch.cat(parts) for parts in zip(*self.parts))
        return FeatureStatistics(self.moments, features, labels, predicted, self.inception_score.score())


def collect(
    extractors: Sequence[FeatureExtractor], images: Images, seed: int = 0, progress: bool = False
) -> list[FeatureStatistics]:
    """Return the statistics of images by each network, in one pass over the images."""
    collectors = [FeatureCollector(extractor, images.count, seed) for extractor in extractors]
    for x, labels in images.uint8_batches(progress):
        for collector in collectors:
            collector.add(x, labels)
    return [collector.statistics() for collector in collectors]


def cached_statistics(
    extractor: FeatureExtractor, images: Images, content: str, seed: int = 0, progress: bool = False
) -> FeatureStatistics:
    """Return the statistics of real images, from the cache where they were collected before.

    The file is named after the images' `content_hash`, the network and the seed, so it never serves other images.
    """
    facts = (CACHE_FORMAT, extractor.name, extractor.hash, content, seed, MAX_FEATURES, SPLITS)
    with contextlib.suppress(KeyError):
        return FeatureStatistics.from_tensors(cache.read_cached("statistics", *facts))
    (statistics,) = collect([extractor], images, seed, progress)
    cache.write_cached(statistics.tensors(), "statistics", *facts)
    return statistics
