import resource
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import Bicubic, attentive, compact, difference, scene

from gancli.inference import upscaler as upscaling
from gancli.inference.styles import upscale
from gancli.inference.upscaler import Downscaled, Upscaler, bundled_network, load_upscaler
from gancli.networks.sr import Attentive, Compact

pytestmark = pytest.mark.usefixtures("weights")


def test_enlarge_is_the_network_and_takes_any_number_of_channels(monkeypatch):
    monkeypatch.setattr(upscaling, "multiplies_bf16", lambda device: False)
    network, x = compact(3), torch.rand(2, 3, 9, 14) * 2 - 1
    with torch.no_grad():
        expected = network(torch.zeros(2, 0), x).clamp(-1, 1)
    assert torch.allclose(Upscaler(network).enlarge(x), expected, atol=1e-6)
    assert torch.allclose(Upscaler(network, tile=4).enlarge(x), expected, atol=1e-5)
    grey = Upscaler(compact(3, channels=1), tile=5).enlarge(x)
    assert grey.shape == (2, 3, 27, 42)
    assert torch.allclose(grey[:, 1:2], Upscaler(compact(3, channels=1)).enlarge(x[:, 1:2]), atol=1e-5)


@pytest.mark.parametrize("network", [compact(), attentive(), Downscaled(compact(), 2)], ids=lambda n: type(n).__name__)
def test_bf16_costs_less_than_a_grey_level_and_shows_no_tiles(network, monkeypatch):
    image, results = scene(45, 31), []
    for bf16 in (False, True):
        monkeypatch.setattr(upscaling, "multiplies_bf16", lambda device, bf16=bf16: bf16)
        results.append(Upscaler(network)(image))
    assert difference(*results) <= 2 and abs(np.asarray(results[0], float) - np.asarray(results[1])).mean() < 0.5
    assert difference(Upscaler(network, tile=16)(image), results[1]) <= isinstance(network, Downscaled)
    assert not Upscaler(Bicubic(4)).bf16, "a network that computes the image itself would lose its lowest bits"


def test_a_network_of_several_branches_runs_as_plain_convolutions():
    network, x = attentive(), torch.rand(1, 3, 9, 8) * 2 - 1
    assert sum(p.numel() for p in Upscaler(network).network.parameters()) < sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        assert torch.allclose(Upscaler(network).network(x[:, :0, 0, 0], x), network(x[:, :0, 0, 0], x), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 5)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_results_are_exactly_scale_times_as_large(size, scale):
    for mode in ("RGB", "RGBA", "L"):
        large = upscale(Image.new(mode, size, "red"), scale)
        assert large.size == (scale * size[0], scale * size[1]) and large.mode == mode


