"""What the tests share: tiny runs through the command line's own entry, and where real data is."""

import os
from pathlib import Path

import pytest
import torch

from gancli.cli import main as cli
from gancli.data import decode_cache as decoded
from gancli.runtime import cache

torch.set_num_threads(1)  # the tests' networks are too small to share among threads


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("GAN_DATA"):
        return
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason="needs real MNIST and CIFAR-10: set GAN_DATA to their folder"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws does not depend on which tests came before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_yours(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is kept of real images is kept for these tests alone."""
    cache.FOLDER = tmp_path_factory.mktemp("cache")
    decoded.FOLDER = cache.FOLDER / "decoded"


@pytest.fixture
def gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """`gan("train", ...)` in an empty folder, in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(list(words))
        return (code, *capfd.readouterr())

    return call
