"""gan sample: one file, images by number, every form of output."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image

import gancli
from gancli import images
from gancli.cli import main as cli
from gancli.data.classes import one_hot
from gancli.inference import latents
from gancli.inference.generator import noise, slerp


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A conditional and an unconditional checkpoint, alone in a folder, their runs removed."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for model in ("cgan", "dcgan"):
        run = folder / "run"
        assert cli.main(["train", *TINY, f"model={model}", f"run.dir={run}", "trainer.steps=2"]) == 0
        shutil.copy(run / "checkpoints" / "last.safetensors", folder / f"{model}.safetensors")
        shutil.rmtree(run)
    return {model: folder / f"{model}.safetensors" for model in ("cgan", "dcgan")}


def test_image_i_is_the_same_at_any_n(checkpoints):
    for path in checkpoints.values():
        G = gancli.load(path)
        many = G.sample(150, seed=5)
        for n in (1, 2, 63, 64, 65, 149):
            assert torch.equal(G.sample(n, seed=5), many[:n])
        assert not torch.equal(many[0], many[1])
        assert not torch.equal(G.sample(1, seed=6)[0], many[0])


def test_noise_is_standard_normal_and_named_by_number():
    z = noise(range(20_000), 10, seed=0)
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    assert torch.equal(noise(range(100, 103), 10, 0), z[100:103])
    assert len({tuple(row) for row in z[:, :3].tolist()}) == 20_000


def test_classes_repeat_in_turn_by_number_and_name(checkpoints):
    G = gancli.load(checkpoints["cgan"])
    names = G.class_names
    assert G.labels(5).tolist() == [i % G.classes for i in range(5)]
    assert G.labels(4, [2, 0]).tolist() == [2, 0, 2, 0]
    assert G.labels(3, [names[1]]).tolist() == [1, 1, 1]
    assert torch.equal(G.sample(2, classes=[1]), G.sample(2, classes=[names[1]]))
    assert not torch.equal(G.sample(1, classes=[0]), G.sample(1, classes=[1]))


def test_slerp_keeps_the_length_and_meets_the_ends():
    a, b = torch.nn.functional.normalize(torch.randn(2, 5, 16), dim=2)
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-6) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-6)
    assert torch.allclose(slerp(a, b, 0.3).norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(slerp(a, a, 0.5), a, atol=1e-6)


def test_a_way_begins_at_the_images_it_joins(checkpoints):
    G = gancli.load(checkpoints["cgan"])
    way, ends = G.interpolate(3, 4, seed=1), G.sample(3, seed=1)
    assert way.shape[0] == 12
    assert torch.allclose(way[::4], ends, atol=1e-5)


def test_a_way_goes_through_pictures_and_codes_from_the_first_to_the_last(checkpoints, gan):
    G = gancli.load(checkpoints["cgan"])
    z, c = noise(range(3), G.z_dim, seed=1), one_hot(torch.tensor([2, 0, 3]), G.classes)
    for i in range(3):
        latents.save(Path(f"{i}.npz"), z[i : i + 1], c[i : i + 1])
    words = [f"ckpt={checkpoints['cgan']}", "interpolate=4"]
    code, _, error = gan("sample", *words, "images=[0.npz,1.npz,2.npz]", "out=way.npz")
    assert code == 0, error
    way, ends = np.load("way.npz"), images.to_array(G.generate(z, c))
    assert way.files == ["images"] and len(way["images"]) == 8, "two stretches of four, ends included"
    assert np.abs(way["images"][[0, 3, 4, 7]].astype(int) - ends[[0, 1, 1, 2]]).max() <= 1
    assert gan("sample", *words, "images=[0.npz,1.npz,2.npz]", "out=way.png")[0] == 0
    with Image.open("way.png") as picture:
        assert picture.size == (4 * 50 - 2, 2 * 50 - 2)  # a row from each to the next
    for i, image in enumerate(ends[:2]):
        images.to_pil(image).save(f"{i}.png")
    code, _, error = gan("sample", *words, "images=[0.png,1.png]", "classes=[2]", "out=pictures.npz")
    assert code == 0, error
    found = np.load("pictures.npz")["images"]
    start, far = (np.abs(found[i].astype(float) - ends[0]).mean() for i in (0, 3))
    assert start < far, "the way begins at the picture"


def test_every_form_of_output(checkpoints, gan, tmp_path):
    ckpt = f"ckpt={checkpoints['cgan']}"
    code, out, _ = gan("sample", ckpt, "n=12", "out=grid.png")
    assert code == 0 and out.strip() == "grid.png"
    with Image.open("grid.png") as picture:
        assert picture.mode == "RGB" and picture.width > picture.height  # four columns, a class each, three rows
    assert gan("sample", ckpt, "n=70", "out=a/b.npz", "classes=[3,1]")[0] == 0
    arrays = np.load("a/b.npz")
    assert arrays["images"].shape == (70, 16, 16, 3) and arrays["images"].dtype == np.uint8
    assert arrays["labels"].dtype == np.int64 and arrays["labels"][:3].tolist() == [3, 1, 3]
    assert gan("sample", ckpt, "n=8", "out=folder/")[0] == 0
    files = sorted(p.relative_to("folder").as_posix() for p in Path("folder").rglob("*.png"))
    assert len(files) == 8 and len({f.split("/")[0] for f in files}) == 4
    assert gan("sample", ckpt, "n=3", "interpolate=4", "out=way.gif")[0] == 0
    with Image.open("way.gif") as gif:
        assert gif.n_frames == 12
    assert gan("sample", ckpt, "n=3", "interpolate=4", "out=way.png")[0] == 0
    unconditional = f"ckpt={checkpoints['dcgan']}"
    assert gan("sample", unconditional, "n=4", "out=plain.npz")[0] == 0
    assert np.load("plain.npz").files == ["images"]


def test_the_grid_is_what_python_gives(checkpoints, gan):
    gan("sample", f"ckpt={checkpoints['dcgan']}", "n=5", "seed=3", "out=x.npz")
    expected = gancli.load(checkpoints["dcgan"]).sample(5, seed=3)
    from gancli.images import to_array

    assert np.array_equal(np.load("x.npz")["images"], to_array(expected))


def test_without_out_nothing_is_written_over(checkpoints, gan):
    names = [gan("sample", str(checkpoints["dcgan"]), "n=1")[1].strip() for _ in range(3)]
    assert names == ["samples.png", "samples-2.png", "samples-3.png"]


@pytest.mark.parametrize(
    ("model", "words", "code", "sentence"),
    [
        ("dcgan", ["classes=[1]"], 1, "unconditional"),
        ("cgan", ["classes=[4]"], 1, "class 4 is outside 0 to 3"),
        ("cgan", ["classes=[-1]"], 1, "class -1 is outside"),
        ("cgan", ["classes=[circel]"], 1, "did you mean circle?"),
        ("dcgan", ["n=0"], 1, "n=0 is out of range"),
        ("dcgan", ["n=-3"], 1, "n=-3 is out of range"),
        ("dcgan", ["n=many"], 2, "n is a whole number"),
        ("dcgan", ["sed=1"], 2, "did you mean seed?"),
        ("dcgan", ["out=a.bmp"], 1, "out=grid.png"),
        ("dcgan", ["interpolate=3", "n=1"], 1, "two images or more"),
        ("dcgan", ["images=[a.png,b.png]"], 1, "interpolate=0; type interpolate=8"),
        (
            "dcgan",
            ["images=a.png", "interpolate=8"],
            1,
            "images= names 1 and interpolate=8; type interpolate=8 images=[",
        ),
        ("dcgan", ["images=[a.png,b.png]", "interpolate=1"], 1, "a way has two ends or more"),
        ("dcgan", ["images=[a.png,b.png]", "interpolate=8"], 1, "a.png: is not a file that can be opened"),
        ("dcgan", ["device=cuda:9"], 1, "device=cpu"),
        ("dcgan", ["--fast"], 2, "takes no option --fast"),
    ],
)
def test_bad_input_gets_one_sentence(checkpoints, gan, tmp_path, model, words, code, sentence):
    got, out, error = gan("sample", f"ckpt={checkpoints[model]}", *words)
    assert got == code and sentence in error and len(error.strip().splitlines()) == 1
    assert not out and not any(tmp_path.iterdir()), "nothing is written"


def test_odd_paths_are_ordinary(checkpoints, gan, tmp_path):
    folder = tmp_path / "a (b)=c, {d} ~ 猫"
    folder.mkdir()
    ckpt = shutil.copy(checkpoints["dcgan"], folder / "my ckpt.safetensors")
    for n, words in enumerate(([f"ckpt={ckpt}"], [str(ckpt)])):
        code, out, error = gan("sample", *words, "n=1", f"out={folder}/{n} (x), ü.png")
        assert code == 0, error
        assert Path(out.strip()).is_file()
