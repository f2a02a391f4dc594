"""gan reconstruct: pictures of any size through an autoencoder, square by square, and how near they come."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import MODES, SIZES, here, scene, train
from torch import nn

import gancli
from gancli.commands.reconstruct import psnr
from gancli.data.classes import one_hot
from gancli.data.image_modes import plain, to_tensor
from gancli.inference.generator import Generator
from gancli.inference.reconstructor import Patches, load_reconstructor
from gancli.inference.translator import Translator


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "aegan": ["model=aegan", "model.lr=0.1"],  # at its own rate two rounds leave it grey all over
        "vae": ["model=vae", "data.channels=1"],
        "classes": ["model=vae_mlp", "model.classes=${data.classes}"],
        "dcgan": ["model=dcgan"],
    }
    return {name: train(folder, name, *more) for name, more in words.items()}


class Levels(nn.Module):
    """Encodes the mean of an image and decodes it as one level; class k adds k / 10 where it decodes."""

    z_dim = 1

    def __init__(self, channels: int = 1, classes: int = 0, size: int = 4):
        super().__init__()
        self.channels, self.classes, self.size = channels, classes, size
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, x, c):
        assert x.shape[1:] == (self.channels, self.size, self.size) and c.shape == (len(x), self.classes)
        return x.mean((1, 2, 3))[:, None].round(decimals=1)

    def forward(self, z, c):
        shift = (c * torch.arange(self.classes)).sum(1, keepdim=True) / 10
        return (z + shift)[:, :, None, None].expand(-1, self.channels, self.size, self.size)


def generator(**options) -> Generator:
    network = Levels(**options)
    return Generator(network, network.size, network.channels, ["zero", "one", "two"][: network.classes])


# --- squares ------------------------------------------------------------------------------------------------------


def test_each_square_by_itself_and_none_squashed():
    levels = np.array([[26, 51, 77], [102, 128, 153]], np.uint8)
    picture = Image.fromarray(levels.repeat(4, 0).repeat(4, 1)[:7, :10])
    for tile in (0, 4, 8):
        result = np.asarray(Translator(Patches(generator()), tile)(picture))
        assert result.shape == (7, 10)
        assert abs(result.astype(int) - np.asarray(picture)).max() <= 1, "each square has its own level"


def test_a_square_of_the_size_learned_is_one(checkpoints):
    G = gancli.load(checkpoints["aegan"])
    picture = scene(16, 16)
    x = to_tensor(np.array(picture))
    expected = G.network(G.network.encode(x, torch.zeros(1, 0)), torch.zeros(1, 0))
    made = np.asarray(load_reconstructor(checkpoints["aegan"])(picture))
    assert abs((expected[0].permute(1, 2, 0).numpy() + 1) * 127.5 - made).max() <= 0.51
    assert made.std() > 0


def test_the_class_that_comes_nearest_is_taken_square_by_square():
    x = torch.tensor([0.12, 0.24, 0.38]).repeat_interleave(4).expand(1, 1, 4, 12).contiguous()
    levels = Levels(classes=3)
    levels.encode = lambda x, c: torch.full((len(x), 1), 0.15)
    given = Generator(levels, 4, 1, ["zero", "one", "two"])
    for classes, expected in (
        ([], [0.15, 0.25, 0.35]),
        ([1], [0.25] * 3),
        (["two"], [0.35] * 3),
        ([0, 2], [0.15, 0.15, 0.35]),
    ):
        made = Patches(given, classes)(torch.zeros(1, 0), x)
        assert torch.allclose(made[0, 0, 0, ::4], torch.tensor(expected)), classes


def test_what_is_no_number_is_not_written():
    levels = Levels()
    levels.encode = lambda x, c: torch.full((len(x), 1), torch.nan)
    with pytest.raises(ValueError, match="no numbers"):
        Translator(Patches(Generator(levels, 4, 1)))(scene(8, 8, "L"))


def test_psnr_is_of_what_is_seen():
    a, b = Image.new("L", (10, 10), 100), Image.new("L", (10, 10), 110)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 100), abs=1e-3) and psnr(a, a) == math.inf
    deep = Image.fromarray(np.full((10, 10), 100 * 257, np.uint16))
    for picture, result in ((a, b.convert("RGB")), (a.convert("RGB"), b), (deep, b), (deep, b.convert("RGB"))):
        assert psnr(picture, result) == pytest.approx(psnr(a, b), abs=1e-3)
    half = Image.new("L", (10, 10), 255)
    half.paste(0, (0, 0, 5, 10))
    for mode in ("RGB", "L"):
        clear, made = a.convert(mode), b.convert(mode)
        made.paste("white", (0, 0, 5, 10))
        clear.putalpha(half)
        made.putalpha(half)
        assert psnr(clear, made) == pytest.approx(psnr(a, b), abs=1e-3)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["aegan", "vae", "classes"])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
def test_every_kind_of_file_and_a_line_for_each(gan, checkpoints, model):
    names = {}
    for mode in (mode for mode in MODES if mode != "PA"):  # which no format of ours holds
        for size in SIZES:
            name = f"{mode.replace(';', '')} ({size[0]}).{'tif' if mode == 'CMYK' else 'png'}"
            scene(*size, mode).save(name)
            names[name] = (MODES[mode], size)
    code, out, error = gan("reconstruct", *names, f"ckpt={checkpoints[model]}", "out=again/")
    assert code == 0 and len(out.splitlines()) == len(names), error
    told = dict(re.findall(r"^gan: (.*): PSNR ([\d.]+|inf) dB$", error, re.M))
    for name, (mode, size) in names.items():
        colours = "RGB" if model != "vae" else "I;16" if mode == "I;16" else "L"
        assert (f"gan: {name}: is smaller than the 16 x 16 pixels" in error) == (min(size) < 16)
        with Image.open(f"again/{Path(name).stem}_reconstructed.png") as result:
            assert (result.mode, result.size) == (colours + ("A" if mode.endswith("A") else ""), size)
            assert float(told[name]) == pytest.approx(psnr(plain(Image.open(name)), result), abs=0.006)


def test_classes_by_number_and_name(gan, checkpoints):
    scene(16, 16).save("a.png")
    G = gancli.load(checkpoints["classes"])
    x = to_tensor(np.array(scene(16, 16)))
    made = []
    for k in range(G.classes):
        c = one_hot(torch.tensor([k]), G.classes)
        made.append(G.network(G.network.encode(x, c), c))
        for named in (k, G.class_names[k]):
            words = [f"ckpt={checkpoints['classes']}", f"classes=[{named}]", f"out={named}.png"]
            assert gan("reconstruct", "a.png", *words)[0] == 0
            result = to_tensor(np.array(Image.open(f"{named}.png")))
            assert abs(result - made[k].clamp(-1, 1)).max() < 0.005
    assert gan("reconstruct", "a.png", f"ckpt={checkpoints['classes']}")[0] == 0
    nearest = min(made, key=lambda y: (y - x).square().mean().item())
    result = to_tensor(np.array(Image.open("a_reconstructed.png")))
    assert abs(result - nearest.clamp(-1, 1)).max() < 0.005


def test_folders_are_mirrored_and_a_second_time(gan, checkpoints):
    for name in ("pics/a b (1).png", "pics/sub/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(20, 16).save(name)
    words = ("reconstruct", "pics", f"ckpt={checkpoints['aegan']}")
    code, out, error = gan(*words)
    made = ["pics_reconstructed/a b (1)_reconstructed.png", "pics_reconstructed/sub/c_reconstructed.png"]
    assert code == 0 and out.splitlines() == made and "2 pictures written" in error
    code, out, error = gan(*words)
    assert code == 1 and not out and "2 of 2 pictures could not be reconstructed" in error
    assert gan(*words, "skip=true")[:2] == (0, "") and gan(*words, "overwrite=true")[0] == 0


@pytest.mark.parametrize(
    ("model", "words", "code", "sentence"),
    [
        ("aegan", ["classes=[1]"], 1, "unconditional"),
        ("classes", ["classes=[4]"], 1, "class 4 is outside 0 to 3"),
        ("classes", ["classes=[circel]"], 1, "did you mean circle?"),
        ("dcgan", [], 1, "is a dcgan, which turns noise into images; type gan project IN ckpt="),
        ("aegan", ["out=a.gif"], 1, "out=DIR/"),
        ("aegan", ["tile=3"], 2, "no key 'tile'"),
    ],
)
def test_bad_input_gets_one_sentence(gan, checkpoints, model, words, code, sentence):
    scene(5, 5).save("a.png")
    got, out, error = gan("reconstruct", "a.png", f"ckpt={checkpoints[model]}", *words)
    assert got == code and sentence in error and len(error.strip().splitlines()) == 1, error
    assert not out and here() == ["a.png"]


def test_points_of_the_plane_are_no_pictures(gan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("points")
    ckpt = train(folder, "run", "model=vae_mlp", "data.kind=ring", "data.size=null")
    scene(5, 5).save("a.png")
    code, _, error = gan("reconstruct", "a.png", f"ckpt={ckpt}")
    assert code == 1 and "have 2 channels, and pictures have 1 or 3" in error
