"""gan evaluate metrics=[copies]: of a model, and of a folder of images."""

import json

import numpy as np
import pytest
from helpers import TINY
from PIL import Image


def write_images(folder, seeds) -> None:
    folder.mkdir()
    for seed in seeds:
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{seed}.png")


def test_copies_in_a_folder_are_counted_and_shown(gan, tmp_path):
    write_images(tmp_path / "train", range(60))
    write_images(tmp_path / "fake", [*range(30), *range(100, 130)])
    code, out, err = gan(
        "evaluate", "images=fake", "reference=train", "metrics=[copies]", "out=pairs.png", "json=x.json"
    )
    assert code == 0, err
    assert "60 generated images, 60 training images" in out
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["scores"]["copies"] == pytest.approx(0.5, abs=0.05) and content["real"]["copies"] == 0.02
    with Image.open(tmp_path / "pairs.png") as sheet:
        a, b = (np.asarray(sheet)[20:110, left : left + 90].astype(int) for left in (2, 102))
        assert abs(a - b).mean() < 1, "a copy stands next to the image that it repeats"


def test_a_model_is_compared_with_all_its_training_images(gan):
    tiny = [*TINY, "data.n=200", "trainer.steps=1", "run.dir=run"]
    assert gan("train", "model=mlp", *tiny)[0] == 0
    code, out, err = gan("evaluate", "ckpt=run", "metrics=[copies]", "n=20")
    assert code == 0, err
    assert "20 generated images, 200 training images" in out
    code, _, err = gan("evaluate", "ckpt=run", "metrics=[copies,fd_cifar]")
    assert code == 1 and "type metrics=[copies], and metrics=[fd_cifar] in another command" in err
