"""gan translate: tiles on a grid, every kind of picture at its own size, and what to type for another model."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from scenes import MODES, SIZES, here, scene, train
from torch import nn

import gancli
from gancli.data.image_modes import Note, array_of, plain, to_tensor
from gancli.inference import tiling
from gancli.inference.tiling import Tiler, padded
from gancli.inference.translator import Translator, load_translator
from gancli.networks.translation import ResidualGenerator
from gancli.networks.unet import WHOLE_IMAGE, UNet


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "pix2pix": ["model=pix2pix"],
        "grey": ["model=pix2pix", "task=denoise", "data.channels=1"],
        "cyclegan": ["model=cyclegan", "model.depth=1"],
        "inpainting": ["model=inpainting"],
        "vae": ["model=vae"],
        "dcgan": ["model=dcgan"],
        "sr_compact": ["model=sr_compact", "model.scale=2"],
    }
    return {name: train(folder, name, *more) for name, more in words.items()}


# --- tiles --------------------------------------------------------------------------------------------------------


class Strided(nn.Module):
    """Two halvings and two doublings that look as far as `halo`, on borders of zeros; refuses what it cannot halve."""

    z_dim, classes, scale, masked, multiple, halo = 0, 0, 1, False, 4, 12

    def __init__(self, channels: int = 3, source_channels: int = 3):
        super().__init__()
        self.channels, self.source_channels = channels, source_channels
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            *(nn.Conv2d(source_channels, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, channels, 4, 2, 1), nn.Tanh()),
        )
        self.seen: list[tuple[int, ...]] = []

    def forward(self, z, c):
        assert not (c.shape[2] % 4 or c.shape[3] % 4) and z.shape[1] == 0 and c.shape[1] == self.source_channels
        self.seen.append(tuple(c.shape[2:]))
        return self.layers(c)


class Same(nn.Module):
    """Gives back what it is given, in its own number of colours."""

    z_dim, classes, scale, masked, multiple, halo = 0, 0, 1, False, 4, 0

    def __init__(self, channels: int = 3, source_channels: int = 3):
        super().__init__()
        self.channels, self.source_channels = channels, source_channels

    def forward(self, z, c):
        return c.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)


def lively(network: nn.Module) -> nn.Module:
    """With statistics as after some training, so that batch norm does something."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.01, 0.1)
    return network


@pytest.mark.parametrize("size", [*SIZES, (64, 64), (150, 61)])
@pytest.mark.parametrize(
    "network",
    [
        Strided(),
        lively(UNet(3, 3, size=8, width=4)),
        lively(ResidualGenerator(3, 3, width=4, depth=1, norm="batch")),
    ],
    ids=lambda network: type(network).__name__,
)
@torch.no_grad()
def test_tiles_equal_the_whole(network, size):
    pixels = padded(array_of(scene(*size)), network.multiple)
    whole = network.eval()(torch.zeros(1, 0), to_tensor(pixels))
    for tile in (1, 8, 21, 50):
        found, area = torch.full((1, 3, size[1], size[0]), torch.nan), 0
        tiler = Tiler(network, tile)
        for (left, top, right, bottom), y in tiler.tiles(lambda l, t, r, b: to_tensor(pixels[t:b, l:r]), *size):
            found[:, :, top:bottom, left:right] = y
            area += (right - left) * (bottom - top)
        assert area == size[0] * size[1], "no pixel twice, none left out"
        assert torch.allclose(found, whole[:, :, : size[1], : size[0]], atol=1e-5)
    assert whole.std() > 1e-3, "else nothing was compared"


def test_what_is_added_is_a_reflection():
    row = np.arange(5)[None, :, None]
    assert padded(row, 4)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert padded(row, 4).shape == (4, 8, 1) and (padded(row, 4) == padded(row, 4)[:1]).all()
    assert padded(row[:, :2], 16)[0, :5, 0].tolist() == [0, 1, 0, 1, 0]
    assert padded(row, 1) is row


def test_a_network_that_needs_all_is_given_all():
    network = Strided()
    network.halo = WHOLE_IMAGE
    Translator(network, tile=8)(scene(101, 37))
    assert network.seen == [(64, 64), (40, 104)], "measured on a small one, then once"


