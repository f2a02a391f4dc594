"""Data by the word that is typed for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.data.builtin import digits
from gancli.data.by_name import load_by_name


def test_a_name_gives_that_data_as_its_own_yaml_says():
    data = load_by_name("digits", None, None)
    assert (len(data), data.size, data.channels, data.classes) == (297, 16, 1, 10)
    assert torch.equal(data.images, digits(16, 1, "test").images)
    assert len(load_by_name("digits", 16, 1, split="train")) == 1500
    shapes = load_by_name("synthetic", 12, 1)
    assert (len(shapes), shapes.size, shapes.channels) == (10_000, 12, 1)
    assert shapes.class_names == ["circle", "square", "triangle", "cross"]


@pytest.mark.data
def test_size_and_channels_hold_also_where_the_source_takes_one_alone():
    data = load_by_name("stacked_mnist", 14, 1)
    assert tuple(data.images.shape[1:]) == (1, 14, 14)
    colour = load_by_name("mnist", 32, 3)
    assert len(colour) == 10_000 and tuple(colour.images.shape[1:]) == (3, 32, 32)


def test_a_folder_of_pictures(tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / "a (b)" / name).mkdir(parents=True)
        Image.new("L", (9, 12), 200).save(tmp_path / "a (b)" / name / "1.png")
    data = load_by_name(f"{tmp_path}/a (b)/", 8, 1)
    assert data.class_names == ["cat", "dog"] and tuple(data.images.shape) == (2, 1, 8, 8)
    assert np.array_equal(data.images.unique(), [200])


def test_a_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Image.new("L", (8, 8)).save("digits/0.png")
    assert len(load_by_name("digits", 16, 1)) == 297 and len(load_by_name("./digits", 16, 1)) == 1


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("digist", "there is no data 'digist'; did you mean digits?; there are: cifar10, digits,"),
        ("", "there is no data ''; there are: cifar10,"),
        ("nowhere/", "and folders: DIR/"),
        ("folder", "data=folder is the kind of your own data, not its place; type data=DIR"),
        ("npz", "type data=DIR"),
    ],
)
def test_what_is_no_data_gets_one_sentence(word, said):
    with pytest.raises(ValueError, match=r"^there is|^data=") as error:
        load_by_name(word, 16, 1)
    assert said in str(error.value)
