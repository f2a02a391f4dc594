import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gancli
from gancli import images
from gancli.data.classes import one_hot
from gancli.data.dataset import ImageDataset
from gancli.data.labels import Column
from gancli.inference import latents
from gancli.inference.generator import Generator
from gancli.inference.latents import (
    class_direction,
    find_latents,
    first_layer_directions,
    latents_of_files,
    project,
    read_image,
    read_latent,
    write_latent,
)
from gancli.metrics.psnr_ssim import psnr
from gancli.networks import dcgan, mlp, r3gan, resnet
from gancli.networks.autoencoder import Autoencoder


def untrained(classes: int = 0) -> Generator:
    """Return a generator with random weights, large enough that its images differ as after training."""
    torch.manual_seed(1)
    network = mlp.Generator(z_dim=8, channels=1, size=8, width=16, classes=classes)
    for layer in network.layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, 0.2)
    return Generator(network, 8, 1, [f"class {k}" for k in range(classes)])


class Inverse(nn.Module):
    """Decodes z as four pixels, lighter by the number of the class, and encodes them exactly."""

    z_dim = 4

    def __init__(self, classes: int = 0):
        super().__init__()
        self.classes, self.linear = classes, nn.Linear(4, 4, bias=False)
        self.linear.weight.data = 0.1 * torch.eye(4)

    def shade(self, c: Tensor) -> Tensor:
        return (c * torch.arange(self.classes)).sum(1)[:, None] * 0.3

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (self.linear(z) + self.shade(c)).unflatten(1, (1, 2, 2))

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        return 10 * (x.flatten(1) - self.shade(c))


def decibels(a: Tensor, b: Tensor) -> Tensor:
    return psnr(*(images.to_uint8(x).flatten(2) for x in (a, b)))


# --- search -------------------------------------------------------------------------------------------------------


def test_a_search_finds_an_image_of_the_generator_again():
    G = untrained()
    x = G.sample(4, seed=3)
    z, c = project(G, x, seed=0)
    assert tuple(z.shape) == (4, 8) and tuple(c.shape) == (4, 0)
    assert decibels(x, G.generate(z, c)).min() > 35
    assert decibels(x, G.sample(4, seed=4)).max() < 15, "other latents are far away"


def test_a_search_finds_the_class_unless_it_is_given():
    G = untrained(classes=3)
    x = G.sample(3, seed=3, classes=[2, 0, 1])
    z, c = project(G, x, seed=0)
    assert c.argmax(1).tolist() == [2, 0, 1] and decibels(x, G.generate(z, c)).min() > 35
    assert project(G, x[:1], ["class 1"], steps=5)[1].tolist() == [[0, 1, 0]]
    assert project(G, x[:1], [0, 2], steps=100)[1].tolist() == [[0, 0, 1]], "the nearer one of two"


