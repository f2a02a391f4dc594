"""Sliced Wasserstein distance against closed forms."""

import math

import pytest
import torch

from gancli.metrics.sliced_wasserstein import laplacian_pyramid, patch_distances, random_patches, sliced_wasserstein


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


def test_the_pyramid_takes_averages_and_detail_apart():
    constant = torch.full((2, 3, 28, 28), 200, dtype=torch.uint8)
    *details, rest = laplacian_pyramid(constant)
    assert [level.shape[-1] for level in (*details, rest)] == [28, 14, 7]
    assert all(level.abs().max() < 1e-3 for level in details) and (rest - 200).abs().max() < 1e-3
    stripes = (torch.arange(32) % 2 * 255).to(torch.uint8).expand(2, 3, 32, 32)
    powers = [level.var() for level in laplacian_pyramid(stripes)]
    assert powers[0] > 1000 * max(powers[1:])


def test_patches_are_those_of_the_images():
    x = torch.arange(2 * 81.0).view(2, 1, 9, 9)
    patches = random_patches(x, 200, torch.Generator().manual_seed(0))
    assert patches.shape == (400, 1, 7, 7) and len({float(patch.min()) for patch in patches}) == 2 * 9
    assert all(torch.equal(patch - patch.min(), x[0, :, :7, :7]) for patch in patches)


def test_each_size_sees_its_own_difference():
    generator = torch.Generator().manual_seed(0)
    real, other = (torch.randint(64, 192, (200, 3, 32, 32), generator=generator).to(torch.uint8) for _ in range(2))
    floor = patch_distances(other, real)
    assert list(floor) == ["full", "half", "quarter"] and max(floor.values()) < 100
    striped = (other + (torch.arange(32) % 2 * 30).to(torch.uint8)).clamp(0, 255)
    brighter = other + 20
    assert patch_distances(striped, real)["full"] > 2 * floor["full"]
    assert patch_distances(striped, real)["half"] == pytest.approx(floor["half"], rel=0.5)
    of_brighter = patch_distances(brighter, real)
    assert of_brighter["full"] == pytest.approx(floor["full"], rel=0.1)
    assert of_brighter["quarter"] > 5 * floor["quarter"]
    assert list(patch_distances(real[..., :14, :14], other[..., :14, :14])) == ["full", "half"]
