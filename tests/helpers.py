"""Helpers of several tests: tiny runs, comparisons to the bit, and processes of the command line."""

import copy
import functools
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from gancli.checkpoint import format as checkpoint
from gancli.config import choices, compose
from gancli.images import to_float, to_uint8
from gancli.training.checkpoint_manager import LAST
from gancli.training.run import TrainingRun

ROOT = Path(__file__).parents[1]
MODELS = choices("model")
# Every model small enough to train a step in milliseconds.
TINY = [
    "data=synthetic", "data.n=64", "data.size=16", "model.width=4", "data.batch_size=8",
    "device=cpu", "trainer.steps=6", "trainer.log_every=2", "trainer.sample_every=3", "trainer.checkpoint_every=2",
    "trainer.precision=fp32",  # auto is another one on another processor
]  # fmt: skip
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


def config(*overrides: str, tiny: bool = True) -> DictConfig:
    """Return the composed config of `gan train`, with `tiny` that of TINY."""
    return copy.deepcopy(composed(*(TINY if tiny else []), *overrides))


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """Return a composed config, which takes Hydra longer than a tiny step takes."""
    return compose(list(overrides))


def start(folder: Path, model: str, *overrides: str) -> TrainingRun:
    """Return a tiny run of `model` in `folder`, ready to train."""
    folder.mkdir(parents=True, exist_ok=True)
    return TrainingRun(config(f"model={model}", *overrides), folder, [])


def at_step(run: TrainingRun, step: int, act: Callable[[], object]) -> TrainingRun:
    """Let a run call `act` after this step, before it logs or saves."""
    train_step = run.trainer.train_step

    def train_and_act(progress: float) -> None:
        train_step(progress)
        if run.trainer.step == step:
            act()

    run.trainer.train_step = train_and_act  # type: ignore[method-assign]
    return run


def stop(run: TrainingRun, step: int) -> None:
    """Train a run that gets SIGTERM in this step, and saves."""
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        at_step(run, step, lambda: signal.raise_signal(signal.SIGTERM)).train()


def crash(run: TrainingRun, step: int = 4) -> None:
    """Train a run that dies in this step; its last checkpoint may be older."""
    with pytest.raises(ZeroDivisionError):
        at_step(run, step, lambda: 1 / 0).train()


def assert_same(a: object, b: object, where: str = "") -> None:
    """Assert that nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where  # type: ignore[arg-type]
        for i, (x, y) in enumerate(zip(a, b)):  # type: ignore[call-overload]
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, where


def learned(run: Path) -> dict:
    """Return the last checkpoint of a run without clocks, versions and the config."""
    content = checkpoint.read(run / "checkpoints" / LAST)
    return {key: value for key, value in content.items() if key not in ("seconds", "config", "versions")}


def rows_of(run: Path) -> list[dict]:
    """Return the events and metrics of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_runs(*runs: Path) -> None:
    """Assert that two runs learned and logged the same, to the bit."""
    assert_same(*map(learned, runs))
    assert_same(*([list(row.items()) for row in without_clocks(run)] for run in runs))  # in the order of the file


def write_generator(path: Path, config: dict, state: dict, names: dict | None = None, **changes: object) -> Path:
    """Write the smallest checkpoint of a generator, as `gan export` does; names: more arguments of `write`."""
    content = {
        "config": {"seed": 0, "data": {"name": "photos"}, "model": {"name": "model", "classes": 0}, "trainer": {}},
        "output": {"size": 8, "channels": 3, "class_names": []},
        **{"step": 1, "images": 8, "seconds": 1.0, "networks": {"G": {"config": config, "state": state}}},
    }
    return checkpoint.write(path, content | changes, **(names or {}))


def without_clocks(run: Path) -> list[dict]:
    """Return the metrics of a run without those that depend on the clock."""
    clocks = {"minutes", "images_per_second", "evaluate_seconds", "time", "command"}
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows_of(run) if "event" not in row]


def process(*words: str, **options) -> subprocess.Popen:
    """Start `gan` in a process of its own, as a user does."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*GAN, *words], **{**pipes, **options})


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
