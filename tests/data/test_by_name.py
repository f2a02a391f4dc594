"""Data sets by the name that is typed for them."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from gancli.data.builtin import mnist10k
from gancli.data.by_name import load_by_name


def test_a_name_gives_the_data_of_its_yaml():
    data = load_by_name("mnist10k", None, None)
    assert (len(data), data.size, data.channels, data.classes) == (1000, 28, 1, 10)
    assert torch.equal(data.images, mnist10k(split="test").images)
    assert len(load_by_name("mnist10k", 16, 1, split="train")) == 9000
    shapes = load_by_name("synthetic", 12, 1)
    assert (len(shapes), shapes.size, shapes.channels, shapes.class_names[0]) == (10_000, 12, 1, "circle")


@pytest.mark.data
def test_size_and_channels_hold_where_the_source_takes_only_one_of_them():
    assert tuple(load_by_name("stacked_mnist", 14, 1).images.shape[1:]) == (1, 14, 14)
    assert tuple(load_by_name("mnist", 32, 3).images.shape) == (10_000, 3, 32, 32)


def test_folders_are_read_and_names_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a (b)/cat", "a (b)/dog", "mnist10k"):
        Path(name).mkdir(parents=True)
        Image.new("L", (9, 12), 200).save(f"{name}/1.png")
    data = load_by_name(f"{tmp_path}/a (b)/", 8, 1)
    assert data.class_names == ["cat", "dog"] and tuple(data.images.shape) == (2, 1, 8, 8)
    assert (data.images == 200).all()
    shutil.make_archive("packed", "zip", "a (b)")
    assert load_by_name("packed.zip", 8, 1).class_names == ["cat", "dog"]
    assert len(load_by_name("mnist10k", 16, 1)) == 1000 and len(load_by_name("./mnist10k", 16, 1)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist1k", "^data=mnist1k does not exist; did you mean mnist10k?; choose one of cifar10, fashion_mnist,"),
        ("", "^data= does not exist; choose one of cifar10,"),
        ("nowhere/", "or type a folder$"),
        ("folder", "^data=folder stands for your own data, not for its folder; type data=DIR"),
        ("npz", "type data=DIR"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        load_by_name(name, 16, 1)
