"""gan edit, and the directions it moves codes in, against NumPy and by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image
from torch import Tensor, nn

import gancli
from gancli import images
from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.data.by_name import load_by_name
from gancli.data.classes import one_hot
from gancli.data.dataset import ImageDataset
from gancli.inference.generator import Generator, noise
from gancli.inference.latents import class_direction, first_layer_directions
from gancli.networks import dcgan, mlp, r3gan, resnet
from gancli.networks.autoencoder import Autoencoder

MODELS = ("cgan", "dcgan", "aegan")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for model in MODELS:
        assert cli.main(["train", *TINY, f"model={model}", f"run.dir={folder / model}", "trainer.steps=2"]) == 0
    return {model: folder / model / "checkpoints" / "last.safetensors" for model in MODELS}


class Plane(nn.Module):
    """Four pixels, which are the code; the encoder gives them back."""

    z_dim, classes = 4, 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.linear(z).unflatten(1, (1, 2, 2))

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        return x.flatten(1)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether no pixel differs by more than one level, as those made in batches of other sizes may."""
    return a.shape == b.shape and np.abs(a.astype(int) - b.astype(int)).max() <= 1


def weight(network: nn.Module) -> Tensor:
    """The first layer's (outputs, z_dim), read off the weights of each architecture."""
    network = getattr(network, "decoder", network)
    z_dim = int(network.z_dim)  # type: ignore[arg-type]
    if isinstance(network, dcgan.Generator):
        return network.layers[0].weight[:z_dim].flatten(1).T
    layer = {mlp: "layers.0", resnet: "linear", r3gan: "scale"}
    name = next(name for module, name in layer.items() if type(network).__module__ == module.__name__)
    return network.get_submodule(name).weight[:, :z_dim]  # type: ignore[index, return-value]


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("module", [mlp, dcgan, resnet, r3gan, "autoencoder"])
def test_directions_are_the_right_singular_vectors_of_the_first_layer(module, classes):
    torch.manual_seed(0)
    if module == "autoencoder":
        decoder = dcgan.Generator(z_dim=8, channels=1, size=16, width=4, classes=classes)
        network = Autoencoder(dcgan.Encoder(8, 1, 16, 4, classes), decoder)
    else:
        network = module.Generator(z_dim=8, channels=1, size=16, width=12, classes=classes)
    G = Generator(network, 16, 1)
    found = first_layer_directions(G, 5)
    expected = np.linalg.svd(weight(network).detach().double().numpy())[2][:5]
    assert np.allclose(np.abs((found.numpy() * expected).sum(1)), 1, atol=1e-4)
    assert torch.allclose(found @ found.T, torch.eye(5), atol=1e-5)
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all(), "the signs are fixed"


def test_directions_are_as_many_as_there_are():
    G = Generator(Plane(), 2, 1)
    assert tuple(first_layer_directions(G, 4).shape) == (4, 4)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"has 4 directions, but directions={k}; type directions=4"):
            first_layer_directions(G, k)

    class Squared(Plane):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return super().forward(z.square(), c)

    with pytest.raises(ValueError, match="takes its noise as it is"):
        first_layer_directions(Generator(Squared(), 2, 1), 1)


