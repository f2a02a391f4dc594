"""Pairs of pictures and sets without an order between them: how they are read, and how they come in batches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from omegaconf import OmegaConf
from PIL import Image

from gancli.config import build, header, keys
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader
from gancli.data.pairs import pairs, two_classes, unpaired
from gancli.data.synthetic import synthetic
from gancli.images import to_float

CPU = torch.device("cpu")
SIZE = 8


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)


def save(pixels: np.ndarray, path: Path) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def stacked(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Three pictures of two halves each in both/, and the halves of each, left and right, in left/ and right/."""
    halves = [], []
    for k, name in enumerate(["a", "deep/b", "deep/c.d"]):
        two = [picture(2 * k), picture(2 * k + 1)]
        save(np.concatenate(two, 1), tmp_path / "both" / f"{name}.png")
        for half, pixels, place in zip(halves, two, ("left", "right")):
            half.append(save(pixels, tmp_path / place / f"{name}.{'bmp' if place == 'left' else 'png'}"))
    return stacked(halves[0]), stacked(halves[1])


def pair_options(layout: str, folder: Path) -> dict:
    if layout == "side by side":
        return {"path": str(folder / "both"), "size": SIZE}
    return {"path": str(folder / "right"), "sources": str(folder / "left"), "size": SIZE}


@pytest.mark.parametrize("layout", ["side by side", "two folders"])
def test_pairs_of_either_layout(layout, sides, tmp_path):
    left, right = sides
    data = pairs(**pair_options(layout, tmp_path))
    assert torch.equal(data.sources, left) and torch.equal(data.images, right)
    assert data.paired and data.classes == 0 and data.skipped == [] and data.labels.tolist() == [0, 0, 0]
    swapped = pairs(**pair_options(layout, tmp_path), swap=True)
    assert torch.equal(swapped.sources, right) and torch.equal(swapped.images, left)


def test_each_side_has_its_own_channels(sides, tmp_path):
    data = pairs(**pair_options("side by side", tmp_path), channels=3, source_channels=1)
    grey = [np.asarray(Image.fromarray(p.permute(1, 2, 0).numpy()).convert("L"))[..., None] for p in sides[0]]
    assert torch.equal(data.sources, stacked(grey)) and torch.equal(data.images, sides[1])
    assert (data.source_channels, data.channels) == (1, 3)
    assert pairs(**pair_options("side by side", tmp_path), channels=1).images.shape == (3, 1, SIZE, SIZE)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_both_of_a_pair_are_fitted_alike(fit, tmp_path):
    pixels = picture(0, 30, 22)
    save(np.concatenate([pixels, pixels], 1), tmp_path / "a.png")
    data = pairs(str(tmp_path), size=SIZE, fit=fit)
    assert torch.equal(data.images, data.sources) and data.size == SIZE


def test_a_pair_of_which_one_cannot_be_read_is_skipped_and_named(sides, tmp_path):
    (tmp_path / "both" / "bad.png").write_bytes(b"no picture")
    data = pairs(**pair_options("side by side", tmp_path))
    assert len(data) == len(data.sources) == 3
    assert data.skipped == [(str(tmp_path / "both" / "bad.png"), "is not a picture that Pillow knows")]

    (tmp_path / "left" / "a.bmp").write_bytes(b"")
    (tmp_path / "right" / "deep" / "b.png").write_bytes(b"")
    data = pairs(**pair_options("two folders", tmp_path))
    assert torch.equal(data.images, sides[1][2:]) and torch.equal(data.sources, sides[0][2:])
    source = tmp_path / "left" / "a.bmp"
    assert data.skipped == [
        (str(tmp_path / "right" / "a.png"), f"its source {source} cannot be used: is empty"),
        (str(tmp_path / "right" / "deep" / "b.png"), "is empty"),
    ]


def lonely(folder: Path) -> None:
    save(picture(9), folder / "left" / "e.png")
    save(picture(9), folder / "left" / "f.png")
    save(picture(9), folder / "right" / "d.png")


