"""gan evaluate on super-resolution models: what is measured, how it is said, and what cannot be measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import TINY
from PIL import Image


def picture(path: Path, width: int = 41, height: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(30, 220, (8, 8, 3), dtype=np.uint8)
    made = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return made


def train(gan, model: str = "sr_compact", *words: str) -> None:
    assert gan("train", f"model={model}", *TINY, f"run.dir={model}", *words)[0] == 0


def test_the_untrained_network_measures_as_bicubic_and_says_how(gan):
    train(gan, "sr_compact", "model.lr=1e-30")
    picture(Path("set/a.png"))
    picture(Path("set/deep/b.jpg"), 33, 50, seed=1)
    picture(Path("set/grey.png"), 40, 40, "L", seed=2)
    code, out, _ = gan("evaluate", "ckpt=sr_compact", "images=set", "json=made/s.json", "out=made/side.png")
    assert code == 0 and "border of 4 shaved" in out and "0 given, 3 by antialiased bicubic" in out
    scores = json.loads(Path("made/s.json").read_text())
    assert [row["picture"] for row in scores["pictures"]] == ["a.png", "deep/b.jpg", "grey.png"]
    for row in scores["pictures"]:
        assert row["ours"] == pytest.approx(row["bicubic"]) and 25 < row["ours"]["psnr"] < 70
    assert scores["protocol"]["pictures"] == 3 and "sr_compact of 6 steps" in scores["protocol"]["weights"]
    assert scores["protocol"]["weights"].endswith(".safetensors"), "which file of the folder it was"
    assert scores["mean"]["ours"]["psnr"] == pytest.approx(sum(r["ours"]["psnr"] for r in scores["pictures"]) / 3)
    with Image.open("made/side.png") as side:
        assert side.width > 600


def test_a_small_twin_is_what_is_enlarged(gan):
    """Enlarged from black, the picture is far off; made by bicubic it would be near."""
    train(gan)
    picture(Path("set/a_HR.png"), 40, 24)
    Image.new("RGB", (10, 6)).save("set/a_LR.png")
    code, out, _ = gan("evaluate", "ckpt=sr_compact", "images=set")
    assert code == 0 and "1 given" in out
    row = next(line for line in out.splitlines() if line.startswith("a_HR.png"))
    assert float(row.split()[1]) < 15


def test_a_checkpoint_has_its_own_scale(gan):
    train(gan, "srgan", "model.scale=2", "model.depth=1")
    picture(Path("set/a.png"))
    code, out, _ = gan("evaluate", "ckpt=srgan", "images=set")
    assert code == 0 and "border of 2 shaved" in out


def test_what_fails_is_named_and_the_others_are_measured(gan):
    train(gan)
    picture(Path("set/a.png"))
    picture(Path("set/b_HR.png"), 40, 40)
    picture(Path("set/b_LR.png"), 9, 10)
    picture(Path("set/tiny.png"), 3, 30)
    picture(Path("set/thin.png"), 11, 30)
    Path("set/torn.png").write_bytes(b"no picture")
    code, out, err = gan("evaluate", "ckpt=sr_compact", "images=set")
    assert code == 1 and "a.png" in out and "mean" in out
    assert "b_HR.png: is 40x40 and b_LR.png 9x10, not 10x10" in err and "tiny.png: is 3x30, smaller" in err
    assert "thin.png: is 11x30, and nothing is left of it without a border of 4" in err
    assert "torn.png: is not a picture" in err and "4 of 5 pictures could not be measured" in err


def test_the_means_are_of_the_same_pictures_in_both_columns(gan):
    """Bicubic meets a flat picture exactly. Counted for the network alone, it would make a loss look like a gain."""
    train(gan, "sr_compact", "model.lr=0.01")
    picture(Path("set/detail.png"), 64, 48)
    Image.new("RGB", (64, 48), (90, 120, 30)).save("set/sky.png")
    code, out, _ = gan("evaluate", "ckpt=sr_compact", "images=set", "json=s.json")
    assert code == 0 and "psnr over 1" in out and "of 2 pictures" in out

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    scores = json.loads(Path("s.json").read_text(), parse_constant=refuse)
    detail, sky = scores["pictures"]
    assert sky["bicubic"]["psnr"] is None and sky["ours"]["psnr"] > detail["ours"]["psnr"]
    for column in ("bicubic", "ours"):
        assert scores["mean"][column]["psnr"] == detail[column]["psnr"]
    assert scores["protocol"]["counted in the means"]["psnr"] == 1


def test_pictures_that_differ_in_their_suffix_alone_are_two(gan):
    train(gan)
    picture(Path("set/a.png"))
    picture(Path("set/a.jpg"), seed=1)
    code, out, _ = gan("evaluate", "ckpt=sr_compact", "images=set")
    assert code == 0 and "a.png" in out and "a.jpg" in out and "0 given, 2 by" in out


def test_what_cannot_be_measured_is_said_in_a_sentence(gan):
    train(gan)
    train(gan, "dcgan")
    Path("empty").mkdir()
    picture(Path("set/a.png"))
    for words, message in (
        ((), "nothing to measure was given; type ckpt=FILE"),
        (("images=set",), "no ckpt= to enlarge them was given, nor either of these; type one of them"),
        (("ckpt=sr_compact",), "no pictures were given; type images=DIR"),
        (("ckpt=sr_compact", "images=nowhere"), "images=nowhere is not a folder"),
        (("ckpt=sr_compact", "images=empty"), "there is no picture in images=empty"),
        (("ckpt=dcgan", "images=set"), "to enlarge, and dcgan/checkpoints/last.safetensors is a dcgan; type data=DIR"),
        (("ckpt=sr_compact", "images=set", "out=x.gif"), "out=x.gif is no form that is written"),
        (("ckpt=sr_compact", "images=set", "json=x.txt"), "json=x.txt is no form that is written"),
        (("ckpt=faithful", "images=set", "scale=5"), "scale=5 is not one of 2, 3 and 4"),
    ):
        code, _, err = gan("evaluate", *words)
        assert code == 1 and message in err and len(err.splitlines()) == 1, (words, err)
