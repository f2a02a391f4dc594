"""Evaluation of networks with an encoder: reconstructions, and the bounds of a VAE."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.data.builtin import mnist10k
from gancli.data.classes import one_hot
from gancli.evaluation.autoencoders import bits_per_dimension
from gancli.evaluation.reference import fixed_seed
from gancli.images import to_float
from gancli.losses.divergence import gaussian_kl
from gancli.metrics.elbo import elbo
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.networks.likelihood import Bernoulli, DiscretizedLogistic, Gaussian


def modified(run: str, change: Callable[[dict[str, Any]], object]) -> str:
    content = checkpoint.read(checkpoint.find(run))
    change(content)
    return str(checkpoint.write(Path("modified.safetensors"), content))


@pytest.fixture(scope="module")
def real() -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [-1, 1] and classes of the test split."""
    test = mnist10k(size=16, channels=1, split="test")
    return to_float(test.images), test.labels


@pytest.mark.parametrize("model", ["aegan", "vaegan"])
def test_reconstructions_of_the_test_split(evaluate, trained, real, model):
    run = trained(f"model={model}")
    results, out, _ = evaluate(run, "out=new/side.png")
    protocol = results["protocol"]
    assert protocol["split"] == "test" and protocol["n"] == 1000 and "1,000 of 1,000 images" in out
    assert "averaged weights" in protocol["weights"] and protocol["versions"]["torch"]
    assert "nats" not in out and set(results["mean"]) == {"psnr", "squared_error"}
    x, c = real[0], torch.zeros(1000, 0)
    G = gancli.load(run).network
    reconstructed = G(G.encode(x, c), c)
    assert results["mean"]["psnr"] == pytest.approx(rgb_psnr(reconstructed, x).mean().item(), rel=1e-4)
    assert results["mean"]["squared_error"] == pytest.approx((reconstructed - x).square().mean().item(), rel=1e-4)
    with Image.open("new/side.png") as side:
        assert side.size == (2 * 100 - 4, 16 + 8 * 100 - 4)


@pytest.mark.slow
def test_a_vae_has_bounds(evaluate, trained, real):
    rare = ["trainer.sample_every=300", "trainer.checkpoint_every=300"]
    run = trained("model=vae_mlp", "model.width=32", "model.lr=0.01", "trainer.steps=300", *rare)
    results, out, _ = evaluate(run, "samples=20")
    mean, protocol = results["mean"], results["protocol"]
    assert mean["elbo"] + 0.5 < mean["importance_weighted"] < 0 and mean["kl"] > 1
    for key in ("elbo", "importance_weighted"):
        assert mean[f"{key}_bits"] == pytest.approx(-mean[key] / 256 / math.log(2))
    assert protocol["samples"] == 20 and "black or white" in protocol["unit"] and protocol["likelihood"] == "Bernoulli"
    assert "nats an image" in out and protocol["unit"] in out and "20 latents per image" in out
    network: Any = gancli.load(run).network
    c = torch.zeros(1000, 0)
    torch.manual_seed(1)
    x = network.likelihood.observed(real[0])
    # Other random pixels and latents; about the standard error of the mean.
    assert mean["elbo"] == pytest.approx(elbo(network, x, c, torch.randn(1000, network.z_dim)).mean().item(), abs=2)
    assert mean["kl"] == pytest.approx(gaussian_kl(*network.posterior(x, c)).mean().item(), rel=0.05)


@pytest.mark.parametrize(("likelihood", "unit"), [("gaussian", "a density"), ("logistic", "each of 256 levels")])
def test_colour_images_have_bits_per_dimension_of_8_bits(evaluate, trained, likelihood, unit):
    run = trained("model=vae_mlp", f"model/likelihood={likelihood}", on="synthetic")
    results, _, _ = evaluate(run, "samples=3", "n=20")
    assert unit in results["protocol"]["unit"]
    assert 5 < results["mean"]["elbo_bits"] < 12, "hardly trained, near 8 bits of equally likely levels"
    mass = -results["mean"]["elbo"] / (3 * 16 * 16 * math.log(2))
    density = math.log2(255 / 2) if likelihood == "gaussian" else 0
    assert results["mean"]["elbo_bits"] == pytest.approx(mass + density)


def test_bits_per_dimension_of_a_narrow_density_are_those_of_its_mass_in_levels():
    """Closed form: a Gaussian much wider than a level; other likelihoods are masses already."""
    likelihood, sigma = Gaussian().double(), 0.1
    likelihood.log_sigma.data.fill_(math.log(sigma))
    x = to_float(torch.tensor([90, 128, 140], dtype=torch.uint8)).double().reshape(1, 3, 1, 1)
    normal = torch.distributions.Normal(torch.zeros_like(x), sigma)
    mass = normal.cdf(x + 1 / 255) - normal.cdf(x - 1 / 255)
    nats = likelihood(torch.zeros_like(x), x).item()
    assert bits_per_dimension(nats, 3, likelihood) == pytest.approx(-mass.log2().mean().item(), abs=1e-3)
    assert bits_per_dimension(-3 * 8 * math.log(2), 3, DiscretizedLogistic()) == pytest.approx(8)
    assert bits_per_dimension(-3 * math.log(2), 3, Bernoulli()) == pytest.approx(1)