def test_what_memory_cannot_hold_is_not_begun(monkeypatch):
    network = Strided()
    network.halo = WHOLE_IMAGE
    translator = Translator(network)
    monkeypatch.setattr(tiling, "free_memory", lambda device: 1e6)
    with pytest.raises(ValueError, match="is 1,000 x 800 pixels, of which the network takes 1,000 x 800 at once"):
        translator(scene(999, 798))
    assert translator(scene(40, 20)).size == (40, 20)
    network.halo = 12
    assert Translator(network)(scene(400, 300)).size == (400, 300), "tiles can be held"


def test_out_of_memory_halves_the_tile_unless_all_is_needed():
    network = Strided()
    expected = np.asarray(Translator(network)(scene(150, 110))).astype(int)

    def forward(z, c, most=80 * 80, plain=network.forward):
        if c.shape[2] * c.shape[3] > most:
            raise torch.OutOfMemoryError("out of memory")
        return plain(z, c)

    network.forward = forward
    got = np.asarray(Translator(network, tile=140)(scene(150, 110))).astype(int)
    assert abs(got - expected).max() <= 1
    network.halo = WHOLE_IMAGE
    with pytest.raises(ValueError, match="memory ran out on a tile of 152 pixels"):
        Translator(network)(scene(150, 110))


def test_a_grid_too_coarse_is_refused():
    network = Same()
    network.multiple = 2**15
    with pytest.raises(ValueError, match="squares of 32768 pixels"):
        Translator(network)
    with pytest.raises(ValueError, match="2 channels, and pictures have 1 or 3"):
        Translator(Same(channels=2))


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
def test_every_mode_at_every_size(size, channels):
    for mode, plainly in MODES.items():
        picture = scene(*size, mode)
        result = Translator(Strided(channels[1], channels[0]))(picture)
        colours = "RGB" if channels[1] == 3 else "I;16" if plainly == "I;16" else "L"
        assert (result.mode, result.size) == (colours + ("A" if plainly.endswith("A") else ""), size)
        if plainly.endswith("A"):
            assert result.getchannel("A").tobytes() == plain(picture).getchannel("A").tobytes()


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
def test_colour_is_made_grey_and_grey_colour():
    picture = scene(30, 20)
    grey = np.asarray(picture.convert("L")).astype(int)
    assert abs(np.asarray(Translator(Same(1, 1))(picture)) - grey).max() <= 1
    assert abs(np.asarray(Translator(Same(3, 1))(picture)) - grey[..., None]).max() <= 1
    assert np.array_equal(np.asarray(Translator(Same(1, 3))(picture.convert("L"))), grey)


def test_what_is_lost_is_noted(recwarn):
    def notes(network: nn.Module, picture: Image.Image) -> list[str]:
        recwarn.clear()
        Translator(network)(picture)
        return [str(w.message) for w in recwarn if issubclass(w.category, Note)]

    assert "saw the grey alone" in notes(Same(3, 1), scene(9, 9))[0]
    assert not notes(Same(3, 1), scene(9, 9).convert("L").convert("RGB")), "there was no colour in it"
    assert "16 bits" in notes(Same(3, 1), scene(9, 9, "I;16"))[0]
    assert not notes(Same(1, 1), scene(9, 9, "I;16")) and not notes(Same(3, 3), scene(9, 9, "RGBA"))


def test_16_bits_of_grey_are_read_and_kept():
    picture = scene(21, 10, "I;16")
    assert np.array_equal(np.asarray(Translator(Same(1, 1))(picture)), np.asarray(picture))
    faint = Image.fromarray(np.full((5, 5), 700, np.uint16))
    network = Same(3, 1)
    network.forward = lambda z, c: (c + 1).expand(-1, 3, -1, -1) * 40 - 1  # 700 of 65535 is no level of 8 bits
    with pytest.warns(Note):
        assert np.unique(np.asarray(Translator(network)(faint))).tolist() == [round(255 * 40 * 700 / 65535)]


