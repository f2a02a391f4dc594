"""Distributions of the holes."""

import pytest
import torch
from torch import Tensor

from gancli.transforms.masks import MASKS


def masks(name: str, n: int = 2000, side: int = 16) -> Tensor:
    """Return holes (n, side, side), 0 and 1."""
    return MASKS[name](torch.zeros(n, 1, side, side))[:, 0].float()


def test_the_centre_is_the_middle_half_of_each_side():
    expected = torch.zeros(16, 16)
    expected[4:12, 4:12] = 1
    assert torch.equal(masks("centre", 3), expected.expand(3, -1, -1))


def test_boxes_have_all_lengths_and_positions():
    m = masks("box")
    rows, columns = m.amax(2), m.amax(1)
    assert torch.equal(m, rows[:, :, None] * columns[:, None, :])
    for line in (rows, columns):
        assert ((line.diff(dim=1) == 1).sum(1) <= 1).all(), "in one piece"
        lengths = line.sum(1)
        assert sorted(lengths.unique().tolist()) == [4, 5, 6, 7, 8]
        assert abs(lengths.mean() - 6) < 0.1
        first = line.argmax(1)[lengths == 8]
        assert sorted(first.unique().tolist()) == list(range(9))
    assert not torch.equal(rows.sum(1), columns.sum(1))
    assert abs(m.mean() - 36 / 256) < 0.005


def test_strokes_are_thick_reach_everywhere_and_differ():
    m = masks("free", 400, 64)
    fraction = m.mean((1, 2))
    assert 0.1 < fraction.mean() < 0.2 and fraction.max() < 0.5
    where = m.mean(0).view(4, 16, 4, 16).mean((1, 3))
    assert where.min() > 0.05 and where.max() < 2.5 * where.min(), "every part of the image is covered"
    # A stroke is at least 12 / 256 of 64 = 3 pixels wide: a plus of 5 pixels fits into nearly all of it.
    padded = torch.nn.functional.pad(m, (1, 1, 1, 1), value=1)
    core = m * padded[:, 2:, 1:-1] * padded[:, :-2, 1:-1] * padded[:, 1:-1, 2:] * padded[:, 1:-1, :-2]
    assert core.sum() > 0.5 * m.sum() and (core.flatten(1).amax(1) == 1).float().mean() > 0.98
    assert len({tuple(image.flatten().tolist()) for image in m}) == 400


def test_mixed_uses_each_mask_for_a_third_of_the_images():
    m = masks("mixed", 1500)
    centre = (m == masks("centre", 1)).flatten(1).all(1)
    box = (m == m.amax(2)[:, :, None] * m.amax(1)[:, None, :]).flatten(1).all(1) & ~centre
    assert abs(centre.float().mean() - 1 / 3) < 0.04 and abs(box.float().mean() - 1 / 3) < 0.05


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", MASKS)
def test_small_images_have_a_hole_too(name, side):
    assert (masks(name, 500, side).flatten(1).sum(1) > 0).all()
