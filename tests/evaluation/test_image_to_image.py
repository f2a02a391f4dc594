"""Evaluation of image-to-image networks: similarity to the targets, and cycle consistency."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.data.builtin import mnist10k
from gancli.data.pairs import two_classes
from gancli.data.synthetic import synthetic
from gancli.evaluation.image_to_image import task_of, translate
from gancli.images import to_float
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.networks.unet import UNet
from gancli.transforms import tasks


def side_by_side(folder: str, n: int = 9, brightness: int = 0) -> str:
    """Write a folder of pairs: an image on the left, the same image darker on the right."""
    Path(folder).mkdir(parents=True)
    for i in range(n):
        left = np.random.default_rng(i).integers(100, 200, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.concatenate([left, left - 90 + brightness], 1).astype(np.uint8)).save(f"{folder}/{i}.png")
    return str(Path(folder).resolve())


def test_pix2pix_is_compared_with_a_baseline_without_network(evaluate, trained):
    run = trained("model=pix2pix", "data.kind=shapes", on="synthetic")
    results, out, _ = evaluate(run, "out=side.png")
    x = to_float(synthetic(kind="shapes", n=64, size=16, channels=3).images)
    task = tasks.Colorize()
    c = task(x)
    network: Any = gancli.load(run).network
    with torch.no_grad():
        ours = network(c[:, :0, 0, 0], c)
    assert results["mean"]["ours"]["psnr"] == pytest.approx(rgb_psnr(ours, x).mean().item(), rel=1e-4)
    assert results["mean"]["naive"]["psnr"] == pytest.approx(rgb_psnr(task.baseline(c), x).mean().item())
    assert results["protocol"]["task"].startswith("Colorize(channels=1") and results["protocol"]["task"] in out
    gain = results["mean"]["ours"]["psnr"] - results["mean"]["naive"]["psnr"]
    assert float(out.splitlines()[1].split()[-1]) == pytest.approx(gain, abs=0.006)
    with Image.open("side.png") as side:
        assert side.width == 3 * 100 - 4, "given, ours, real"


def test_inpainting_has_the_psnr_of_its_holes(evaluate, trained):
    run = trained("model=inpainting", "model.task.mask=centre")
    results, out, _ = evaluate(run)
    assert "1,000 of 1,000 images of mnist10k, split test, 16x16 grey" in out and "hole alone" in out
    # A quarter of the pixels has all of the error, and the rest is given back: 10 log10 4 dB.
    for column in ("naive", "ours"):
        metrics = results["mean"][column]
        assert metrics["psnr"] - metrics["hole_psnr"] == pytest.approx(6.0206, abs=1e-3)


def test_the_seed_chooses_images_and_masks(evaluate, trained):
    run = trained("model=inpainting", "model.task.mask=free")
    first, again, other = (evaluate(run, f"seed={seed}", "n=70")[0] for seed in (0, 0, 1))
    assert first == again and first["mean"] != other["mean"] and first["protocol"]["n"] == 70


def test_pairs_from_training_or_from_a_folder(evaluate, refused, trained, tmp_path_factory):
    path = side_by_side(str(tmp_path_factory.mktemp("pairs") / "train"))
    run = trained("model=pix2pix", "model/task=given", "data=pairs", f"data.path={path}", on="")
    results, out, _ = evaluate(run)
    assert "9 of 9 images of pairs" in out and "training images" in out
    baseline = results["mean"]["naive"]["psnr"]
    assert baseline == pytest.approx(20 * np.log10(255 / 90), abs=0.01), "the left image is 90 levels brighter"
    side_by_side("brighter", 5, brightness=40)
    results, out, _ = evaluate(run, "data=brighter")
    assert results["mean"]["naive"]["psnr"] == pytest.approx(20 * np.log10(255 / 50), abs=0.01)
    assert "5 of 5 images of pairs brighter, split none, 16x16 colour" in out
    refused("was trained on pairs, but data=mnist10k is one set; type data=DIR", run, "data=mnist10k")


@pytest.mark.slow
def test_cyclegan_has_cycle_errors_in_both_directions(evaluate, refused, trained):
    run = trained("model=cyclegan", "model.between=[3,8]")
    results, out, _ = evaluate(run, "out=side.png")
    data = two_classes(mnist10k(size=16, channels=1, split="test"), 3, 8)
    network: Any = gancli.load(run).network
    for name, images, ways in (
        ("sources", data.sources, (network.there, network.back)),
        ("targets", data.images, (network.back, network.there)),
    ):
        x = to_float(images)
        with torch.no_grad():
            again = ways[1](x[:, :0, 0, 0], ways[0](x[:, :0, 0, 0], x))
        assert results["cycle_error"][name] == pytest.approx((again - x).abs().mean().item(), rel=1e-4)
        assert f"{results['cycle_error'][name]:.4f}" in out
    assert "mean" not in results and "mnist10k, class 3 to class 8" in out and "split test" in out
    assert results["protocol"]["sources"] == len(data.sources) and results["protocol"]["n"] == len(data)
    with Image.open("side.png") as side:
        assert side.width == 3 * 100 - 4, "source, ours, and back"
    refused("class 8", run, "data=synthetic")


@pytest.mark.slow
def test_cyclegan_is_compared_with_targets_on_pairs(evaluate, refused, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    sources, targets = side_by_side(str(folder / "a")), side_by_side(str(folder / "b"), 8)
    run = trained("model=cyclegan", "data=unpaired", f"data.path={targets}", f"data.sources={sources}", on="")
    results, _, _ = evaluate(run)
    assert "mean" not in results and (results["protocol"]["n"], results["protocol"]["sources"]) == (8, 9)
    side_by_side("pairs")
    results, out, _ = evaluate(run, "data=pairs/", "out=side.png")
    assert set(results) == {"protocol", "mean", "cycle_error"} and "GivenSources(" in out
    assert results["mean"]["naive"]["psnr"] == pytest.approx(20 * np.log10(255 / 90), abs=0.01)
    refused("translates between two sets of images, but data=mnist10k is one set", run, "data=mnist10k")


def test_exact_images_are_not_in_the_means(evaluate, trained):
    """A grey image equals its grey copy; its infinite PSNR would hide those of two colour images."""
    Path("own").mkdir()
    for i, colour in enumerate(("red", "teal", "grey")):
        Image.new("RGB", (20, 20), colour).save(f"own/{i}.png")
    run = trained("model=pix2pix", "data.kind=shapes", on="synthetic")
    results, out, _ = evaluate(run, "data=own")
    assert results["protocol"]["images in the means"] == {"psnr": 2} and "PSNR in dB over 2 of 3 images" in out
    assert 0 < results["mean"]["naive"]["psnr"] < 30


def test_images_of_other_channels_are_refused():
    network = UNet(channels=3, source_channels=1, size=16, width=4).eval()
    with torch.no_grad():
        assert translate(network, torch.zeros(2, 1, 16, 16), 3).shape == (2, 3, 16, 16)
        with pytest.raises(ValueError, match="translates images of 1 channels, but those of the data have 3"):
            translate(network, torch.zeros(2, 3, 16, 16))
        with pytest.raises(ValueError, match="generates images of 3 channels, but those of the data have 1"):
            translate(network, torch.zeros(2, 1, 16, 16), 1)


@pytest.mark.parametrize("task", ["colorize", "inpaint", "denoise", "deblur", "edges"])
def test_the_task_comes_from_the_checkpoint(evaluate, trained, task):
    run = trained("model=pix2pix", f"model/task={task}", "data.kind=shapes", on="synthetic")
    config = checkpoint.read(checkpoint.find(run))["config"]["model"]["task"]
    assert type(task_of(config)).__name__.lower() == task
    results, _, _ = evaluate(run, "n=3")
    assert 0 < results["mean"]["ours"]["psnr"] < 60


OTHERS = ["Task", "torch", "pad", "dataclass", "Any", "__doc__", "os.system"]
TARGETS = ["os.system", "gancli.transforms.tasks", "Edges", ".Edges", "gancli.networks.unet.UNet", None, ["Edges"]]
TARGETS += [f"gancli.transforms.tasks.{name}" for name in OTHERS] + ["gancli.transforms.degradation.Degradation"]


@pytest.mark.parametrize(
    "config", [None, 7, "os.system", {}, *({"_target_": target, "scale": 4} for target in TARGETS)], ids=str
)
def test_nothing_but_a_task_is_called_for_an_untrusted_checkpoint(config):
    with pytest.raises(ValueError, match="is not a task of gancli; it was not built"):
        task_of(config)


SIGMAS = [10**9, -1, float("nan"), {"_target_": "os.getcwd"}, [1], None, "wide"]


@pytest.mark.parametrize("settings", [*({"sigma": sigma} for sigma in SIGMAS), {"wide": 1}, {1: 2}], ids=str)
def test_untrusted_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"the checkpoint's Deblur (was not built|cannot be built)"):
        task_of({"_target_": "gancli.transforms.tasks.Deblur", **settings})
