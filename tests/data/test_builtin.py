"""Built-in data sets: read, downloaded, resized, stacked."""

import gzip
import io
import os
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from helpers import fake_mnist, npz_archive, npz_arrays
from PIL import Image

from gancli.data import builtin as sets
from gancli.data.dataset import ImageDataset

MODE = torch.tensor([100, 10, 1])  # of Stacked MNIST


def test_the_bundled_digits_are_two_splits_with_every_class():
    train, test = sets.mnist10k(), sets.mnist10k(split="test")
    assert (len(train), len(test), train.size, train.channels, train.classes) == (9000, 1000, 28, 1, 10)
    assert train.labels.bincount().min() > 700 and test.labels.bincount().min() > 70
    assert tuple(sets.mnist10k(size=16, channels=3).images.shape) == (9000, 3, 16, 16)


@pytest.mark.data
def test_the_bundled_digits_are_the_first_of_mnists_training_digits():
    whole = sets.mnist(os.environ["GAN_DATA"])
    both = [sets.mnist10k(split=split) for split in ("train", "test")]
    assert torch.equal(torch.cat([part.images for part in both]), whole.images[:10_000])
    assert torch.equal(torch.cat([part.labels for part in both]), whole.labels[:10_000])


def test_built_in_sets_are_read_from_npz(tmp_path):
    npz_archive(tmp_path / "cifar10.npz")
    data = sets.cifar10(str(tmp_path), size=4, channels=1)
    assert tuple(data.images.shape) == (6, 1, 4, 4) and data.class_names[3] == "cat"
    npz_archive(tmp_path / "mnist.npz", y_train=np.full(6, 10))
    with pytest.raises(ValueError, match="labels from 10 to 10; number the classes 0 to 9"):
        sets.mnist(str(tmp_path))
    npz_archive(tmp_path / "fashion_mnist.npz", y_train=None, y_test=None)
    with pytest.raises(ValueError, match="has no y_train"):
        sets.fashion_mnist(str(tmp_path))


def test_torchvisions_files_are_read(tmp_path, monkeypatch):
    fake_mnist(tmp_path / "MNIST")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    data = sets.mnist(f"~/{tmp_path.name}", split="test")
    assert tuple(data.images.shape) == (5, 1, 28, 28) and data.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.class_names == [str(i) for i in range(10)]


def test_files_that_are_still_packed_are_read(tmp_path):
    fake_mnist(tmp_path / "MNIST")
    for file in (tmp_path / "MNIST" / "raw").iterdir():
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    data = sets.mnist(str(tmp_path), split="test")
    assert tuple(data.images.shape) == (5, 1, 28, 28) and data.labels.tolist() == [0, 1, 2, 3, 4]


def cifar_archive(path: Path, **changed: Any) -> None:
    """Write CIFAR-10's archive with two images a batch, black ones of class 3, and a link out of it."""
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [3, 3]} | changed
    link = tarfile.TarInfo("cifar-10-batches-py/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(link)
        for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
            content = pickle.dumps(batch, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


def test_cifars_archive_is_read_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cifar_archive(tmp_path / "cifar-10-python.tar.gz")
    for split, n in (("train", 10), ("test", 2)):
        data = sets.cifar10(str(tmp_path), split=split)
        assert tuple(data.images.shape) == (n, 3, 32, 32) and data.labels.tolist() == [3] * n
    assert [file.name for file in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"], "nothing is unpacked"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"x": Command()}, "it holds posix.system, which is no array"),
     ({"labels": [3, 10]}, "it has labels from 3 to 10"),
     ({"data": np.zeros((2, 9), np.uint8)}, "data_batch_1 is not in CIFAR-10's format")],
)  # fmt: skip
def test_an_odd_archive_of_cifar_is_refused_and_runs_nothing(tmp_path, monkeypatch, changed, reason):
    monkeypatch.chdir(tmp_path)
    cifar_archive(tmp_path / "cifar-10-python.tar.gz", **changed)
    with pytest.raises(ValueError, match=rf"cifar-10-python\.tar\.gz is damaged \({reason}\)"):
        sets.cifar10(str(tmp_path))
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_damaged_files_are_left_alone(tmp_path, damage):
    fake_mnist(tmp_path / "MNIST")
    damage(tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"MNIST is damaged .*data=mnist10k") as error:
        sets.mnist(str(tmp_path))
    assert "\n" not in str(error.value) and sorted(tmp_path.rglob("*")) == before


no_network = Mock(side_effect=URLError("no network here"))


@pytest.mark.parametrize(("name", "own"), [("mnist", "MNIST"), ("cifar10", "cifar-10-batches-py")])
def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch, name, own):
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for root in (tmp_path / "full", tmp_path / "new"):
        message = rf"{root}/{name}\.npz nor at {root}/{own}, .* no network here.*; .*data\.root=.*data=mnist10k"
        with pytest.raises(ValueError, match=message) as error:
            getattr(sets, name)(str(root))
        assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]


