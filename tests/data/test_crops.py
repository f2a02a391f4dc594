"""Crops of photographs: where they come from, that each is a piece of a picture, and that decoding happens once."""

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
    """Pictures whose pixels say where they are: red the picture, green the row, blue the column."""
    for k, (name, (h, w)) in enumerate(SIZES.items()):
        rows, columns = np.mgrid[:h, :w]
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([np.full((h, w), k), rows, columns], 2).astype(np.uint8)).save(path)
    return tmp_path / "photos"


def load(folder: Path, **options):
    return image_crops(**{"path": str(folder), "size": CROP, "cache": str(folder.parent / "cache"), **options})


def is_piece(crop: torch.Tensor) -> bool:
    """Whether rows and columns go up by one from a place where all of the crop lies in its picture."""
    k, top, left = crop[:, 0, 0].tolist()
    height, width = list(SIZES.values())[k]
    steps = torch.arange(CROP)
    expected = [torch.full((CROP, CROP), k), (top + steps)[:, None].expand(-1, CROP), (left + steps).expand(CROP, -1)]
    return torch.equal(crop.long(), torch.stack(expected)) and top + CROP <= height and left + CROP <= width


def test_an_entry_is_a_crop_that_fits_beside_the_others(folder):
    photos = load(folder)
    assert len(photos) == 3 * 5 + 2 * 1 + 1 * 3  # d.png is too low for one
    assert photos.skipped == [("d.png", "is 90x7, smaller than the crop")]
    crops = photos.take(torch.arange(len(photos)))
    assert crops.shape == (20, 3, CROP, CROP) and crops.dtype == torch.uint8 and all(map(is_piece, crops))
    places = {tuple(crop[:, 0, 0].tolist()) for crop in crops}
    assert len(places) == 20
    for k, top, left in places:
        for other, down, across in places - {(k, top, left)}:
            assert other != k or abs(top - down) >= CROP or abs(left - across) >= CROP, "crops overlap"


def test_drawn_crops_lie_anywhere_and_one_seed_draws_the_same(folder):
    photos = load(folder, rotate=False)
    indices = torch.zeros(3000, dtype=torch.int64)  # of the first picture
    crops = photos.take(indices, torch.Generator().manual_seed(1))
    assert all(map(is_piece, crops[:50])) and (crops[:, 0] == 0).all()
    tops, lefts = crops[:, 1, 0, 0], crops[:, 2, 0, 0]
    assert set(tops.tolist()) == set(range(30 - CROP + 1)) and set(lefts.tolist()) == set(range(40 - CROP + 1))
    assert torch.equal(crops, photos.take(indices, torch.Generator().manual_seed(1)))


def test_all_eight_ways_to_turn_a_crop_are_drawn(folder):
    photos = load(folder)
    seen = set()
    for x, _ in (BatchLoader(photos, 20, 0, flip=True, seed=0, device=torch.device("cpu"))(n) for n in range(10)):
        for crop in ((x + 1) * 127.5).round().long():
            down, right = (crop[1:, -1, 0] - crop[1:, 0, 0]).tolist(), (crop[1:, 0, -1] - crop[1:, 0, 0]).tolist()
            assert sorted(map(abs, down + right)) == [0, 0, CROP - 1, CROP - 1]
            seen.add((*down, *right))
    assert len(seen) == 8


def test_decoding_happens_once_and_again_where_a_picture_changed(folder, monkeypatch):
    first = load(folder)
    read = []
    decode = module.decode
    monkeypatch.setattr(module, "decode", lambda path: read.append(path.name) or decode(path))
    again = load(folder)
    assert read == [] and torch.equal(first.pixels, again.pixels) and len(first) == len(again)
    Image.new("RGB", (50, 50), "red").save(folder / "e.png")
    assert len(load(folder)) == len(first) + 36 and "e.png" in read


def test_an_interrupted_decoding_goes_on_where_it_was(folder, monkeypatch):
    whole = load(folder, cache=str(folder.parent / "other"))
    read = []

    def interrupted(path):
        if path.name == "d.png":
            raise KeyboardInterrupt
        return decode(path)

    decode = module.decode
    monkeypatch.setattr(module, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    monkeypatch.setattr(module, "decode", lambda path: read.append(path.name) or decode(path))
    photos = load(folder)
    assert sorted(read) == ["b.png", "c.png", "d.png"] and len(photos) == 20 and photos.mapped
    assert torch.equal(photos.pixels, whole.pixels) and torch.equal(photos.starts, whole.starts)


def test_bad_pictures_are_named_and_grey_is_one_channel(folder):
    (folder / "torn.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "empty.jpg").write_bytes(b"")
    photos = load(folder, channels=1)
    assert photos.channels == 1 and photos.take(torch.arange(2)).shape == (2, 1, CROP, CROP)
    assert [name for name, _ in photos.skipped] == ["d.png", "empty.jpg", "torn.png"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nothing", r"is not a folder: give the folder of your photographs"),
        (lambda folder: folder.parent / "void", r"it has no pictures"),
        (lambda folder: folder / "small", r"none of its 1 pictures gives a crop of 8x8"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(folder, make, message):
    (folder.parent / "void").mkdir()
    (folder / "small").mkdir()
    Image.new("L", (3, 3)).save(folder / "small" / "x.png")
    with pytest.raises(ValueError, match=message):
        load(make(folder).parent / make(folder).name)
