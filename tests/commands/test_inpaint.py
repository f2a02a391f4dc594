"""gan inpaint: what is masked is painted anew from what is not, and every other byte stays."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import MODES, SIZES, here, scene, train
from torch import nn

import gancli
from gancli.data.image_modes import Note, array_of, plain, to_pixels
from gancli.inference.inpainter import Inpainter, central, load_inpainter
from gancli.networks.unet import UNet


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "colour": train(folder, "colour", "model=inpainting"),
        "grey": train(folder, "grey", "model=inpainting", "data.channels=1"),
    }


class Painter(nn.Module):
    """Paints holes in one value and, where `around`, by the sum of what it sees; garbles what it may not change."""

    z_dim, classes, scale, masked, multiple, halo = 0, 0, 1, True, 4, 8

    def __init__(self, channels: int = 3, value: float = 0.5, around: bool = False):
        super().__init__()
        self.channels, self.source_channels = channels, channels + 1
        self.value, self.around, self.seen = value, around, 0

    def forward(self, z, c):
        x, hole = c[:, :-1], c[:, -1:]
        assert {*hole.unique().tolist()} <= {0.0, 1.0} and not (x * hole).any() and not c.shape[2] % 4
        self.seen += c.shape[2] * c.shape[3]
        made = torch.full_like(x, self.value)
        if self.around:
            made = made + x.mean((1, 2, 3), keepdim=True)
        return hole * made - (1 - hole)


def holed(width: int, height: int, seed: int = 0) -> Image.Image:
    """A mask with specks, at least one of them white and one black."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.2
    mask.flat[0], mask.flat[-1] = True, False
    return Image.fromarray(mask)


# --- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(2, 1), (3, 1), *SIZES[1:]])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
def test_what_is_not_masked_stays_byte_for_byte(size, channels):
    hole = np.asarray(holed(*size))
    for mode, plainly in MODES.items():
        picture = scene(*size, mode)
        before = array_of(plain(picture))
        result = Inpainter(Painter(channels))(picture, holed(*size))
        assert (result.mode, result.size) == (plainly, size)
        after = array_of(result)
        assert np.array_equal(after[~hole], before[~hole])
        colours = 3 if plainly.startswith("RGB") else 1
        painted = after[hole][:, :colours] / np.iinfo(after.dtype).max
        assert abs(painted - 0.75).max() < 0.5 / 255, "to 8 bits, where colour is made grey for it"
        assert np.array_equal(after[..., colours:], before[..., colours:]), "alpha"


def test_what_is_masked_is_not_seen():
    mask = holed(40, 30)
    hole = np.asarray(mask)
    for mode in ("RGB", "RGBA", "L", "LA", "I;16"):
        picture = scene(40, 30, mode)
        hidden = array_of(picture)
        hidden[hole, : 3 if "RGB" in mode else 1] = 0
        other = Image.fromarray(hidden if hidden.shape[2] > 1 else hidden[..., 0])
        inpainter = Inpainter(Painter(1 if mode in ("L", "LA", "I;16") else 3, 0.1, around=True))
        assert inpainter(picture, mask).tobytes() == inpainter(other, mask).tobytes()


def test_only_what_lies_around_the_holes_is_computed():
    mask = Image.new("L", (1000, 800))
    mask.paste(255, (501, 402, 504, 404))
    network = Painter()
    inpainter = Inpainter(network)
    known = 64 * 64  # what was measured
    after = np.asarray(inpainter(Image.new("RGB", (1000, 800), "red"), mask))
    assert network.seen - known == (2 * 8 + 4) ** 2
    assert (after[402:404, 501:504] == round(0.75 * 255)).all()


def test_tiles_equal_the_whole():
    torch.manual_seed(0)
    network = UNet(3, 4, size=8, width=4, masked=True)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.01, 0.1)
    picture, mask = scene(190, 61), holed(190, 61)
    whole, tiled = (np.asarray(Inpainter(network, tile)(picture, mask)).astype(int) for tile in (0, 8))
    assert abs(whole - tiled).max() <= 1 and abs(whole - np.asarray(picture)).max() > 20


def test_a_mask_of_any_kind():
    picture = Image.new("L", (4, 3), 7)
    levels = np.array([[0, 127, 128, 255]] * 3, np.uint8)
    deep = np.array([[0, 32767, 32768, 65535]] * 3, np.uint16)
    clear = np.full((3, 4, 4), 255, np.uint8)
    clear[..., 3] = levels
    palette = Image.fromarray(levels).convert("P")
    inpainter = Inpainter(Painter(1, -0.5))
    for mask in (levels, deep, clear, np.stack([levels] * 3, 2), levels >= 128):
        assert np.unique(array_of(inpainter(picture, Image.fromarray(mask)))[:, :2]).tolist() == [7]
        assert (array_of(inpainter(picture, Image.fromarray(mask)))[:, 2:] == 64).all()
    assert (array_of(inpainter(picture, palette))[:, 2:] == 64).all()