def test_a_profile_that_does_not_fit_and_orientation(gan, checkpoints):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    for kind in ("jpg", "png", "webp", "tiff"):
        scene(30, 20).save("a.jpg", icc_profile=profile, exif=exif)
        code, _, error = gan("translate", "a.jpg", f"ckpt={checkpoints['cyclegan']}", f"out=colour.{kind}")
        assert code == 0 and not error
        code, _, error = gan("translate", "a.jpg", f"ckpt={checkpoints['grey']}", f"out=grey.{kind}")
        assert code == 0 and "its ICC profile is of colour" in error
        with Image.open(f"colour.{kind}") as result:
            assert result.size == (20, 30) and result.info["icc_profile"] == profile
            assert result.getexif()[0x010F] == "a camera" and result.getexif().get(0x0112, 1) == 1
        with Image.open(f"grey.{kind}") as result:
            assert result.size == (20, 30) and "icc_profile" not in result.info


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["pix2pix", "grey", "cyclegan"])
def test_every_kind_of_file(gan, checkpoints, model):
    names = {}
    for mode in (mode for mode in MODES if mode != "PA"):  # which no format of ours holds
        for size in SIZES:
            name = f"{mode.replace(';', '')} ({size[0]}).{'tif' if mode == 'CMYK' else 'png'}"
            scene(*size, mode).save(name)
            names[name] = (MODES[mode], size)
    code, out, error = gan("translate", *names, f"ckpt={checkpoints[model]}", "out=new/")
    assert code == 0 and len(out.splitlines()) == len(names), error
    for name, (mode, size) in names.items():
        colours = "RGB" if model != "grey" else "I;16" if mode == "I;16" else "L"
        with Image.open(f"new/{Path(name).stem}_translated.png") as result:
            assert (result.mode, result.size) == (colours + ("A" if mode.endswith("A") else ""), size)


def test_the_command_is_what_python_gives_tiled_or_not(gan, checkpoints):
    picture = scene(150, 40, "L")
    picture.save("a.png")
    assert gan("translate", "a.png", f"ckpt={checkpoints['pix2pix']}")[0] == 0
    assert gan("translate", "a.png", f"ckpt={checkpoints['pix2pix']}", "tile=16", "out=tiled.png")[0] == 0
    assert gan("translate", "a.png", f"ckpt={checkpoints['pix2pix']}", "ema=false", "out=live.png")[0] == 0
    made, tiled, live = (np.asarray(Image.open(name)) for name in ("a_translated.png", "tiled.png", "live.png"))
    assert np.array_equal(made, np.asarray(load_translator(checkpoints["pix2pix"])(picture)))
    assert np.array_equal(live, np.asarray(load_translator(checkpoints["pix2pix"], ema=False)(picture)))
    assert abs(made.astype(int) - tiled).max() <= 1
    G = gancli.load(checkpoints["pix2pix"]).network
    x = to_tensor(padded(array_of(picture), G.multiple))
    expected = ((G(torch.zeros(1, 0), x)[0, :, :40, :150] + 1) * 127.5).permute(1, 2, 0).numpy()
    assert abs(expected - made).max() <= 0.51


def test_both_directions(gan, checkpoints):
    scene(20, 12).save("a.png")
    for direction in ("there", "back"):
        words = [f"ckpt={checkpoints['cyclegan']}", f"direction={direction}", f"out={direction}.png"]
        assert gan("translate", "a.png", *words)[0] == 0
        G = getattr(gancli.load(checkpoints["cyclegan"]).network, direction)
        expected = np.asarray(Translator(G)(scene(20, 12)))
        assert np.array_equal(np.asarray(Image.open(f"{direction}.png")), expected)
    code, _, error = gan("translate", "a.png", f"ckpt={checkpoints['pix2pix']}", "direction=back")
    assert code == 1 and "in one direction only; leave direction= out" in error


