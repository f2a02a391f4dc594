import numpy as np
import pytest
import torch
from scenes import SIZES, Same, Strided, compact, difference, scene, with_statistics

from gancli.data.image_modes import array_to_tensor, image_to_array
from gancli.inference import tiling
from gancli.inference.tiling import Tiler, pad_to_multiple
from gancli.inference.translator import Translator
from gancli.inference.upscaler import Downscaled, Upscaler
from gancli.networks.translation import ResidualGenerator
from gancli.networks.unet import WHOLE_IMAGE, UNet

NETWORKS = {
    **{f"compact x{scale}": compact(scale) for scale in (2, 3, 4)},
    **{f"downscaled x{scale}": Downscaled(compact(4), scale) for scale in (2, 3)},
    "strided": Strided(),
    "unet": with_statistics(UNet(3, 3, size=8, width=4)),
    "residual": with_statistics(ResidualGenerator(3, 3, width=4, depth=1, norm="batch")),
}


@pytest.mark.parametrize("size", [*SIZES, (64, 64), (150, 61)])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_tiles_equal_the_whole_and_cover_every_pixel_once(name, size):
    network = NETWORKS[name].eval()
    s = network.scale
    pixels = pad_to_multiple(image_to_array(scene(*size)), getattr(network, "multiple", 1))
    whole = network(torch.zeros(1, 0), array_to_tensor(pixels)).clamp(-1, 1)[:, :, : s * size[1], : s * size[0]]
    for tile in (4, 8) if max(size) < 20 else (16, 21, 50):
        result, area = torch.full_like(whole, torch.nan), 0
        tiles = Tiler(network, tile).tiles(lambda l, t, r, b: array_to_tensor(pixels[t:b, l:r]), *size)
        for (left, top, right, bottom), y in tiles:
            result[:, :, s * top : s * bottom, s * left : s * right] = y
            area += (right - left) * (bottom - top)
        assert area == size[0] * size[1]
        assert torch.allclose(result, whole, atol=1e-5)
    assert whole.std() > 1e-3 or size == (1, 1)


def test_padding_is_a_reflection():
    row = np.arange(5)[None, :, None]
    assert pad_to_multiple(row, 4)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1]
    assert pad_to_multiple(row, 4).shape == (4, 8, 1) and (pad_to_multiple(row, 4) == pad_to_multiple(row, 4)[:1]).all()
    assert pad_to_multiple(row[:, :2], 16)[0, :5, 0].tolist() == [0, 1, 0, 1, 0]
    assert pad_to_multiple(row, 1) is row


def test_a_network_that_needs_the_whole_image_gets_it_at_once():
    network = Strided()
    network.halo = WHOLE_IMAGE
    Translator(network, tile=8)(scene(101, 37))
    assert network.sizes == [(64, 64), (40, 104)], "one measurement of memory, then one call"


def test_the_tile_follows_from_the_free_memory(monkeypatch):
    upscaler = Upscaler(compact())
    # At least 8 channels of the small image, and 3 of the large one for bicubic and detail.
    assert 4 * (8 + 2 * 48) < upscaler.bytes_per_pixel < 4 * 20 * (8 + 2 * 48)
    edges = []
    for free in (1e6, 1e7, 1e8, 1e12):
        monkeypatch.setattr(tiling, "free_memory", lambda device, free=free: free)
        edges.append(upscaler.tile_edge(10_000, 10_000))
    assert edges[0] == tiling.SMALLEST_TILE and sorted(set(edges)) == edges
    assert (edges[-1] + 2 * upscaler.halo) ** 2 * upscaler.bytes_per_pixel <= tiling.TILE_BYTES["cpu"]


def test_an_image_that_memory_cannot_hold_is_refused_before_it_is_computed(monkeypatch):
    network = Strided()
    network.halo = WHOLE_IMAGE
    translator = Translator(network)
    monkeypatch.setattr(tiling, "free_memory", lambda device: 1e6)
    with pytest.raises(ValueError, match="is 1,000 x 800 pixels, and the network takes 1,000 x 800 at once"):
        translator(scene(999, 798))
    assert translator(scene(40, 20)).size == (40, 20)
    network.halo = 12
    assert Translator(network)(scene(400, 300)).size == (400, 300), "tiles fit"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[...] DefaultCPUAllocator: can't allocate")]
)
@pytest.mark.parametrize(("network", "model"), [(compact(), Upscaler), (Strided(), Translator)], ids=["x4", "same"])
def test_out_of_memory_halves_the_tile_and_changes_nothing(error, network, model, monkeypatch):
    image, forward, most = scene(150, 110), network.forward, 80 * 80
    expected = model(network)(image)

    def limited(z, c):
        if c.shape[2] * c.shape[3] > most:
            raise error
        return forward(z, c)

    monkeypatch.setattr(network, "forward", limited)
    assert difference(model(network, tile=140)(image), expected) <= 1
    most = 30 * 30
    with pytest.raises(ValueError, match="memory ran out on a tile of"):
        model(network)(image)
    most, error = 80 * 80, RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        model(network)(scene(150, 110))
    most, error = 80 * 80, MemoryError()
    monkeypatch.setattr(network, "halo", WHOLE_IMAGE)
    with pytest.raises(ValueError, match=r"memory ran out on a tile of 15[02] pixels"):
        model(network)(image)


def test_networks_whose_images_cannot_be_written_are_refused():
    network = Same()
    network.multiple = 2**15
    with pytest.raises(ValueError, match="multiples of 32768 pixels"):
        Translator(network)
    with pytest.raises(ValueError, match="2 channels, not 1 or 3"):
        Translator(Same(channels=2))
    network = Same()
    network.forward = lambda z, c: c * torch.nan
    with pytest.raises(ValueError, match="not finite"):
        Translator(network)(scene(8, 8))
