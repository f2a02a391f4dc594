"""Helpers of several tests: tiny runs, comparisons to the bit, and processes of the command line."""

import importlib
import io
import socket
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli import plugins
from gancli.checkpoint import format as checkpoint
from gancli.config import choices
from gancli.images import to_float, to_uint8
from gancli.testing import (  # noqa: F401
    TINY,
    assert_same,
    assert_same_runs,
    at_step,
    composed,
    config,
    learned,
    rows_of,
    start,
    stop,
    without_clocks,
)
from gancli.training.run import TrainingRun

ROOT = Path(__file__).parents[1]
MODELS = choices("model")
# Each has something that the capture of a CUDA graph could get wrong.
GRAPHS = {
    "schedule": ["model=dcgan", "model.schedule._target_=gancli.training.schedules.linear"],
    "noise in D": ["model=dcgan", "model/augment=diffaugment", "model.minibatch=std"],
    "lazy penalty": ["model=dcgan", "model/penalty=r1", "model.penalty.every=3", "model.norm=none"],
    "three updates": ["model=wgan_gp", "model.n_critic=2"],
    "classes": ["model=sngan_proj", "model.n_critic=2"],
    "adaptive": ["model=cgan", "model/augment=ada"],
}
GAN = [sys.executable, "-m", "gancli"]


def crash(run: TrainingRun, step: int = 4) -> None:
    """Train a run that dies in this step; its last checkpoint may be older."""
    with pytest.raises(ZeroDivisionError):
        at_step(run, step, lambda: 1 / 0).train()


def write_generator(path: Path, built_by: dict, state: dict, names: dict | None = None, **changes: object) -> Path:
    """Write the smallest checkpoint of a generator, as `gan export` does; names: more arguments of `write`."""
    content = {
        "config": {"seed": 0, "data": {"name": "photos"}, "model": {"name": "model", "classes": 0}, "trainer": {}},
        "output": {"size": 8, "channels": 3, "class_names": []},
        **{"step": 1, "images": 8, "seconds": 1.0, "networks": {"G": {"config": built_by, "state": state}}},
    }
    return checkpoint.write(path, content | changes, **(names or {}))


def process(*words: str, **options) -> subprocess.Popen:
    """Start `gan` in a process of its own, as a user does."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*GAN, *words], **{**pipes, **options})


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array in MNIST's file format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


def fake_mnist(folder: Path, n: int = 5) -> None:
    """Write n images and labels a split where torchvision's MNIST has its files."""
    for part in ("train", "t10k"):
        write_idx(folder / "raw" / f"{part}-images-idx3-ubyte", np.arange(n * 784, dtype=np.uint8).reshape(n, 28, 28))
        write_idx(folder / "raw" / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8))


# The tiny dcgan of TINY, whose networks are 4 wide: batch, channels, width of the noise.
N, CHANNELS, Z = 8, 3, 100


def dcgan() -> tuple[list[int], list[int]]:
    """Return the multiply-adds of each layer of G and of D for an image: in * out * kernel pixels * output pixels."""
    G = [Z * 8 * 16 * 1, 8 * 4 * 16 * 4**2, 4 * CHANNELS * 16 * 8**2]
    D = [CHANNELS * 4 * 16 * 8**2, 4 * 8 * 16 * 4**2, 8 * 1 * 16 * 1]
    return G, D


def soft_images(n: int = 8, channels: int = 3, side: int = 24) -> torch.Tensor:
    """Return soft clouds with some grain, float (n, channels, side, side) in [-1, 1] in steps of 8 bits."""
    generator = torch.Generator().manual_seed(0)
    clouds = torch.randn(n, channels, 6, 6, generator=generator)
    clouds = torch.nn.functional.interpolate(clouds, (side, side), mode="bicubic")
    return to_float(to_uint8(0.4 * clouds + 0.1 * torch.randn(n, channels, side, side, generator=generator)))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return standard normal values, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def npz_arrays(n: int = 6, h: int = 8, c: int = 3, classes: int = 3) -> dict[str, np.ndarray]:
    """Return arrays of a data set in one npz file."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    x = {f"x_{split}": rng.integers(0, 256, (n, h, h, c), dtype=np.uint8) for split in ("train", "test")}
    return {**x, "y_train": labels, "y_test": labels[::-1].copy()}


def npz_archive(path: Path, **changed: object) -> Path:
    """Write an npz of `npz_arrays` with some replaced, or left out where None."""
    content = {key: value for key, value in {**npz_arrays(), **changed}.items() if value is not None}
    np.savez(path, **content)  # type: ignore[arg-type]
    return path


def pretend_install(folder: Path, site: Path) -> None:
    """Let Python find a package of `gan new` as `pip install -e` does, without pip.

    Args:
        site: where its description is written, a folder in sys.path.
    """
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["gancli.plugins"].items()]
    information = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "entry_points.txt").write_text("\n".join(["[gancli.plugins]", *lines]))
    sys.path.insert(0, str(folder))
    plugins._read.cache_clear()
    importlib.invalidate_caches()


def broken_png() -> bytes:
    """Return a PNG whose header is whole and whose pixels are not: Pillow raises SyntaxError when it decodes them."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
    header, chunk, pixels = file.getvalue().partition(b"IDAT")
    part = pixels[:200]
    crc = zlib.crc32(chunk + part).to_bytes(4, "big")
    return header[:-4] + len(part).to_bytes(4, "big") + chunk + part + crc + bytes(range(0xA0, 0xC0))