def test_colour_in_a_grey_hole_is_noted_and_the_reverse_is_not(recwarn):
    Inpainter(Painter(1))(scene(9, 9), holed(9, 9))
    assert [str(w.message) for w in recwarn if issubclass(w.category, Note)] == [
        "is in colour, and what was painted into it is grey"
    ]
    recwarn.clear()
    Inpainter(Painter(3))(scene(9, 9, "L"), holed(9, 9))
    Inpainter(Painter(1))(scene(9, 9, "L").convert("RGB"), holed(9, 9))
    assert not recwarn


def test_the_middle():
    for size, box in (((100, 40), (25, 10, 75, 30)), ((7, 13), (2, 3, 5, 9)), ((2, 3), (0, 1, 1, 2))):
        mask = central(size)
        assert mask.size == size and mask.getbbox() == box and mask.crop(box).getextrema() == (255, 255)


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["colour", "grey"])
@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.Note")
def test_every_kind_of_file(gan, checkpoints, model):
    names = {}
    for mode in (mode for mode in MODES if mode != "PA"):  # which no format of ours holds
        for size in [(3, 2), *SIZES[1:]]:
            name = f"{mode.replace(';', '')} ({size[0]}).{'tif' if mode == 'CMYK' else 'png'}"
            scene(*size, mode).save(name)
            names[name] = plain(Image.open(name))
    for kind in ("png", "tiff", "webp"):
        given = [name for name, picture in names.items() if kind != "webp" or picture.mode != "I;16"]
        words = ["mask=centre", f"out={kind}/", f"format={kind}"]
        code, out, error = gan("inpaint", *given, f"ckpt={checkpoints[model]}", *words)
        assert code == 0 and len(out.splitlines()) == len(given), error
        for name, path in zip(given, out.splitlines()):
            picture, hole = names[name], np.asarray(central(names[name].size)) > 0
            with Image.open(path) as file:
                result = array_of(file if kind != "webp" else file.convert(picture.mode))
            assert np.array_equal(result[~hole], array_of(picture)[~hole]), (name, kind)
            if picture.mode.endswith("A"):
                assert np.array_equal(result[..., -1], array_of(picture)[..., -1])


def test_the_command_is_what_the_network_gives(gan, checkpoints):
    picture, mask = scene(40, 30), holed(40, 30)
    picture.save("a b (1).png")
    mask.save("m.png")
    code, out, error = gan("inpaint", "a b (1).png", f"ckpt={checkpoints['colour']}", "mask=m.png", "ema=false")
    assert code == 0 and out == "a b (1)_inpainted.png\n" and not error
    made = np.asarray(Image.open("a b (1)_inpainted.png"))
    assert np.array_equal(made, np.asarray(load_inpainter(checkpoints["colour"], ema=False)(picture, mask)))
    G = gancli.load(checkpoints["colour"], ema=False).network
    wide = torch.from_numpy(np.pad(np.asarray(picture), ((0, 2), (0, 8), (0, 0)), mode="reflect")).permute(2, 0, 1)
    hole = torch.from_numpy(np.pad(np.asarray(mask), ((0, 2), (0, 8)), mode="reflect"))[None].float()
    c = torch.cat([(wide / 127.5 - 1) * (1 - hole), hole])[None]
    expected = to_pixels(G(torch.zeros(1, 0), c), "RGB")[:30, :40]
    assert abs(expected.astype(int) - made).max() <= 1


