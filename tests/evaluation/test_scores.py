"""Feature statistics and scores: names, the subset, the cache, and values against the metrics' own functions."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gancli.evaluation import features, scores
from gancli.evaluation.features import FeatureCollector, FeatureStatistics, cached_statistics, collect, content_hash
from gancli.evaluation.scores import METRICS, compute_scores, parse_metrics, score_name
from gancli.metrics.feature_extractors import FeatureExtractor
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import kid
from gancli.metrics.precision_recall import density_coverage, precision_recall
from gancli.metrics.terms import higher_is_better
from gancli.runtime import cache

CLASSES = ["one", "two", "three"]


class StoredImages:
    def __init__(self, images: Tensor, labels: Tensor | None = None):
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
        self.channels, self.size, self.count = images.shape[1], images.shape[2], len(images)

    def uint8_batches(self, progress: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.images.split(64), self.labels.split(64))


def noise(n: int, seed: int) -> Tensor:
    return torch.randint(256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def forward(x: Tensor) -> tuple[Tensor, Tensor]:
    """Features are the pixels of the left half, logits sums of columns."""
    pixels = x.double() / 255
    return pixels[:, 0, :, :2].flatten(1).float(), pixels[:, 0].sum(1)[:, :3].float()


@pytest.fixture
def extractor() -> FeatureExtractor:
    return FeatureExtractor("mnist", "abc", 8, 1, 4, forward, torch.device("cpu"), CLASSES)


def statistics(
    extractor: FeatureExtractor, images: Tensor, labels: Tensor | None = None, seed: int = 0
) -> FeatureStatistics:
    return collect([extractor], StoredImages(images, labels), seed)[0]


def moments(x: Tensor) -> Moments:
    result = Moments()
    result.add(x)
    return result


def test_scores_are_named_after_their_network():
    names = [score_name(metric, "inception") for metric in ("fd", "kd", "score", "recall")]
    assert names == ["fid", "kid", "is", "recall_inception"]
    assert score_name("fd", "mnist") == "fd_mnist" and score_name("score", "cifar") == "score_cifar"
    assert len(scores.SCORES) == 3 * len(METRICS), "all names differ"
    lower = {name for name in scores.SCORES if not higher_is_better(name)}
    assert lower == {name for name, (_, metric) in scores.SCORES.items() if metric in ("fd", "kd", "class_fd")}


def test_metrics_are_parsed_by_network():
    assert parse_metrics([], 1) == {"mnist": list(METRICS)} and parse_metrics([], 3) == {"cifar": list(METRICS)}
    assert parse_metrics(["fid", "kid", "recall_mnist", "fid"], 3) == {"inception": ["fd", "kd"], "mnist": ["recall"]}
    assert parse_metrics(["recall_cifar", "cifar"], 3)["cifar"][0] == "recall"
    assert parse_metrics(["swd"], 3) == {} and parse_metrics(["swd", "fd_cifar"], 3) == {"cifar": ["fd"]}
    with pytest.raises(ValueError, match="no score 'fdi'; did you mean fid"):
        parse_metrics(["fdi"], 3)


def test_every_score_equals_its_metric(extractor):
    a, b = noise(300, 0), noise(200, 1)
    real = statistics(extractor, b, seed=3)
    result = compute_scores(statistics(extractor, a, seed=3), real, extractor, list(METRICS), seed=3)
    (x, logits), (y, _) = forward(a), forward(b)
    inception_score = InceptionScore(300, features.SPLITS, 3)
    inception_score.add(logits)
    precision, recall = precision_recall(x, y)
    density, coverage = density_coverage(x, y)
    expected = {
        "fd_mnist": frechet(moments(x), moments(y)),
        "kd_mnist": kid(x, y, seed=3)[0],
        "score_mnist": inception_score.score()[0],
        "precision_mnist": precision,
        "recall_mnist": recall,
        "density_mnist": density,
        "coverage_mnist": coverage,
    }
    assert result.values == pytest.approx(expected, rel=1e-6) and list(result.values) == list(expected)
    assert result.real["score_mnist"] == pytest.approx(real.inception_score[0])
    assert not result.skipped and not result.by_class


def test_scores_by_class(extractor):
    images = noise(300, 0)
    labels = forward(images)[1].argmax(1)
    wrong = (labels + 1) % 3
    real, metrics = statistics(extractor, images, labels), list(METRICS)
    right = compute_scores(real, real, extractor, metrics, CLASSES)
    assert right.values["fd_mnist"] == pytest.approx(0, abs=1e-9)
    assert right.values["precision_mnist"] == right.values["recall_mnist"] == right.values["coverage_mnist"] == 1
    assert right.values["accuracy_mnist"] == 1 and right.real["accuracy_mnist"] == 1
    assert right.by_class["accuracy_mnist"] == dict.fromkeys(CLASSES, 1)
    assert right.values["class_fd_mnist"] == pytest.approx(0, abs=1e-9)
    swapped = compute_scores(statistics(extractor, images, wrong), real, extractor, metrics, CLASSES)
    x = forward(images)[0]
    distances = [frechet(moments(x[wrong == k]), moments(x[labels == k])) for k in range(3)]
    assert swapped.values["accuracy_mnist"] == 0
    assert 0.01 < swapped.values["class_fd_mnist"] == pytest.approx(sum(distances) / 3)
    assert swapped.values["fd_mnist"] == pytest.approx(0, abs=1e-9), "over all classes nothing is wrong"
    unknown = compute_scores(real, real, extractor, metrics, ["a", "b", "c"])
    assert "accuracy_mnist" not in unknown.values and "class_fd_mnist" in unknown.values


def test_too_few_images_skip_frechet_distances(extractor):
    labels = torch.zeros(100, dtype=torch.int64)
    labels[:8] = 1
    labels[8:50] = 2
    few = statistics(extractor, noise(100, 0), labels)
    result = compute_scores(few, few, extractor, ["class_fd"], CLASSES)
    assert not result.values and "the classes two have no more images than" in result.skipped["class_fd_mnist"]

    def wide(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([x.flatten(1)] * 4, 1).float() / 255, x.flatten(1).float()

    inception = FeatureExtractor("inception", "abc", 64, 1, 4, wide, torch.device("cpu"), [])
    result = compute_scores(
        statistics(inception, noise(64, 0)), statistics(inception, noise(400, 1)), inception, ["fd"]
    )
    assert list(result.values) == ["kid"], "unbiased for any number of images"
    assert "64 images are no more than its 64 features" in result.skipped["fid"]
    with pytest.raises(ValueError, match="20 images or more on either side, but there are 19; type n=10000"):
        FeatureCollector(extractor, 19)


def test_statistics_hold_moments_of_all_images_and_features_of_a_random_subset(extractor, monkeypatch):
    monkeypatch.setattr(features, "MAX_FEATURES", 50)
    images = noise(300, 0).sort(0).values
    subset, full = statistics(extractor, images), moments(forward(images)[0])
    assert subset.moments.n == 300 and subset.features.shape == (50, 8)
    assert len(subset.labels) == len(subset.predicted) == 50
    assert torch.allclose(subset.moments.mean, full.mean) and torch.allclose(subset.moments.scatter, full.scatter)
    difference = (subset.features.mean(0) - full.mean).abs().max()
    assert difference < 0.15, "the first fifty images are darker by 0.4"
    assert not torch.equal(subset.features, statistics(extractor, images, seed=1).features)


def test_statistics_of_real_images_are_cached_by_content(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "cache")
    calls = []

    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        return forward(x)

    def collected(images: Tensor, labels: Tensor, hash: str = "abc", seed: int = 0) -> FeatureStatistics | None:
        """Return statistics, or None if they came from the cache."""
        before, stored = len(calls), StoredImages(images, labels)
        extractor = FeatureExtractor("mnist", hash, 8, 1, 4, counted, torch.device("cpu"), CLASSES)
        results.append(cached_statistics(extractor, stored, content_hash(stored), seed))
        return results[-1] if len(calls) > before else None

    results: list[FeatureStatistics] = []
    images, labels = noise(100, 0), torch.arange(100) % 3
    assert collected(images, labels) and not collected(images.clone(), labels.clone())
    first, again = (f.tensors() for f in results)
    assert first.keys() == again.keys() and all(torch.equal(first[key], again[key]) for key in first)
    other_pixel, other_label = images.clone(), labels.clone()
    other_pixel[99, 0, 3, 3] ^= 1
    other_label[5] = 0
    assert collected(other_pixel, labels) and collected(images, other_label)
    assert collected(images, labels, hash="abd") and collected(images, labels, seed=1)
