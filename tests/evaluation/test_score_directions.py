"""Direction of each score under blur, noise, dropped modes and memorised images, and the faults that it does not show.

800 generated images are compared with 800 real ones, twice: clusters of points, which are their own features, and real
digits through the bundled network.
"""

import os
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from gancli.data.builtin import mnist
from gancli.images import to_float
from gancli.metrics.feature_extractors import bundled_extractor
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import mmd
from gancli.metrics.precision_recall import density_coverage, precision_recall

N = 800
MODES = (10, 8, 5, 2, 1)  # classes in a set, N / k images of each
DISTANCES = ("fd", "kd")  # lower is better

Features = tuple[Tensor, Tensor]  # features (N, D) and logits (N, 10) of N images


class Scores(NamedTuple):
    fd: float
    kd: float
    score: float
    precision: float
    recall: float
    density: float
    coverage: float


def scores(fake: Features, real: Features) -> Scores:
    moments = Moments(), Moments()
    for side, (features, _) in zip(moments, (fake, real)):
        side.add(features)
    inception_score = InceptionScore(len(fake[1]), splits=1)
    inception_score.add(fake[1])
    x, y = fake[0], real[0]
    # The kernel distance of all images at once: subsets of them would only add chance.
    return Scores(
        frechet(*moments), mmd(x, y), inception_score.score()[0], *precision_recall(x, y), *density_coverage(x, y)
    )