MODES = {
    **{"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
    **{"RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"},
}


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_keeps_its_colours(mode):
    colour, first = scene(24, 18), {"La": "LA", "PA": "P", "RGBa": "RGBA"}.get(mode, "RGB")
    image = colour.convert(first).convert(mode)
    before = image.tobytes()
    large = Upscaler(Bicubic(4))(image)
    assert (large.mode, large.size) == (MODES[mode], (96, 72))
    assert image.tobytes() == before, "the input is not changed"
    opaque = MODES[mode].removesuffix("A")
    small = np.asarray(large.convert(opaque).resize(image.size, Image.Resampling.BOX)).astype(int)
    if mode == "1":
        assert ((small > 127) == np.asarray(image)).mean() > 0.98
    else:
        expected = (colour if mode == "LAB" else image).convert(MODES[mode]).convert(opaque)
        assert abs(small - np.asarray(expected)).mean() < 9
    if "A" in large.mode:
        assert large.getchannel("A").getextrema() == (255, 255)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_16_bit_grey_stays_16_bit(mode):
    values = (np.arange(300).reshape(15, 20) * 65535 // 299).astype(np.uint16)
    dtype = {"I": np.int32, "I;16B": ">u2"}.get(mode, np.uint16)
    large = Upscaler(Bicubic(4), tile=6)(Image.frombytes(mode, (20, 15), values.astype(dtype).tobytes()))
    assert large.mode == "I;16" and large.size == (80, 60)
    result = np.asarray(large).astype(int)
    assert len(np.unique(result)) > 1000
    assert abs(result.reshape(15, 4, 20, 4).mean((1, 3)) - values)[1:-1, 1:-1].max() < 200
    between = Image.fromarray(np.full((5, 5), 700, np.uint16))  # lies between two levels of 8 bits
    assert np.unique(np.asarray(Upscaler(Bicubic(2))(between))).tolist() == [700]


@pytest.mark.parametrize("value", [70_000, -1])
def test_values_without_a_known_range_are_refused(value):
    with pytest.raises(ValueError, match=f"32-bit values from {value} to {value} have no known range"):
        upscale(Image.fromarray(np.full((3, 3), value, np.int32)))


def test_constant_alpha_stays_constant():
    image = scene(13, 11).convert("RGBA")
    for value in (0, 1, 127, 254, 255):
        image.putalpha(value)
        assert upscale(image).getchannel("A").getextrema() == (value, value)


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("network", [Bicubic(4), compact()], ids=["bicubic", "compact"])
def test_colours_under_transparent_pixels_leave_no_fringe(hidden, network):
    y, x = np.mgrid[:40, :40]
    disc = (x - 19.5) ** 2 + (y - 19.5) ** 2 < 200
    pixels = np.full((40, 40, 4), (200, 60, 30, 255), np.uint8)
    pixels[~disc] = (hidden, hidden, hidden, 0)
    large = np.asarray(Upscaler(network)(Image.fromarray(pixels))).astype(int)
    visible = large[..., 3] > 0
    assert visible.any() and not visible.all()
    opaque = np.asarray(Upscaler(network)(Image.new("RGB", (40, 40), (200, 60, 30)))).astype(int)
    inner = slice(8, -8)
    assert abs(large[inner, inner, :3] - opaque[inner, inner])[visible[inner, inner]].max() <= 1
    alpha = large[..., 3]
    assert alpha[0, 0] == 0 and alpha[80, 80] == 255 and len(np.unique(alpha)) > 50


def test_alpha_is_enlarged_by_the_network_at_edges_alone():
    y, x = np.mgrid[:40, :50]
    disc = Image.fromarray((((x - 19.5) ** 2 + (y - 19.5) ** 2 < 150) * 255).astype(np.uint8))
    image = Image.new("RGB", disc.size, "red")
    image.putalpha(disc)
    upscaler = Upscaler(compact())
    alpha = np.asarray(upscaler(image).getchannel("A")).astype(int)
    grey = np.asarray(upscaler(disc)).astype(int)
    bicubic = np.asarray(disc.resize((200, 160), Image.Resampling.BICUBIC)).astype(int)
    edge = (bicubic > 40) & (bicubic < 215)
    assert abs(alpha - grey)[edge].max() <= 1 and abs(alpha - bicubic)[edge].max() > 2
    assert (alpha[:20] == 0).all() and (alpha[70:90, 70:90] == 255).all(), "no veil and no hole away from edges"
    assert difference(Upscaler(compact(), tile=16)(image), upscaler(image)) == 0


def test_scales_without_own_weights_are_scaled_down_from_4(weights):
    image = scene(15, 10)
    assert isinstance(bundled_network("sharp", 2), Compact)
    for style, scale in (("faithful", 2), ("faithful", 3), ("sharp", 3)):
        assert isinstance(bundled_network(style, scale), Downscaled)
        expected = upscale(image, 4, style).resize((15 * scale, 10 * scale), Image.Resampling.BICUBIC)
        assert difference(upscale(image, scale, style), expected) <= 2
    (weights / "sr_compact-x4-faithful.safetensors").unlink()
    with pytest.raises(ValueError, match="the weights of style=faithful are missing"):
        bundled_network("faithful", 3)


def test_the_real_weights_are_bundled(monkeypatch):
    monkeypatch.undo()
    networks = [upscaling.load_upscaler(style=style).network for style in upscaling.STYLES]
    assert {type(network) for network in networks} <= {Attentive, Compact}


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_community_model_cannot_take_more_memory_than_its_file_explains(tmp_path):
    """A table of 1 MB asks for an index of 34 GB; numbers of 3 GB are zipped to 3 MB."""
    spandrel = pytest.importorskip("spandrel")
    del spandrel
    window = 256
    state = {
        "conv_first.weight": torch.zeros(8, 3, 3, 3),
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table": torch.zeros((2 * window - 1) ** 2, 1),
    }
    torch.save(state, tmp_path / "table.pth")
    torch.save({"weight": torch.zeros(30 * 2**20)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "zipped.pth", "w", 8) as zipped:
        for name in plain.namelist():
            zipped.writestr(name, plain.read(name))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("table.pth", "zipped.pth"):
        with pytest.raises(ValueError, match="is not a model that spandrel knows"):
            load_upscaler(tmp_path / name)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1.2e9
