"""gan evaluate on networks with an encoder: reconstructions, and the bounds of a VAE."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY
from PIL import Image

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.data.builtin import digits
from gancli.data.classes import one_hot
from gancli.evaluation.reference import drawing
from gancli.images import to_float
from gancli.losses.divergence import gaussian_kl
from gancli.metrics.elbo import elbo
from gancli.metrics.psnr_ssim import rgb_psnr

ON_DIGITS = ["data=digits", *[word for word in TINY if not word.startswith(("data=", "data.n="))]]


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


def tampered(run: str, change: Callable[[dict[str, Any]], object]) -> str:
    content = checkpoint.read(Path(run) / "checkpoints" / "last.safetensors")
    change(content)
    return str(checkpoint.write(Path("tampered.safetensors"), content))


@pytest.mark.parametrize("model", ["aegan", "vaegan"])
def test_reconstructions_of_the_test_split_are_measured(gan, trained, model):
    run = trained(f"model={model}")
    found, out = scores(gan, run)
    assert found["protocol"]["split"] == "test" and found["protocol"]["n"] == 297 and "297 of 297 images" in out
    assert "nats" not in out and set(found["mean"]) == {"psnr", "squared_error"}
    assert "averaged weights" in found["protocol"]["weights"] and found["protocol"]["versions"]["torch"]
    G = gancli.load(run)
    x = to_float(digits(size=16, channels=1, split="test").images)
    made = G.network(G.network.encode(x, x.new_zeros(297, 0)), x.new_zeros(297, 0))
    assert found["mean"]["psnr"] == pytest.approx(rgb_psnr(made, x).mean().item(), rel=1e-4)
    assert found["mean"]["squared_error"] == pytest.approx((made - x).square().mean().item(), rel=1e-4)


def test_a_vae_has_its_bounds_too(gan, trained):
    rare = ["trainer.sample_every=150", "trainer.checkpoint_every=150"]
    run = trained("model=vae_mlp", "model.width=32", "model.lr=0.01", "trainer.steps=150", *rare)
    found, out = scores(gan, run, "samples=20")
    mean, protocol = found["mean"], found["protocol"]
    assert mean["elbo"] + 1 < mean["importance_weighted"] < 0 and mean["kl"] > 1
    for key in ("elbo", "importance_weighted"):
        assert mean[f"{key}_bits"] == pytest.approx(-mean[key] / 256 / math.log(2))
    assert protocol["samples"] == 20 and "black or white" in protocol["unit"] and protocol["likelihood"] == "Bernoulli"
    assert "nats an image" in out and protocol["unit"] in out and "20 codes for each image" in out
    network: Any = gancli.load(run).network
    x, c = to_float(digits(size=16, channels=1, split="test").images), torch.zeros(297, 0)
    torch.manual_seed(1)
    seen = network.likelihood.observed(x)
    # Other draws of pixels and codes, of which the mean over images has a standard error of about this.
    assert mean["elbo"] == pytest.approx(elbo(network, seen, c, torch.randn(297, network.z_dim)).mean().item(), abs=2)
    assert mean["kl"] == pytest.approx(gaussian_kl(*network.posterior(seen, c)).mean().item(), rel=0.05)


@pytest.mark.parametrize(("likelihood", "unit"), [("gaussian", "a density"), ("logistic", "each of 256 levels")])
def test_colour_images_have_bits_per_dimension_of_8_bits(gan, trained, likelihood, unit):
    """Of a model that has learned next to nothing, about those of a level of which each is as likely."""
    run = trained("model=vae_mlp", f"model/likelihood={likelihood}", on=TINY)
    found, _ = scores(gan, run, "samples=3", "n=20")
    assert unit in found["protocol"]["unit"] and 5 < found["mean"]["elbo_bits"] < 12
    mass = -found["mean"]["elbo"] / (3 * 16 * 16 * math.log(2))
    density = math.log2(255 / 2) if likelihood == "gaussian" else 0
    assert found["mean"]["elbo_bits"] == pytest.approx(mass + density)


def test_a_seed_says_which_images_and_which_codes(gan, trained):
    run = trained("model=vae")
    words = ("n=100", "samples=2")
    (first, out), (again, _), (other, _) = (scores(gan, run, *words, f"seed={seed}") for seed in (0, 0, 1))
    assert first == again and "100 of 297 images" in out
    assert first["mean"]["psnr"] != other["mean"]["psnr"] and first["mean"]["elbo"] != other["mean"]["elbo"]
    G: Any = gancli.load(run)
    x = to_float(digits(size=16, channels=1, split="test").images[:100])
    begin = rgb_psnr(G.network(G.network.encode(x, x[:, 0, 0, :0]), x[:, 0, 0, :0]), x).mean().item()
    assert abs(begin - first["mean"]["psnr"]) > 1e-6, "not the first hundred, which may be of one class"


def test_what_torch_draws_by_default_is_left_alone():
    before = torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        with drawing(seed, "task", 3):
            drawn.append(torch.rand(2).tolist())
    assert drawn[0] == drawn[1] != drawn[2] and torch.equal(before, torch.get_rng_state())


def test_a_conditional_model_is_told_the_true_classes(gan, trained):
    run = trained("model=vae", "model.classes=${data.classes}")
    found, _ = scores(gan, run, "samples=1")
    assert found["protocol"]["classes"] == "told"
    network: Any = gancli.load(run).network
    data = digits(size=16, channels=1, split="test")
    x = to_float(data.images)
    figures = []
    for labels in (data.labels, (data.labels + 1) % 10):
        c = one_hot(labels, 10)
        figures.append((network(network.encode(x, c), c) - x).square().mean().item())
    assert found["mean"]["squared_error"] == pytest.approx(figures[0], rel=1e-5)
    assert abs(figures[1] - figures[0]) > 1e-5
    code, _, err = gan("evaluate", run, "data=synthetic")
    assert code == 1 and "is told the class of an image, of 10 classes, 0, 1, 2, ..., but data=synthetic has" in err


def test_other_data_are_brought_to_the_models_size_and_colours(gan, trained):
    """And a folder is read whole, which is said."""
    for i, colour in enumerate(("red", "green", "blue")):
        Path("own").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(f"own/{i}.png")
    Path("own/torn.png").write_bytes(b"no picture")
    run = trained("model=aegan")
    code, out, err = gan("evaluate", run, "data=own", "device=cpu")
    assert code == 0 and "3 of 3 images of folder own, split none, 16x16 grey" in out and "torn.png was left out" in err
    found, out = scores(gan, run, "data=synthetic", "n=5")
    assert "5 of 10,000 images of synthetic, split none, 16x16 grey" in out and found["protocol"]["of"] == 10_000
    found, out = scores(gan, run, "split=train", "n=5")
    assert found["protocol"]["split"] == "train" and found["protocol"]["of"] == 1500


def test_data_without_a_test_split_are_those_of_the_training(gan, trained):
    """As they were: 64 pictures, not the 10,000 of data=synthetic."""
    found, out = scores(gan, trained("model=aegan", "data.kind=shapes", on=TINY))
    assert "64 of 64 images of synthetic, split none, those it was trained on, 16x16 colour" in out
    assert found["protocol"]["split"] == "none, those it was trained on"


def test_an_archive_has_its_own_test_split(gan, trained):
    import numpy as np

    made = {
        key: np.random.default_rng(0).integers(0, 255, (n, 20, 20), np.uint8)
        for key, n in (("x_train", 9), ("x_test", 7))
    }
    np.savez("own.npz", **made)
    found, _ = scores(gan, trained("model=aegan"), "data=own.npz")
    assert found["protocol"]["n"] == 7 and found["protocol"]["data"] == "npz own.npz"


def test_examples_are_shown_beside_what_they_became(gan, trained):
    _, out = scores(gan, trained("model=aegan"), "out=made/side.png", "n=3")
    assert out.splitlines()[-2:] == ["made/side.png", "scores.json"]
    with Image.open("made/side.png") as side:
        assert side.size == (2 * 100 - 4, 16 + 3 * 100 - 4)


def test_what_cannot_be_measured_is_said_in_a_sentence(gan, trained):
    Path("set").mkdir()
    vae, points = (
        trained("model=vae"),
        trained("model=vae_mlp", "data.kind=ring", "data.size=null", "model/likelihood=gaussian", on=TINY),
    )
    for words, message in (
        ((vae, "data=digit"), "there is no data 'digit'; did you mean digits?"),
        ((vae, "data=npz"), "data=npz"),
        ((vae, "data=nowhere.npz"), "data.path=nowhere.npz is not a file"),
        ((vae, "data=set"), "it has no pictures"),
        ((vae, "images=set"), "images= are pictures to enlarge, and"),
        ((vae, "split=valid"), "split=valid is neither test nor train"),
        ((vae, "n=0"), "at least one image is measured, but n=0"),
        ((vae, "samples=0"), "at least one code is drawn for each image, but samples=0"),
        ((vae, "out=x.gif"), "out=x.gif is no form that is written"),
        ((points,), "are points of the plane"),
        (("faithful", "data=digits"), "pictures to enlarge are of any size, and data=digits has one; type images=DIR"),
    ):
        code, _, err = gan("evaluate", *words)
        assert code == 1 and message in err and len(err.splitlines()) == 1, (words, err)


def test_a_broken_network_is_not_measured(gan, trained):
    def break_it(content: dict[str, Any]) -> None:
        for value in content["ema"].values():
            value.mul_(math.nan) if value.is_floating_point() else None

    code, _, err = gan("evaluate", tampered(trained("model=aegan"), break_it))
    assert code == 1 and "values that are no numbers" in err


def test_a_strangers_data_are_plain_values_of_our_own_kinds(gan, trained):
    """Nothing of it is called, looked up in the environment, or taken for a place of ours."""
    run = trained("model=aegan", "data.kind=shapes", on=TINY)

    def with_data(**changes: Any) -> str:
        return tampered(run, lambda content: content["config"]["data"].update(changes))

    source = {"_target_": "os.mkdir", "path": "pwned"}
    code, out, _ = gan(
        "evaluate", with_data(source=source, root="/elsewhere", kind={"_target_": "os.mkdir", "path": "pwned"})
    )
    assert code == 0 and not Path("pwned").exists() and "64 of 64" in out
    for changes, message in (
        ({"name": "../data"}, "was trained on data=../data, which is not here"),
        ({"name": "folder", "path": "${oc.env:HOME}"}, "data=folder needs data.path=DIR"),
        ({"name": "folder", "path": "nowhere"}, "nowhere"),
        ({"kind": "wild"}, "wild"),
    ):
        code, _, err = gan("evaluate", with_data(**changes))
        assert code == 1 and message in err and len(err.splitlines()) == 1, (changes, err)
