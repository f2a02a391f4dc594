"""Stacked MNIST: every image is the three digits that it is said to be, and nothing else."""

import os
from pathlib import Path

import pytest
import torch
from helpers import fake_mnist
from omegaconf import OmegaConf

from gancli.config import CONFIGS, build
from gancli.data.builtin import mnist, stacked_digits, stacked_mnist
from gancli.data.loader import BatchLoader

MODE = torch.tensor([100, 10, 1])


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Ten digits, one of each class, no two alike."""
    fake_mnist(tmp_path / "MNIST", n=10)
    return str(tmp_path)


def test_every_channel_is_a_digit(root):
    data, single = stacked_mnist(root, n=500), mnist(root)
    assert tuple(data.images.shape) == (500, 3, 28, 28) and data.images.dtype == torch.uint8
    assert data.classes == 0 and data.labels.eq(0).all() and data.images.is_contiguous()
    digits = stacked_digits(10, 500)
    for channel in range(3):
        assert torch.equal(data.images[:, channel], single.images[digits[:, channel], 0])
    modes = single.labels[digits] @ MODE
    assert modes.min() >= 0 and modes.max() < 1000 and len(modes.unique()) > 300


def test_digits_are_drawn_evenly_and_independently():
    digits = stacked_digits(10, 100_000)
    assert tuple(digits.shape) == (100_000, 3) and digits.dtype == torch.int64
    frequency = (digits @ MODE).bincount(minlength=1000).double() / 100_000
    assert frequency.min() > 0 and (frequency - 1e-3).abs().max() < 5 * (1e-3 / 100_000) ** 0.5


def test_the_ith_depends_on_the_seed_alone(root):
    few, many, other = (stacked_mnist(root, n=n, seed=seed).images for n, seed in ((10, 3), (50, 3), (10, 4)))
    assert torch.equal(few, many[:10]) and not torch.equal(few, other)
    assert torch.equal(few, stacked_mnist(root, n=10, split="test", seed=3).images)  # the splits are alike here


def test_resized(root):
    whole = stacked_mnist(root, n=20)
    assert torch.equal(stacked_mnist(root, n=20, size=32).images, whole.resized(32).images)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n": 0}, r"data\.n=0"),
        ({"n": 2.5}, r"data\.n=2\.5"),
        ({"seed": -1}, r"data\.seed=-1"),
        ({"split": "val"}, r"data\.split=val"),
        ({"size": 0}, r"data\.size=0"),
    ],
)
def test_sentences(root, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        stacked_mnist(**{"root": root, "n": 10, **settings})


def test_the_config_makes_it_and_no_network_sees_a_class(root):
    file = OmegaConf.load(CONFIGS / "data" / "stacked_mnist.yaml")
    cfg = OmegaConf.create({"data": file, "model": {"default_batch_size": 16}})
    assert (cfg.data.n, cfg.data.size, cfg.data.channels, cfg.data.classes) == (128_000, 28, 3, 0)
    cfg.data.update(root=root, n=40)
    x, c = BatchLoader(build(cfg.data.source), 16, cfg.data.classes, False, 0, torch.device("cpu"))(0)
    assert tuple(x.shape) == (16, 3, 28, 28) and tuple(c.shape) == (16, 0)


@pytest.mark.data
def test_real_digits_have_all_modes():
    root = os.environ["GAN_DATA"]
    data, single = stacked_mnist(root), mnist(root)
    digits = stacked_digits(60_000, 128_000)
    assert len(data) == 128_000 and torch.equal(data.images[-1], single.images[digits[-1], 0])
    counts = (single.labels[digits] @ MODE).bincount(minlength=1000)
    assert len(counts) == 1000 and counts.min() > 50
