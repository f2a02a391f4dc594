"""Data sets with a name, and npz archives."""

import os
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from helpers import fake_mnist
from PIL import Image

from gancli.data import builtin as sets
from gancli.data.dataset import ImageDataset

ROOT = os.environ.get("GAN_DATA", "")
needs_data = pytest.mark.skipif(not ROOT, reason="set GAN_DATA to a folder with MNIST/raw and cifar10.npz")


def arrays(n: int = 6, h: int = 8, c: int = 3, classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    x = {f"x_{split}": rng.integers(0, 256, (n, h, h, c), dtype=np.uint8) for split in ("train", "test")}
    return {**x, "y_train": labels, "y_test": labels[::-1].copy()}


def archive(path: Path, **changed: object) -> Path:
    """An npz of `arrays` in which some are replaced, or left out where None."""
    content = {key: value for key, value in {**arrays(), **changed}.items() if value is not None}
    np.savez(path, **content)  # type: ignore[arg-type]
    return path


def test_digits():
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    train, test = sets.digits(), sets.digits(split="test")
    assert (len(train), len(test), train.size, train.channels, train.classes) == (1500, 297, 8, 1, 10)
    both = torch.cat([train.images, test.images]).reshape(1797, 64)
    assert (both.numpy() == np.rint(data * 255 / 16)).all() and both.max() == 255
    assert torch.cat([train.labels, test.labels]).tolist() == labels.tolist()
    assert tuple(sets.digits(size=16, channels=3).images.shape) == (1500, 3, 16, 16)


def test_digits_without_the_csv(monkeypatch):
    expected = sets.digits()
    monkeypatch.setattr(sets, "find_spec", lambda name: None)
    found = sets.digits()
    assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)


def test_npz(tmp_path):
    content = arrays()
    data = sets.npz(str(archive(tmp_path / "a.npz")), split="test")
    assert torch.equal(data.images, torch.from_numpy(content["x_test"]).permute(0, 3, 1, 2))
    assert data.labels.tolist() == content["y_test"].tolist() and data.labels.dtype == torch.int64
    assert data.class_names == ["0", "1", "2"] and data.images.is_contiguous()


