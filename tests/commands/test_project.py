"""gan project, and what finds codes: the encoder, or a search that has to find G's own images again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY
from PIL import Image
from torch import Tensor, nn

import gancli
from gancli import images
from gancli.cli import main as cli
from gancli.data.classes import one_hot
from gancli.inference import latents
from gancli.inference.generator import Generator
from gancli.inference.latents import codes, of_files, picture, project, save, saved
from gancli.metrics.psnr_ssim import psnr
from gancli.networks import mlp


def untrained(classes: int = 0) -> Generator:
    """Of random weights, large enough that its images differ as those of a trained one do."""
    torch.manual_seed(1)
    network = mlp.Generator(z_dim=8, channels=1, size=8, width=16, classes=classes)
    for layer in network.layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, 0.2)
    return Generator(network, 8, 1, [f"kind {k}" for k in range(classes)])


class Inverse(nn.Module):
    """The four pixels are the code; with classes all are lighter by the number of the class. Encodes exactly."""

    z_dim = 4

    def __init__(self, classes: int = 0):
        super().__init__()
        self.classes, self.gain = classes, nn.Parameter(torch.tensor(0.1))

    def shade(self, c: Tensor) -> Tensor:
        return (c * torch.arange(self.classes)).sum(1)[:, None] * 0.3

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return (z * self.gain + self.shade(c)).unflatten(1, (1, 2, 2))

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        return (x.flatten(1) - self.shade(c)) / self.gain


def decibels(a: Tensor, b: Tensor) -> Tensor:
    return psnr(*(images.to_uint8(x).flatten(2) for x in (a, b)))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for model in ("cgan_mlp", "mlp", "vae_mlp"):
        assert cli.main(["train", *TINY, f"model={model}", f"run.dir={folder / model}", "trainer.steps=2"]) == 0
    return {model: folder / model / "checkpoints" / "last.safetensors" for model in ("cgan_mlp", "mlp", "vae_mlp")}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two of the right size, one of another, one that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, side in enumerate((16, 16, 20)):
        pixels = np.random.default_rng(i).integers(256, size=(side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    (folder / "3.png").write_bytes(b"no picture")
    return folder


def test_a_search_finds_an_image_of_the_generators_own():
    G = untrained()
    x = G.sample(4, seed=3)
    z, c = project(G, x, seed=0)
    assert tuple(z.shape) == (4, 8) and tuple(c.shape) == (4, 0)
    assert decibels(x, G.generate(z, c)).min() > 35
    assert decibels(x, G.sample(4, seed=4)).max() < 15, "of another code it is far from it"


def test_a_search_finds_the_class_unless_it_is_told():
    G = untrained(classes=3)
    x = G.sample(3, seed=3, classes=[2, 0, 1])
    z, c = project(G, x, seed=0)
    assert c.argmax(1).tolist() == [2, 0, 1] and decibels(x, G.generate(z, c)).min() > 35
    assert project(G, x[:1], ["kind 1"], steps=5)[1].tolist() == [[0, 1, 0]]
    assert project(G, x[:1], [0, 2], steps=100)[1].tolist() == [[0, 0, 1]], "the nearer one of two"


def test_a_search_is_named_by_its_seed():
    G = untrained()
    x = G.sample(2, seed=9)
    (a, _), (b, _), (other, _) = (project(G, x, steps=20, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(a, b) and not torch.equal(a, other)
    assert torch.equal(project(G, x[1:], steps=20, seed=5)[0], a[1:]), "whatever else is searched"


def test_more_steps_come_nearer():
    G = untrained()
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1  # none of G's
    errors = [(G.generate(*project(G, x, steps=n)) - x).square().mean().item() for n in (0, 30, 500)]
    assert errors[0] > errors[1] > errors[2]


def test_codes_are_pulled_to_the_length_of_noise(monkeypatch):
    G, white = untrained(), torch.ones(1, 1, 8, 8)
    lengths = []
    for pull in (0, latents.PULL, 1):
        monkeypatch.setattr(latents, "PULL", pull)
        lengths.append(project(G, white)[0].norm().item() / 8**0.5)
    off = [abs(length - 1) for length in lengths]
    assert off[0] > off[1] > off[2] and off[2] < 0.1


def test_an_encoder_gives_the_code_at_once():
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    G = Generator(Inverse(), 2, 1)
    found, c = codes(G, G.network(z, torch.zeros(5, 0)))
    assert torch.allclose(found, z, atol=1e-5) and tuple(c.shape) == (5, 0)


def test_an_encoder_finds_the_class_by_its_reconstruction():
    class Rough(Inverse):
        def encode(self, x: Tensor, c: Tensor) -> Tensor:
            return super().encode(x, c).clamp(-2, 2)  # so that of a wrong class it does not come back

    labels = torch.tensor([3, 0, 2])
    z = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    G = Generator(Rough(4), 2, 1)
    x = G.network(z, one_hot(labels, 4))
    found, c = codes(G, x)
    assert c.argmax(1).tolist() == [3, 0, 2] and torch.allclose(found, z, atol=1e-5)
    assert codes(G, x, [1])[1].argmax(1).tolist() == [1, 1, 1]


def test_a_search_from_a_code_is_never_farther_than_the_code(checkpoints):
    G = gancli.load(checkpoints["vae_mlp"])
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (plain, c), (searched, _) = codes(G, x), project(G, x, steps=20)
    assert torch.allclose(plain, G.network.encode(x, c), atol=1e-5)
    before, after = ((G.generate(z, c) - x).square().flatten(1).mean(1) for z in (plain, searched))
    assert (after < before).all()
    exact, z = Generator(Inverse(), 2, 1), torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    assert torch.allclose(project(exact, exact.network(z, z[:, :0]), steps=3)[0], z, atol=1e-5), "the best stays"


def test_pictures_are_of_the_models_size_or_are_told_how_to_be(pictures):
    colour, grey = Generator(Inverse(), 16, 3), Generator(Inverse(), 16, 1)
    x = picture(pictures / "0.png", colour)
    assert np.array_equal(images.to_array(x)[0], np.asarray(Image.open(pictures / "0.png")))
    for fit in ("crop", "pad", "squash"):
        assert torch.equal(picture(pictures / "0.png", colour, fit), x), "one that fits is left as it is"
        assert tuple(picture(pictures / "2.png", grey, fit).shape) == (1, 1, 16, 16)
    with pytest.raises(ValueError, match="is 20x20 and this model's images are 16x16; type fit=crop or fit=pad"):
        picture(pictures / "2.png", colour)
    with pytest.raises(ValueError, match="fit=corp is not one of crop, pad, squash; did you mean crop"):
        picture(pictures / "2.png", colour, "corp")
    with pytest.raises(ValueError, match="points of the plane"):
        picture(pictures / "0.png", Generator(Inverse(), 1, 2))


def test_a_code_is_read_as_it_was_saved(tmp_path):
    G = Generator(Inverse(3), 2, 1, ["a", "b", "c"])
    z, c = torch.randn(1, 4), one_hot(torch.tensor([1]), 3)
    path = save(tmp_path / "x.npz", z, c)
    arrays = np.load(path)
    assert arrays["z"].dtype == np.float32 and arrays["z"].shape == (4,) and arrays["label"] == 1
    assert all(torch.equal(a, b) for a, b in zip(saved(path, G), (z, c)))
    assert all(torch.equal(a, b) for a, b in zip(of_files(G, [str(path)]), (z, c)))
    assert save(tmp_path / "y.npz", z, c[:, :0]) and np.load(tmp_path / "y.npz").files == ["z"]
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    np.savez(tmp_path / "harm.npz", z=np.array([print], object))
    for name, said in (
        ("y.npz", "has 4 numbers and a class"),
        ("other.npz", "holds no code; type one that gan project wrote"),
        ("harm.npz", "holds no code"),
        ("none.npz", "is not a file"),
    ):
        with pytest.raises(ValueError, match=f"{name}: .*{said}"):
            of_files(G, [str(tmp_path / name)])
    with pytest.raises(ValueError, match="has 4 numbers and no class"):
        saved(path, Generator(Inverse(), 2, 1))


def test_a_picture_and_its_code_are_written_and_the_next_is_done_after_a_bad_one(checkpoints, pictures, gan):
    code, out, error = gan("project", f"{pictures}/", f"ckpt={checkpoints['cgan_mlp']}", "steps=5")
    assert code == 1
    paths = [Path(line) for line in out.splitlines()]
    assert [p.name for p in paths] == [f"{i}_projected.{kind}" for i in (0, 1) for kind in ("npz", "png")]
    assert paths[0].parent == pictures.with_name("in_projected") and all(p.is_file() for p in paths)
    assert "0.png: PSNR " in error and " dB, class " in error
    assert "2.png: is 20x20" in error and "3.png: is not a picture" in error
    assert "gan: 2 of 4 pictures could not be projected: see above" in error
    G = gancli.load(checkpoints["cgan_mlp"])
    z, c = saved(paths[0], G)
    shown = np.asarray(Image.open(paths[1]))
    given = np.asarray(Image.open(pictures / "0.png")).repeat(3, 0).repeat(3, 1)
    assert np.array_equal(shown[:, :48], given)
    assert np.abs(shown[::3, 50::3].astype(int) - images.to_array(G.generate(z, c))[0]).max() <= 1


def test_nothing_is_written_over_unless_told(checkpoints, pictures, gan):
    words = ("project", str(pictures / "0.png"), f"ckpt={checkpoints['mlp']}", "steps=0")
    code, out, error = gan(*words)
    assert code == 0 and len(out.splitlines()) == 2 and "class" not in error
    code, _, error = gan(*words)
    assert code == 1 and "is there already; type overwrite=true" in error
    assert gan(*words, "skip=true")[0] == 0 and gan(*words, "overwrite=true")[0] == 0
    (pictures / "0_projected.png").unlink()
    code, _, error = gan(*words)
    assert code == 1 and "0_projected.npz is there already; type overwrite=true" in error


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "gan project was given no picture"),
        (["0.png", "out=x.jpg"], 1, "type out=x.png or out=DIR/"),
        (["0.png", "steps=-1"], 1, "a search takes 0 steps or more, but steps=-1; type steps=500"),
        (["0.png", "classes=[9]"], 1, "class 9 is outside 0 to 3"),
        (["0.png", "fit=corp"], 1, "did you mean crop?"),
        (["2.png"], 1, "2.png: is 20x20 and this model's images are 16x16; type fit=crop or fit=pad to fit it"),
        (["nothing.png"], 1, "there is no such file"),
    ],
)
def test_bad_input_gets_one_sentence(checkpoints, pictures, gan, monkeypatch, words, code, said):
    monkeypatch.chdir(pictures)
    before = sorted(pictures.iterdir())
    got, out, error = gan("project", *words, f"ckpt={checkpoints['cgan_mlp']}")
    assert got == code and said in error and len(error.strip().splitlines()) == 1
    assert not out and sorted(pictures.iterdir()) == before


def test_a_model_that_takes_no_noise_is_refused(gan, pictures):
    small = ["data.n=8", "data.batch_size=2", "model.width=4", "model.depth=1", "device=cpu", "trainer.steps=1"]
    assert gan("train", "model=sr_compact", "data=synthetic", "data.size=16", *small, "run.dir=r")[0] == 0
    for words in (["project", f"{pictures}/0.png"], ["edit", f"{pictures}/0.png"], ["edit"]):
        code, out, error = gan(*words, "ckpt=r")
        assert code == 1 and not out and "does not sample from noise" in error