def test_the_seed_chooses_images_and_latents(evaluate, trained, real):
    run, words = trained("model=vae"), ("n=100", "samples=2")
    (first, out, _), (again, _, _), (other, _, _) = (evaluate(run, *words, f"seed={seed}") for seed in (0, 0, 1))
    assert first == again and "100 of 1,000 images" in out
    assert first["mean"]["psnr"] != other["mean"]["psnr"] and first["mean"]["elbo"] != other["mean"]["elbo"]
    G: Any = gancli.load(run).network
    x, c = real[0][:100], torch.zeros(100, 0)
    first_hundred = rgb_psnr(G(G.encode(x, c), c), x).mean().item()
    assert abs(first_hundred - first["mean"]["psnr"]) > 1e-6, "the first hundred may be of one class"


def test_a_fixed_seed_restores_the_global_generator():
    before, sampled = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        with fixed_seed(seed, "task", 3):
            sampled.append(torch.rand(2).tolist())
    assert sampled[0] == sampled[1] != sampled[2] and torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_conditional_model_is_given_the_true_classes(evaluate, refused, trained, real):
    run = trained("model=vae", "model.classes=${data.classes}")
    results, _, _ = evaluate(run, "samples=1")
    assert results["protocol"]["classes"] == "given"
    network: Any = gancli.load(run).network
    x, labels = real
    right, wrong = (
        (network(network.encode(x, c), c) - x).square().mean().item()
        for c in (one_hot(labels, 10), one_hot((labels + 1) % 10, 10))
    )
    assert results["mean"]["squared_error"] == pytest.approx(right, rel=1e-5) and abs(wrong - right) > 1e-5
    refused("is conditioned on 10 classes, 0, 1, 2, ..., but data=synthetic has 4 classes", run, "data=synthetic")


def test_other_data_are_converted_to_the_models_size_and_channels(evaluate, trained):
    Path("own").mkdir()
    for i, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (40, 30), colour).save(f"own/{i}.png")
    Path("own/torn.png").write_bytes(b"no image")
    arrays = {f"x_{split}": np.zeros((n, 20, 20), np.uint8) for split, n in (("train", 9), ("test", 7))}
    np.savez("own.npz", **arrays)
    run = trained("model=aegan")
    first, out, err = evaluate(run, "data=own")
    assert evaluate(run, f"data={Path.cwd()}/./own/")[0]["protocol"] == first["protocol"], "the same data"
    assert "3 of 3 images of folder own, split none, 16x16 grey" in out and "skipped torn.png: is not an image" in err
    for words, line in (
        (("data=synthetic", "n=5"), "5 of 10,000 images of synthetic, split none, 16x16 grey"),
        (("split=train", "n=5"), "5 of 9,000 images of mnist10k, split train, 16x16 grey"),
        (("data=own.npz",), "7 of 7 images of npz own.npz, split test, 16x16 grey"),
    ):
        assert line in evaluate(run, *words)[1]


def test_refused_commands(refused, trained):
    Path("set").mkdir()
    vae = trained("model=vae")
    for word, message in (
        ("data=mnist1k", "data=mnist1k does not exist; did you mean mnist10k?"),
        ("data=npz", "data=npz"),
        ("data=nowhere.npz", "data.path=nowhere.npz is not a file"),
        ("data=set", "set"),
        ("images=set", "images= are images to enlarge, and"),
        ("split=valid", "split=valid is not one of test, train"),
        ("n=0", "n=0 is out of range, it must be 1 or more; type n=10000"),
        ("samples=0", "samples=0 is out of range, it must be 1 or more; type samples=100"),
    ):
        refused(message, vae, word)


@pytest.mark.parametrize("model", ["mlp", "vae_mlp"])
def test_points_are_not_evaluated(refused, trained, model):
    likelihood = ["model/likelihood=gaussian"] if model == "vae_mlp" else []
    run = trained(f"model={model}", "data.kind=ring", "data.size=null", *likelihood, on="synthetic")
    refused("are points of the plane", run)


@pytest.mark.parametrize("model", ["aegan", "mlp"])
def test_a_non_finite_network_is_not_evaluated(gan, trained, model):
    def spoil(content: dict[str, Any]) -> None:
        for value in content["ema"].values():
            value.mul_(math.nan) if value.is_floating_point() else None

    code, out, err = gan("evaluate", modified(trained(f"model={model}"), spoil), "n=50")
    assert code == 1 and "values that are no numbers" in err and not out


def test_data_settings_of_an_untrusted_checkpoint_are_plain_values(gan, refused, trained):
    """Nothing in them is called, read from the environment, or used as a folder of ours."""
    run = trained("model=aegan", "data.kind=shapes", on="synthetic")

    def with_data(**changes: Any) -> str:
        return modified(run, lambda content: content["config"]["data"].update(changes))

    attack = {"_target_": "os.mkdir", "path": "pwned"}
    code, out, _ = gan("evaluate", with_data(source=attack, root="/elsewhere", kind=attack))
    assert code == 0 and not Path("pwned").exists()
    assert "64 of 64 images of synthetic, split none, training images, 16x16 colour" in out
    for changes, message in (
        ({"name": "../data"}, "was trained on data=../data, which is not here"),
        ({"name": "folder", "path": "${oc.env:HOME}"}, "names ${oc.env:HOME} as its training data, which was not read"),
        ({"name": "folder", "path": "nowhere"}, "type data=nowhere"),
        ({"kind": "wild"}, "wild"),
    ):
        refused(message, with_data(**changes))
