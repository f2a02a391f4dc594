import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scenes import difference

import gancli
from gancli import images
from gancli.data.classes import one_hot
from gancli.inference.generator import noise
from gancli.inference.latents import write_latent


def test_every_form_of_output(checkpoints, gan):
    ckpt = f"ckpt={checkpoints['cgan']}"
    code, out, _ = gan("sample", ckpt, "n=12", "out=grid.png")
    assert code == 0 and out.strip() == "grid.png"
    with Image.open("grid.png") as grid:
        assert grid.mode == "RGB" and grid.size == (4 * 50 - 2, 3 * 50 - 2), "a column for each class"
    assert gan("sample", ckpt, "n=32", "classes=[3,1]", "out=few.png")[0] == 0
    with Image.open("few.png") as grid:
        assert grid.size == (6 * 50 - 2, 6 * 50 - 2), "few classes repeat, not 16 rows of two"
    assert gan("sample", ckpt, "n=70", "out=a/b.npz", "classes=[3,1]")[0] == 0
    arrays = np.load("a/b.npz")
    assert arrays["images"].shape == (70, 16, 16, 3) and arrays["images"].dtype == np.uint8
    assert arrays["labels"].dtype == np.int64 and arrays["labels"][:3].tolist() == [3, 1, 3]
    assert gan("sample", ckpt, "n=8", "out=folder/")[0] == 0
    files = sorted(p.relative_to("folder").as_posix() for p in Path("folder").rglob("*.png"))
    assert len(files) == 8 and len({f.split("/")[0] for f in files}) == 4
    for form in ("gif", "png"):
        assert gan("sample", ckpt, "n=3", "interpolate=4", f"out=x.{form}")[0] == 0
    with Image.open("x.gif") as gif:
        assert gif.n_frames == 13, "the last is the first"
    assert gan("sample", f"ckpt={checkpoints['points']}", "n=5", "out=points.npz")[0] == 0
    assert np.load("points.npz")["points"].shape == (5, 2)


def test_arrays_are_what_python_gives(checkpoints, gan):
    assert gan("sample", f"ckpt={checkpoints['dcgan']}", "n=5", "seed=3", "out=x.npz")[0] == 0
    assert np.load("x.npz").files == ["images"], "no labels without classes"
    expected = gancli.load(checkpoints["dcgan"]).sample(5, seed=3)
    assert np.array_equal(np.load("x.npz")["images"], images.to_array(expected))


def test_interpolation_between_latents_and_images(checkpoints, gan):
    G = gancli.load(checkpoints["cgan"])
    z, c = noise(range(3), G.z_dim, seed=1), one_hot(torch.tensor([2, 0, 3]), G.classes)
    for i in range(3):
        write_latent(Path(f"{i}.npz"), z[i : i + 1], c[i : i + 1])
    words = [f"ckpt={checkpoints['cgan']}", "interpolate=4"]
    code, _, error = gan("sample", *words, "images=[0.npz,1.npz,2.npz]", "out=x.npz")
    assert code == 0, error
    arrays, ends = np.load("x.npz"), images.to_array(G.generate(z, c))
    assert arrays.files == ["images"] and len(arrays["images"]) == 8, "two rows of four, both ends included"
    assert difference(arrays["images"][[0, 3, 4, 7]], ends[[0, 1, 1, 2]]) <= 1
    assert gan("sample", *words, "images=[0.npz,1.npz,2.npz]", "out=x.png")[0] == 0
    assert Image.open("x.png").size == (4 * 50 - 2, 2 * 50 - 2)
    for i, array in enumerate(ends[:2]):
        Image.fromarray(array).save(f"{i}.png")
    code, _, error = gan("sample", *words, "images=[0.png,1.png]", "classes=[2]", "out=y.npz")
    assert code == 0, error
    frames = np.load("y.npz")["images"].astype(float)
    first, last = (np.abs(frames[i] - ends[0]).mean() for i in (0, 3))
    assert first < last, "it starts at the first image"


def test_without_out_no_file_is_replaced(checkpoints, gan):
    names = [gan("sample", str(checkpoints["dcgan"]), "n=1")[1].strip() for _ in range(3)]
    assert names == ["samples.png", "samples-2.png", "samples-3.png"]


def test_a_checkpoint_alone_in_a_folder_of_any_name_is_enough(checkpoints, gan):
    folder = Path("a (b)=c, {d} ~ 猫")
    folder.mkdir()
    ckpt = shutil.copy(checkpoints["dcgan"], folder / "my ckpt.safetensors")
    for n, words in enumerate(([f"ckpt={ckpt}"], [str(ckpt)])):
        code, out, error = gan("sample", *words, "n=1", f"out={folder}/{n} (x), ü.png")
        assert code == 0 and Path(out.strip()).is_file(), error


def test_samples_of_two_generations_never_mix(checkpoints, gan):
    ckpt = f"ckpt={checkpoints['cgan']}"
    assert gan("sample", ckpt, "n=12", "out=fake/")[0] == 0
    Image.new("RGB", (4, 4)).save("fake/mine.png")
    code, _, error = gan("sample", ckpt, "n=4", "out=fake/")
    assert code == 1 and "12 older samples" in error and "overwrite=true" in error
    code, _, error = gan("edit", ckpt, "steps=3", "out=fake/")
    assert code == 1 and "12 older samples" in error, error
    assert gan("sample", ckpt, "n=3", "out=fake/", "overwrite=true")[0] == 0
    assert len(list(Path("fake").rglob("0*.png"))) == 3 and Path("fake/mine.png").exists()
    Image.new("RGB", (4, 4)).save("fake/000007.png")
    code, _, error = gan("sample", ckpt, "n=3", "out=fake/", "overwrite=true")
    assert code == 1 and "000007.png was not written by gan sample" in error
    assert len(list(Path("fake").rglob("0*.png"))) == 4


def test_an_output_that_cannot_be_written_is_refused_before_the_work(checkpoints, gan):
    Path("file").touch()
    code, _, error = gan("sample", f"ckpt={checkpoints['cgan']}", "out=file/x/")
    assert code == 1 and "out=file/x cannot be written" in error
