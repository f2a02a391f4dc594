"""Scores by features: what they are called, what is kept of a view, and that they are those of the formulas."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gancli.evaluation import scores
from gancli.evaluation.scores import FIGURES, Viewer, called, chosen, digest, view_of
from gancli.metrics.feature_extractors import FeatureExtractor
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import kid
from gancli.metrics.precision_recall import density_coverage, precision_recall
from gancli.runtime import cache

CLASSES = ["flat", "steep", "odd"]


class Fixed:
    """Images that stay as they are."""

    def __init__(self, images: Tensor, labels: Tensor | None = None):
        self.images = images
        self.labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
        self.channels, self.size, self.count, self.times = images.shape[1], images.shape[2], len(images), 0

    def stored(self, bar: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        self.times += 1
        yield from zip(self.images.split(64), self.labels.split(64))


def some(n: int, seed: int, bright: int = 256) -> Tensor:
    return torch.randint(bright, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def look(x: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of the left half are the features, sums of columns the logits."""
    pixels = x.double() / 255
    return pixels[:, 0, :, :2].flatten(1).float(), pixels[:, 0].sum(1)[:, :3].float()


@pytest.fixture
def see() -> FeatureExtractor:
    return FeatureExtractor("mnist", "abc", 8, 1, 4, look, "cpu", CLASSES)


def viewed(see: FeatureExtractor, images: Fixed, seed: int = 0) -> scores.View:
    viewer = Viewer(see, images.count, seed)
    for x, labels in images.stored():
        viewer.add(x, labels)
    return viewer.view()


def test_names_say_which_network():
    assert [called(figure, "inception") for figure in ("fd", "kd", "score", "recall")] == [
        *("fid", "kid", "is", "recall_inception")
    ]
    assert called("fd", "mnist") == "fd_mnist" and called("score", "cifar") == "score_cifar"
    assert len(scores.MEANINGS) == 3 * len(FIGURES), "no two are called alike"


def test_what_is_chosen():
    assert chosen([], 1) == {"mnist": list(FIGURES)} and chosen([], 3) == {"cifar": list(FIGURES)}
    assert chosen(["fid", "kid", "recall_mnist", "fid"], 3) == {"inception": ["fd", "kd"], "mnist": ["recall"]}
    assert chosen(["recall_cifar", "cifar"], 3)["cifar"][0] == "recall"
    assert scores.lower_is_better("fid") and not scores.lower_is_better("is")
    with pytest.raises(ValueError, match="no score 'fdi'; did you mean fid"):
        chosen(["fdi"], 3)


def test_every_score_is_the_formulas(see):
    a, b = some(300, 0), some(200, 1)
    made, real = viewed(see, Fixed(a), seed=3), viewed(see, Fixed(b), seed=3)
    found = scores.scores(made, real, see, list(FIGURES), seed=3)
    (x, logits), (y, _) = look(a), look(b)
    moments = []
    for features in (x, y):
        moments.append(Moments())
        moments[-1].add(features)
    score = InceptionScore(300, scores.SPLITS, 3)
    score.add(logits)
    precision, recall = precision_recall(x, y)
    density, coverage = density_coverage(x, y)
    assert found.values == pytest.approx(
        {
            "fd_mnist": frechet(*moments),
            "kd_mnist": kid(x, y, seed=3)[0],
            "score_mnist": score.score()[0],
            "precision_mnist": precision,
            "recall_mnist": recall,
            "density_mnist": density,
            "coverage_mnist": coverage,
        },
        rel=1e-6,
    )
    assert list(found.values) == [called(f, "mnist") for f in FIGURES if f not in ("accuracy", "class_fd")]
    assert found.real["score_mnist"] == pytest.approx(real.score[0]) and not found.untold and not found.details


def test_the_same_images_are_at_no_distance(see):
    view = viewed(see, Fixed(some(300, 0)))
    found = scores.scores(view, view, see, ["fd", "precision", "recall", "coverage"]).values
    assert found["fd_mnist"] == pytest.approx(0, abs=1e-9)
    assert found["precision_mnist"] == found["recall_mnist"] == found["coverage_mnist"] == 1