def test_a_folder_of_masks(gan, checkpoints):
    for name in ("pics/a.png", "pics/sub/a.jpg", "pics/sub/b c.png", "pics/lone.png", "pics/two.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        scene(16, 12).save(name)
    Path("masks/sub").mkdir(parents=True)
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b c.PNG", "two.jpg", "two.tif")):
        holed(16, 12, seed=i).convert("L").save(f"masks/{name}")
    Path("masks/notes.txt").touch()
    code, out, error = gan("inpaint", "pics", f"ckpt={checkpoints['colour']}", "mask=masks/")
    made = ["pics_inpainted/a_inpainted.png", "pics_inpainted/sub/a_inpainted.png"]
    assert code == 1 and out.splitlines() == [*made, "pics_inpainted/sub/b c_inpainted.png"]
    assert "gan: pics/lone.png: has no mask: there is no picture lone.* in masks" in error
    assert "pics/two.png: has several masks: masks/two.jpg, masks/two.tif; leave one" in error
    assert "2 of 5 pictures could not be repainted" in error
    holed(16, 12).save("masks/two.png")  # called exactly as the picture is
    code, out, _ = gan("inpaint", "pics/two.png", "pics/a.png", f"ckpt={checkpoints['colour']}", "mask=masks")
    assert code == 0 and out.splitlines() == ["pics/two_inpainted.png", "pics/a_inpainted.png"]
    for source, mask, result in (
        ("pics/a.png", "masks/a.png", made[0]),
        ("pics/sub/a.jpg", "masks/sub/a.png", made[1]),
    ):
        hole = np.asarray(Image.open(mask)) > 0
        before, after = (np.asarray(Image.open(name)) for name in (source, result))
        assert np.array_equal(before[~hole], after[~hole]) and (before[hole] != after[hole]).any()


def test_one_mask_for_all_and_a_second_time(gan, checkpoints):
    for name in ("a", "b"):
        scene(16, 12).save(f"{name}.png")
    scene(15, 12).save("c.png")
    holed(16, 12).save("m.gif")
    words = ("inpaint", "a.png", "b.png", "c.png", f"ckpt={checkpoints['grey']}", "mask=m.gif")
    code, out, error = gan(*words)
    assert code == 1 and out.split() == ["a_inpainted.png", "b_inpainted.png"]
    assert "gan: c.png: is 15 x 12 pixels, but its mask 16 x 12; make the mask as large as the picture" in error
    assert gan(*words[:3], *words[4:])[0] == 1
    code, out, error = gan(*words[:3], *words[4:], "skip=true")
    assert code == 0 and not out and "2 were there already" in error
    assert gan(*words[:3], *words[4:], "overwrite=true")[0] == 0


def test_a_mask_is_laid_on_the_picture_as_it_is_looked_at(gan, checkpoints):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(30, 20).save("a.png", exif=exif)
    mask = Image.new("1", (20, 30))
    mask.paste(1, (0, 0, 5, 5))
    mask.save("m.png")
    assert gan("inpaint", "a.png", f"ckpt={checkpoints['colour']}", "mask=m.png")[0] == 0
    after, before = np.asarray(Image.open("a_inpainted.png")), np.asarray(scene(30, 20).rotate(-90, expand=True))
    changed = (after != before).any(2)
    assert changed[:5, :5].mean() > 0.5 and changed.sum() == changed[:5, :5].sum()


def bad_masks() -> None:
    Image.new("L", (5, 5)).save("black.png")
    Image.new("L", (5, 5), 255).save("white.png")
    Image.new("L", (6, 5), 255).save("wide.png")
    Path("empty.png").touch()
    Path("text.png").write_text("a text")
    Path("bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 2**15, 2**15, 8, 0, 0, 0, 0)
    )


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 1, "no mask was given; type mask=FILE"),
        (["mask=absent.png"], 1, "there is no mask absent.png; type mask=FILE"),
        (["mask=center"], 1, "did you mean centre?"),
        (["mask=masks/black.png"], 1, "masks nothing, as it has no white"),
        (["mask=masks/white.png"], 1, "masks everything"),
        (["mask=masks/wide.png"], 1, "is 5 x 5 pixels, but its mask 6 x 5"),
        (["mask=masks/empty.png"], 1, "mask masks/empty.png cannot be used: is empty"),
        (["mask=masks/text.png"], 1, "is not an image that Pillow knows"),
        (["mask=masks/bomb.png"], 1, "cannot be used"),
        (["mask=masks"], 1, "has no mask: there is no picture a.* in masks"),
        (
            ["mask=centre", "out=b.jpg"],
            1,
            "jpg changes all pixels, and those that are not masked are to stay; type out=",
        ),
        (["mask=centre", "format=jpg"], 1, "type format=png"),
        (["mask=centre", "quality=90"], 2, "no key 'quality'"),
        (["mask=centre", "tile=-3"], 1, "tile=256"),
        (["mask=centre", "msk=x"], 2, "no key 'msk'"),
        (["mask=centre", "out=a.png", "overwrite=true"], 1, "its own result"),
    ],
)
def test_bad_input_gets_one_sentence(gan, checkpoints, monkeypatch, words, code, sentence):
    scene(5, 5).save("a.png")
    Path("masks").mkdir()
    with monkeypatch.context() as inside:
        inside.chdir("masks")
        bad_masks()
    got, out, error = gan("inpaint", "a.png", f"ckpt={checkpoints['colour']}", *words)
    assert got == code and sentence in error and len(error.strip().splitlines()) == 1, error
    assert not out and here() == ["a.png", "masks"]


def test_a_single_pixel_and_16_bits_that_a_format_lacks(gan, checkpoints):
    scene(1, 1).save("one.png")
    scene(9, 9, "I;16").save("deep.png")
    code, _, error = gan("inpaint", "one.png", f"ckpt={checkpoints['colour']}", "mask=centre")
    assert code == 1 and "masks everything" in error
    words = ("mask=centre", "format=webp")
    code, _, error = gan("inpaint", "deep.png", f"ckpt={checkpoints['grey']}", *words)
    assert code == 1 and "has 16 bits, of which webp holds 8; type format=png" in error
