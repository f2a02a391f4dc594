"""Data sets in one NumPy archive with the keys x_train y_train x_test y_test."""

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancli.data.dataset import ImageDataset
from gancli.runtime.checks import check_choice
from gancli.runtime.files import typed_path
from gancli.runtime.hardware import free_memory
from gancli.runtime.text import one_line

KEYS = "x_train y_train x_test y_test"
SPLITS = ("train", "test")
# What an archive may take in memory: this many bytes, or this many times its own size. Images compress by 2 to 8.
SMALL, LARGEST_RATIO = 2**29, 50


def npz(path: str, size: int | None = None, channels: int | None = None, split: str = "train") -> ImageDataset:
    """Load your own archive; only x of the chosen split is required.

    x: uint8 (N, H, H, C) with C 1 or 3, or (N, H, H) for grey. y: whole numbers from 0, (N,). Without y there are no
    classes; else they are named "0", "1", ... up to the largest label of both splits.
    """
    if not path:
        raise ValueError(f"data=npz needs data.path=FILE.npz, a file with the keys {KEYS}")
    file = typed_path(str(path))  # Hydra reads data.path=2024 as a number
    if not file.is_file():
        raise ValueError(f"data.path={path} is not a file; give an .npz file with the keys {KEYS}")
    return read_npz(file, split).resized(size, channels)


def read_npz(file: Path, split: str, class_names: list[str] | None = None) -> ImageDataset:
    """Load one split. With class_names labels are required; without, the labels of both splits give the classes."""
    check_choice("data.split", split, SPLITS)
    x_key, y_key = f"x_{split}", f"y_{split}"
    arrays = _arrays(file, {x_key, "y_train", "y_test"})
    if x_key not in arrays:
        raise ValueError(
            f"{file} has no {x_key}, only {', '.join(arrays) or 'nothing'}; name its arrays {KEYS}, "
            "or choose the other data.split"
        )
    x = _checked_images(f"{x_key} in {file}", arrays[x_key])
    images = torch.from_numpy(np.ascontiguousarray(x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)))
    ys = {key: arrays[key] for key in ("y_train", "y_test") if key in arrays}
    if not ys and class_names is None:
        return ImageDataset(images)
    if y_key not in ys:
        raise ValueError(f"{file} has no {y_key}; add the labels of {x_key}, whole numbers of shape ({len(x)},)")
    ys = {key: _checked_labels(f"{key} in {file}", y, class_names) for key, y in ys.items()}
    if len(ys[y_key]) != len(x):
        raise ValueError(
            f"{file} has {len(x)} images in {x_key} but {len(ys[y_key])} labels in {y_key}; give a label per image"
        )
    if class_names is None:
        top = max(int(y.max(initial=0)) for y in ys.values())
        if top >= sum(map(len, ys.values())):
            raise ValueError(f"{file} has labels up to {top}, more than images; number the classes 0, 1, 2, ...")
        class_names = [str(i) for i in range(1 + top)]
    return ImageDataset(images, torch.from_numpy(ys[y_key]), class_names)


class TooLarge(ValueError):
    """Error for an archive that is readable, but whose arrays take more memory than they may."""


def _arrays(file: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """Return all arrays by key, read where they are wanted and empty elsewhere."""
    try:
        return read_archive(file, wanted)
    except TooLarge as error:
        raise ValueError(f"{file} cannot be read, {error}; save fewer or smaller images") from error
    except Exception as error:  # a damaged archive can fail in any way inside zipfile and NumPy
        raise ValueError(
            f"{file} is not a readable npz archive of arrays ({one_line(error)}); "
            f"write it again with numpy.savez and the keys {KEYS}"
        ) from error


def read_archive(file: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Return the arrays of an archive, which may be untrusted, by key: read where they are wanted, else empty.

    An array that is much larger than the file, or than the free memory, is refused before memory is taken.
    """
    size = file.stat().st_size
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no archive")
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        needed = sum(entries[key].file_size for key in wanted if key in entries)
    if needed > max(SMALL, LARGEST_RATIO * size):
        raise TooLarge(f"its arrays would take {needed / 1e9:,.1f} GB, more than {LARGEST_RATIO} times the file")
    if needed > (free := free_memory()):
        raise TooLarge(f"its arrays take {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} are free")
    with np.load(file, allow_pickle=False) as arrays:
        return {key: _array(arrays, key, entries) if key in wanted else np.empty(0) for key in arrays}


def _array(arrays: Any, key: str, entries: dict[str, zipfile.ZipInfo]) -> np.ndarray:
    """Return an array whose header says no more than its entry holds."""
    with arrays.zip.open(entries[key]) as stored:
        version = np.lib.format.read_magic(stored)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stored)
    if math.prod(shape) * dtype.itemsize > entries[key].file_size:
        raise ValueError(f"{key} has the shape {shape}, which is more than it holds")
    return arrays[key]


def _checked_images(name: str, x: np.ndarray) -> np.ndarray:

    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        raise ValueError(f"{name} has the shape {x.shape}, channels first; store it as x.transpose(0, 2, 3, 1)")
    square = x.ndim in (3, 4) and x.shape[1] == x.shape[2] and (x.ndim == 3 or x.shape[3] in (1, 3))
    if x.dtype != np.uint8 or not square or not x.size:
        raise ValueError(
            f"{name} is {x.dtype} of shape {x.shape}; store square images as uint8, 0 to 255, of shape (N, H, H) or "
            "(N, H, H, C) with C 1 or 3"
        )
    return x


def _checked_labels(name: str, y: np.ndarray, class_names: list[str] | None) -> np.ndarray:
    """Return labels as int64 (N,); Keras stores CIFAR-10's as (N, 1)."""
    if not np.issubdtype(y.dtype, np.integer) or (y.ndim != 1 and y.shape != (len(y), 1)):
        raise ValueError(f"{name} is {y.dtype} of shape {y.shape}; store labels as whole numbers, one per image, (N,)")
    y = y.reshape(-1).astype(np.int64)
    top = len(class_names) - 1 if class_names else None
    if y.size and (y.min() < 0 or (top is not None and y.max() > top)):
        raise ValueError(f"{name} has labels from {y.min()} to {y.max()}; number the classes 0 to {top or 'K-1'}")
    return y
