"""gan evaluate on what is made of noise and on somebody's images: what is told, kept and refused."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image

import gancli
from gancli import images as pixels
from gancli.data.builtin import digits
from gancli.evaluation.generative import Comparison
from gancli.metrics.feature_extractors import extractor
from gancli.metrics.fid import Moments, frechet

ON_DIGITS = ["data=digits", *[word for word in TINY if not word.startswith(("data=", "data.n="))]]


def train(gan, model: str, *words: str) -> None:
    assert gan("train", f"model={model}", *ON_DIGITS, f"run.dir={model}", *words)[0] == 0


def scored(gan, *words: str) -> tuple[dict[str, Any], str, str]:
    """What is stored, printed and warned of."""
    code, out, err = gan("evaluate", "json=s.json", "device=cpu", *words)
    assert code == 0, err
    return json.loads(Path("s.json").read_text()), out, err


def pictures(folder: str, n: int, size: int = 12, seed: int = 0, mode: str = "L") -> None:
    generator = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        shape = (size, size, 3) if mode == "RGB" else (size, size)
        Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(f"{folder}/{i}.png")


def test_a_models_scores_with_their_protocol(gan):
    train(gan, "dcgan")
    found, out, err = scored(gan, "ckpt=dcgan", "n=200", "out=side.png")
    assert not err and list(found["scores"]) == [
        *("fd_mnist", "kd_mnist", "score_mnist", "precision_mnist", "recall_mnist", "density_mnist", "coverage_mnist")
    ]
    see, (ours, theirs) = extractor("mnist"), (Moments(), Moments())
    ours.add(see(gancli.load("dcgan").sample(200, seed=0))[0])
    test = digits(16, 1, "test").images
    theirs.add(see(test)[0])
    assert found["scores"]["fd_mnist"] == pytest.approx(frechet(ours, theirs), rel=0.1), "of 200 of these 297"
    protocol = found["protocol"]
    assert protocol["real"] == protocol["made"] == 200 and protocol["of"] == len(test) == 297
    assert protocol["data"] == "digits" and protocol["split"] == "test" and protocol["averaged"] is True
    assert protocol["features"].startswith(f"mnist {see.hash}, 64 features; 8 bits, 16 to 28 pixels by")
    assert protocol["versions"]["torch"] and protocol["seed"] == 0 and "classes" not in protocol["weights"]
    assert len(protocol["real images"]) == 12 and "200 of 297 images of digits, split test" in out
    assert "lower is better" in out and protocol["features"] in out
    with Image.open("side.png") as side:
        assert side.width > 150


def test_it_can_be_made_again_by_the_command_that_is_kept(gan):
    train(gan, "dcgan")
    first, _, _ = scored(gan, "ckpt=dcgan", "n=100", "split=train", "seed=3", "metrics=[fd_mnist,recall_mnist]")
    kept = [json.loads(line) for line in Path("dcgan/scores.jsonl").read_text().splitlines()]
    assert len(kept) == 1 and kept[0]["figures"] == first["scores"] and kept[0]["step"] == 6
    assert kept[0]["protocol"] == first["protocol"]
    words = shlex.split(kept[0]["command"])
    assert words[:2] == ["gan", "evaluate"] and "ckpt=dcgan/checkpoints/last.safetensors" in words
    second, _, _ = scored(gan, *words[2:])
    assert second["scores"] == first["scores"] and second["protocol"]["real images"] == first["protocol"]["real images"]
    raw, _, _ = scored(gan, *words[2:], "ema=false")
    assert raw["protocol"]["averaged"] is False and "weights as trained" in raw["protocol"]["weights"]
    assert len(Path("dcgan/scores.jsonl").read_text().splitlines()) == 3


def test_a_lone_file_keeps_nothing(gan):
    train(gan, "dcgan")
    Path("dcgan/checkpoints/last.safetensors").rename("alone.safetensors")
    scored(gan, "ckpt=alone.safetensors", "n=50", "metrics=[kd_mnist]")
    assert not list(Path().rglob("scores.jsonl"))


def test_a_torn_line_swallows_no_other(gan):
    train(gan, "dcgan")
    Path("dcgan/scores.jsonl").write_text('{"time": "20')
    scored(gan, "ckpt=dcgan", "n=50", "metrics=[kd_mnist]")
    lines = Path("dcgan/scores.jsonl").read_text().splitlines()
    assert len(lines) == 2 and "kd_mnist" in json.loads(lines[1])["figures"]


def test_classes_are_told_of_a_model_that_has_them(gan):
    train(gan, "cgan", "model=cgan")
    found, out, err = scored(gan, "ckpt=cgan", "n=100")
    assert 0 <= found["scores"]["accuracy_mnist"] <= 1 and found["real"]["accuracy_mnist"] > 0.3, "other pens, 8x8"
    assert found["protocol"]["weights"].endswith("its classes in turn")
    assert list(found["by class"]["accuracy_mnist"]) == [str(k) for k in range(10)] and "accuracy_mnist by class" in out
    assert "class_fd_mnist is not told: of the classes 0, 1, 2" in err and "type a larger n=" in err


def test_an_encoder_is_measured_as_a_generator_where_scores_are_asked_for(gan):
    train(gan, "vae")
    assert "scores" in scored(gan, "ckpt=vae", "n=100", "metrics=[mnist]")[0]
    assert "elbo" in scored(gan, "ckpt=vae", "n=100", "samples=2")[0]["mean"]
    kept = [json.loads(line)["figures"] for line in Path("vae/scores.jsonl").read_text().splitlines()]
    assert "fd_mnist" in kept[0] and "elbo" in kept[1]


def test_somebodys_images_beside_others(gan):
    pictures("made", 120)
    pictures("real", 150, size=20, seed=1)
    found, out, _ = scored(gan, "images=made", "reference=real")
    assert found["protocol"]["features of the real images"].endswith("20 to 28 pixels by antialiased bicubic")
    assert (found["protocol"]["made"], found["protocol"]["real"]) == (120, 150)
    assert "120 of 120 pictures of made, 12x12 grey" in out and "150 of 150 pictures of real, 20x20 grey" in out
    same, _, _ = scored(gan, "images=made", "reference=made")
    assert same["scores"]["fd_mnist"] == pytest.approx(0, abs=1e-6) and same["scores"]["coverage_mnist"] == 1
    assert same["scores"]["precision_mnist"] == same["scores"]["recall_mnist"] == 1
    fewer, _, _ = scored(gan, "images=made", "reference=real", "n=100")
    assert "100 of 120 pictures of made" in fewer["protocol"]["images"]


def test_an_npz_file_of_samples_is_the_model(gan):
    train(gan, "dcgan")
    assert gan("sample", "ckpt=dcgan", "n=100", "out=fake.npz")[0] == 0
    model, _, _ = scored(gan, "ckpt=dcgan", "n=100", "split=train", "metrics=[fd_mnist,coverage_mnist]")
    words = ("images=fake.npz", "data=digits", "split=train", "size=16", "n=100", "metrics=[mnist]")
    file, _, _ = scored(gan, *words)
    assert file["scores"]["fd_mnist"] == pytest.approx(model["scores"]["fd_mnist"], rel=1e-6)
    assert file["scores"]["coverage_mnist"] == model["scores"]["coverage_mnist"]
    assert file["protocol"]["real images"] == model["protocol"]["real images"]


def test_colour_is_seen_by_the_network_for_colour(gan):
    pictures("made", 140, mode="RGB")
    pictures("real", 140, seed=1, mode="RGB")
    found, _, _ = scored(gan, "images=made", "reference=real")
    assert "fd_cifar" in found["scores"] and found["protocol"]["features"].startswith("cifar ")
    grey, _, _ = scored(gan, "images=made", "reference=real", "channels=1")
    assert "fd_mnist" in grey["scores"]


def test_fewer_images_than_features(gan):
    pictures("made", 64)
    pictures("real", 100, seed=1)
    found, _, err = scored(gan, "images=made", "reference=real")
    assert "fd_mnist is not told: 64 images are no more than its 64 features" in err and "kd_mnist is right on" in err
    assert "fd_mnist" not in found["scores"] and found["scores"]["kd_mnist"] is not None
    assert found["protocol"]["untold"]["fd_mnist"].startswith("64 images")


def test_pictures_that_are_not_alike(gan):
    pictures("made", 30)
    pictures("mixed", 30)
    pictures("mixed/deeper", 30, size=16)
    pictures("colour", 30, mode="RGB")
    pictures("both", 30)
    pictures("both/deeper", 30, mode="RGB")
    Path("empty").mkdir()
    Path("torn").mkdir()
    Path("torn/a.png").write_bytes(b"no picture")
    Image.new("L", (9, 12)).save("wide.png")
    Path("oblong").mkdir()
    Path("wide.png").rename("oblong/wide.png")
    np.savez("other.npz", x=np.zeros(3))
    for words, message in (
        (("images=mixed", "reference=made"), "=mixed are of 2 sizes, 0.png of 12x12 and deeper/0.png of 16x16; type"),
        (("images=made", "reference=mixed"), "of reference=mixed are of 2 sizes"),
        (("images=oblong", "reference=made"), "of images=oblong are no squares, wide.png is of 9x12; type size=9"),
        (("images=empty", "reference=made"), "there is no picture in images=empty that can be read"),
        (("images=torn", "reference=made"), "a.png was left out: is not a picture"),
        (("images=nowhere", "reference=made"), "images=nowhere is neither a folder nor an .npz file"),
        (("images=made", "reference=colour"), "images=made is grey and the real images are in colour; type channels=1"),
        (("images=both", "reference=made"), "=both are partly grey, as 0.png, and partly in colour, as deeper/0.png"),
        (("images=made",), "no ckpt= to enlarge them was given, nor either of these; type one of them"),
        (("images=made", "reference=made", "data=digits"), "and both were given; type one of them"),
        (("images=other.npz", "reference=made"), "images=other.npz holds no array images"),
        (("images=missing.npz", "reference=made"), "images=missing.npz cannot be read as an .npz file"),
        (("images=made", "reference=made", "channels=2"), "type size=32, a number of pixels, and channels=1"),
        (("images=made", "reference=made", "n=10"), "20 images or more on either side, but there are 10"),
        (("images=made", "reference=made", "metrics=[fdi_mnist]"), "no score 'fdi_mnist'; did you mean fd_mnist"),
        (("images=made", "reference=made", "metrics=[accuracy_mnist]"), "the images are of no classes"),
        (("images=made", "data=digitz"), "there is no data 'digitz'; did you mean digits"),
    ):
        code, _, err = gan("evaluate", *words)
        assert code == 1 and message in err, (words, err)
    assert gan("evaluate", "images=mixed", "reference=made", "size=12", "n=30", "metrics=[kd_mnist]")[0] == 0
    assert gan("evaluate", "images=both", "reference=colour", "channels=1", "metrics=[kd_mnist]")[0] == 0


def test_another_name_is_never_taken_for_inceptions(gan, monkeypatch):
    """On a machine without its weights: a sentence, and no number."""
    pictures("made", 30)

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: "hub")
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    code, out, err = gan("evaluate", "images=made", "reference=made", "metrics=[fid]")
    assert code == 1 and not out and "the weights of Inception could not be downloaded (no network)" in err
    code, out, err = gan("evaluate", "images=made", "reference=made", "metrics=[is]", "inception=mine.pth")
    assert code == 1 and not out and "there are no weights of Inception in mine.pth" in err


def test_what_a_broken_network_makes_is_not_scored(gan):
    train(gan, "mlp")
    content = gancli.checkpoint.format.read(Path("mlp/checkpoints/last.safetensors"))
    for x in content["ema"].values():
        x.fill_(float("nan")) if x.is_floating_point() else None
    gancli.checkpoint.format.write(Path("nan.safetensors"), content)
    code, out, err = gan("evaluate", "ckpt=nan.safetensors", "n=50")
    assert code == 1 and "values that are no numbers" in err and not out


def test_points_are_not_scored(gan):
    assert gan("train", "model=mlp", *TINY, "data.kind=ring", "data.size=null", "run.dir=points")[0] == 0
    code, _, err = gan("evaluate", "ckpt=points")
    assert code == 1 and "points of the plane" in err


def test_samples_are_seen_as_8_bits():
    """As a file of them would be: what G makes between two levels is no better than its rounding."""

    class Images:
        channels, size, count = 1, 8, 40

        def __init__(self, change: Any):
            self.change = change

        def stored(self, bar: bool = True):
            x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
            yield self.change(x), torch.zeros(40, dtype=torch.int64)

    compare = Comparison(Images(pixels.to_uint8), ["kd_mnist"], torch.device("cpu"))
    stored, floats = compare(Images(pixels.to_uint8)), compare(Images(lambda x: x))
    assert stored.values == floats.values