def test_npz_variants(tmp_path):
    grey = archive(tmp_path / "grey.npz", x_train=arrays()["x_train"][..., 0])
    assert tuple(sets.npz(str(grey)).images.shape) == (6, 1, 8, 8)
    keras = archive(tmp_path / "keras.npz", y_train=arrays()["y_train"][:, None].astype(np.uint8))
    assert sets.npz(str(keras)).labels.tolist() == arrays()["y_train"].tolist()
    bare = archive(tmp_path / "bare.npz", y_train=None, y_test=None, x_test=None)
    data = sets.npz(str(bare))
    assert data.classes == 0 and data.labels.tolist() == [0] * 6
    fewer = archive(tmp_path / "fewer.npz", y_train=np.zeros(6, int))
    assert sets.npz(str(fewer)).classes == 3  # the test split knows of more


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"x_train": None}, "has no x_train, only x_test"),
        ({"x_train": np.zeros((6, 8, 8, 3), np.float32)}, "is float32: store images as uint8"),
        ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, r"channels first: .*transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.zeros((6, 8, 8, 4), np.uint8)}, r"shape \(6, 8, 8, 4\)"),
        ({"x_train": np.zeros((6, 64), np.uint8)}, r"shape \(6, 64\)"),
        ({"x_train": np.zeros((0, 8, 8), np.uint8)}, "is empty"),
        ({"x_train": np.zeros((6, 8, 9), np.uint8)}, "8x9 pixels"),
        ({"x_train": np.array([None])}, "not a readable npz"),
        ({"y_train": np.zeros(6)}, "y_train .* is float64"),
        ({"y_train": np.zeros((6, 10), int)}, r"y_train .* shape \(6, 10\)"),
        ({"y_train": np.zeros(5, int)}, "6 images in x_train but 5 labels"),
        ({"y_train": np.full(6, -1)}, "labels from -1 to -1"),
        ({"y_train": np.full(6, 1000)}, "labels up to 1000"),
        ({"y_train": None}, "has no y_train"),
    ],
)
def test_npz_sentences(tmp_path, changed, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        sets.npz(str(archive(tmp_path / "a.npz", **changed)))
    assert "\n" not in str(error.value)


def test_npz_paths(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    cut = archive(tmp_path / "cut.npz")
    cut.write_bytes(cut.read_bytes()[:-100])
    for path in ("text.npz", "bare.npy", "cut.npz"):
        with pytest.raises(ValueError, match="not a readable npz"):
            sets.npz(str(tmp_path / path))
    with pytest.raises(ValueError, match=r"data\.path=FILE\.npz"):
        sets.npz("")
    with pytest.raises(ValueError, match="is not a file"):
        sets.npz(str(tmp_path / "missing.npz"))
    with pytest.raises(ValueError, match=r"data\.split=val"):
        sets.npz(str(cut), split="val")


def test_named_set_from_npz(tmp_path):
    archive(tmp_path / "cifar10.npz")
    data = sets.cifar10(str(tmp_path), size=4, channels=1)
    assert tuple(data.images.shape) == (6, 1, 4, 4) and data.class_names[3] == "cat"
    archive(tmp_path / "mnist.npz", y_train=np.full(6, 10))
    with pytest.raises(ValueError, match="labels from 10 to 10: number the classes 0 to 9"):
        sets.mnist(str(tmp_path))
    archive(tmp_path / "fashion_mnist.npz", y_train=None, y_test=None)
    with pytest.raises(ValueError, match="has no y_train"):
        sets.fashion_mnist(str(tmp_path))


def test_torchvisions_own_files(tmp_path, monkeypatch):
    fake_mnist(tmp_path / "MNIST")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    data = sets.mnist(f"~/{tmp_path.name}", split="test")
    assert tuple(data.images.shape) == (5, 1, 28, 28) and data.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.class_names == [str(i) for i in range(10)]


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_files_are_left_alone(tmp_path, damage, monkeypatch):
    fake_mnist(tmp_path / "MNIST")
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"MNIST is damaged .*data=digits") as error:
        sets.mnist(str(tmp_path))
    assert "\n" not in str(error.value) and sorted(tmp_path.rglob("*")) == before


def no_network(*args: object, **settings: object) -> None:
    raise URLError("no network here")


@pytest.mark.parametrize(("name", "own"), [("mnist", "MNIST"), ("cifar10", "cifar-10-batches-py")])
@pytest.mark.parametrize("there", [True, False])
def test_no_network(tmp_path, monkeypatch, name, own, there):
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    root = tmp_path / "root"
    if there:
        root.mkdir()
        (root / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="data=digits") as error:
        getattr(sets, name)(str(root))
    sentence = str(error.value)
    assert str(root / f"{name}.npz") in sentence and str(root / own) in sentence and "no network here" in sentence
    assert "\n" not in sentence and "data.root=" in sentence
    assert [p.name for p in root.iterdir()] == ["mine.txt"] if there else not root.exists()


@pytest.mark.parametrize("death", [OSError("connection lost"), KeyboardInterrupt()])
def test_a_download_that_dies_half_way_leaves_nothing(tmp_path, monkeypatch, death):
    def dies(url: str, download_root: str, filename: str, md5: str) -> None:
        (Path(download_root) / filename).write_bytes(b"half of it")
        raise death

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", dies)
    with pytest.raises((ValueError, KeyboardInterrupt)):
        sets.mnist(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_download_is_renamed_into_place(tmp_path, monkeypatch):
    def serves(url: str, download_root: str, filename: str, md5: str) -> None:
        assert tmp_path in Path(download_root).parents and not (tmp_path / "FashionMNIST").exists()
        fake_mnist(Path(download_root).parent)

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", serves)
    assert len(sets.fashion_mnist(str(tmp_path))) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["FashionMNIST"]
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    assert len(sets.fashion_mnist(str(tmp_path))) == 5


def test_another_job_was_faster(tmp_path, monkeypatch):
    def serves(url: str, download_root: str, filename: str, md5: str) -> None:
        fake_mnist(Path(download_root).parent)
        fake_mnist(tmp_path / "MNIST", n=7)

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", serves)
    assert len(sets.mnist(str(tmp_path))) == 7


def test_a_root_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="data=digits"):
        sets.mnist(str(tmp_path / "file"))
    assert (tmp_path / "file").is_file()
    with pytest.raises(ValueError, match=r"data\.root= is empty"):
        sets.mnist("")


def test_resized():
    images = torch.from_numpy(arrays(4)["x_train"]).permute(0, 3, 1, 2).contiguous()
    data = ImageDataset(images, torch.zeros(4, dtype=torch.int64), skipped=[("a", "b")])
    same = data.resized(8, 3)
    assert torch.equal(same.images, images) and same.skipped == data.skipped and len(data.resized()) == 4
    pictures = [Image.fromarray(image) for image in arrays(4)["x_train"]]
    grey = np.stack([np.asarray(picture.convert("L")) for picture in pictures])
    assert (data.resized(channels=1).images[:, 0].numpy() == grey).all()
    assert (data.resized(channels=1).resized(channels=3).images.numpy() == grey[:, None]).all()
    for size in (4, 13, 16):
        theirs = np.stack([np.asarray(p.resize((size, size), Image.Resampling.BICUBIC)) for p in pictures])
        ours = data.resized(size).images.permute(0, 2, 3, 1).numpy()
        assert np.abs(ours.astype(int) - theirs).max() <= 2
    for settings in ({"size": 0}, {"size": 2.5}, {"size": True}, {"channels": 2}):
        with pytest.raises(ValueError, match=r"data\.(size|channels)="):
            data.resized(**settings)


@needs_data
@pytest.mark.data
def test_real_mnist():
    data = sets.mnist(ROOT)
    assert tuple(data.images.shape) == (60000, 1, 28, 28) and data.labels.bincount().tolist()[:2] == [5923, 6742]
    assert abs(data.images.double().mean().item() / 255 - 0.1307) < 1e-4
    assert len(sets.mnist(ROOT, split="test")) == 10000


@needs_data
@pytest.mark.data
def test_real_cifar10():
    data = sets.cifar10(ROOT)
    assert tuple(data.images.shape) == (50000, 3, 32, 32) and data.labels.bincount().tolist() == [5000] * 10
    mean = data.images.double().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465], dtype=torch.float64), atol=1e-4)
