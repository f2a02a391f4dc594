"""gan evaluate on networks from images to images: how near they come to the real ones, and there and back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.data.builtin import digits
from gancli.data.pairs import two_classes
from gancli.data.synthetic import synthetic
from gancli.evaluation.image_to_image import task_of, translated
from gancli.evaluation.result import averaged
from gancli.images import to_float
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.networks.unet import UNet
from gancli.transforms import tasks

ON_DIGITS = ["data=digits", *[word for word in TINY if not word.startswith(("data=", "data.n="))]]
ON_PAIRS = [word for word in TINY if not word.startswith(("data=", "data.n="))]


def side_by_side(folder: str, n: int = 9, brightness: int = 0) -> str:
    """A folder of pairs: at the left a picture, at the right the same darker."""
    Path(folder).mkdir(parents=True)
    for i in range(n):
        left = np.random.default_rng(i).integers(100, 200, (4, 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(np.concatenate([left, left - 90 + brightness], 1).astype(np.uint8)).save(f"{folder}/{i}.png")
    return str(Path(folder).resolve())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[..., str]:
    """The run folder of a tiny model, each trained once."""
    runs: dict[tuple[str, ...], Path] = {}

    def train(*words: str, on: list[str] = ON_DIGITS) -> str:
        if words not in runs:
            runs[words] = tmp_path_factory.mktemp("run") / "run"
            assert cli.main(["train", *on, *words, f"run.dir={runs[words]}"]) == 0
        return str(runs[words])

    return train


def scores(gan, run: str, *words: str) -> tuple[dict[str, Any], str]:
    """What is stored, and what is printed."""
    code, out, err = gan("evaluate", f"ckpt={run}", "device=cpu", "json=scores.json", *words)
    assert code == 0 and not err, err
    return json.loads(Path("scores.json").read_text()), out


def test_pix2pix_is_measured_beside_what_there_is_without_it(gan, trained):
    run = trained("model=pix2pix", "data.kind=shapes", on=TINY)
    found, out = scores(gan, run, "out=side.png")
    x = to_float(synthetic(kind="shapes", n=64, size=16, channels=3).images)
    task = tasks.Colorize()
    c = task(x)
    network: Any = gancli.load(run).network
    with torch.no_grad():
        ours = network(c[:, :0, 0, 0], c)
    assert found["mean"]["ours"]["psnr"] == pytest.approx(rgb_psnr(ours, x).mean().item(), rel=1e-4)
    assert found["mean"]["naive"]["psnr"] == pytest.approx(rgb_psnr(task.baseline(c), x).mean().item())
    assert found["protocol"]["task"].startswith("Colorize(channels=1") and found["protocol"]["task"] in out
    gain = found["mean"]["ours"]["psnr"] - found["mean"]["naive"]["psnr"]
    assert float(out.splitlines()[1].split()[-1]) == pytest.approx(gain, abs=0.006)
    with Image.open("side.png") as side:
        assert side.width == 3 * 100 - 4, "given, ours, real"


def test_inpainting_has_its_holes_alone_too(gan, trained):
    run = trained("model=inpainting", "model.task.mask=centre")
    found, out = scores(gan, run)
    assert "297 of 297 images of digits, split test, 16x16 grey" in out and "hole alone" in out
    # A quarter of the pixels has all of the error, and the rest is given back: 10 log10 4 dB.
    for column in ("naive", "ours"):
        figures = found["mean"][column]
        assert figures["psnr"] - figures["hole_psnr"] == pytest.approx(6.0206, abs=1e-3)


def test_a_seed_says_what_is_drawn(gan, trained):
    run = trained("model=inpainting", "model.task.mask=free")
    first, again, other = (scores(gan, run, f"seed={seed}", "n=70")[0] for seed in (0, 0, 1))
    assert first == again and first["mean"] != other["mean"] and first["protocol"]["n"] == 70


def test_pairs_of_the_training_or_of_a_folder(gan, trained, tmp_path_factory):
    path = side_by_side(str(tmp_path_factory.mktemp("pairs") / "train"))
    run = trained("model=pix2pix", "model/task=given", "data=pairs", f"data.path={path}", on=ON_PAIRS)
    found, out = scores(gan, run)
    assert "9 of 9 images of pairs" in out and "those it was trained on" in out
    known = found["mean"]["naive"]["psnr"]
    assert known == pytest.approx(20 * np.log10(255 / 90), abs=0.01), "the left picture is 90 levels brighter"
    side_by_side("brighter", 5, brightness=40)
    found, out = scores(gan, run, "data=brighter")
    assert found["mean"]["naive"]["psnr"] == pytest.approx(20 * np.log10(255 / 50), abs=0.01)
    assert "5 of 5 images of pairs brighter, split none, 16x16 colour" in out
    code, _, err = gan("evaluate", run, "data=digits")
    assert code == 1 and "was trained on pairs, but data=digits is one set; type data=DIR" in err


def test_cyclegan_is_measured_there_and_back(gan, trained):
    run = trained("model=cyclegan", "model.between=[3,8]")
    found, out = scores(gan, run, "out=side.png")
    data = two_classes(digits(size=16, channels=1, split="test"), 3, 8)
    network: Any = gancli.load(run).network
    for name, images, ways in (
        ("sources", data.sources, (network.there, network.back)),
        ("targets", data.images, (network.back, network.there)),
    ):
        x = to_float(images)
        with torch.no_grad():
            again = ways[1](x[:, :0, 0, 0], ways[0](x[:, :0, 0, 0], x))
        assert found["cycle_error"][name] == pytest.approx((again - x).abs().mean().item(), rel=1e-4)
        assert f"{found['cycle_error'][name]:.4f}" in out
    assert "mean" not in found and "digits, class 3 to class 8" in out and "split test" in out
    assert found["protocol"]["sources"] == len(data.sources) and found["protocol"]["n"] == len(data)
    with Image.open("side.png") as side:
        assert side.width == 3 * 100 - 4, "source, ours, and back"
    code, _, err = gan("evaluate", run, "data=synthetic")
    assert code == 1 and "class 8" in err and len(err.splitlines()) == 1


def test_cyclegan_has_counterparts_where_the_data_bring_pairs(gan, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    sources, targets = side_by_side(str(folder / "a")), side_by_side(str(folder / "b"), 8)
    run = trained("model=cyclegan", "data=unpaired", f"data.path={targets}", f"data.sources={sources}", on=ON_PAIRS)
    found, _ = scores(gan, run)
    assert "mean" not in found and (found["protocol"]["n"], found["protocol"]["sources"]) == (8, 9)
    side_by_side("pairs")
    found, out = scores(gan, run, "data=pairs/", "out=side.png")
    assert set(found) == {"protocol", "mean", "cycle_error"} and "GivenSources(" in out
    assert found["mean"]["naive"]["psnr"] == pytest.approx(20 * np.log10(255 / 90), abs=0.01)
    code, _, err = gan("evaluate", run, "data=digits")
    assert code == 1 and "goes between two sets of images, but data=digits is one set" in err


def test_images_that_are_met_exactly_are_not_in_the_means(gan, trained):
    """A grey picture is its own grey copy; beside two in colour its infinite PSNR would be all that is left."""
    for i, colour in enumerate(("red", "teal", "grey")):
        Path("own").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), colour).save(f"own/{i}.png")
    run = trained("model=pix2pix", "data.kind=shapes", on=TINY)
    found, out = scores(gan, run, "data=own")
    assert found["protocol"]["counted in the means"] == {"psnr": 2} and "PSNR in dB over 2 of 3 images" in out
    assert 0 < found["mean"]["naive"]["psnr"] < 30


def test_means_are_of_the_images_that_have_a_figure_in_both_columns():
    values = [(1.0, 2.0), (float("inf"), 9.0), (3.0, 6.0), (5.0, float("nan"))]
    means, counted = averaged([{"a": {"psnr": a}, "b": {"psnr": b}} for a, b in values], ("a", "b"))
    assert means == {"a": {"psnr": 2.0}, "b": {"psnr": 4.0}} and counted == {"psnr": 2}


def test_images_of_other_channels_are_refused_in_a_sentence():
    network = UNet(channels=3, source_channels=1, size=16, width=4).eval()
    with torch.no_grad():
        assert translated(network, torch.zeros(2, 1, 16, 16), 3).shape == (2, 3, 16, 16)
        with pytest.raises(ValueError, match="images of images of 1 channels, but those of the data have 3"):
            translated(network, torch.zeros(2, 3, 16, 16))
        with pytest.raises(ValueError, match="makes images of 3 channels, but those of the data have 1"):
            translated(network, torch.zeros(2, 1, 16, 16), 1)


@pytest.mark.parametrize("task", ["colorize", "inpaint", "denoise", "deblur", "edges"])
def test_the_task_of_a_checkpoint_is_the_one_that_it_was_trained_on(gan, trained, task):
    run = trained("model=pix2pix", f"model/task={task}", "data.kind=shapes", on=TINY)
    config = checkpoint.read(Path(run) / "checkpoints" / "last.safetensors")["config"]["model"]["task"]
    assert type(task_of(config)).__name__.lower() == task
    found, _ = scores(gan, run, "n=3")
    assert 0 < found["mean"]["ours"]["psnr"] < 60


@pytest.mark.parametrize(
    "config",
    [
        *(None, 7, "os.system", {}, {"_target_": None}, {"_target_": ["gancli.transforms.tasks.Edges"]}),
        *(
            {"_target_": target, "command": "touch pwned"}
            for target in ("os.system", "gancli.transforms.tasks.os.system")
        ),
        *(
            {"_target_": f"gancli.transforms.tasks.{name}"}
            for name in ("Task", "torch", "pad", "dataclass", "Any", "__doc__")
        ),
        *(
            {"_target_": target}
            for target in ("gancli.transforms.tasks", "Edges", "gancli.networks.unet.UNet", ".Edges")
        ),
        {"_target_": "gancli.transforms.degradation.Degradation", "scale": 4},
    ],
)
def test_a_stranger_gets_nothing_called_that_is_no_task(config):
    with pytest.raises(ValueError, match="is not a task of gancli; it was not made"):
        task_of(config)


@pytest.mark.parametrize(
    "settings",
    [
        *({"sigma": value} for value in (10**9, -1, float("nan"), {"_target_": "os.getcwd"}, [1], None, "wide")),
        *({"wide": 1}, {1: 2}),
    ],
)
def test_a_strangers_settings_are_refused_in_a_sentence(settings):
    with pytest.raises(ValueError, match=r"the checkpoint's Deblur (was not made|cannot be made)"):
        task_of({"_target_": "gancli.transforms.tasks.Deblur", **settings})


def test_neither_the_games_nor_the_trainer_is_needed():
    code = "import sys, gancli.commands.evaluate; print(*[m for m in sys.modules if m.startswith('gancli.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gancli.evaluation.autoencoders" in done.stdout
    assert "gancli.objectives" not in done.stdout and "gancli.training" not in done.stdout
