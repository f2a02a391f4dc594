"""Fixtures for all tests: the command line in this process, seeds, a cache folder of their own."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from gancli.cli import main as cli
from gancli.data import decode_cache as decoded
from gancli.runtime import cache

torch.set_num_threads(1)  # the networks of the tests are too small for several threads
os.environ.setdefault("OMP_NUM_THREADS", "1")  # nor in the processes that they start, next to other tests


SLOW_OVER_ALL_MODELS = (
    "test_a_checkpoint_alone_gives_the_same_samples_and_another_seed_another_run",
    "test_a_batch_in_parts_has_the_gradient_of_the_whole_up_to_statistics_of_the_batch",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name in SLOW_OVER_ALL_MODELS and item.parent and item.parent.name != "Test_dcgan":
            item.add_marker(pytest.mark.slow)
    if os.environ.get("GAN_DATA"):
        return
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason="needs real MNIST and CIFAR-10: set GAN_DATA to their folder"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed the random numbers of every test."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Cache decoded images for these tests alone."""
    cache.FOLDER = tmp_path_factory.mktemp("cache")
    decoded.FOLDER = cache.FOLDER / "decoded"


@pytest.fixture(autouse=True)
def no_lines_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no slow machine add lines about tasks that take long."""
    monkeypatch.setattr("gancli.runtime.terminal.LONG_TASK", float("inf"))
    monkeypatch.setattr("gancli.runtime.terminal.SILENCE", float("inf"))


@pytest.fixture
def gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Return a function that runs `gan` in an empty folder, in this process: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main(list(words))
        return (code, *capfd.readouterr())

    return call


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch):
    """Yield a folder as working folder, and a function that lets this process write nothing more in another one.

    Not below tmp_path, whose parents are closed to the user that root becomes.
    """
    user = os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="gan-test-"))
    folder.chmod(0o777)
    monkeypatch.chdir(folder)

    def close(*closed: Path, hidden: Path | None = None) -> None:
        for path in [path for top in closed for path in (*top.rglob("*"), top)]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if hidden:
            hidden.chmod(0)
        os.seteuid(user or 65534)

    yield folder, close
    os.seteuid(user)
    for path in folder.rglob("*"):
        path.chmod(0o777)
    shutil.rmtree(folder)
