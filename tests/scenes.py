"""Test images of every mode, networks to run on them, and tiny checkpoints."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, write_generator
from PIL import Image
from torch import nn

from gancli.cli import main as cli
from gancli.inference import styles, upscaler
from gancli.networks.sr import Attentive, Compact

# Pillow's modes, and those of a standardized image.
MODES = {
    **{"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
    **{"CMYK": "RGB", "I;16": "I;16"},
}
SIZES = [(1, 1), (7, 13), (100, 37)]
RUNS = {
    "pix2pix": ["model=pix2pix"],
    "grey": ["model=pix2pix", "task=denoise", "data.channels=1"],
    "cyclegan": ["model=cyclegan", "model.depth=1"],
    "inpainting": ["model=inpainting"],
    "inpainting_grey": ["model=inpainting", "data.channels=1"],
    "vae": ["model=vae", "data.channels=1"],
    "vae_mlp": ["model=vae_mlp"],
    "vae_classes": ["model=vae_mlp", "model.classes=${data.classes}"],
    "aegan": ["model=aegan", "model.lr=0.1"],  # its own rate leaves a uniform grey after two steps
    "dcgan": ["model=dcgan"],
    "cgan": ["model=cgan"],
    "points": ["model=vae_mlp", "data.kind=ring", "data.size=null"],
    "sr_compact": ["model=sr_compact", "model.scale=2"],
    "sr_attentive": ["model=sr_attentive", "model.scale=2", "model.depth=1"],
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The last checkpoint of a two-step run for every name of RUNS, trained at its first use."""

    class Checkpoints(dict[str, Path]):
        def __missing__(self, name: str) -> Path:
            run = tmp_path_factory.mktemp(name)
            assert cli.main(["train", *TINY, f"run.dir={run}", "trainer.steps=2", *RUNS[name]]) == 0
            return self.setdefault(name, run / "checkpoints" / "last.safetensors")

    return Checkpoints()


@pytest.fixture
def weights(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small bundled networks, in half precision: faithful x4, sharp x4 and x2, restore x4."""
    folder = tmp_path_factory.mktemp("weights")
    for style, scale in (("faithful", 4), ("sharp", 4), ("sharp", 2), ("restore", 4)):
        config = {"_target_": "gancli.networks.sr.Compact", "channels": 3, "width": 8, "depth": 2, "scale": scale}
        state = {name: x.half() for name, x in compact(scale).state_dict().items()}
        write_generator(folder / f"sr_compact-x{scale}-{style}.safetensors", config, state)
    monkeypatch.setattr(upscaler, "WEIGHTS", folder)
    styles.cached_upscaler.cache_clear()
    return folder


def scene(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Return smooth shapes with a little noise; where there is alpha, transparent at the left."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / (3 + i) + i) * np.cos(y / (5 - i)) for i in range(3)]
    noisy = np.stack(waves, 2) + rng.normal(0, 8, (height, width, 3))
    image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) * 257 + x + y).astype(np.uint16))
    if mode.endswith("A"):
        image.putalpha(Image.fromarray((x * 40).clip(0, 255).astype(np.uint8)))
    return image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)


def holed(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return a mask of white specks; the first pixel is white, the last one black."""
    mask = np.random.default_rng(seed).random((height, width)) < 0.2
    mask.flat[0], mask.flat[-1] = True, False
    return Image.fromarray(mask)


def save_scenes() -> dict[str, tuple[int, int]]:
    """Save an image of every mode and size here; returns the size by file name."""
    files = {}
    for mode in (mode for mode in MODES if mode != "PA"):  # which no format holds
        for size in SIZES:
            name = f"{mode.replace(';', '')} ({size[0]}).{'tif' if mode == 'CMYK' else 'png'}"
            scene(*size, mode).save(name)
            files[name] = size
    return files


def png(width: int, height: int, bits: int, colour: int, data: bytes = b"") -> bytes:
    """Return a PNG file with this header; `data` need not match it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(data), b"IEND")
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def here() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def difference(a: Image.Image | np.ndarray | str, b: Image.Image | np.ndarray | str) -> int:
    """Return the largest difference of two images or image files in grey levels."""
    x, y = (np.asarray(Image.open(image) if isinstance(image, str) else image).astype(int) for image in (a, b))
    assert x.shape == y.shape
    return int(abs(x - y).max())


# --- networks -----------------------------------------------------------------------------------------------------


def compact(scale: int = 4, channels: int = 3) -> Compact:
    """Return a small super-resolution network that differs from bicubic."""
    torch.manual_seed(scale)
    network = Compact(channels=channels, width=8, depth=2, scale=scale)
    nn.init.normal_(network.last.weight, std=0.02)
    return network


def attentive(scale: int = 4) -> Attentive:
    """Return a small network of several branches that differs from bicubic."""
    torch.manual_seed(scale)
    network = Attentive(width=8, depth=1, scale=scale)
    nn.init.normal_(network.last.weight, std=0.02)
    return network


class Bicubic(nn.Module):
    z_dim, classes, channels, halo = 0, 0, 3, 2

    def __init__(self, scale: int):
        super().__init__()
        self.scale = scale

    def forward(self, z, c):
        size = (self.scale * c.shape[2], self.scale * c.shape[3])
        return nn.functional.interpolate(c, size, mode="bicubic", antialias=True)


class Same(nn.Module):
    """Returns its input as grey, in its own number of channels."""

    z_dim, classes, scale, masked, multiple, halo = 0, 0, 1, False, 4, 0

    def __init__(self, channels: int = 3, source_channels: int = 3):
        super().__init__()
        self.channels, self.source_channels = channels, source_channels

    def forward(self, z, c):
        return c.mean(1, keepdim=True).repeat(1, self.channels, 1, 1)


class Strided(Same):
    """Two halvings and two doublings; requires sides that can be halved twice, and records their sizes."""

    halo = 12

    def __init__(self, channels: int = 3, source_channels: int = 3):
        super().__init__(channels, source_channels)
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            *(nn.Conv2d(source_channels, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 4, 2, 1), nn.ReLU()),
            *(nn.ConvTranspose2d(8, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, channels, 4, 2, 1), nn.Tanh()),
        )
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, z, c):
        assert not (c.shape[2] % 4 or c.shape[3] % 4) and z.shape[1] == 0 and c.shape[1] == self.source_channels
        self.sizes.append(tuple(c.shape[2:]))
        return self.layers(c)


def with_statistics(network: nn.Module) -> nn.Module:
    """Give batch norm statistics as after some training, so that it changes its inputs."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.01, 0.1)
    return network