@pytest.mark.parametrize("death", [OSError("connection lost"), KeyboardInterrupt()])
def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch, death):
    def dies(url: str, download_root: str, filename: str, md5: str) -> None:
        (Path(download_root) / filename).write_bytes(b"half of it")
        raise death

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", dies)
    with pytest.raises((ValueError, KeyboardInterrupt)):
        sets.mnist(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_download_is_renamed_into_place_unless_another_job_was_faster(tmp_path, monkeypatch):
    def serves(url: str, download_root: str, filename: str, md5: str) -> None:
        fake_mnist(Path(download_root).parent)
        if "FashionMNIST" in download_root:
            assert tmp_path in Path(download_root).parents and not (tmp_path / "FashionMNIST").exists()
        else:
            fake_mnist(tmp_path / "MNIST", n=7)

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", serves)
    assert len(sets.fashion_mnist(str(tmp_path))) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["FashionMNIST"]
    assert len(sets.mnist(str(tmp_path))) == 7
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    assert len(sets.fashion_mnist(str(tmp_path))) == 5


def test_bad_roots_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="data=mnist10k"):
        sets.mnist(str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"data\.root= is empty"):
        sets.mnist("")


def test_resized_is_pillows():
    arrays = npz_arrays(4)["x_train"]
    images = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
    data = ImageDataset(images, skipped=[("a", "b")])
    assert data.resized(8, 3) is data and data.resized() is data and data.resized(4).skipped == data.skipped
    pil_images = [Image.fromarray(array) for array in arrays]
    grey = np.stack([np.asarray(image.convert("L")) for image in pil_images])
    assert (data.resized(channels=1).images[:, 0].numpy() == grey).all()
    assert (data.resized(channels=1).resized(channels=3).images.numpy() == grey[:, None]).all()
    for size in (4, 13, 16):
        theirs = np.stack([np.asarray(p.resize((size, size), Image.Resampling.BICUBIC)) for p in pil_images])
        ours = data.resized(size).images.permute(0, 2, 3, 1).numpy()
        assert np.abs(ours.astype(int) - theirs).max() <= 2
    for settings in ({"size": 0}, {"size": 2.5}, {"size": True}, {"channels": 2}):
        with pytest.raises(ValueError, match=r"data\.(size|channels)="):
            data.resized(**settings)


@pytest.fixture
def ten_digits(tmp_path: Path) -> str:
    """Folder with one digit of each class, no two alike."""
    fake_mnist(tmp_path / "MNIST", n=10)
    return str(tmp_path)


def test_every_channel_of_a_stacked_image_is_a_digit(ten_digits):
    data, single = sets.stacked_mnist(ten_digits, n=500), sets.mnist(ten_digits)
    assert tuple(data.images.shape) == (500, 3, 28, 28) and data.images.dtype == torch.uint8
    assert data.classes == 0 and data.labels.eq(0).all() and data.images.is_contiguous()
    digits = sets.stacked_digits(10, 500)
    for channel in range(3):
        assert torch.equal(data.images[:, channel], single.images[digits[:, channel], 0])


def test_stacked_digits_are_uniform_and_independent():
    digits = sets.stacked_digits(10, 100_000)
    assert tuple(digits.shape) == (100_000, 3) and digits.dtype == torch.int64
    frequency = (digits @ MODE).bincount(minlength=1000).double() / 100_000
    assert frequency.min() > 0 and (frequency - 1e-3).abs().max() < 5 * (1e-3 / 100_000) ** 0.5


def test_stacked_image_i_depends_on_the_seed_alone(ten_digits):
    few, many, other = (
        sets.stacked_mnist(ten_digits, n=n, seed=seed).images for n, seed in ((10, 3), (50, 3), (10, 4))
    )
    assert torch.equal(few, many[:10]) and not torch.equal(few, other)
    assert torch.equal(few, sets.stacked_mnist(ten_digits, n=10, split="test", seed=3).images)  # equal splits here
    resized = sets.stacked_mnist(ten_digits, n=20).resized(32)
    assert torch.equal(sets.stacked_mnist(ten_digits, n=20, size=32).images, resized.images)
    for settings in ({"n": 0}, {"n": 2.5}, {"seed": -1}, {"split": "val"}, {"size": 0}):
        ((key, value),) = settings.items()
        with pytest.raises(ValueError, match=rf"data\.{key}={value}"):
            sets.stacked_mnist(**{"root": ten_digits, "n": 10, **settings})


@pytest.mark.data
def test_real_data():
    root = os.environ["GAN_DATA"]
    mnist = sets.mnist(root)
    assert tuple(mnist.images.shape) == (60000, 1, 28, 28) and mnist.labels.bincount().tolist()[:2] == [5923, 6742]
    assert abs(mnist.images.double().mean().item() / 255 - 0.1307) < 1e-4
    assert len(sets.mnist(root, split="test")) == 10000
    cifar = sets.cifar10(root)
    assert tuple(cifar.images.shape) == (50000, 3, 32, 32) and cifar.labels.bincount().tolist() == [5000] * 10
    mean = cifar.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), atol=1e-4)
    stacked, digits = sets.stacked_mnist(root), sets.stacked_digits(60_000, 128_000)
    assert len(stacked) == 128_000 and torch.equal(stacked.images[-1], mnist.images[digits[-1], 0])
    counts = (mnist.labels[digits] @ MODE).bincount(minlength=1000)
    assert len(counts) == 1000 and counts.min() > 50


def test_torchvisions_files_are_cached_until_they_change(tmp_path, monkeypatch):
    for n in (5, 6):
        fake_mnist(tmp_path / "MNIST", n)
        for cached in (False, True):
            with monkeypatch.context() as patch:
                for module in ("torchvision", "torchvision.datasets") if cached else ():
                    patch.setitem(sys.modules, module, None)  # importing it fails
                for split in ("train", "test"):
                    data = sets.mnist(str(tmp_path), split=split)
                    assert (data.images.flatten().numpy() == np.arange(n * 784, dtype=np.uint8)).all()
                    assert data.labels.tolist() == list(range(n))
