"""Crops of images of different sizes: each lies inside its image, and every position and rotation is sampled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.data import crops as module
from gancli.data.crops import image_crops
from gancli.data.loader import BatchLoader

SIZES = {"a.png": (30, 40), "deep/b.png": (17, 9), "deep/c.png": (8, 25), "d.png": (7, 90)}  # height, width
CROP = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose pixels hold their position: red the image, green the row, blue the column."""
    for k, (name, (h, w)) in enumerate(SIZES.items()):
        rows, columns = np.mgrid[:h, :w]
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([np.full((h, w), k), rows, columns], 2).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def load(folder: Path, **options):
    return image_crops(**{"path": str(folder), "size": CROP, "cache": f"{folder.parent}/cache", **options})


def is_inside(crop: torch.Tensor) -> bool:
    """Return whether rows and columns count up by one and all of the crop lies in its image."""
    k, top, left = crop[:, 0, 0].tolist()
    height, width = list(SIZES.values())[k]
    steps = torch.arange(CROP)
    expected = [torch.full((CROP, CROP), k), (top + steps)[:, None].expand(-1, CROP), (left + steps).expand(CROP, -1)]
    return torch.equal(crop.long(), torch.stack(expected)) and top + CROP <= height and left + CROP <= width


def test_an_image_has_as_many_crops_as_fit_side_by_side(folder):
    data = load(folder)
    assert len(data) == 3 * 5 + 2 * 1 + 1 * 3  # d.png is too low for one
    assert data.skipped == [("d.png", "is 90x7, smaller than the crop")]
    crops = data.take(torch.arange(len(data)))
    assert crops.shape == (20, 3, CROP, CROP) and crops.dtype == torch.uint8 and all(map(is_inside, crops))
    positions = {tuple(crop[:, 0, 0].tolist()) for crop in crops}
    assert len(positions) == 20
    for k, top, left in positions:
        for other, down, across in positions - {(k, top, left)}:
            assert other != k or abs(top - down) >= CROP or abs(left - across) >= CROP, "crops overlap"


def test_random_crops_lie_anywhere_and_follow_the_seed(folder):
    data = load(folder, rotate=False)
    indices = torch.zeros(3000, dtype=torch.int64)  # of the first image
    crops = data.take(indices, torch.Generator().manual_seed(1))
    assert all(map(is_inside, crops[:50])) and (crops[:, 0] == 0).all()
    tops, lefts = crops[:, 1, 0, 0], crops[:, 2, 0, 0]
    assert set(tops.tolist()) == set(range(30 - CROP + 1)) and set(lefts.tolist()) == set(range(40 - CROP + 1))
    assert torch.equal(crops, data.take(indices, torch.Generator().manual_seed(1)))


def test_all_eight_rotations_and_flips_are_sampled(folder):
    batches = BatchLoader(load(folder), 20, 0, flip=True, seed=0, device=torch.device("cpu"))
    orientations = set()
    for n in range(10):
        for crop in ((batches(n)[0] + 1) * 127.5).round().long():
            down, right = (crop[1:, -1, 0] - crop[1:, 0, 0]).tolist(), (crop[1:, 0, -1] - crop[1:, 0, 0]).tolist()
            assert sorted(map(abs, down + right)) == [0, 0, CROP - 1, CROP - 1]
            orientations.add((*down, *right))
    assert len(orientations) == 8


def test_images_are_decoded_once_for_all_sizes_of_the_crop(folder, monkeypatch):
    assert load(folder).memory_mapped
    monkeypatch.setattr(module, "decode_image", None)
    assert len(load(folder)) == 20 and len(load(folder, size=7)) == 4 * 5 + 2 * 1 + 1 * 3 + 1 * 12


def test_bad_images_are_skipped_and_grey_has_one_channel(folder):
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    data = load(folder, channels=1)
    assert data.channels == 1 and data.take(torch.arange(2)).shape == (2, 1, CROP, CROP)
    assert [name for name, _ in data.skipped] == ["d.png", "empty.jpg", "torn.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"is nothing, not a folder; type data\.path=DIR"),
        ("void", r"it has no images; type gan data check"),
        ("small", r"no image holds a crop of data\.size=8, but of 3, skipped 1: 1 too small; type gan data check"),
    ],
)
def test_folders_without_crops_are_refused(folder, name, message):
    (folder / "void").mkdir()
    (folder / "small").mkdir()
    Image.new("L", (3, 3)).save(folder / "small" / "x.png")
    with pytest.raises(ValueError, match=message):
        load(folder / name)