def of_other_size(folder: Path) -> None:
    save(picture(9, 10, 8), folder / "left" / "a.bmp")


def odd(folder: Path) -> None:
    save(picture(9, 17, 8), folder / "both" / "a.png")


def twins(folder: Path) -> None:
    save(picture(9), folder / "left" / "a.png")


@pytest.mark.parametrize(
    ("damage", "layout", "said"),
    [
        (lonely, "two folders", r"1 of the 4 pictures in data\.path=\S+right and 2 of the 5 in data\.sources=\S+left "
         r"have no counterpart of the same name, the first \S+right/d\.png: .* choose data=unpaired"),
        (of_other_size, "two folders", r"left/a\.bmp is 10x8 and \S+right/a\.png is 8x8, .*: bring both to one size"),
        (odd, "side by side", r"both/a\.png is 17x8, which has no halves of one width: .* or .*data\.sources="),
        (twins, "two folders", r"a\.bmp and a\.png in data\.sources=\S+left differ in their suffix alone"),
    ],
)  # fmt: skip
def test_what_is_no_set_of_pairs_is_refused_in_one_sentence(damage, layout, said, sides, tmp_path):
    damage(tmp_path)
    with pytest.raises(ValueError, match=said) as error:
        pairs(**pair_options(layout, tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [pairs, unpaired])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": ""}, r"data=(pairs|unpaired) needs data\.path=DIR"),
        ({"path": "/no/such"}, r"data\.path=/no/such is nothing, not a folder"),
        ({"sources": "/no/such"}, r"data\.sources=/no/such is nothing, not a folder"),
        ({"path": __file__}, r"data\.path=\S+ is a file, not a folder"),
        ({"fit": "corp"}, r"data\.fit=corp .* did you mean crop"),
        ({"size": 0}, r"data\.size=0"),
        ({"size": None}, r"data\.size=None"),
        ({"channels": 4}, r"data\.channels=4 .* data\.channels=3"),
        ({"source_channels": 2}, r"data\.source_channels=2 .* data\.source_channels=3"),
        ({"path": "EMPTY"}, r"data\.path=\S+ cannot be trained on, it has no pictures: .* gan data check \S+EMPTY"),
        ({"sources": "EMPTY"}, r"data\.sources=\S+ cannot be trained on, it has no pictures"),
        ({"path": "BAD", "sources": "BAD"}, r"data\.path=\S+ cannot be trained on, none of its 1 pictures can be read"),
    ],
)
def test_settings_that_make_no_data(read, options, said, sides, tmp_path):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD" / "a.png").touch()
    options = {k: str(tmp_path / v) if v in ("EMPTY", "BAD") else v for k, v in options.items()}
    with pytest.raises(ValueError, match=said) as error:
        read(**{**pair_options("two folders", tmp_path), **options})
    assert "\n" not in str(error.value)


def test_unpaired_folders_may_differ_in_all(tmp_path):
    for k in range(3):
        save(picture(k, 9 + k, 20), tmp_path / "targets" / f"{k}.png")
    save(picture(7), tmp_path / "sources" / "loose.png")
    save(picture(8), tmp_path / "sources" / "deep" / "x.png")
    (tmp_path / "sources" / "bad.png").touch()
    data = unpaired(str(tmp_path / "targets"), str(tmp_path / "sources"), SIZE, channels=1)
    assert data.images.shape == (3, 1, SIZE, SIZE) and not data.paired
    assert torch.equal(data.sources, stacked([picture(8), picture(7)]))
    assert data.skipped == [(str(tmp_path / "sources" / "bad.png"), "is empty")]
    with pytest.raises(ValueError, match=r"data=unpaired needs data\.path=DIR and data\.sources=DIR"):
        unpaired(str(tmp_path / "targets"), "")


def test_two_classes_become_two_sets():
    data = synthetic("shapes", 60, 8)
    source, target = data.class_names[2], data.class_names[0]
    for a, b in ((source, target), (2, 0), ("2", target)):
        two = two_classes(data, a, b)
        assert torch.equal(two.sources, data.images[data.labels == 2]) and not two.paired
        assert torch.equal(two.images, data.images[data.labels == 0]) and two.classes == 0
        assert two.labels.tolist() == [0] * len(two)


