"""Copies of training images: planted ones are found, other images of the same kind are not."""

import functools

import pytest
import torch
from helpers import normal
from torch.nn.functional import interpolate, pad

from gancli.data.builtin import mnist10k
from gancli.images import to_float, to_uint8
from gancli.metrics.copies import FALSE_ALARMS, SHIFT, CopyDetector, correlation, details, exceeded_by


def clouds(n: int, seed: int, side: int = 32) -> torch.Tensor:
    """Return images (n, 3, side, side) of random clouds on a common background, in [-1, 1]."""
    background = interpolate(normal(1, 3, 3, 3, dtype=torch.float32), (side, side), mode="bicubic")
    parts = [
        interpolate(normal(n, 3, k, k, seed=seed + k, dtype=torch.float32), (side, side), mode="bicubic")
        for k in (6, 14)
    ]
    return (0.3 * (background + sum(parts))).clamp(-1, 1)


TRAINING, OTHERS = clouds(120, 1), clouds(200, 50)


@functools.cache
def detector() -> CopyDetector:
    return CopyDetector(TRAINING)


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    return pad(x, (by, by, by, by), mode="replicate")[:, :, : x.shape[2], 2 * by :]


PLANTED = {
    "exact": lambda x: x,
    "mirrored": lambda x: x.flip(3),
    "shifted by three pixels": lambda x: shifted(x, 3),
    "recoloured": lambda x: 0.8 * x * torch.tensor([1.1, 1.0, 0.9]).view(3, 1, 1) + 0.1,
    "all of them": lambda x: 0.9 * shifted(x.flip(3), 2) - 0.05,
    "in 8 bits": lambda x: to_uint8(x),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_copies_are_found(name):
    found = detector()(PLANTED[name](TRAINING[:60]))
    assert found.fraction >= 0.95
    assert (found.nearest == torch.arange(60)).double().mean() >= 0.95
    if name in ("mirrored", "all of them"):
        assert found.mirrored.double().mean() > 0.95


def test_few_other_images_are_taken_for_copies():
    assert detector()(OTHERS).fraction <= 0.05
    assert 0.1 < detector().threshold < 0.9
    assert detector()(torch.cat([TRAINING[:50], OTHERS[:150]])).fraction == pytest.approx(0.25, abs=0.04)


def test_the_threshold_is_what_some_training_images_reach_with_another():
    """Without the image itself and its mirror image, which would be perfect copies."""
    assert detector()(TRAINING).correlation.min() > 0.99 > detector().threshold
    assert CopyDetector(to_uint8(TRAINING)).threshold == pytest.approx(detector().threshold, abs=0.02)


def test_the_threshold_of_maxima_is_their_quantile():
    from scipy.stats import gumbel_r

    sample = torch.from_numpy(gumbel_r(0.3, 0.05).rvs(200_000, random_state=0))
    assert exceeded_by(FALSE_ALARMS, sample) == pytest.approx(gumbel_r(0.3, 0.05).ppf(1 - FALSE_ALARMS), abs=1e-3)
    # Some images that do have a twin raise it, and ordinary ones never exceed it more often.
    assert float((sample > exceeded_by(0.02, torch.cat([sample[:90], torch.ones(10)]))).double().mean()) < 0.02


def test_copies_are_found_among_digits_which_are_nearly_alike():
    digits = mnist10k().images
    detector = CopyDetector(digits[:400])
    assert 0.8 < detector.threshold < 1
    assert min(detector(PLANTED[name](to_float(digits[:60]))).fraction for name in ("exact", "mirrored")) >= 0.95
    assert detector(shifted(to_float(digits[:60]), 3)).fraction >= 0.95
    assert detector(digits[400:600]).fraction <= 0.05


def test_the_correlation_is_numpys_at_the_best_shift():
    import numpy as np

    a, b = (details(x) for x in (TRAINING[:1], shifted(TRAINING[:1], 2)))
    middle = a[0, :, SHIFT:-SHIFT, SHIFT:-SHIFT].double().numpy()
    values = []
    for row in range(2 * SHIFT + 1):
        for column in range(2 * SHIFT + 1):
            part = b[0, :, row : row + 24, column : column + 24].double().numpy()
            x, y = (t - t.mean((1, 2), keepdims=True) for t in (middle, part))
            values.append((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    assert correlation(a, b).item() == pytest.approx(max(values), abs=1e-5)


def test_flat_images_are_no_copies_and_few_training_images_are_refused():
    assert detector()(torch.zeros(3, 3, 32, 32)).fraction == 0
    with pytest.raises(ValueError, match=r"needs 20 of them, but there are 5; add images"):
        CopyDetector(TRAINING[:5])
