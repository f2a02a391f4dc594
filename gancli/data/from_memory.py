"""Data sets of images that are in memory: tensors, arrays, or a torch Dataset of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli.data.dataset import ImageDataset
from gancli.images import to_uint8

ADVICE = "take uint8 (N, C, H, H), float (N, C, H, H) in [-1, 1], an array uint8 (N, H, H, C), or a torch Dataset"


def as_dataset(images: Any, labels: Any = None, class_names: Sequence[str] = ()) -> ImageDataset:
    """Return images in memory as a data set to train on or to evaluate with.

    Args:
        images: tensor (N, C, H, H), uint8 or float in [-1, 1]; array (N, H, H) or (N, H, H, C), uint8; or a torch
            Dataset whose items are an image, or an image and its class: PIL images, uint8 tensors, or floats in [0, 1]
            as torchvision's ToTensor gives them.
        labels: classes (N,) of a tensor or an array.
        class_names: a name per class; by default their numbers.

    Raises:
        ValueError: images that are no such, or that are not square, of one size, and grey or in colour.
    """
    if isinstance(images, ImageDataset):
        return images
    if isinstance(images, np.ndarray):
        array = images[..., None] if images.ndim == 3 else images
        if array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"an array {images.dtype} {images.shape} is no set of images; {ADVICE}")
        tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))
    elif isinstance(images, Tensor):
        tensor = _stored(images, -1.0)
    elif hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        tensor, labels = _items(images, labels)
        class_names = class_names or list(getattr(images, "classes", ()))
    else:
        raise ValueError(f"{type(images).__name__} is no set of images; {ADVICE}")
    n, channels, height, width = tensor.shape if tensor.ndim == 4 else (0, 0, 0, 1)
    if not n or channels not in (1, 3) or height != width:
        raise ValueError(f"images of the shape {tuple(tensor.shape)} are not possible; {ADVICE}, with C 1 or 3")
    if labels is None:
        return ImageDataset(tensor.contiguous())
    classes = torch.as_tensor(labels, dtype=torch.int64)
    names = [str(name) for name in class_names] or [str(i) for i in range(int(classes.max()) + 1)]
    if classes.shape != (n,) or int(classes.min()) < 0 or int(classes.max()) >= len(names):
        raise ValueError(
            f"labels of the shape {tuple(classes.shape)} from {classes.min()} to {classes.max()} do not fit {n} images "
            f"of {len(names)} classes"
        )
    return ImageDataset(tensor.contiguous(), classes, names)


def _items(dataset: Any, labels: Any) -> tuple[Tensor, Any]:
    """Return the images (N, C, H, W) of a torch Dataset as uint8, and their classes or None."""
    images, classes = [], []
    for i in range(len(dataset)):
        item = dataset[i]
        image, *rest = item if isinstance(item, tuple | list) else (item,)
        if isinstance(image, Image.Image):
            array = np.asarray(image if image.mode == "L" else image.convert("RGB"))
            image = torch.from_numpy(array.copy().reshape(*array.shape[:2], -1)).permute(2, 0, 1)
        images.append(_stored(torch.as_tensor(image), 0.0))
        classes += [int(rest[0])] if rest else []
    if len({image.shape for image in images}) != 1:
        shapes = sorted({tuple(image.shape) for image in images})
        raise ValueError(f"the data set has images of the shapes {shapes[:3]}; resize them to one shape")
    return torch.stack(images), labels if len(classes) < len(images) else classes


def _stored(x: Tensor, black: float) -> Tensor:
    """Return images as uint8; floats lie in [black, 1]."""
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point() or not x.isfinite().all() or x.min() < black - 0.05 or x.max() > 1.05:
        raise ValueError(f"{x.dtype} from {x.min():.3g} to {x.max():.3g} are no images; floats lie in [{black:g}, 1]")
    return to_uint8(x if black else 2 * x - 1)
