"""Evaluation of super-resolution networks on a folder of images."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def save_image(path: str, width: int = 41, height: int = 30, mode: str = "RGB", seed: int = 0) -> None:
    coarse = np.random.default_rng(seed).integers(30, 220, (8, 8, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path)


@pytest.fixture
def compact(trained) -> str:
    return f"ckpt={trained('model=sr_compact', 'model.lr=0.01', on='synthetic')}"


def test_an_untrained_network_equals_bicubic(evaluate, trained):
    run = trained("model=sr_compact", "model.lr=1e-30", on="synthetic")
    save_image("set/a.png")
    save_image("set/deep/b.jpg", 33, 50, seed=1)
    save_image("set/grey.png", 40, 40, "L", seed=2)
    results, out, _ = evaluate(f"ckpt={run}", "images=set", "out=new/side.png")
    assert "border of 4 shaved" in out and "0 given, 3 by antialiased bicubic" in out
    assert out.splitlines()[-2:] == ["new/side.png", "s.json"]
    assert [row["image"] for row in results["images"]] == ["a.png", "deep/b.jpg", "grey.png"]
    for row in results["images"]:
        assert row["ours"] == pytest.approx(row["bicubic"]) and 25 < row["ours"]["psnr"] < 70
    assert results["protocol"]["n"] == 3 and "sr_compact of 6 steps" in results["protocol"]["weights"]
    assert results["mean"]["ours"]["psnr"] == pytest.approx(sum(r["ours"]["psnr"] for r in results["images"]) / 3)
    with Image.open("new/side.png") as side:
        assert side.width > 600


def test_scores_without_psnr_are_computed_where_they_are_asked_for(evaluate, refused, compact, monkeypatch):
    save_image("set/a.png", 220, 200)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "flip_evaluator", None)
        refused(
            "metrics=[flip] needs a package; type pip install 'gancli[flip]'", compact, "images=set", "metrics=[flip]"
        )
    refused("metrics=nique is not one of niqe, flip; did you mean niqe?", compact, "images=set", "metrics=[nique]")
    names = ["niqe", "flip"] if importlib.util.find_spec("flip_evaluator") else ["niqe"]
    results, out, _ = evaluate(compact, "images=set", f"metrics=[{','.join(names)}]")
    assert {"psnr", *names} <= results["mean"]["ours"].keys() and "without the real image" in out
    assert results["mean"]["ours"]["niqe"] > 0 and 0 <= results["mean"]["ours"].get("flip", 0.5) < 1


def test_a_given_small_image_is_enlarged(evaluate, compact):
    save_image("set/a_HR.png", 40, 24)
    Image.new("RGB", (10, 6)).save("set/a_LR.png")
    results, out, _ = evaluate(compact, "images=set")
    assert "1 given" in out and [row["image"] for row in results["images"]] == ["a_HR.png"]
    assert results["mean"]["ours"]["psnr"] < 15, "enlarged from black"


def test_a_checkpoint_has_its_own_scale(evaluate, trained):
    save_image("set/a.png")
    run = trained("model=srgan", "model.scale=2", "model.depth=1", on="synthetic")
    assert "border of 2 shaved" in evaluate(f"ckpt={run}", "images=set")[1]


def test_images_that_fail_are_named_and_the_others_are_measured(gan, compact):
    save_image("set/a.png")
    save_image("set/a.jpg", seed=1)  # differs from a.png only in its suffix
    save_image("set/b_HR.png", 40, 40)
    save_image("set/b_LR.png", 9, 10)
    save_image("set/tiny.png", 3, 30)
    save_image("set/thin.png", 11, 30)
    Path("set/torn.png").write_bytes(b"no image")
    code, out, err = gan("evaluate", compact, "images=set")
    assert code == 1 and "a.png" in out and "a.jpg" in out and "mean" in out and "0 given, 2 by" in out
    assert "b_HR.png: is 40x40 and b_LR.png 9x10, not 10x10" in err and "tiny.png: is 3x30, smaller" in err
    assert "thin.png: is 11x30, and nothing is left of it without a border of 4" in err
    assert "torn.png: is not" in err and "4 of 6 images could not be measured" in err


def test_means_cover_the_same_images_in_both_columns(evaluate, compact):
    """Bicubic reproduces a flat image exactly. Counted for the network alone, it would turn a loss into a gain."""
    save_image("set/detail.png", 64, 48)
    Image.new("RGB", (64, 48), (90, 120, 30)).save("set/sky.png")
    results, out, _ = evaluate(compact, "images=set")
    detail, sky = results["images"]
    assert "psnr over 1" in out and "of 2 images" in out and results["protocol"]["images in the means"]["psnr"] == 1
    assert sky["bicubic"]["psnr"] is None and sky["ours"]["psnr"] > detail["ours"]["psnr"]
    for column in ("bicubic", "ours"):
        assert results["mean"][column]["psnr"] == detail[column]["psnr"]


def test_refused_commands(refused, compact, trained):
    save_image("set/a.png")
    Path("empty").mkdir()
    refused("no images were given; type images=DIR", compact)
    refused("images=nowhere is not a folder", compact, "images=nowhere")
    refused("there is no image in images=empty", compact, "images=empty")
    refused("are images to enlarge, and", trained("model=dcgan"), "images=set")
