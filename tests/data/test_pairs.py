"""Pairs of images and unpaired sets: which files belong together and how they are decoded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.data.dataset import ImageDataset
from gancli.data.pairs import pairs, two_classes, unpaired
from gancli.data.synthetic import synthetic

SIZE = 8


def noise(seed: int, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def stacked(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources and targets: three images side by side in both/, and apart in left/ and right/."""
    left, right = [noise(k) for k in (0, 2, 4)], [noise(k) for k in (1, 3, 5)]
    for name, source, target in zip(["a", "deep/b", "deep/c.d"], left, right):
        save(np.concatenate([source, target], 1), tmp_path / "both" / f"{name}.png")
        save(source, tmp_path / "left" / f"{name}.bmp")
        save(target, tmp_path / "right" / f"{name}.png")
    return stacked(left), stacked(right)


def options(layout: str, folder: Path) -> dict:
    if layout == "side by side":
        return {"path": str(folder / "both"), "size": SIZE}
    return {"path": str(folder / "right"), "sources": str(folder / "left"), "size": SIZE}


@pytest.mark.parametrize("layout", ["side by side", "two folders"])
def test_pairs_of_either_layout(layout, sides, tmp_path):
    left, right = sides
    data = pairs(**options(layout, tmp_path))
    assert torch.equal(data.sources, left) and torch.equal(data.images, right)
    assert data.paired and data.classes == 0 and data.skipped == [] and data.labels.tolist() == [0, 0, 0]
    swapped = pairs(**options(layout, tmp_path), swap=True)
    assert torch.equal(swapped.sources, right) and torch.equal(swapped.images, left)
    to_grey = pairs(**options(layout, tmp_path), channels=3, source_channels=1)
    grey = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L"))[..., None] for p in left]
    assert torch.equal(to_grey.sources, stacked(grey)) and torch.equal(to_grey.images, right)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_both_images_of_a_pair_are_fitted_alike(fit, tmp_path):
    pixels = noise(0, 30, 22)
    save(np.concatenate([pixels, pixels], 1), tmp_path / "a.png")
    data = pairs(str(tmp_path), size=SIZE, fit=fit)
    assert torch.equal(data.images, data.sources) and data.size == SIZE


def test_a_pair_with_an_image_that_cannot_be_decoded_is_skipped(sides, tmp_path):
    (tmp_path / "both" / "bad.png").write_bytes(b"no image")
    data = pairs(**options("side by side", tmp_path))
    assert len(data) == len(data.sources) == 3
    assert data.skipped == [(str(tmp_path / "both" / "bad.png"), "is not an image that Pillow knows")]

    source = tmp_path / "left" / "a.bmp"
    source.write_bytes(b"")
    (tmp_path / "right" / "deep" / "b.png").write_bytes(b"")
    data = pairs(**options("two folders", tmp_path))
    assert torch.equal(data.images, sides[1][2:]) and torch.equal(data.sources, sides[0][2:])
    assert data.skipped == [
        (str(tmp_path / "right" / "a.png"), f"its source {source} cannot be used: is empty"),
        (str(tmp_path / "right" / "deep" / "b.png"), "is empty"),
    ]


