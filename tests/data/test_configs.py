"""Every configs/data/*.yaml is documented and builds the data that it states."""

import numpy as np
import pytest
from helpers import ROOT
from omegaconf import OmegaConf
from PIL import Image

from gancli.config import build, choices, header, keys

NAMES = choices("data")


def load(name: str):
    data = OmegaConf.load(ROOT / "configs" / "data" / f"{name}.yaml")
    return OmegaConf.create({"data": data, "model": {"default_batch_size": 128}})


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_documented(name):
    cfg = load(name).data
    assert cfg.name == name and header(f"data/{name}")
    assert {"source", "size", "channels", "classes", "batch_size", "flip"} <= set(cfg)
    meanings = {key.name: key.meaning for key in keys(f"data/{name}")}
    assert [key for key in cfg if key not in ("name", "source", "defaults") and not meanings[key]] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_what_it_states(name, tmp_path):
    cfg = load(name)
    x, y = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), np.arange(20) % 10
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    if "path" in cfg.data:
        with pytest.raises(ValueError, match=rf"data={name} needs .*data\.path="):
            build(cfg.data.source)
    if "root" in cfg.data.source:
        np.savez(tmp_path / f"{name.removeprefix('stacked_')}.npz", **arrays)
        cfg.data.root = str(tmp_path)
    elif name == "npz":
        np.savez(tmp_path / "a.npz", **arrays)
        cfg.data.path = str(tmp_path / "a.npz")
    elif "path" in cfg.data:
        Image.fromarray(x[0].repeat(16, 0).repeat(16, 1)).save(tmp_path / "a.png")
        cfg.data.path = str(tmp_path)
    for key, value in {"cache": str(tmp_path / "cache"), "sources": str(tmp_path), "source_channels": 1}.items():
        if key in cfg.data:
            cfg.data[key] = value
    data = build(cfg.data.source)
    for fact in ("size", "channels", "classes"):
        assert cfg.data[fact] in (None, getattr(data, fact))
    assert len(data) == len(data.labels) > 0
    assert len(data.sources) == (name in ("pairs", "unpaired")) and data.sources.shape[1] == 1


def test_root_follows_the_environment(monkeypatch):
    monkeypatch.setenv("GAN_DATA", "/somewhere")
    assert load("mnist").data.root == "/somewhere"
    monkeypatch.delenv("GAN_DATA")
    assert load("mnist").data.root == "~/.cache/gan/data"
