"""Scores of generators and of folders of generated images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import gancli
from gancli import images as pixels
from gancli.data.builtin import mnist10k
from gancli.evaluation.generative import Comparison
from gancli.metrics.feature_extractors import bundled_extractor
from gancli.metrics.fid import Moments, frechet


def save_images(folder: str, n: int, size: int = 12, seed: int = 0, mode: str = "L") -> None:
    rng = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        shape = (size, size, 3) if mode == "RGB" else (size, size)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(f"{folder}/{i}.png")


def test_scores_of_a_generator_with_their_protocol(evaluate, trained):
    run = trained("model=dcgan")
    results, out, err = evaluate(f"ckpt={run}", "n=200", "out=side.png")
    assert not err and list(results["scores"]) == [
        *("fd_mnist", "kd_mnist", "score_mnist", "precision_mnist", "recall_mnist", "density_mnist", "coverage_mnist")
    ]
    extractor, fake, real = bundled_extractor("mnist"), Moments(), Moments()
    fake.add(extractor(gancli.load(run).sample(200, seed=0))[0])
    test = mnist10k(16, 1, "test").images
    real.add(extractor(test)[0])
    assert results["scores"]["fd_mnist"] == pytest.approx(frechet(fake, real), rel=0.1), "200 of these 1,000"
    protocol = results["protocol"]
    assert protocol["real"] == protocol["generated"] == 200 and protocol["of"] == len(test) == 1000
    assert protocol["data"] == "mnist10k" and protocol["split"] == "test" and protocol["averaged"] is True
    assert protocol["features"].startswith(f"mnist {extractor.hash}, 64 features; 8 bits, 16 to 28 pixels by")
    assert protocol["versions"]["torch"] and protocol["seed"] == 0 and "classes" not in protocol["weights"]
    assert len(protocol["real images"]) == 12 and "200 of 1,000 images of mnist10k, split test" in out
    assert "lower is better" in out and protocol["features"] in out
    with Image.open("side.png") as side:
        assert side.width > 150


def test_the_distance_of_patches_has_that_of_real_images_beside_it(evaluate, trained):
    results, out, err = evaluate(f"ckpt={trained('model=dcgan')}", "n=200", "metrics=[swd]")
    levels = ["swd", "swd_full", "swd_half"]  # a quarter of 16 pixels is less than a patch
    assert not err and list(results["scores"]) == list(results["real"]) == levels
    assert all(results["scores"][name] > 2 * results["real"][name] > 0 for name in levels)
    assert "16 patches of 7x7 at each size of 100 images" in out and results["protocol"]["features"] == ""


def test_a_conditional_model_has_scores_by_class(evaluate, trained):
    results, out, err = evaluate(f"ckpt={trained('model=cgan')}", "n=100")
    assert 0 <= results["scores"]["accuracy_mnist"] <= 1
    assert results["real"]["accuracy_mnist"] > 0.3, "real digits, of 16x16 pixels"
    assert results["protocol"]["weights"].endswith("classes in turn") and "accuracy_mnist by class" in out
    assert list(results["by class"]["accuracy_mnist"]) == [str(k) for k in range(10)]
    assert "class_fd_mnist was not computed: the classes 0, 1, 2" in err and "type a larger n=" in err


def test_an_autoencoder_is_scored_as_a_generator_if_metrics_are_named(evaluate, trained):
    run = trained("model=vae")
    assert "fd_mnist" in evaluate(f"ckpt={run}", "n=100", "metrics=[mnist]")[0]["scores"]
    assert "elbo" in evaluate(f"ckpt={run}", "n=100", "samples=2")[0]["mean"]


def test_a_folder_against_another_folder(evaluate):
    save_images("fake", 120)
    save_images("real", 150, size=20, seed=1)
    results, out, _ = evaluate("images=fake", "reference=real")
    assert results["protocol"]["features of real images"].endswith("20 to 28 pixels by antialiased bicubic")
    assert (results["protocol"]["generated"], results["protocol"]["real"]) == (120, 150)
    assert "120 of 120 images of fake, 12x12 grey" in out and "150 of 150 images of real, 20x20 grey" in out
    same = evaluate("images=fake", "reference=fake")[0]["scores"]
    assert same["fd_mnist"] == pytest.approx(0, abs=1e-6)
    assert same["precision_mnist"] == same["recall_mnist"] == same["coverage_mnist"] == 1
    assert "100 of 120 images of fake" in evaluate("images=fake", "reference=real", "n=100")[0]["protocol"]["images"]


def test_an_npz_file_of_samples_scores_as_the_model(gan, evaluate, trained):
    run, metrics = trained("model=dcgan"), "metrics=[fd_mnist,coverage_mnist]"
    assert gan("sample", f"ckpt={run}", "n=100", "out=fake.npz")[0] == 0
    model, _, _ = evaluate(f"ckpt={run}", "n=100", "split=train", metrics)
    file, _, _ = evaluate("images=fake.npz", "data=mnist10k", "split=train", "size=16", "n=100", metrics)
    assert file["scores"] == pytest.approx(model["scores"], rel=1e-6)
    assert file["protocol"]["real images"] == model["protocol"]["real images"]


def test_colour_images_use_the_network_for_colour(evaluate):
    save_images("fake", 140, mode="RGB")
    save_images("real", 140, seed=1, mode="RGB")
    results, _, _ = evaluate("images=fake", "reference=real")
    assert "fd_cifar" in results["scores"] and results["protocol"]["features"].startswith("cifar ")
    results, _, err = evaluate("images=fake", "reference=real", "channels=1", "n=64")
    assert "fd_mnist was not computed: 64 images are no more than its 64 features" in err
    assert "fd_mnist" not in results["scores"] and results["scores"]["kd_mnist"] is not None
    assert results["protocol"]["skipped"]["fd_mnist"].startswith("64 images")


def test_images_that_differ_need_a_size_and_channels(gan):
    save_images("fake", 30)
    save_images("mixed", 30)
    save_images("mixed/deeper", 30, size=16)
    save_images("colour", 30, mode="RGB")
    save_images("both", 30)
    save_images("both/deeper", 30, mode="RGB")
    save_images("oblong", 0)
    save_images("torn", 0)
    Image.new("L", (9, 12)).save("oblong/tall.png")
    Path("torn/a.png").write_bytes(b"no image")
    np.savez("other.npz", x=np.zeros(3))
    for words, message in (
        (("images=mixed",), "=mixed have 2 sizes, 0.png is 12x12 and deeper/0.png is 16x16; type size=12"),
        (("images=fake", "reference=mixed"), "of reference=mixed have 2 sizes"),
        (("images=oblong",), "of images=oblong are not square, tall.png is 9x12; type size=9"),
        (("images=torn",), "no image in images=torn can be read"),
        (("images=torn",), "skipped a.png: is not"),
        (("images=nowhere",), "images=nowhere is neither a folder nor an .npz file"),
        (("images=fake", "reference=colour"), "images=fake is grey and the real images are in colour; type channels=1"),
        (("images=both",), "=both are grey, as 0.png, and in colour, as deeper/0.png"),
        (("images=other.npz",), "images=other.npz holds no array images"),
        (("images=missing.npz",), "images=missing.npz cannot be read as an .npz file"),
        (("images=fake", "channels=2"), "channels=2 is not one of 0, 1, 3"),
        (("images=fake", "size=-1"), "size=-1 is out of range"),
        (("images=fake", "n=10"), "20 images or more on either side, but there are 10"),
        (("images=fake", "metrics=[fdi_mnist]"), "no score 'fdi_mnist'; did you mean fd_mnist"),
        (("images=fake", "metrics=[accuracy_mnist]"), "accuracy_mnist was not computed: the images have no classes"),
        (("images=fake", "data=mnist10"), "data=mnist10 does not exist; did you mean mnist10k"),
    ):
        reference = () if "data=mnist10" in words else ("reference=fake",)
        code, _, err = gan("evaluate", *reference, *words)
        assert code == 1 and message in err, (words, err)
    assert gan("evaluate", "images=mixed", "reference=fake", "size=12", "n=30", "metrics=[kd_mnist]")[0] == 0
    assert gan("evaluate", "images=both", "reference=colour", "channels=1", "metrics=[kd_mnist]")[0] == 0


def test_no_other_network_stands_in_for_inception(refused, monkeypatch):
    save_images("fake", 30)

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: "hub")
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    refused(
        "the Inception weights could not be downloaded (no network)", "images=fake", "reference=fake", "metrics=[fid]"
    )
    refused(
        "there are no Inception weights in mine.pth",
        "images=fake",
        "reference=fake",
        "metrics=[is]",
        "inception=mine.pth",
    )


def test_samples_are_rounded_to_8_bits():
    class Images:
        channels, size, count = 1, 8, 40

        def __init__(self, to_stored):
            self.to_stored = to_stored

        def uint8_batches(self, progress: bool = True):
            x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
            yield self.to_stored(x), torch.zeros(40, dtype=torch.int64)

    compare = Comparison(Images(pixels.to_uint8), ["kd_mnist"], torch.device("cpu"))
    assert compare(Images(pixels.to_uint8)).values == compare(Images(lambda x: x)).values
