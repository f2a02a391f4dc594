"""Which way each score moves under blur, noise, modes dropped and images memorised, and which of these it does not see.

Every statement is of 800 made images beside 800 real ones, and is made twice: of clusters of points, which are
their own features, and of real digits as the bundled network sees them.
"""

import os
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gancli.data.builtin import mnist
from gancli.images import to_float
from gancli.metrics.feature_extractors import bundled_extractor
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import mmd
from gancli.metrics.precision_recall import density_coverage, precision_recall

N = 800
MODES = (10, 8, 5, 2, 1)  # classes that are left, N / k images of each
DISTANCES = ("fd", "kd")  # of which less is better

Seen = tuple[Tensor, Tensor]  # features (N, D) and logits (N, 10) of N images


class Scores(NamedTuple):
    fd: float
    kd: float
    score: float
    precision: float
    recall: float
    density: float
    coverage: float


def scores(made: Seen, real: Seen) -> Scores:
    moments = Moments(), Moments()
    for seen, (features, _) in zip(moments, (made, real)):
        seen.add(features)
    of_classes = InceptionScore(len(made[1]), splits=1)
    of_classes.add(made[1])
    x, y = made[0], real[0]
    # The kernel distance of all images at once: subsets of them would only add chance.
    return Scores(frechet(*moments), mmd(x, y), of_classes.score()[0], *precision_recall(x, y), *density_coverage(x, y))


