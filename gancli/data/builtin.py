"""Data sets with a name, and your own in one npz file."""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancli.data.dataset import ImageDataset
from gancli.runtime import cache

DIGITS = [str(i) for i in range(10)]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
KEYS = "x_train y_train x_test y_test"


def digits(size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """The 1,797 handwritten UCI digits that scikit-learn carries, 8x8 grey: "train" the first 1,500, "test" the rest.

    The original has 17 levels, 0..16; here 0..255. Writers of one split may be in the other: UCI's file does not tell.
    """
    _check_split(split)
    table = _digits_table()
    images = torch.from_numpy((table[:, :64] * (255 / 16)).round().astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, 64].astype(np.int64))
    part = slice(0, 1500) if split == "train" else slice(1500, None)
    return ImageDataset(images[part], labels[part], DIGITS).resized(size, channels)


def mnist(root: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28x28 grey.

    Looked for in the folder `root` as mnist.npz or as torchvision's MNIST/, and downloaded to there if it has neither.
    """
    return _named("mnist", "MNIST", "MNIST", DIGITS, root, split).resized(size, channels)


def fashion_mnist(
    root: str, size: int | None = None, channels: int | None = None, split: str = "train"
) -> ImageDataset:
    """Fashion-MNIST: 60,000 photographs of clothes to train on and 10,000 to test on, 28x28 grey.

    Looked for in the folder `root` as fashion_mnist.npz or as torchvision's FashionMNIST/, else downloaded to there.
    """
    return _named("fashion_mnist", "FashionMNIST", "FashionMNIST", FASHION, root, split).resized(size, channels)


def cifar10(root: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """CIFAR-10: 50,000 photographs of 10 kinds of things to train on and 10,000 to test on, 32x32 colour.

    Looked for in the folder `root` as cifar10.npz or as torchvision's cifar-10-batches-py/, else downloaded to there.
    """
    return _named("cifar10", "CIFAR10", "cifar-10-batches-py", CIFAR10, root, split).resized(size, channels)


def stacked_mnist(root: str, n: int = 128_000, size: int = 28, split: str = "train", seed: int = 0) -> ImageDataset:
    """n images of three random MNIST digits, one the red, one the green, one the blue: 1,000 modes and no classes.

    The i-th is a function of (seed, i) and the split alone, so a larger n only adds to a smaller one; which digits it
    is made of, `stacked_digits` tells. uint8 (n, 3, size, size), n * 2.4 kB at 28 pixels. Metz et al. 2016, section
    3.3.1, https://arxiv.org/abs/1611.02163; 128,000 as in Lin et al. 2018, https://arxiv.org/abs/1712.04086.
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"data.n={n} makes no data: give a whole number from 1 on, such as data.n=128000")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"data.seed={seed} is not a seed: give a whole number from 0 on, such as data.seed=0")
    single = mnist(root, size, channels=1, split=split)
    images = single.images[:, 0][stacked_digits(len(single), n, seed)]
    return ImageDataset(images, torch.zeros(n, dtype=torch.int64))


def stacked_digits(total: int, n: int, seed: int = 0) -> torch.Tensor:
    """Which of `total` digits are the red, the green and the blue of image 0 to n - 1: int64 (n, 3) in [0, total).

    All are equally likely, with replacement. With MNIST's labels y the mode of the images is
    y[stacked_digits(len(y), n)] @ [100, 10, 1].
    """
    return torch.from_numpy(np.random.default_rng([seed, 4]).integers(total, size=(n, 3)))


def npz(path: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """A NumPy archive with the keys x_train y_train x_test y_test; only x of the chosen split is a must.

    x: uint8, square, (N, H, W, C) with C 1 or 3, or (N, H, W) for grey. y: whole numbers from 0 on, (N,); without y
    there are no classes, otherwise as many as the largest label of both splits says, named "0", "1", ...
    """
    if not path:
        raise ValueError("data=npz needs a file: give data.path=FILE.npz, with the keys " + KEYS)
    _check_split(split)
    file = Path(str(path)).expanduser()  # Hydra reads data.path=2024 as a number
    if not file.is_file():
        raise ValueError(f"data.path={path} is not a file: give an .npz file with the keys {KEYS}")
    return _read_npz(file, split, None).resized(size, channels)


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"data.split={split} is not a split: give data.split=train or data.split=test")


def _digits_table() -> np.ndarray:
    """(1797, 65) float: 64 pixels in 0..16 and the class."""
    spec = find_spec("sklearn")
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz" if spec and spec.origin else None
    if file and file.is_file():  # importing scikit-learn takes ten times as long as reading its file
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return np.column_stack([data, target])


def _named(name: str, reader: str, folder: str, class_names: list[str], root: str, split: str) -> ImageDataset:
    """root/name.npz, else what torchvision's class `reader` has in root/folder, else the same after a download.

    What torchvision has read is kept, so that it need not be imported again, which takes longer than reading.
    """
    _check_split(split)
    if not root:
        raise ValueError(
            f"data.root= is empty: give the folder that has {name}.npz or {folder}, or leave data.root out"
        )
    place = Path(root).expanduser()
    archive, own = place / f"{name}.npz", place / folder
    if archive.is_file():
        return _read_npz(archive, split, class_names)

    if kept := cache.read(_kept_at(own, split)):
        return ImageDataset(kept["images"], kept["labels"], class_names)

    import torchvision.datasets

    torchvision_set = getattr(torchvision.datasets, reader)
    if not own.exists():
        _download(name, torchvision_set, own)
    try:
        data = torchvision_set(place, train=split == "train", download=False)
        images, labels = torch.as_tensor(data.data), torch.as_tensor(data.targets).long()
        images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
    except Exception as error:  # a damaged file can fail in any way inside torchvision
        raise ValueError(
            f"data={name}: {own} is damaged ({_reason(error)}): move it away to have it downloaded afresh, "
            f"put {name}.npz beside it, or choose data=digits, which needs no download"
        ) from error
    cache.write(_kept_at(own, split), {"images": images, "labels": labels})
    return ImageDataset(images, labels, class_names)