class Sets(NamedTuple):
    """Sets of N images. All but `real` stand for generated ones.

    Attributes:
        training: real images that a generator may copy.
        blurred, noisy: other real images under a weaker and a stronger change.
        modes: real images of so many classes, in order of the class.
        faultless: scores of `training`, of other real images and of all classes of `modes`; their range is chance.
    """

    real: Features
    training: Features
    blurred: list[Features]
    noisy: list[Features]
    modes: dict[int, Features]
    faultless: list[Scores]

    def memorised(self, m: int) -> Features:
        """Return N / m copies of each of m training images."""
        features, logits = (part[:m].repeat(N // m, 1) for part in self.training)
        return features, logits


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clusters() -> Sets:
    """Return ten clusters in 16 dimensions. Blur moves them together, noise moves their points apart.

    Logits are distances from the centres. Squares of them would make far points the most confident.
    """
    centres = 8 * torch.eye(10, 16)

    def classified(x: Tensor) -> Features:
        return x, -torch.cdist(x, centres)

    def points(k: int, seed: int) -> Tensor:
        return centres[:k].repeat_interleave(N // k, 0) + normal(N, 16, seed=seed)

    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    real, training, other = classified(points(10, 0)), classified(points(10, 1)[shuffled]), points(10, 2)
    modes = {k: classified(points(k, 3)) for k in MODES}
    blurred = [classified(other - blur * centres.repeat_interleave(N // 10, 0)) for blur in (0.3, 0.5)]
    noisy = [classified(other + noise * normal(N, 16, seed=4)) for noise in (1, 2)]
    faultless = [scores(fake, real) for fake in (training, classified(other), modes[10])]
    return Sets(real, training, blurred, noisy, modes, faultless)


def digits() -> Sets:
    """Return MNIST's test digits as real and changed images, and training digits as the others.

    Under more blur or noise all digits look alike. Precision and density may then rise by chance, because the ball of
    one lone digit can hold any of them.
    """
    root, extractor = os.environ["GAN_DATA"], bundled_extractor("mnist")
    train, test = mnist(root), mnist(root, split="test")
    # Other people wrote the second half of the test digits, less neatly than the first.
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    real_images, other = test.images[chosen[: 2 * N]].split(N)
    real, training = extractor(real_images), extractor(train.images[:N])
    rest, labels = train.images[N:], train.labels[N:]
    most = {c: N // min(k for k in MODES if k > c) for c in range(10)}  # images of a class in any of `modes`
    classes = [extractor(rest[labels == c][:n]) for c, n in most.items()]
    modes = {k: tuple(torch.cat([part[: N // k] for part in parts[:k]]) for parts in zip(*classes)) for k in MODES}
    x, noise = to_float(other), normal(*other.shape, seed=4)
    blurred = [extractor(gaussian_blur(x, [13, 13], [sigma, sigma])) for sigma in (1.0, 1.5)]
    noisy = [extractor(x + amount * noise) for amount in (0.15, 0.3)]
    faultless = [scores(fake, real) for fake in (training, extractor(other), modes[10])]
    return Sets(real, training, blurred, noisy, modes, faultless)


@pytest.fixture(scope="module", params=[clusters, pytest.param(digits, marks=pytest.mark.data)])
def sets(request: pytest.FixtureRequest) -> Sets:
    return request.param()


def check_worse(sets: Sets, chain: list[Scores], names: Iterable[str]) -> None:
    """Assert that these scores become worse along a chain of sets, the first one by more than chance."""
    for name in names:
        sign = 1 if name in DISTANCES else -1
        faultless = [sign * getattr(one, name) for one in sets.faultless]
        values = [sign * getattr(one, name) for one in chain]
        assert values[0] > max(faultless) + max(faultless) - min(faultless), (name, faultless, values)
        assert all(before < after for before, after in pairwise(values)), (name, values)


def check_unchanged(sets: Sets, one: Scores, names: Iterable[str]) -> None:
    """Assert that these scores are within a tenth of a faultless set's, density, which has no bound, in a quarter."""
    for name in names:
        tolerance = 0.25 if name == "density" else 0.1
        assert getattr(one, name) == pytest.approx(getattr(sets.faultless[0], name), rel=tolerance), (name, one)


def test_scores_of_the_real_images_themselves(sets):
    same = scores(sets.real, sets.real)
    assert 0 <= same.fd <= 1e-12 * float(sets.real[0].double().var(0).sum())
    assert same.precision == same.recall == same.coverage == 1 and same.density == pytest.approx(6 / 5)
    # Unbiased for independent sets, it is negative here: an image is nearer to its copy than to the others of its set,
    # in which it is not counted with itself.
    assert same.kd < min(one.kd for one in sets.faultless)


def test_scores_of_a_faultless_set(sets):
    for one in sets.faultless:
        assert 0.7 < one.precision < 1 and 0.7 < one.recall < 1 and one.density == pytest.approx(1, abs=0.15)
        assert one.coverage == pytest.approx(1 - 2**-5, abs=0.03)  # Naeem et al., lemma 2, with k = 5
        assert 9 < one.score <= 10


def test_blur_makes_every_score_worse(sets):
    check_worse(sets, [scores(fake, sets.real) for fake in sets.blurred], Scores._fields)


def test_noise_makes_every_score_worse_except_recall_of_scattered_images(sets):
    """The balls of scattered images hold all of the data: Naeem et al., section 3.

    Noisy points are farther apart than the data. Features of noisy digits are nearer to each other.
    """
    chain = [scores(fake, sets.real) for fake in sets.noisy]
    check_worse(sets, chain, [name for name in Scores._fields if name != "recall"])
    if sets.noisy[-1][0].var(0).sum() < sets.real[0].var(0).sum():
        check_worse(sets, chain, ["recall"])
    else:
        assert min(one.recall for one in chain) > 0.95 > max(one.recall for one in sets.faultless)


def test_dropped_modes_do_not_change_precision_and_density(sets):
    chain = {k: scores(sets.modes[k], sets.real) for k in MODES[1:]}
    check_worse(sets, list(chain.values()), ["fd", "kd", "score", "recall", "coverage"])
    for k, one in chain.items():
        check_unchanged(sets, one, ["precision", "density"])
        # Both count classes. Five classes have half of the real images only to within about 0.02.
        assert one.score == pytest.approx(k, rel=0.05) and one.coverage == pytest.approx(k / 10, abs=0.08)


def test_no_score_separates_copies_of_all_training_images_from_new_ones(sets):
    versus_training = scores(sets.memorised(N), sets.training)
    assert versus_training.fd < sets.faultless[1].fd / 1e6 and versus_training.kd < sets.faultless[1].kd
    assert versus_training.precision == versus_training.recall == versus_training.coverage == 1
    copies, new = sets.faultless[:2]
    check_unchanged(sets, new, ["score", "precision", "recall", "density", "coverage"])
    assert max(copies.fd, new.fd) < scores(sets.noisy[0], sets.real).fd / 2


def test_copies_of_half_the_training_images_lower_recall_most(sets):
    twice = scores(sets.memorised(N // 2), sets.real)
    check_unchanged(sets, twice, ["score", "precision", "density"])
    assert twice.fd < scores(sets.noisy[0], sets.real).fd, "less than weak noise"
    assert twice.recall < 0.8 * sets.faultless[0].recall and twice.coverage < 0.95 * sets.faultless[0].coverage


def test_copies_of_a_few_training_images_are_precise_and_cover_little(sets):
    few = (N // 10, N // 40)
    chain = [scores(sets.memorised(m), sets.real) for m in few]
    check_worse(sets, chain, ["fd", "kd", "coverage"])
    for m, one in zip(few, chain):
        precise = sets.faultless[0].precision
        assert one.precision == pytest.approx(precise, abs=3 * (precise * (1 - precise) / m) ** 0.5)
        assert one.recall == 0, "balls among copies have no size"
        versus_training = scores(sets.memorised(m), sets.training)
        assert versus_training.precision == 1 and versus_training.recall == m / N
    dropped = scores(sets.modes[8], sets.real)
    assert chain[0].coverage < sets.faultless[0].coverage / 2 < dropped.coverage
    assert chain[0].fd < dropped.fd, "a tenth of the images is nearer than all images of eight classes"


def test_one_image_of_each_class_has_the_best_classifier_score(sets):
    features, logits = (part[:: N // 10].repeat(N // 10, 1) for part in sets.modes[10])
    one = scores((features, logits), sets.real)
    check_unchanged(sets, one, ["score"])
    check_worse(sets, [one], ["fd", "recall", "coverage"])
    assert one.recall == 0 and one.coverage < 0.2