@pytest.mark.parametrize(
    ("added", "layout", "message"),
    [
        ({"left/e.png": (8, 8), "left/f.png": (8, 8), "right/d.png": (8, 8)}, "two folders",
         r"1 of 4 images in data\.path=\S+right and 2 of 5 images in data\.sources=\S+left have no partner of the "
         r"same name, the first is \S+right/d\.png; .* choose data=unpaired"),
        ({"left/a.bmp": (10, 8)}, "two folders", r"left/a\.bmp is 10x8 and \S+right/a\.png is 8x8, .*; resize one"),
        ({"both/a.png": (17, 8)}, "side by side", r"both/a\.png is 17x8 and has no two equal halves; .*data\.sources="),
        ({"left/a.png": (8, 8)}, "two folders", r"a\.bmp and a\.png in data\.sources=\S+left differ only in their su"),
    ],
)  # fmt: skip
def test_impossible_pairs_are_refused_in_one_sentence(added, layout, message, sides, tmp_path):
    for name, size in added.items():
        save(noise(9, *size), tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        pairs(**options(layout, tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("load", [pairs, unpaired])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"path": ""}, r"data=(pairs|unpaired) needs data\.path=DIR"),
        ({"sources": "/no/such"}, r"/no/such is nothing, not a folder; type data\.sources=DIR"),
        ({"fit": "corp"}, r"data\.fit=corp .* did you mean crop"),
        ({"size": None}, r"data\.size=None"),
        ({"channels": 4}, r"data\.channels=4 .* data\.channels=3"),
        ({"source_channels": 2}, r"data\.source_channels=2 .* data\.source_channels=3"),
        ({"path": "EMPTY"}, r"data\.path=\S+ cannot be trained on, it has no images; .* gan data check EMPTY"),
        ({"sources": "EMPTY"}, r"data\.sources=\S+ cannot be trained on, it has no images"),
        (
            {"path": "BAD", "sources": "BAD"},
            r"data\.path=\S+ cannot be trained on, it has no image that can be used, skipped 1: 1 broken",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(load, changed, message, sides, tmp_path, monkeypatch):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD" / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        load(**{**options("two folders", tmp_path), **changed})
    assert "\n" not in str(error.value)


def test_unpaired_folders_may_differ_in_everything(tmp_path):
    for k in range(3):
        save(noise(k, 9 + k, 20), tmp_path / "targets" / f"{k}.png")
    save(noise(7), tmp_path / "sources" / "loose.png")
    save(noise(8), tmp_path / "sources" / "deep" / "x.png")
    (tmp_path / "sources" / "bad.png").touch()
    data = unpaired(str(tmp_path / "targets"), str(tmp_path / "sources"), SIZE, channels=1)
    assert data.images.shape == (3, 1, SIZE, SIZE) and not data.paired
    assert torch.equal(data.sources, stacked([noise(8), noise(7)]))
    assert data.skipped == [(str(tmp_path / "sources" / "bad.png"), "is empty")]
    with pytest.raises(ValueError, match=r"data=unpaired needs data\.path=DIR and data\.sources=DIR"):
        unpaired(str(tmp_path / "targets"), "")


def test_pairs_that_memory_cannot_hold_are_refused_before_work(sides, tmp_path, monkeypatch):
    monkeypatch.setattr("gancli.data.pairs.free_memory", lambda: 1e6)
    with pytest.raises(ValueError, match=r"GB of memory at data\.size=512 and 0\.0 are free; type data\.size=160"):
        pairs(**{**options("two folders", tmp_path), "size": 512})


def test_two_classes_become_two_sets():
    data = synthetic("shapes", 60, 8)
    source, target = data.class_names[2], data.class_names[0]
    for a, b in ((source, target), (2, 0), ("2", target)):
        sets = two_classes(data, a, b)
        assert torch.equal(sets.sources, data.images[data.labels == 2]) and not sets.paired
        assert torch.equal(sets.images, data.images[data.labels == 0]) and sets.classes == 0
        assert sets.labels.tolist() == [0] * len(sets)


def labelled(*names: str) -> ImageDataset:
    return ImageDataset(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), class_names=list(names))


@pytest.mark.parametrize(
    ("data", "source", "target", "message"),
    [
        (labelled(), 0, 1, "this data has no classes .* data=mnist, or type data=unpaired"),
        (labelled("cat", "dog"), "cta", "dog", "no class 'cta'; did you mean cat.* the classes are cat, dog"),
        (
            labelled("cat", "dog"),
            "dog",
            1,
            r"=\[dog,1\], are both the class dog; type .*=\[cat,dog\]",
        ),
        (labelled("cat", "dog"), "cat", "dog", "no image of the class dog"),
        (synthetic("ring", 20), 0, 1, "points of the plane cannot be translated"),
    ],
)
def test_impossible_classes_are_refused(data, source, target, message):
    with pytest.raises(ValueError, match=message):
        two_classes(data, source, target)


def test_sources_are_resized_and_keep_their_channels():
    data = ImageDataset(stacked([noise(0), noise(1)]), sources=stacked([noise(2)]), paired=False)
    small = data.resized(4, 1)
    assert small.images.shape == (2, 1, 4, 4) and small.sources.shape == (1, 3, 4, 4) and not small.paired
    alone = ImageDataset(data.sources).resized(4)
    assert torch.equal(small.sources, alone.images)
    assert data.to(torch.device("meta")).sources.device.type == "meta"
    assert alone.resized(8).source_channels == 0 and len(alone.to(torch.device("cpu")).sources) == 0
