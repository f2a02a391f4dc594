"""Built-in data sets."""

import gzip
import math
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancli.data.dataset import ImageDataset
from gancli.data.npz import KEYS, SPLITS, read_npz
from gancli.runtime import cache
from gancli.runtime.bundled import verified
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.files import user_folder

BUNDLED = Path(__file__).parent / "bundled"
LARGEST_IDX = 10**9  # bytes of one file; MNIST has 47 million
CIFAR_ARCHIVE = "cifar-10-python.tar.gz"
ARRAY_PARTS = (  # what a pickle of arrays calls, of NumPy 1 and 2
    *("numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer", "numpy.ndarray", "numpy.dtype"),
    "_codecs.encode",
)
LARGEST_TAR = 4 * 10**8  # bytes that the archive may unpack to; CIFAR-10 has 186 million
DIGITS = [str(i) for i in range(10)]
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def mnist10k(size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """Load the first 10,000 of MNIST's training digits, bundled: "train" is 9,000 of them, "test" the last 1,000."""
    return read_npz(verified(BUNDLED / "mnist10k.npz"), split, DIGITS).resized(size, channels)


def mnist(root: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """Load MNIST: 60,000 handwritten digits to train on and 10,000 to test on, 28x28 grey."""
    return _load("mnist", "MNIST", "MNIST", DIGITS, root, split).resized(size, channels)


def fashion_mnist(
    root: str, size: int | None = None, channels: int | None = None, split: str = "train"
) -> ImageDataset:
    """Load Fashion-MNIST: 60,000 images of clothes to train on and 10,000 to test on, 28x28 grey."""
    return _load("fashion_mnist", "FashionMNIST", "FashionMNIST", FASHION, root, split).resized(size, channels)


def cifar10(root: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """Load CIFAR-10: 50,000 images of 10 classes to train on and 10,000 to test on, 32x32 colour."""
    return _load("cifar10", "CIFAR10", "cifar-10-batches-py", CIFAR10, root, split).resized(size, channels)


class DataUnavailable(ValueError):
    """Error for a data set that is damaged, or neither here nor downloadable."""

    def __init__(self, reason: str, advice: str):
        super().__init__(f"{reason}; {advice}")
        self.reason = reason


def stacked_mnist(root: str, n: int = 128_000, size: int = 28, split: str = "train", seed: int = 0) -> ImageDataset:
    """Return n images with a random MNIST digit in each of the three channels: 1,000 modes and no classes.

    Metz et al. 2016, section 3.3.1, https://arxiv.org/abs/1611.02163, with the 128,000 images of Lin et al. 2018,
    https://arxiv.org/abs/1712.04086. Image i depends on (split, seed, i) alone, so a larger n only adds images;
    `stacked_digits` returns its digits. 28 pixels take n * 2.4 kB.
    """
    check_number("data.n", n, 1, example=128000, whole=True)
    check_number("data.seed", seed, 0, whole=True)
    single = mnist(root, size, channels=1, split=split)
    images = single.images[:, 0][stacked_digits(len(single), n, seed)]
    return ImageDataset(images)


def stacked_digits(total: int, n: int, seed: int = 0) -> torch.Tensor:
    """Return the indices of the red, green and blue digits of n images, int64 (n, 3) uniform in [0, total).

    With MNIST's labels y the modes of the images are y[stacked_digits(len(y), n)] @ [100, 10, 1].
    """
    return torch.from_numpy(np.random.default_rng([seed, 4]).integers(total, size=(n, 3)))


def _load(name: str, reader: str, folder: str, class_names: list[str], root: str, split: str) -> ImageDataset:
    """Load root/name.npz, else root/folder with torchvision's class `reader`, downloaded if it is missing.

    Arrays from torchvision are cached: importing it again takes longer than reading.
    """
    check_choice("data.split", split, SPLITS)
    if not root:
        raise ValueError(
            f"data.root= is empty; give the folder that has {name}.npz or {folder}, or leave data.root out"
        )
    files = user_folder(root) / folder
    if (archive := files.with_name(f"{name}.npz")).is_file():
        return read_npz(archive, split, class_names)
    packed = _packed_cifar(files) if reader == "CIFAR10" else None
    if cached := cache.read_cached("sets", *_cache_facts(packed or files, split)):
        return ImageDataset(cached["images"], cached["labels"], class_names)

    import torchvision.datasets

    torchvision_set = getattr(torchvision.datasets, reader)
    if not packed and not files.exists():
        _download(name, torchvision_set, files)
    try:
        if packed:
            images, labels = _read_cifar(packed, split)
        elif (files / "raw").is_dir() or any(files.glob("*-ubyte*")):
            images, labels = _read_idx(files / "raw" if (files / "raw").is_dir() else files, split)
        else:
            data = torchvision_set(files.parent, train=split == "train", download=False)
            images, labels = torch.as_tensor(data.data), torch.as_tensor(data.targets).long()
            images = images.permute(0, 3, 1, 2).contiguous()
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
    except Exception as error:  # a damaged file can fail in any way inside torchvision
        raise DataUnavailable(
            f"data={name}: {packed or files} is damaged ({last_line(error)})",
            f"delete it to download it again, put {name}.npz next to it, or choose data=mnist10k, which is bundled",
        ) from error
    cache.write_cached({"images": images, "labels": labels}, "sets", *_cache_facts(packed or files, split))
    return ImageDataset(images, labels, class_names)


def _read_idx(folder: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read MNIST's files of a split, each as it is or still as .gz: images uint8 (N, 1, H, W), labels int64 (N,)."""
    arrays = []
    for part, sides in (("images-idx3", 3), ("labels-idx1", 1)):
        file = folder / f"{'train' if split == 'train' else 't10k'}-{part}-ubyte"
        packed = file.with_name(f"{file.name}.gz")
        with file.open("rb") if file.exists() else gzip.open(packed) as opened:
            magic = opened.read(4)
            shape = [int.from_bytes(opened.read(4), "big") for _ in range(sides)]
            size = math.prod(shape)
            if magic != bytes([0, 0, 8, sides]) or not 0 < size <= LARGEST_IDX:
                raise ValueError(f"{file.name} is not in MNIST's format")
            content = opened.read(size)
            if len(content) != size or opened.read(1):
                raise ValueError(f"{file.name} has another size than it says")
        arrays.append(torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape))
    return arrays[0].unsqueeze(1), arrays[1].long()


def _packed_cifar(files: Path) -> Path | None:
    """Return CIFAR-10's archive next to or in the folder `files`, unless that has the unpacked files."""
    archives = [folder / CIFAR_ARCHIVE for folder in (files.parent, files)]
    is_unpacked = (files / "test_batch").is_file()
    return next((file for file in archives if file.is_file()), None) if not is_unpacked else None


def _read_cifar(archive: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read CIFAR-10 out of its archive, without unpacking it: images uint8 (N, 3, 32, 32), labels int64 (N,)."""
    wanted = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    batches: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            if member.offset_data + member.size > LARGEST_TAR:
                raise ValueError(f"it unpacks to more than {LARGEST_TAR / 1e6:,.0f} MB")
            name = member.name.rpartition("/")[2]
            if name in wanted and member.isfile() and (content := members.extractfile(member)):
                batch = ArraysOnly(content, encoding="latin1").load()
                images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
                if images.dtype != np.uint8 or images.shape != (len(labels), 3 * 32 * 32) or labels.dtype != np.int64:
                    raise ValueError(f"{name} is not in CIFAR-10's format")
                batches[name] = images, labels
    if missing := sorted({*wanted} - batches.keys()):
        raise ValueError(f"it has no {missing[0]}")
    images, labels = (np.concatenate([batches[name][i] for name in wanted]) for i in (0, 1))
    if labels.min() < 0 or labels.max() >= len(CIFAR10):
        raise ValueError(f"it has labels from {labels.min()} to {labels.max()}")
    return torch.from_numpy(images.reshape(-1, 3, 32, 32)), torch.from_numpy(labels)


class ArraysOnly(pickle.Unpickler):
    """Reader of pickles that builds NumPy arrays, lists, dicts, numbers and texts, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module.replace('._core.', '.core.')}.{name}" in ARRAY_PARTS:
            return super().find_class(module, name)
        raise ValueError(f"it holds {module}.{name}, which is no array")


def _cache_facts(source: Path, split: str) -> tuple[Any, ...]:
    """Return what a split's cache depends on: names, sizes and times of torchvision's files, and the cache's format."""
    files = [source] if source.is_file() else sorted(file for file in source.rglob("*") if file.is_file())
    return 2, split, [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]


def _download(name: str, torchvision_set: Callable[..., Any], folder: Path) -> None:
    """Download with torchvision into a temporary folder next to `folder`, then rename: all of it or nothing."""
    root, is_new = folder.parent, not folder.parent.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as partial:
            torchvision_set(partial, train=True, download=True)
            try:
                (Path(partial) / folder.name).rename(folder)
            except OSError:
                if not folder.exists():  # otherwise another job was faster, and its copy is as good
                    raise
    except Exception as error:  # no network, a proxy's error page, a wrong checksum, a full disk: all end the same way
        raise DataUnavailable(
            f"data={name} is neither at {root / name}.npz nor at {folder}, its download failed ({last_line(error)})",
            f"put {name}.npz (keys {KEYS}) or torchvision's {folder.name} into {root}, give data.root= of a folder "
            "that has either, or choose data=mnist10k, which needs no download",
        ) from error
    finally:
        if is_new and root.is_dir() and not any(root.iterdir()):
            root.rmdir()


def last_line(error: Exception) -> str:
    """Return the last line of an error: torchvision's say there what happened."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip(" .") if lines else type(error).__name__
