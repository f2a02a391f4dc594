"""Sliced Wasserstein distance against closed forms."""

import math

import pytest
import torch

from gancli.metrics.sliced_wasserstein import sliced_wasserstein


def test_shifted_sets_are_as_far_apart_as_the_shift():
    a = torch.randn(500, 1, 1, 1)
    assert sliced_wasserstein(a, a[torch.randperm(500)]) == pytest.approx(0, abs=1e-6)
    # In one dimension every direction is +-1.
    assert sliced_wasserstein(a, a + 0.25) == pytest.approx(0.25, rel=1e-5)
    # A shift by s in d dimensions: s times the mean |cosine| to a random direction, about s * sqrt(2 / (pi d)).
    b = torch.randn(1000, 3, 8, 8)
    shift = torch.zeros(1, 3, 8, 8)
    shift[0, 0, 0, 0] = 5.0
    expected = 5 * math.sqrt(2 / math.pi / 192)
    assert sliced_wasserstein(b, b + shift, directions=1024) == pytest.approx(expected, rel=0.05)
    with pytest.raises(ValueError, match="of the same shape"):
        sliced_wasserstein(a, a[:10])