def test_folders_are_mirrored_and_a_second_time(gan, checkpoints):
    for name in ("pics/a.png", "pics/sub (1)/deep/b c.JPG", "pics/.hidden.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(6, 5).save(name)
    words = ("translate", "pics/", f"ckpt={checkpoints['cyclegan']}")
    code, out, error = gan(*words)
    made = ["pics_translated/a_translated.png", "pics_translated/sub (1)/deep/b c_translated.png"]
    assert code == 0 and out.splitlines() == made and "2 pictures written" in error
    times = [Path(name).stat().st_mtime_ns for name in made]
    code, out, error = gan(*words)
    assert code == 1 and not out and "overwrite=true" in error and "could not be translated" in error
    Path(made[0]).unlink()
    code, out, error = gan(*words, "skip=true")
    assert code == 0 and out.splitlines() == made[:1] and "1 were there already" in error
    assert gan(*words, "overwrite=true")[0] == 0 and Path(made[1]).stat().st_mtime_ns > times[1]
    assert gan("translate", "pics/a.png", f"ckpt={checkpoints['cyclegan']}", "format=jpg", "out=x")[0] == 0
    assert Path("x/a_translated.jpg").is_file()


def test_bad_files_are_named_and_the_others_made(gan, checkpoints):
    scene(6, 5).save("whole.png")
    Path("empty.png").touch()
    Path("text.png").write_text("a text")
    words = ("whole.png", "empty.png", "text.png", "absent.png", f"ckpt={checkpoints['cyclegan']}")
    code, out, error = gan("translate", *words)
    assert code == 1 and out == "whole_translated.png\n" and "3 of 4 pictures could not be translated" in error
    assert {"gan: empty.png: is empty", "gan: text.png: is not an image that Pillow knows"} <= {*error.splitlines()}


def test_what_a_format_cannot_hold_is_told_of_the_result(gan, checkpoints):
    scene(6, 5, "I;16").save("deep.png")
    scene(6, 5, "RGBA").save("clear.png")
    grey, colour = (f"ckpt={checkpoints[name]}" for name in ("grey", "pix2pix"))
    code, _, error = gan("translate", "deep.png", grey, "out=a.jpg")
    assert code == 0 and "16 bits, of which jpg holds 8; type format=png" in error
    code, _, error = gan("translate", "deep.png", colour, "out=b.jpg")
    assert code == 0 and "in colour, which has 8" in error and "format=png" not in error
    code, _, error = gan("translate", "clear.png", colour, "out=c.jpg")
    assert code == 0 and "laid on white" in error and Image.open("c.jpg").mode == "RGB"


COMMANDS = {"translate": [], "inpaint": ["mask=centre"], "reconstruct": [], "upscale": ["scale=2"]}
FOR = {
    **{"pix2pix": "translate", "grey": "translate", "cyclegan": "translate", "inpainting": "inpaint"},
    **{"vae": "reconstruct", "sr_compact": "upscale", "dcgan": "sample"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_for_another_command_is_told_which(gan, checkpoints, command):
    scene(8, 8).save("a.png")
    for name, right in FOR.items():
        path = checkpoints[name]
        code, out, error = gan(command, "a.png", f"ckpt={path}", *COMMANDS[command], "overwrite=true")
        if right == command:
            assert code == 0, error
            continue
        assert code == 1 and not out and len(error.strip().splitlines()) == 1
        told = "project" if (command, name) == ("reconstruct", "dcgan") else right
        typed = error.partition("; type ")[2].partition(",")[0]
        assert f"{'pix2pix on task=denoise' if name == 'grey' else name}" in error and typed.startswith(f"gan {told} ")
        if told in COMMANDS:  # what it says to type works
            words = shlex.split(typed.replace(" IN ", " a.png "))[1:]
            assert gan(*words, "overwrite=true")[0] == 0, typed


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "type gan translate photo.jpg ckpt=latest"),
        (["a.png", "ckpt="], 1, "no checkpoint was given"),
        (["a.png", "ckpt=latest"], 1, "there is no run in"),
        (["a.png", "ckpt=absent.safetensors"], 1, "there is no checkpoint absent.safetensors"),
        (["a.png", "direction=bakc"], 1, "did you mean back?"),
        (["a.png", "quality=0"], 1, "between 1 and 100"),
        (["a.png", "tile=-1"], 1, "tile=256"),
        (["a.png", "out=a.gif"], 1, "out=DIR/"),
        (["a.png", "scale=2"], 2, "no key 'scale'"),
        (["a.png", "overwrite=true", "skip=true"], 2, "contradict"),
        (["a.png", "device=cuda:9"], 1, "device=cpu"),
        (["a.png", "out=a.png", "overwrite=true"], 1, "its own result"),
    ],
)
def test_bad_input_gets_one_sentence(gan, checkpoints, words, code, sentence):
    scene(5, 5).save("a.png")
    known = [] if any(word.startswith("ckpt=") for word in words) else [f"ckpt={checkpoints['cyclegan']}"]
    got, out, error = gan("translate", *words, *known)
    assert got == code and sentence in error and len(error.strip().splitlines()) == 1, error
    assert not out and here() == ["a.png"]
