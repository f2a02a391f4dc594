"""Synthetic data against its known answers."""

import math

import pytest
import torch

from gancli.data.synthetic import SIGMA, centres, mode_counts, synthetic


@pytest.mark.parametrize(("kind", "modes"), [("ring", 8), ("grid", 25)])
def test_mixtures_have_their_centres_sigma_and_modes(kind, modes):
    data = synthetic(kind, n=50_000)
    assert data.is_points and tuple(data.images.shape) == (50_000, 2, 1, 1) and data.images.dtype == torch.float32
    assert data.classes == modes and data.images.abs().max() < 1
    offsets = data.images.reshape(-1, 2) - centres(kind)[data.labels]
    assert offsets.mean(0).abs().max() < 5 * SIGMA / math.sqrt(50_000)
    assert (offsets.std(0) - SIGMA).abs().max() < 0.02 * SIGMA
    fractions = data.labels.bincount(minlength=modes) / 50_000
    assert (fractions - 1 / modes).abs().max() < 5 * math.sqrt(1 / modes / 50_000)
    counts, fraction = mode_counts(data.images, kind)
    assert counts.shape == (modes,) and abs(fraction - (1 - math.exp(-4.5))) < 0.003
    assert counts.sum().item() == round(fraction * 50_000)


def test_centres_lie_on_a_ring_and_a_grid():
    ring, grid = centres("ring"), centres("grid")
    assert torch.allclose(ring.norm(dim=1), torch.full((8,), 0.8)) and torch.allclose(ring[2], torch.tensor([0.0, 0.8]))
    assert sorted(set(grid.flatten().tolist())) == torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8]).tolist()
    assert len(set(map(tuple, grid.tolist()))) == 25


def test_mode_counts_by_hand():
    points = torch.cat([centres("ring")[:3], centres("ring")[:1] + torch.tensor([2.9 * SIGMA, 0.0])])
    far = torch.tensor([[0.0, 0.0], [0.8 + 3.1 * SIGMA, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
    counts, fraction = mode_counts(torch.cat([points, far]), "ring")
    assert counts.tolist() == [2, 1, 1, 0, 0, 0, 0, 0] and fraction == 0.5
    counts, fraction = mode_counts(torch.empty(0, 2, 1, 1), "grid")
    assert counts.tolist() == [0] * 25 and fraction == 0


@pytest.mark.parametrize("kind", ["ring", "grid", "shapes"])
def test_number_i_depends_on_the_seed_alone(kind):
    few, many, other = (synthetic(kind, n=n, seed=seed) for n, seed in ((10, 3), (50, 3), (10, 4)))
    assert torch.equal(few.images, many.images[:10]) and torch.equal(few.labels, many.labels[:10])
    assert not torch.equal(few.images, other.images)


@pytest.mark.parametrize("size", [8, 32, 65])
def test_shapes_do_not_touch_the_edge_of_their_uniform_ground(size):
    data = synthetic("shapes", n=80, size=size)
    assert tuple(data.images.shape) == (80, 3, size, size) and data.images.dtype == torch.uint8
    assert data.class_names == ["circle", "square", "triangle", "cross"] and set(data.labels.tolist()) == {0, 1, 2, 3}
    border = data.images.clone()
    border[:, :, 1:-1, 1:-1] = data.images[:, :, :1, :1]
    assert (border == data.images[:, :, :1, :1]).all()
    grey = synthetic("shapes", n=80, size=size, channels=1).images.flatten(1).int()
    assert (grey.amax(1) - grey.amin(1)).min() > 20


def test_shapes_cover_their_fraction_of_the_bounding_circle():
    data = synthetic("shapes", n=200, size=64)
    contrast = (data.images.double() - data.images[:, :, :1, :1]).abs().sum(1)
    area = (contrast / contrast.amax((1, 2), keepdim=True)).mean((1, 2))
    smallest, largest = math.pi * 0.22**2, math.pi * 0.36**2
    fractions = [1, 2 / math.pi, 3 * math.sqrt(3) / 4 / math.pi, (4 * 1.9 * 0.6 - 2 * 0.36) / 2 / math.pi]
    fraction = torch.tensor(fractions, dtype=torch.float64)[data.labels]
    assert (area > 0.93 * smallest * fraction).all() and (area < 1.07 * largest * fraction).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "rings"}, r"data\.kind=rings is not one of ring, grid, shapes; did you mean ring"),
        ({"n": 0}, r"data\.n=0"),
        ({"seed": -1}, r"data\.seed=-1"),
        ({"kind": "ring", "size": 32}, r"data\.size=32 .*data\.kind=shapes"),
        ({"kind": "shapes", "size": 4}, r"data\.size=4"),
        ({"kind": "shapes", "channels": 2}, r"data\.channels=2"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**{"n": 10, **settings})
    with pytest.raises(ValueError, match="not one of ring, grid"):
        centres("shapes")