class World(NamedTuple):
    """Sets of N images, all but `held_out` as a generator might have made them.

    held_out: real ones, to compare with. training: real ones, of which a generator may make copies.
    blurred, noisy: other real ones, changed, less and more. modes: real ones of so many classes, in order of the class.
    fresh: the scores of three sets without a fault: `training`, other real ones, and all classes of `modes`. They
    differ by chance, and tell how much chance does.
    """

    held_out: Seen
    training: Seen
    blurred: list[Seen]
    noisy: list[Seen]
    modes: dict[int, Seen]
    fresh: list[Scores]

    def memorised(self, m: int) -> Seen:
        """m training images, N / m copies of each."""
        features, logits = (part[:m].repeat(N // m, 1) for part in self.training)
        return features, logits


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clusters() -> World:
    """Ten in 16 dimensions. Blurred, they move together; noisy, their points move apart.

    The classifier goes by the distance from the centres: by its square, it would be the surer the farther a point is.
    """
    centres = 8 * torch.eye(10, 16)

    def seen(x: Tensor) -> Seen:
        return x, -torch.cdist(x, centres)

    def drawn(k: int, seed: int) -> Tensor:
        return centres[:k].repeat_interleave(N // k, 0) + normal(N, 16, seed=seed)

    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    held_out, training, other = seen(drawn(10, 0)), seen(drawn(10, 1)[shuffled]), drawn(10, 2)
    modes = {k: seen(drawn(k, 3)) for k in MODES}
    return World(
        held_out,
        training,
        [seen(other - away * centres.repeat_interleave(N // 10, 0)) for away in (0.3, 0.5)],
        [seen(other + noise * normal(N, 16, seed=4)) for noise in (1, 2)],
        modes,
        [scores(made, held_out) for made in (training, seen(other), modes[10])],
    )


def digits() -> World:
    """Of MNIST. The held-out ones and those that are changed are test digits, the others such as the network learned.

    Blurred more than this, or under more noise, all of them look alike, and whether they lie in the ball of some lone
    digit, which can hold any of them, is chance: then precision and density may rise again.
    """
    root, see = os.environ["GAN_DATA"], bundled_extractor("mnist")
    train, test = mnist(root), mnist(root, split="test")
    # The second half of the test digits was written by other people than the first, less neatly.
    chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    real, other = test.images[chosen[: 2 * N]].split(N)
    held_out, training = see(real), see(train.images[:N])
    rest, labels = train.images[N:], train.labels[N:]
    most = {c: N // min(k for k in MODES if k > c) for c in range(10)}  # of one class that any of `modes` has
    classes = [see(rest[labels == c][:n]) for c, n in most.items()]
    modes = {k: tuple(torch.cat([part[: N // k] for part in parts[:k]]) for parts in zip(*classes)) for k in MODES}
    x, noise = to_float(other), normal(*other.shape, seed=4)
    return World(
        held_out,
        training,
        [see(blurred(x, sigma)) for sigma in (1, 1.5)],
        [see(x + amount * noise) for amount in (0.15, 0.3)],
        modes,
        [scores(made, held_out) for made in (training, see(other), modes[10])],
    )


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Images x (N, 1, H, H) under a Gaussian of so many pixels, black beyond their borders."""
    g = (-torch.arange(-6.0, 7).square() / (2 * sigma**2)).exp()
    g = (g / g.sum())[None, None, None]
    return conv2d(conv2d(x + 1, g, padding=(0, 6)), g.mT, padding=(6, 0)) - 1


@pytest.fixture(scope="module", params=[clusters, pytest.param(digits, marks=pytest.mark.data)])
def world(request: pytest.FixtureRequest) -> World:
    return request.param()


def worse(one: Scores, other: Scores, name: str) -> bool:
    return getattr(one, name) > getattr(other, name) if name in DISTANCES else getattr(one, name) < getattr(other, name)


def check_worse(world: World, chain: list[Scores], names: Iterable[str]) -> None:
    """These scores become worse from one set to the next, and by the first already more than chance accounts for."""
    for name in names:
        fresh = [getattr(one, name) for one in world.fresh]
        away = min(abs(getattr(chain[0], name) - value) for value in fresh)
        assert away > max(fresh) - min(fresh) and worse(chain[0], world.fresh[0], name), (name, fresh, chain)
        assert all(worse(after, before, name) for before, after in pairwise(chain)), (name, chain)


def check_kept(world: World, made: Scores, names: Iterable[str]) -> None:
    """These scores are within a tenth of a set's without a fault; density, which has no upper end, within a quarter."""
    for name in names:
        far = 0.25 if name == "density" else 0.1
        assert getattr(made, name) == pytest.approx(getattr(world.fresh[0], name), rel=far), (name, made)


def test_of_the_data_and_itself(world):
    same = scores(world.held_out, world.held_out)
    assert 0 <= same.fd <= 1e-12 * float(world.held_out[0].double().var(0).sum())
    assert same.precision == same.recall == same.coverage == 1 and same.density == pytest.approx(6 / 5)
    # Unbiased for images that have nothing to do with each other, it is less than zero here: an image is nearer to its
    # copy than to the others of its set, and in its set it is not counted with itself.
    assert same.kd < min(one.kd for one in world.fresh)


def test_a_set_without_a_fault(world):
    for one in world.fresh:
        assert 0.7 < one.precision < 1 and 0.7 < one.recall < 1 and one.density == pytest.approx(1, abs=0.15)
        assert one.coverage == pytest.approx(1 - 2**-5, abs=0.03)  # Naeem et al., lemma 2, with k = 5
        assert 9 < one.score <= 10


def test_blur_makes_every_score_worse(world):
    check_worse(world, [scores(made, world.held_out) for made in world.blurred], Scores._fields)


def test_noise_makes_every_score_worse_but_recall_where_it_sets_images_apart(world):
    """The balls of made images far apart hold all of the data: Naeem et al., section 3.

    Noisy points are farther apart than the data; noisy digits are nearer, as the network sees them.
    """
    chain = [scores(made, world.held_out) for made in world.noisy]
    check_worse(world, chain, [name for name in Scores._fields if name != "recall"])
    if world.noisy[-1][0].var(0).sum() < world.held_out[0].var(0).sum():
        check_worse(world, chain, ["recall"])
    else:
        assert min(one.recall for one in chain) > 0.95 > max(one.recall for one in world.fresh)


def test_modes_dropped_are_all_seen_but_by_precision_and_density(world):
    chain = {k: scores(world.modes[k], world.held_out) for k in MODES[1:]}
    check_worse(world, list(chain.values()), ["fd", "kd", "score", "recall", "coverage"])
    for k, one in chain.items():
        check_kept(world, one, ["precision", "density"])
        # Both count classes; of the held-out images, five classes have a half only to within 0.02 or so.
        assert one.score == pytest.approx(k, rel=0.05) and one.coverage == pytest.approx(k / 10, abs=0.08)


def test_copies_of_all_training_images_are_perfect_beside_these_and_as_good_as_new_ones_beside_others(world):
    """So no score here tells a generator that only remembers from one that has learned."""
    beside_training = scores(world.memorised(N), world.training)
    assert beside_training.fd < world.fresh[1].fd / 1e6 and beside_training.kd < world.fresh[1].kd
    assert beside_training.precision == beside_training.recall == beside_training.coverage == 1
    copies, new = world.fresh[:2]
    check_kept(world, new, ["score", "precision", "recall", "density", "coverage"])
    assert max(copies.fd, new.fd) < scores(world.noisy[0], world.held_out).fd / 2


def test_copies_of_half_the_training_images_are_seen_mostly_by_recall(world):
    twice = scores(world.memorised(N // 2), world.held_out)
    check_kept(world, twice, ["score", "precision", "density"])
    least = scores(world.noisy[0], world.held_out)
    assert twice.fd < least.fd, "no more than a little noise"
    assert twice.recall < 0.8 * world.fresh[0].recall and twice.coverage < 0.95 * world.fresh[0].coverage


def test_copies_of_a_few_training_images_are_precise_and_cover_little(world):
    few = (N // 10, N // 40)
    chain = [scores(world.memorised(m), world.held_out) for m in few]
    check_worse(world, chain, ["fd", "kd", "coverage"])
    for m, one in zip(few, chain):
        precise = world.fresh[0].precision
        assert one.precision == pytest.approx(precise, abs=3 * (precise * (1 - precise) / m) ** 0.5)
        assert one.recall == 0, "balls among copies have no size"
        beside_training = scores(world.memorised(m), world.training)
        assert beside_training.precision == 1 and beside_training.recall == m / N
    dropped = scores(world.modes[8], world.held_out)
    assert chain[0].coverage < world.fresh[0].coverage / 2 < dropped.coverage
    assert chain[0].fd < dropped.fd, "a tenth of the images is nearer than all images of eight classes"


def test_one_image_of_each_class_is_all_that_the_score_of_classes_asks_for(world):
    features, logits = (part[:: N // 10].repeat(N // 10, 1) for part in world.modes[10])
    one = scores((features, logits), world.held_out)
    check_kept(world, one, ["score"])
    check_worse(world, [one], ["fd", "recall", "coverage"])
    assert one.recall == 0 and one.coverage < 0.2