def test_a_class_is_meant_by_its_name_before_its_number():
    data = ImageDataset(torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1), torch.arange(6) % 3, ["2", "0", "1"])
    two = two_classes(data, 2, 0)
    assert two.sources.flatten().tolist() == [0, 3] and two.images.flatten().tolist() == [1, 4]


def labelled(names: list[str]) -> ImageDataset:
    return ImageDataset(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), names)


@pytest.mark.parametrize(
    ("data", "source", "target", "said"),
    [
        (labelled([]), 0, 1, "these data have no classes .* data=mnist, or type data=unpaired"),
        (labelled(["cat", "dog"]), "cta", "dog", "no class cta; did you mean cat.* the classes are cat, dog"),
        (labelled(["cat", "dog"]), 0, 2, "there is no class 2"),
        (labelled(["cat", "dog"]), -1, 0, "there is no class -1"),
        (labelled(["cat", "dog"]), "dog", 1, "source and target are both the class dog"),
        (labelled(["cat", "dog"]), "cat", "dog", "no image of the class dog"),
        (synthetic("ring", 20), 0, 1, "points of the plane are no pictures"),
    ],
)
def test_two_classes_that_cannot_be(data, source, target, said):
    with pytest.raises(ValueError, match=said) as error:
        two_classes(data, source, target)
    assert "\n" not in str(error.value)


def numbered(n: int, m: int, paired: bool = False) -> ImageDataset:
    """Image i has the value i, source i the value 100 + i; the left column is 255, so that a flip shows."""
    images, sources = (
        torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, channels, 4, 4)
        for first, count, channels in ((0, n, 3), (100, m, 1))
    )
    images[..., 0] = sources[..., 0] = 255
    return ImageDataset(images, torch.zeros(n, dtype=torch.int64), [], [], sources, paired)


def numbers(x: torch.Tensor) -> list[int]:
    return [round((v + 1) * 127.5) for v in x[:, 0, 0, 1].tolist()]


def flipped(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0, 0, -1] == 1


def test_pairs_stay_together_and_are_mirrored_together():
    batches = BatchLoader(numbered(50, 50, paired=True), 20, 0, True, 0, CPU)
    drawn = [batches(n) for n in range(5)]
    for x, c in drawn:
        assert x.shape == (20, 3, 4, 4) and c.shape == (20, 1, 4, 4) and c.dtype == torch.float32
        assert [100 + i for i in numbers(x)] == numbers(c) and torch.equal(flipped(x), flipped(c))
    assert sorted(i for _, c in drawn for i in numbers(c)) == sorted(2 * list(range(100, 150)))
    assert 0.3 < torch.cat([flipped(c) for _, c in drawn]).float().mean() < 0.7
    assert not any(flipped(c).any() for c in (BatchLoader(numbered(50, 50, True), 20, 0, False, 0, CPU)(0)[1],))


