"""Properties that all comparisons of two sets of features share: invariances, dtypes and refusals."""

import math
from collections.abc import Callable

import pytest
import torch
from helpers import normal

from gancli.metrics.fid import Moments, frechet
from gancli.metrics.kid import kid, mmd
from gancli.metrics.precision_recall import density_coverage, precision_recall


def frechet_of(fake: torch.Tensor, real: torch.Tensor) -> float:
    moments = Moments(), Moments()
    for one, features in zip(moments, (fake, real)):
        one.add(features)
    return frechet(*moments)


metrics = pytest.mark.parametrize(
    ("metric", "fewest"), [(frechet_of, 2), (mmd, 2), (kid, 2), (precision_recall, 4), (density_coverage, 6)]
)


@metrics
def test_metrics_are_invariant_to_order_rotation_and_float32(metric: Callable, fewest: int):
    fake, real = normal(200, 8) + 0.3, normal(150, 8, seed=1)
    rotation = torch.linalg.qr(normal(8, 8, seed=4)).Q
    value = metric(fake, real)
    assert torch.tensor(value).all()
    if metric is not kid:  # which samples other subsets
        assert metric(fake.flip(0), real.flip(0)) == pytest.approx(value, rel=1e-11)
    assert metric(fake @ rotation, real @ rotation) == pytest.approx(value, rel=1e-11, abs=1e-13)
    assert metric(fake.float(), real.float()) == pytest.approx(value, rel=1e-4, abs=1e-6)
    if metric in (frechet_of, mmd):
        assert metric(real, fake) == pytest.approx(value, rel=1e-11)
    if metric is precision_recall:
        assert metric(real, fake) == pytest.approx(value[::-1])
    if metric not in (mmd, kid):
        assert metric(fake + 9, real + 9) == pytest.approx(value, rel=1e-11)


@metrics
def test_bad_features_are_refused(metric: Callable, fewest: int):
    x, bad, infinite = normal(20, 3), normal(20, 3), normal(20, 3)
    bad[4, 1] = bad[4, 2] = bad[7, 0] = math.nan
    infinite[4, 1] = math.inf
    metric(x, x[:fewest])
    for pair, message in (
        (
            (x, x[: fewest - 1]),
            rf"needs? {fewest} images or more|^{fewest} images or more are needed, but {fewest - 1}",
        ),
        ((x, x[:, :2]), r"\(20, 3\) and \(20, 2\) were given|3 and 2 were given"),
        ((x, x[..., None]), r"\(20, 3, 1\) were given"),
        ((x, bad), r"^2 of 20 images have features that are no numbers"),
        ((infinite, x), r"^1 of 20 images have features that are no numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(*pair)