def _kept_at(own: Path, split: str) -> Path:
    """Where the split of a torchvision folder is kept: elsewhere, once any of its files has changed."""
    files = sorted(file for file in own.rglob("*") if file.is_file())
    return cache.place("sets", split, [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files])


def _download(name: str, torchvision_set: Callable[..., Any], own: Path) -> None:
    """Let torchvision download and check into a temporary folder beside `own`, then rename: all of it or nothing."""
    root, made = own.parent, not own.parent.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as partial:
            torchvision_set(partial, train=True, download=True)
            try:
                (Path(partial) / own.name).rename(own)
            except OSError:
                if not own.exists():  # otherwise another job was faster, and its copy is as good
                    raise
    except Exception as error:  # no network, a proxy's error page, a wrong checksum, a full disk: all end the same way
        raise ValueError(
            f"data={name} is neither at {root / name}.npz nor at {own}, and downloading it failed ({_reason(error)}): "
            f"put {name}.npz (keys {KEYS}) or torchvision's {own.name} into {root}, give data.root= of a folder "
            "that has either, or choose data=digits, which needs no download"
        ) from error
    finally:
        if made and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def _reason(error: Exception) -> str:
    """The last line of an error, where torchvision's say what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip(" .") if lines else type(error).__name__


def _read_npz(file: Path, split: str, class_names: list[str] | None) -> ImageDataset:
    """One split of an archive. With class_names labels are a must; with None the labels say which classes there are."""
    x_key, y_key = f"x_{split}", f"y_{split}"
    try:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is one bare array")
        with archive:
            keys = list(archive)
            x = archive[x_key] if x_key in keys else None
            ys = {key: archive[key] for key in ("y_train", "y_test") if key in keys}
    except Exception as error:  # a damaged archive can fail in any way inside zipfile and NumPy
        raise ValueError(
            f"{file} is not a readable npz archive of plain arrays ({_reason(error)}): "
            f"write it again with numpy.savez and the keys {KEYS}"
        ) from error
    if x is None:
        raise ValueError(
            f"{file} has no {x_key}, only {', '.join(keys) or 'nothing'}: name its arrays {KEYS}, "
            "or choose the other data.split"
        )
    _check_images(file, x_key, x)
    images = torch.from_numpy(np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)))
    if not ys and class_names is None:
        return ImageDataset(images, torch.zeros(len(images), dtype=torch.int64))
    if y_key not in ys:
        raise ValueError(f"{file} has no {y_key}: add the labels of {x_key}, whole numbers of shape ({len(x)},)")
    for key in ys:
        ys[key] = _checked_labels(file, key, ys[key], class_names)
    if len(ys[y_key]) != len(x):
        raise ValueError(
            f"{file} has {len(x)} images in {x_key} but {len(ys[y_key])} labels in {y_key}: give a label per image"
        )
    if class_names is None:  # of both splits, so that train and test agree on how many there are
        class_names = [str(i) for i in range(1 + max(int(y.max(initial=0)) for y in ys.values()))]
        if len(class_names) > sum(map(len, ys.values())):
            raise ValueError(
                f"{file} has labels up to {len(class_names) - 1}, more than images: number the classes 0, 1, 2, ..."
            )
    return ImageDataset(images, torch.from_numpy(ys[y_key]), class_names)


def _check_images(file: Path, key: str, x: np.ndarray) -> None:
    if x.dtype != np.uint8:
        raise ValueError(f"{key} in {file} is {x.dtype}: store images as uint8, 0 to 255")
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        raise ValueError(
            f"{key} in {file} has the shape {x.shape}, channels first: store it as {key}.transpose(0, 2, 3, 1)"
        )
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)):
        raise ValueError(f"{key} in {file} has the shape {x.shape}: give (N, H, W) or (N, H, W, C) with C 1 or 3")
    if not x.size:
        raise ValueError(f"{key} in {file} is empty, of shape {x.shape}: give at least one image")
    if x.shape[1] != x.shape[2]:
        raise ValueError(f"{key} in {file} has images of {x.shape[1]}x{x.shape[2]} pixels: crop or pad them to squares")


def _checked_labels(file: Path, key: str, y: np.ndarray, class_names: list[str] | None) -> np.ndarray:
    """Labels as int64 (N,); Keras stores CIFAR-10's as (N, 1)."""
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{key} in {file} is {y.dtype}: store labels as whole numbers, such as int64")
    if y.ndim != 1 and y.shape != (len(y), 1):
        raise ValueError(f"{key} in {file} has the shape {y.shape}: give one label per image, of shape (N,)")
    y = y.reshape(-1).astype(np.int64)
    top = len(class_names) - 1 if class_names else None
    if y.size and (y.min() < 0 or (top is not None and y.max() > top)):
        raise ValueError(
            f"{key} in {file} has labels from {y.min()} to {y.max()}: number the classes 0 to {top or 'K-1'}"
        )
    return y