def test_a_search_depends_on_its_seed_alone():
    G = untrained()
    x = G.sample(2, seed=9)
    (a, _), (b, _), (other, _) = (project(G, x, steps=20, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(project(G, x[1:], steps=20, seed=5)[0], a[1:]), "not on the other images"


def test_the_penalty_keeps_latents_at_the_length_of_noise(monkeypatch):
    G, white = untrained(), torch.ones(1, 1, 8, 8)
    distances = []
    for weight in (0, latents.LENGTH_WEIGHT, 1):
        monkeypatch.setattr(latents, "LENGTH_WEIGHT", weight)
        distances.append(abs(project(G, white)[0].norm().item() / 8**0.5 - 1))
    assert distances[0] > distances[1] > distances[2] and distances[2] < 0.1


def test_an_encoder_finds_latent_and_class_without_a_search():
    class Rough(Inverse):
        def encode(self, x: Tensor, c: Tensor) -> Tensor:
            return super().encode(x, c).clamp(-2, 2)  # a wrong class does not reconstruct the image

    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    G = Generator(Inverse(), 2, 1)
    result, c = find_latents(G, G.network(z, torch.zeros(3, 0)))
    assert torch.allclose(result, z, atol=1e-5) and tuple(c.shape) == (3, 0)
    G = Generator(Rough(4), 2, 1)
    x = G.network(z, one_hot(torch.tensor([3, 0, 2]), 4))
    result, c = find_latents(G, x)
    assert c.argmax(1).tolist() == [3, 0, 2] and torch.allclose(result, z, atol=1e-5)
    assert find_latents(G, x, [1])[1].argmax(1).tolist() == [1, 1, 1]


def test_a_search_never_ends_farther_than_the_encoder(checkpoints):
    G = gancli.load(checkpoints["vae_mlp"])
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (encoded, c), (searched, _) = find_latents(G, x), project(G, x, steps=20)
    assert torch.allclose(encoded, G.network.encode(x, c), atol=1e-5)
    before, after = ((G.generate(z, c) - x).square().flatten(1).mean(1) for z in (encoded, searched))
    assert (after < before).all()
    exact, z = Generator(Inverse(), 2, 1), torch.tensor([[3.0, -1.0, 1.0, -1.0]])
    assert torch.allclose(project(exact, exact.network(z, z[:, :0]), steps=3)[0], z, atol=1e-5), (
        "the encoder's latent is the best"
    )


# --- files --------------------------------------------------------------------------------------------------------


def test_images_of_another_size_are_fitted_only_with_fit(tmp_path):
    same, larger = tmp_path / "same.png", tmp_path / "larger.png"
    for path, side in ((same, 16), (larger, 20)):
        pixels = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    colour, grey = Generator(Inverse(), 16, 3), Generator(Inverse(), 16, 1)
    x = read_image(same, colour)
    assert np.array_equal(images.to_array(x)[0], np.asarray(Image.open(same)))
    for fit in ("crop", "pad", "squash"):
        assert torch.equal(read_image(same, colour, fit), x)
        assert tuple(read_image(larger, grey, fit).shape) == (1, 1, 16, 16)
    with pytest.raises(ValueError, match="is 20x20 and this model's images are 16x16; type fit=crop or fit=pad"):
        read_image(larger, colour)
    with pytest.raises(ValueError, match="fit=corp is not one of crop, pad, squash; did you mean crop"):
        read_image(larger, colour, "corp")
    with pytest.raises(ValueError, match="points of the plane"):
        read_image(same, Generator(Inverse(), 1, 2))


def test_a_latent_is_read_as_it_was_written(tmp_path):
    G = Generator(Inverse(3), 2, 1, ["a", "b", "c"])
    z, c = torch.randn(1, 4), one_hot(torch.tensor([1]), 3)
    path = write_latent(tmp_path / "x.npz", z, c)
    arrays = np.load(path)
    assert arrays["z"].dtype == np.float32 and arrays["z"].shape == (4,) and arrays["label"] == 1
    assert all(torch.equal(a, b) for a, b in zip(read_latent(path, G), (z, c)))
    assert all(torch.equal(a, b) for a, b in zip(latents_of_files(G, [str(path)]), (z, c)))
    assert np.load(write_latent(tmp_path / "unconditional.npz", z, c[:, :0])).files == ["z"]
    np.savez(tmp_path / "images.npz", images=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", z=np.array([print], object))
    for name, message in (
        ("unconditional.npz", "has 4 numbers and a class"),
        ("images.npz", "holds no latent; type a file that gan project wrote"),
        ("pickled.npz", "holds no latent"),
        ("absent.npz", "is not a file"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            latents_of_files(G, [str(tmp_path / name)])
    with pytest.raises(ValueError, match="has 4 numbers and no class"):
        read_latent(path, Generator(Inverse(), 2, 1))


def test_a_latent_of_several_labels_holds_them(tmp_path):
    G = Generator(Inverse(3), 2, 1, [], [Column("shape", ["a", "b"]), Column("size")], torch.tensor([[1, 0, 0.5]]))
    z, c = torch.randn(1, 4), torch.tensor([[0, 1, 0.25]])
    path = write_latent(tmp_path / "x.npz", z, c, several=True)
    assert all(torch.equal(a, b) for a, b in zip(read_latent(path, G), (z, c)))
    for wrong in (torch.tensor([[0, 1.0]]), torch.tensor([[0, 1, float("nan")]]), torch.zeros(1, 0)):
        with pytest.raises(ValueError, match="has 4 numbers and several labels"):
            read_latent(write_latent(path, z, wrong, several=True), G)
    with pytest.raises(ValueError, match="has 4 numbers and a class"):
        read_latent(write_latent(path, z, c, several=True), Generator(Inverse(3), 2, 1))


def test_a_search_finds_several_labels_unless_some_are_given():
    G, columns = untrained(classes=4), [Column("shape", ["a", "b"]), Column("colour", ["x", "y"])]
    codes = torch.tensor([[i, 1 - i, j, 1 - j] for i in (0, 1) for j in (0, 1)]).float()
    G = Generator(G.network, 8, 1, [], columns, codes)
    x = G.sample(4, seed=3)
    assert torch.equal(project(G, x, steps=100)[1], codes)
    G.choose({"shape": "a"})
    assert {G.describe(row)[:8] for row in project(G, x, steps=5)[1]} == {"shape a,"}


# --- directions ---------------------------------------------------------------------------------------------------


FIRST_LAYERS = {mlp: "layers.0", dcgan: "layers.0", resnet: "linear", r3gan: "scale"}


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("encoder", [False, True])
@pytest.mark.parametrize("module", FIRST_LAYERS)
def test_directions_are_the_right_singular_vectors_of_the_first_layer(module, encoder, classes):
    torch.manual_seed(0)
    network = module.Generator(z_dim=8, channels=1, size=16, width=12, classes=classes)
    weight = network.get_submodule(FIRST_LAYERS[module]).weight.detach().double()
    A = weight[:8].flatten(1).T if module is dcgan else weight[:, :8]  # a transposed convolution, or linear
    if encoder:
        network = Autoencoder(dcgan.Encoder(1, 16, 4, classes, outputs=8), network)
    directions = first_layer_directions(Generator(network, 16, 1), 5)
    expected = np.linalg.svd(A.numpy())[2][:5]
    assert np.allclose(np.abs((directions.numpy() * expected).sum(1)), 1, atol=1e-4)
    assert torch.allclose(directions @ directions.T, torch.eye(5), atol=1e-5)
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all(), "the signs are fixed"


def test_the_number_of_directions_is_limited_by_the_first_layer():
    class Squared(Inverse):
        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return super().forward(z.square(), c)

    G = Generator(Inverse(), 2, 1)
    assert tuple(first_layer_directions(G, 4).shape) == (4, 4)
    for k, nearest in ((0, 1), (5, 4)):
        with pytest.raises(ValueError, match=f"directions={k} .*from 1 to 4; type directions={nearest}"):
            first_layer_directions(G, k)
    with pytest.raises(ValueError, match="takes z unchanged"):
        first_layer_directions(Generator(Squared(), 2, 1), 1)


def test_the_direction_between_classes_joins_their_mean_latents():
    G = Generator(Inverse(), 2, 1)
    pixels = torch.randint(256, (150, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(150) % 3
    means = [images.to_float(pixels[labels == k]).flatten(1).mean(0) for k in (2, 0)]
    expected = (means[1] - means[0]) / (means[1] - means[0]).norm()
    direction = class_direction(G, ImageDataset(pixels, labels, ["a", "b", "c"]), 2, 0)
    assert torch.allclose(direction[0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="no image of class d; type other classes="):
        class_direction(G, ImageDataset(pixels, labels, ["a", "b", "c", "d"]), 0, 3)