def test_by_class(see):
    images = some(300, 0)
    labels = look(images)[1].argmax(1)
    wrong = (labels + 1) % 3
    real = viewed(see, Fixed(images, labels))
    right = scores.scores(viewed(see, Fixed(images, labels)), real, see, list(FIGURES), CLASSES)
    assert right.values["accuracy_mnist"] == 1 and right.real["accuracy_mnist"] == 1
    assert right.details["accuracy_mnist"] == dict.fromkeys(CLASSES, 1)
    assert right.values["class_fd_mnist"] == pytest.approx(0, abs=1e-9)
    swapped = scores.scores(viewed(see, Fixed(images, wrong)), real, see, list(FIGURES), CLASSES)
    assert swapped.values["accuracy_mnist"] == 0 and swapped.values["class_fd_mnist"] > 0.01
    assert swapped.values["fd_mnist"] == pytest.approx(0, abs=1e-9), "over all classes nothing is wrong"
    apart = []
    for k in range(3):
        sides = Moments(), Moments()
        sides[0].add(look(images)[0][wrong == k])
        sides[1].add(look(images)[0][labels == k])
        apart.append(frechet(*sides))
    assert swapped.values["class_fd_mnist"] == pytest.approx(sum(apart) / 3)
    others = scores.scores(viewed(see, Fixed(images, labels)), real, see, list(FIGURES), ["a", "b", "c"])
    assert "accuracy_mnist" not in others.values, "its opinion is on other classes"
    assert "class_fd_mnist" in others.values


def test_classes_of_few_images_have_no_distance(see):
    images = some(100, 0)
    labels = torch.zeros(100, dtype=torch.int64)
    labels[:8] = 1
    labels[8:50] = 2
    view = viewed(see, Fixed(images, labels))
    found = scores.scores(view, view, see, ["class_fd"], CLASSES)
    assert not found.values and "of the classes steep there are no more images than" in found.untold["class_fd_mnist"]


def test_fewer_images_than_features_have_no_frechet_distance(monkeypatch):
    def wide(x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([x.flatten(1)] * 4, 1).float() / 255, x.flatten(1).float()

    see = FeatureExtractor("inception", "abc", 64, 1, 4, wide, "cpu", [])
    made, real = viewed(see, Fixed(some(64, 0))), viewed(see, Fixed(some(400, 1)))
    found = scores.scores(made, real, see, ["fd"])
    assert list(found.values) == ["kid"], "which is right on average at any number"
    assert "64 images are no more than its 64 features" in found.untold["fid"]


def test_a_view_keeps_some_features_of_all_moments(see, monkeypatch):
    monkeypatch.setattr(scores, "KEPT", 50)
    images = Fixed(some(300, 0).sort(0).values)
    view = viewed(see, images)
    whole = Moments()
    whole.add(look(images.images)[0])
    assert view.n == 300 and view.features.shape == (50, 8) and len(view.labels) == len(view.found) == 50
    assert torch.allclose(view.moments.mean, whole.mean) and torch.allclose(view.moments.scatter, whole.scatter)
    apart = (view.features.mean(0) - whole.mean).abs().max()
    assert apart < 0.15, "drawn from all over: the first fifty of these would be darker by 0.4"
    assert not torch.equal(view.features, viewed(see, images, seed=1).features)


def test_what_is_seen_of_real_images_is_kept_by_content(see, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "cache")
    looks = []
    counting = FeatureExtractor("mnist", "abc", 8, 1, 4, lambda x: (looks.append(len(x)), look(x))[1], "cpu", CLASSES)
    images = Fixed(some(100, 0), torch.arange(100) % 3)
    first = view_of(counting, images, digest(images))
    seen = len(looks)
    again = view_of(counting, images, digest(Fixed(images.images.clone(), images.labels.clone())))
    assert len(looks) == seen > 0, "nothing was looked at again"
    for name in ("features", "labels", "found"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert torch.equal(first.moments.scatter, again.moments.scatter)
    assert (first.moments.n, first.n, first.score) == (again.moments.n, again.n, again.score)
    pixel, label = Fixed(images.images.clone(), images.labels), Fixed(images.images, images.labels.clone())
    pixel.images[99, 0, 3, 3] ^= 1
    label.labels[5] = 0
    for other in (pixel, label):
        before = len(looks)
        view_of(counting, other, digest(other))
        assert len(looks) > before
    for changed in (FeatureExtractor("mnist", "abd", 8, 1, 4, counting.look, "cpu", CLASSES), counting):
        before = len(looks)
        view_of(changed, images, digest(images), seed=changed is counting)
        assert len(looks) > before, "another network, or another seed"


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_or_impossible_cache_is_no_matter(see, tmp_path, monkeypatch, content):
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "cache")
    images = Fixed(some(100, 0))
    whole = view_of(see, images, digest(images))
    file = next((tmp_path / "cache" / "statistics").iterdir())
    if content is None:
        file.unlink()
        file.parent.rmdir()
        file.parent.write_text("a file where the folder should be")
    else:
        file.write_bytes(content)
    assert torch.equal(view_of(see, images, digest(images)).features, whole.features)


def test_a_handful_of_images_is_too_few(see):
    with pytest.raises(ValueError, match="20 images or more on either side, but there are 19; type n=10000"):
        Viewer(see, 19)
