"""Pixels to tensors and back, grey, and grids."""

import numpy as np
import pytest
import torch
from PIL import Image

from gancli import images


def test_every_level_survives_the_round_trip():
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = images.to_float(levels)
    assert x.min() == -1 and x.max() == 1
    assert torch.equal(images.to_uint8(x), levels)
    assert images.to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_luma_is_pillows_grey():
    stored = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 9, 7), dtype=np.uint8))
    theirs = np.stack([np.asarray(Image.fromarray(a).convert("L")) for a in images.to_array(stored)])[:, None]
    assert np.array_equal(images.grey(stored), theirs)
    x = images.to_float(stored)
    grey = images.with_channels(x, 1)
    assert torch.equal(grey, images.to_float(images.grey(stored))) and torch.equal(images.luma(grey), grey)
    assert images.with_channels(grey, 1) is grey and torch.equal(images.with_channels(grey, 3), grey.repeat(1, 3, 1, 1))


def test_a_grid_holds_its_images_row_by_row():
    x = images.to_float(torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).repeat(1, 3, 48, 48))
    sheet = np.asarray(images.grid(x, columns=3))
    assert sheet.shape == (2 * 48 + 2, 3 * 48 + 4, 3)
    assert [int(sheet[r * 50 + 5, c * 50 + 5, 0]) for r in range(2) for c in range(3)] == list(range(6))
    assert (sheet[48:50] == 255).all()


def test_small_images_are_enlarged_by_a_whole_factor():
    assert images.grid(torch.zeros(1, 1, 8, 8), 1).size == (48, 48)
    assert images.grid(torch.zeros(1, 1, 28, 28), 1).size == (56, 56)
    assert images.grid(torch.zeros(1, 3, 64, 64), 1).size == (64, 64)


def test_points_become_dots_at_their_positions():
    canvas = np.asarray(images.scatter(torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 1.0]]).reshape(3, 2, 1, 1), 101))
    assert {tuple(p) for p in np.argwhere(canvas < 255).tolist()} == {(100, 0), (0, 100), (0, 50)}


def test_images_of_different_sizes_stack_on_white(tmp_path):
    stacked = images.stack([Image.new("L", (4, 3), 0), Image.new("RGB", (6, 3), "red")], gap=1)
    assert stacked.size == (6, 7) and stacked.getpixel((5, 0)) == (255, 255, 255)
    path = images.write(stacked, tmp_path / "new" / "a.png")
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match="no images"):
        images.stack([])