def test_unpaired_sources_have_an_endless_row_and_a_coin_of_their_own():
    batches = BatchLoader(numbered(10, 15), 5, 0, True, 0, CPU)
    drawn = [batches(n) for n in range(12)]
    shown = [i for x, _ in drawn for i in numbers(x)]
    known = [i for _, c in drawn for i in numbers(c)]
    for row, count, first in ((shown, 10, 0), (known, 15, 100)):
        epochs = [row[start : start + count] for start in range(0, 60, count)]
        assert all(sorted(epoch) == list(range(first, first + count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    mirrored = [torch.cat([flipped(images) for images in side]) for side in zip(*drawn)]
    assert not torch.equal(*mirrored) and all(0.3 < side.float().mean() < 0.7 for side in mirrored)
    assert len(set(zip(shown, known))) > 40  # who meets whom changes


def test_sources_do_not_change_what_images_are_drawn():
    alone = numbered(10, 0, paired=True)
    for data in (numbered(10, 10, paired=True), numbered(10, 7)):
        for n in range(6):
            assert torch.equal(
                BatchLoader(data, 4, 0, True, 3, CPU)(n)[0], BatchLoader(alone, 4, 0, True, 3, CPU)(n)[0]
            )


@pytest.mark.parametrize("data", [numbered(10, 7), numbered(10, 10, paired=True)], ids=["unpaired", "paired"])
def test_any_batch_of_pairs_can_be_drawn_first(data):
    """So that a run resumes without a state."""
    forward, backward = (BatchLoader(data, 4, 0, True, 3, CPU) for _ in range(2))
    ahead = [forward(n) for n in range(9)]
    for n in reversed(range(9)):
        assert all(torch.equal(a, b) for a, b in zip(ahead[n], backward(n)))


@pytest.mark.parametrize("data", [numbered(10, 7), numbered(10, 10, paired=True)], ids=["unpaired", "paired"])
def test_a_process_draws_its_rows_of_the_pairs(data):
    for n in range(5):
        whole = BatchLoader(data, 6, 0, True, 1, CPU)(n)
        parts = [BatchLoader(data, 6, 0, True, 1, CPU, rank, 3)(n) for rank in range(3)]
        for side in range(2):
            assert torch.equal(torch.cat([part[side] for part in parts]), whole[side])


@pytest.mark.parametrize(
    ("data", "size", "classes", "said"),
    [
        (
            numbered(10, 7),
            8,
            0,
            r"data\.batch_size=8 is larger than the data, 7 source images; type data\.batch_size=7",
        ),
        (numbered(10, 10, True), 4, 3, "takes 3 classes but what is known of these images is other images; choose"),
    ],
)
def test_batches_of_pairs_that_cannot_be_drawn(data, size, classes, said):
    with pytest.raises(ValueError, match=said):
        BatchLoader(data, size, classes, False, 0, CPU)


def test_sources_are_resized_and_keep_their_channels():
    data = ImageDataset(
        stacked([picture(0), picture(1)]), torch.zeros(2, dtype=torch.int64), [], [], stacked([picture(2)]), False
    )
    small = data.resized(4, 1)
    assert small.images.shape == (2, 1, 4, 4) and small.sources.shape == (1, 3, 4, 4) and not small.paired
    alone = ImageDataset(data.sources, torch.zeros(1, dtype=torch.int64)).resized(4)
    assert torch.equal(small.sources, alone.images)
    assert data.to(torch.device("meta")).sources.device.type == "meta"
    assert alone.resized(8).source_channels == 0 and len(alone.to(CPU).sources) == 0


@pytest.mark.parametrize("name", ["pairs", "unpaired"])
def test_the_configs_read_folders(name, sides, tmp_path):
    cfg = OmegaConf.create(
        {"data": OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml"), "model": {"default_batch_size": 1}}
    )
    assert cfg.data.name == name and header(f"data/{name}")
    meanings = {key.name: key.meaning for key in keys(f"data/{name}")}
    assert [key for key in cfg.data if key not in ("name", "source") and not meanings[key]] == []
    cfg.data.path, cfg.data.sources, cfg.data.source_channels = str(tmp_path / "right"), str(tmp_path / "left"), 1
    data = build(cfg.data.source)
    assert (data.size, data.channels, data.source_channels, data.classes) == (cfg.data.size, 3, 1, cfg.data.classes)
    assert len(data) == 3 and data.paired == (name == "pairs")
    x, c = BatchLoader(data, 2, 0, cfg.data.flip, 0, CPU)(0)
    assert x.shape == (2, 3, 64, 64) and c.shape == (2, 1, 64, 64)
    rows = [
        next(i for i, image in enumerate(to_float(data.images)) if image.equal(a) or image.flip(2).equal(a)) for a in x
    ]
    if name == "pairs":
        assert all(torch.equal(b, s) or torch.equal(b, s.flip(2)) for b, s in zip(c, to_float(data.sources[rows])))
