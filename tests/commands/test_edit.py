from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import difference, scene

import gancli
from gancli import images
from gancli.checkpoint import format as checkpoint
from gancli.data.by_name import load_by_name
from gancli.data.classes import one_hot
from gancli.inference.generator import noise
from gancli.inference.latents import class_direction, first_layer_directions


def arrays(file: str) -> np.ndarray:
    return np.load(file)["images"]


def test_rows_change_an_image_of_sample_along_directions(checkpoints, gan):
    ckpt = f"ckpt={checkpoints['cgan']}"
    code, out, error = gan("edit", ckpt, "image=6", "seed=3", "directions=2", "steps=5", "amount=2", "out=x.npz")
    assert code == 0 and out == "x.npz\n", error
    assert np.load("x.npz").files == ["images"]
    rows = arrays("x.npz").reshape(2, 5, 16, 16, 3)
    G = gancli.load(checkpoints["cgan"])
    sampled = images.to_array(G.sample(7, seed=3))[6]
    assert difference(rows[0, 2], sampled) <= 1 and difference(rows[1, 2], sampled) <= 1
    z, c = noise(range(6, 7), G.z_dim, 3), one_hot(torch.tensor([2]), 4)  # of four classes in turn
    expected = G.generate(z + torch.tensor([[-2.0], [1.0]]) * first_layer_directions(G, 2)[1:], c.expand(2, -1))
    assert difference(rows[1, [0, 3]], images.to_array(expected)) <= 1
    assert gan("edit", ckpt, "image=6", "seed=3", "classes=[2]", "steps=3", "directions=1", "out=y.npz")[0] == 0
    assert difference(arrays("y.npz")[1], sampled) <= 1


def test_a_conditional_model_blends_the_class_at_the_same_z(checkpoints, gan):
    code, _, error = gan("edit", f"ckpt={checkpoints['cgan']}", "classes=[square,3]", "steps=4", "out=x.npz")
    assert code == 0, error
    G = gancli.load(checkpoints["cgan"])
    z, third = noise(range(1), G.z_dim, 0).expand(4, -1), 1 / 3
    blends = torch.tensor([[0, 1, 0, 0], [0, 1 - third, 0, third], [0, third, 0, 1 - third], [0, 0, 0, 1]])
    assert difference(arrays("x.npz"), images.to_array(G.generate(z, blends))) <= 1


@pytest.mark.slow
def test_an_encoder_finds_classes_of_an_unconditional_model(checkpoints, gan):
    ckpt = f"ckpt={checkpoints['aegan']}"
    words = ("edit", ckpt, "classes=[circle,cross]", "steps=3", "amount=2")
    assert gan(*words, "out=trained.npz")[0] == 0, "on its training data"
    assert gan(*words, "data=synthetic", "out=named.npz")[0] == 0
    assert len(arrays("named.npz")) == 3 and difference(arrays("trained.npz"), arrays("named.npz")) == 0
    G = gancli.load(checkpoints["aegan"])
    direction = class_direction(G, load_by_name("synthetic", 16, 3), 0, 3)
    z = noise(range(1), G.z_dim, 0) + torch.tensor([[-2.0], [0.0], [2.0]]) * direction
    assert difference(arrays("named.npz"), images.to_array(G.generate(z, torch.zeros(3, 0)))) <= 1
    for name in ("cat", "dog"):
        Path("animals", name).mkdir(parents=True)
        Image.new("RGB", (16, 16), "red" if name == "cat" else "blue").save(f"animals/{name}/1.png")
    assert gan("edit", ckpt, "classes=[cat,dog]", "data=animals/", "out=pets.png")[0] == 0


def test_a_given_image_is_the_start(checkpoints, gan):
    scene(16, 16).save("it.png")
    code, out, error = gan("edit", "it.png", f"ckpt={checkpoints['aegan']}", "out=x.npz")
    assert code == 0 and out == "x.npz\n", error
    G = gancli.load(checkpoints["aegan"])
    x = images.to_float(torch.from_numpy(np.array(Image.open("it.png"))).permute(2, 0, 1)[None])
    again = images.to_array(G.generate(G.network.encode(x, torch.zeros(1, 0)), torch.zeros(1, 0)))[0]
    assert all(difference(row[4], again) <= 1 for row in arrays("x.npz").reshape(4, 9, 16, 16, 3))


def test_a_grid_has_a_row_for_each_direction(checkpoints, gan):
    assert gan("edit", f"ckpt={checkpoints['dcgan']}", "steps=3", "directions=2")[:2] == (0, "edit.png\n")
    assert Image.open("edit.png").size == (3 * 50 - 2, 2 * 50 - 2)


def test_a_plane_has_columns_along_the_first_direction_and_rows_along_the_second(gan, checkpoints):
    code, _, error = gan("edit", f"ckpt={checkpoints['dcgan']}", "plane=true", "steps=3", "amount=2", "out=plane.npz")
    assert code == 0, error
    G = gancli.load(checkpoints["dcgan"])
    first, second = first_layer_directions(G, 2)
    z = torch.stack([2 * (column * first - row * second) for row in (-1, 0, 1) for column in (-1, 0, 1)])
    assert difference(arrays("plane.npz"), images.to_array(G.generate(z, torch.zeros(9, 0)))) <= 1


def test_only_a_name_is_taken_from_an_untrusted_checkpoint(checkpoints, gan):
    content = checkpoint.read(checkpoints["aegan"])
    content["config"]["data"] |= {"name": "../data/digits", "source": {"_target_": "os.getcwd"}}
    checkpoint.write(Path("bad.safetensors"), content)
    code, out, error = gan("edit", "ckpt=bad.safetensors", "classes=[0,1]")
    assert code == 1 and not out and "training data is not here; type data=mnist" in error