def test_from_class_to_class_is_from_mean_code_to_mean_code():
    G = Generator(Plane(), 2, 1)
    pixels = torch.randint(256, (150, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(150) % 3
    data = ImageDataset(pixels, labels, ["a", "b", "c"])
    means = [images.to_float(pixels[labels == k]).flatten(1).mean(0) for k in (2, 0)]
    by_hand = (means[1] - means[0]) / (means[1] - means[0]).norm()
    assert torch.allclose(class_direction(G, data, 2, 0)[0], by_hand, atol=1e-5)
    with pytest.raises(ValueError, match="no image of class d; type other classes="):
        class_direction(G, ImageDataset(pixels, labels, ["a", "b", "c", "d"]), 0, 3)


def test_a_strip_updates_one_image_of_sample_both_ways(checkpoints, gan):
    ckpt = f"ckpt={checkpoints['cgan']}"
    code, out, error = gan("edit", ckpt, "image=6", "seed=3", "directions=2", "steps=5", "amount=2", "out=x.npz")
    assert code == 0 and out == "x.npz\n", error
    assert np.load("x.npz").files == ["images"]
    made = np.load("x.npz")["images"].reshape(2, 5, 16, 16, 3)
    G = gancli.load(checkpoints["cgan"])
    sampled = images.to_array(G.sample(7, seed=3))[6]
    assert alike(made[0, 2], sampled) and alike(made[1, 2], sampled)
    z, c = noise(range(6, 7), G.z_dim, 3), one_hot(torch.tensor([2]), 4)  # of four classes in turn
    by_hand = G.generate(z + torch.tensor([[-2.0], [1.0]]) * first_layer_directions(G, 2)[1:], c.expand(2, -1))
    assert alike(made[1, [0, 3]], images.to_array(by_hand))
    assert gan("edit", ckpt, "image=6", "seed=3", "classes=[2]", "steps=3", "directions=1", "out=y.npz")[0] == 0
    assert alike(np.load("y.npz")["images"][1], sampled)


def test_a_conditional_model_keeps_z_and_blends_the_class(checkpoints, gan):
    code, _, error = gan("edit", f"ckpt={checkpoints['cgan']}", "classes=[square,3]", "steps=4", "out=x.npz")
    assert code == 0, error
    G = gancli.load(checkpoints["cgan"])
    z, third = noise(range(1), G.z_dim, 0).expand(4, -1), 1 / 3
    blends = torch.tensor([[0, 1, 0, 0], [0, 1 - third, 0, third], [0, third, 0, 1 - third], [0, 0, 0, 1]])
    assert alike(np.load("x.npz")["images"], images.to_array(G.generate(z, blends)))


def test_an_encoder_finds_classes_that_the_model_was_not_told_of(checkpoints, gan, tmp_path):
    ckpt = f"ckpt={checkpoints['aegan']}"
    words = ("edit", ckpt, "classes=[circle,cross]", "steps=3", "amount=2")
    for data in ((), ("data=synthetic",)):  # what it was trained on, and the same by name
        code, _, error = gan(*words, *data, f"out={len(data)}.npz")
        assert code == 0, error
    made = [np.load(f"{i}.npz")["images"] for i in (0, 1)]
    assert np.array_equal(*made) and len(made[0]) == 3
    G = gancli.load(checkpoints["aegan"])
    way = class_direction(G, load_by_name("synthetic", 16, 3), 0, 3)
    by_hand = G.generate(noise(range(1), G.z_dim, 0) + torch.tensor([[-2.0], [0.0], [2.0]]) * way, torch.zeros(3, 0))
    assert alike(made[0], images.to_array(by_hand))
    for name in ("cat", "dog"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), "red" if name == "cat" else "blue").save(tmp_path / "animals" / name / "1.png")
    assert gan("edit", ckpt, "classes=[cat,dog]", "data=animals/", "out=pets.png")[0] == 0


def test_a_picture_is_where_it_begins(checkpoints, gan):
    G = gancli.load(checkpoints["aegan"])
    Image.fromarray(np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)).save("it.png")
    code, out, error = gan("edit", "it.png", f"ckpt={checkpoints['aegan']}", "out=x.npz")
    assert code == 0 and out == "x.npz\n", error
    made = np.load("x.npz")["images"].reshape(4, 9, 16, 16, 3)
    x = images.to_float(torch.from_numpy(np.array(Image.open("it.png"))).permute(2, 0, 1)[None])
    again = images.to_array(G.generate(G.network.encode(x, torch.zeros(1, 0)), torch.zeros(1, 0)))[0]
    assert all(alike(row[4], again) for row in made)
    assert gan("project", "it.png", f"ckpt={checkpoints['cgan']}", "steps=3")[0] == 0
    code, _, error = gan("edit", "it_projected.npz", f"ckpt={checkpoints['cgan']}", "out=y.npz", "steps=3")
    assert code == 0, error
    with Image.open("it_projected.png") as picture:
        found = np.asarray(picture)[::3, 50::3]
    assert alike(np.load("y.npz")["images"][1], found)


