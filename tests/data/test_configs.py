"""Every configs/data/*.yaml makes a data set whose facts are the ones it states."""

import numpy as np
import pytest
from helpers import ROOT
from omegaconf import OmegaConf
from PIL import Image

from gancli.config import build, choices, header, keys

CONFIGS = ROOT / "configs" / "data"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def load(name: str):
    return OmegaConf.create({"data": OmegaConf.load(CONFIGS / f"{name}.yaml"), "model": {"default_batch_size": 128}})


def test_all_are_there():
    named = {"digits", "mnist", "fashion_mnist", "cifar10", "folder", "npz", "photos", "synthetic"}
    assert named <= set(NAMES) == set(choices("data"))


@pytest.mark.parametrize("name", NAMES)
def test_documented(name):
    cfg = load(name).data
    assert cfg.name == name and header(f"data/{name}")
    assert {"source", "size", "channels", "classes", "batch_size", "flip"} <= set(cfg)
    meanings = {key.name: key.meaning for key in keys(f"data/{name}")}
    assert [key for key in cfg if key not in ("name", "source") and not meanings[key]] == []


@pytest.mark.parametrize("name", NAMES)
def test_builds(name, tmp_path):
    cfg = load(name)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), np.arange(20) % 10
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    if "root" in cfg.data.source:
        np.savez(tmp_path / f"{name.removeprefix('stacked_')}.npz", **arrays)
        cfg.data.root = str(tmp_path)
    elif name == "npz":
        np.savez(tmp_path / "a.npz", **arrays)
        cfg.data.path = str(tmp_path / "a.npz")
    elif name in ("folder", "photos"):
        Image.fromarray(x[0].repeat(16, 0).repeat(16, 1)).save(tmp_path / "a.png")
        cfg.data.path, cfg.data.cache = str(tmp_path), str(tmp_path / "cache")
    elif name in ("pairs", "unpaired"):
        Image.fromarray(x[0]).save(tmp_path / "a.png")
        cfg.data.path = cfg.data.sources = str(tmp_path)
    data = build(cfg.data.source)
    for fact in ("size", "channels", "classes"):
        assert cfg.data[fact] in (None, getattr(data, fact))
    assert len(data) == len(data.labels) > 0


@pytest.mark.parametrize("name", ["folder", "npz", "pairs", "photos", "unpaired"])
def test_path_is_asked_for(name):
    with pytest.raises(ValueError, match=rf"data={name} needs .*data\.path="):
        build(load(name).data.source)


def test_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("GAN_DATA", "/somewhere")
    assert load("mnist").data.root == "/somewhere"
    monkeypatch.delenv("GAN_DATA")
    assert load("mnist").data.root == "~/.cache/gan/data"