def test_a_row_a_direction_and_never_over_another(checkpoints, gan):
    names = [gan("edit", f"ckpt={checkpoints['dcgan']}", "steps=3", "directions=2")[1].strip() for _ in range(2)]
    assert names == ["edit.png", "edit-2.png"]
    with Image.open("edit.png") as picture:
        assert picture.size == (3 * 50 - 2, 2 * 50 - 2)


def test_from_a_foreign_checkpoint_no_more_than_a_name_is_taken(checkpoints, gan, tmp_path):
    content = checkpoint.read(checkpoints["aegan"])
    content["config"]["data"] |= {"name": "../data/digits", "source": {"_target_": "os.getcwd"}}
    checkpoint.write(Path("bad.safetensors"), content)
    code, out, error = gan("edit", "ckpt=bad.safetensors", "classes=[0,1]")
    assert code == 1 and not out and "was trained on is not here; type data=mnist" in error


@pytest.mark.parametrize(
    ("model", "words", "code", "said"),
    [
        ("dcgan", ["a.png", "b.png"], 2, "begins at one picture, but 2 were given; type gan edit a.png"),
        ("dcgan", ["a.png"], 1, "a.png: is not a file that can be opened"),
        ("dcgan", ["classes=[1,2]"], 1, "has no encoder to find them with; leave classes= out"),
        ("dcgan", ["classes=[1]"], 1, "unconditional"),
        ("cgan", ["classes=[1,2,3]"], 1, "but 3 were named; type classes=[3,8]"),
        ("cgan", ["classes=[circel,cross]"], 1, "did you mean circle?"),
        ("aegan", ["classes=[circel,cross]"], 1, "did you mean circle?"),
        ("aegan", ["classes=[0,1]", "data=digist"], 1, "did you mean digits?"),
        ("aegan", ["classes=[0,1]", "data=."], 1, "has no images"),
        ("dcgan", ["steps=1"], 1, "a row has 2 images or more, but steps=1; type steps=9"),
        ("dcgan", ["directions=0"], 1, "but directions=0; type directions="),
        ("dcgan", ["image=-1"], 1, "numbered from 0"),
        ("dcgan", ["steps=9999"], 1, "a grid shows 10,000 images at most"),
        ("dcgan", ["amount=far"], 2, "amount is a number"),
        ("dcgan", ["out=x.bmp"], 1, "type out=grid.png"),
        ("dcgan", ["amont=2"], 2, "did you mean amount?"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(checkpoints, gan, tmp_path, model, words, code, said):
    got, out, error = gan("edit", *words, f"ckpt={checkpoints[model]}")
    assert got == code and said in error and len(error.strip().splitlines()) == 1
    assert not out and not any(tmp_path.iterdir()), "nothing is written"


def test_a_plane_is_both_directions_at_once(gan, checkpoints):
    """Around the mean code: rows go down the second direction, columns along the first."""
    ckpt = checkpoints["dcgan"]
    code, _, error = gan("edit", f"ckpt={ckpt}", "plane=true", "steps=3", "amount=2", "out=plane.npz")
    assert code == 0, error
    G = gancli.load(ckpt)
    first, second = first_layer_directions(G, 2)
    z = torch.stack([2 * (column * first - row * second) for row in (-1, 0, 1) for column in (-1, 0, 1)])
    expected = images.to_array(G.generate(z, torch.zeros(9, 0)))
    assert alike(np.load("plane.npz")["images"], expected)
    code, _, error = gan("edit", f"ckpt={checkpoints['cgan']}", "plane=true", "classes=[0,1]")
    assert code == 1 and "leave one out" in error
