"""Data sets: the images, their classes or source images, and the files that were skipped."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.data.classes import one_hot
from gancli.data.labels import Column
from gancli.images import Size, grey, is_points, sides, size_of
from gancli.runtime.checks import check_number
from gancli.runtime.hardware import free_memory


def no_sources() -> Tensor:
    return torch.empty(0, 1, 0, 0, dtype=torch.uint8)


@dataclass(eq=False)  # tensors do not compare to one bool
class ImageDataset:
    """N images of one size with their classes, and M source images of the same size to generate them from.

    images:      uint8 (N, C, H, W) in [0, 255], C 1 or 3; or points of the plane, float32 (N, 2, 1, 1) in [-1, 1]
    labels:      int64 (N,) in [0, classes); zeros unless given
    class_names: a name per class; empty where there are no classes
    codes:       float32 (M, K) of several labels, by `labels` in [0, M); None where c is one-hot
    columns:     the labels that a row of codes is made of
    skipped:     (file, reason) of every file that was left out
    sources:     uint8 (M, C', H, W) in [0, 255], C' 1 or 3; M = 0 without source images
    paired:      source i belongs to image i, M = N; else the two sets are in no common order
    memory_mapped: the images are in a file and are read when they are indexed
    warnings:    about how the images were loaded
    split:       train, val or test of a folder with a layout, else empty
    notes:       sentences about the layout of a folder, what decoding changed or left out, and which classes were taken
    """

    images: Tensor
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    sources: Tensor = field(default_factory=no_sources)
    paired: bool = True
    memory_mapped: bool = False
    warnings: list[str] = field(default_factory=list)
    split: str = ""
    notes: list[str] = field(default_factory=list)
    codes: Tensor | None = None
    columns: list[Column] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, c, h, w = self.images.shape
        if not self.labels.numel():
            self.labels = torch.zeros(n, dtype=torch.int64)
        stored = self.images.dtype == torch.uint8 and c in (1, 3)
        assert stored or self.is_points, (self.images.dtype, tuple(self.images.shape))
        assert self.labels.dtype == torch.int64 and tuple(self.labels.shape) == (n,), tuple(self.labels.shape)
        m, c, *sides = self.sources.shape
        fit = self.sources.dtype == torch.uint8 and c in (1, 3) and sides == [h, w] and (m == n or not self.paired)
        assert not m or (stored and fit), (self.sources.dtype, tuple(self.sources.shape), self.paired)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> Any:
        """The side of square images, else [height, width]."""
        return size_of(*self.images.shape[2:])

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def source_channels(self) -> int:
        """0 where there are no sources."""
        return self.sources.shape[1] if len(self.sources) else 0

    @property
    def classes(self) -> int:
        """The width of c."""
        return len(self.class_names) if self.codes is None else self.codes.shape[1]

    def condition(self, labels: Tensor, classes: int) -> Tensor:
        """Return c (N, classes) of labels (N,), for a model that takes so many classes or none."""
        return one_hot(labels, classes) if self.codes is None or not classes else self.codes.to(labels.device)[labels]

    @property
    def is_points(self) -> bool:
        return self.images.is_floating_point() and is_points(self.images)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def sample_indices(self, indices: Tensor, generator: torch.Generator, rows: slice) -> dict[str, Tensor]:
        """Return `rows` of `indices`, int64 (N,), for `gather`. Only ImageCrops need the generator."""
        return {"index": indices[rows]}

    def gather(self, where: dict[str, Tensor]) -> Tensor:
        """Return the images of `sample_indices`, (N, C, H, W)."""
        return self.take(where["index"])

    def take(self, indices: Tensor) -> Tensor:
        """Return the images (N, C, H, W) of `indices`, int64 (N,)."""
        return self.images[indices.to(self.images.device, non_blocking=True)]

    def take_sources(self, indices: Tensor) -> Tensor:
        """Return the sources (N, C', H, W) of `indices`, int64 (N,)."""
        return self.sources[indices.to(self.sources.device, non_blocking=True)]

    def to(self, device: torch.device) -> "ImageDataset":
        """Return the data set with images and sources on the device if they fit there, else as it is."""
        if self.device.type == device.type or not fits_in_memory(device, self.images, self.sources):
            return self
        images, sources = self.images.to(device), self.sources.to(device)
        return replace(self, images=images, sources=sources, memory_mapped=False)

    def resized(self, size: Size | None = None, channels: int | None = None) -> "ImageDataset":
        """Return the data set at `size` pixels and with `channels` 1 or 3; None leaves either as it is.

        Sources are resized too and keep their own channels. Resizing is antialiased bicubic on 8 bits, within two
        levels of Pillow's; grey equals Pillow's "L".
        """
        if self.is_points:
            if size not in (None, 1) or channels not in (None, 2):
                raise ValueError(
                    f"points of the plane cannot become images of data.size={size} data.channels={channels}; "
                    "leave both out, or type data.kind=shapes"
                )
            return self
        check_size_and_channels(size, channels)
        if (size is None or sides(size) == sides(self.size)) and channels in (None, self.channels):
            return self
        images, sources = self.images, self.sources
        if channels == 1 and self.channels == 3:
            images = grey(images)
        if size is not None and size != self.size:
            images = interpolate(images, sides(size), mode="bicubic", antialias=True)
            if len(sources):
                sources = interpolate(sources, sides(size), mode="bicubic", antialias=True)
        if channels == 3 and self.channels == 1:
            images = images.repeat(1, 3, 1, 1)
        return replace(self, images=images.contiguous(), sources=sources.contiguous(), memory_mapped=False)


MULTIPLE = 8  # of the sides of images that are not square: networks halve them three times or more


def check_size(size: Any, square: bool = False) -> None:
    """Raise ValueError unless size is a whole number from 1, or [height, width] where it need not be `square`."""
    if not isinstance(size, Sequence) or isinstance(size, str):
        check_number("data.size", size, 1, example=32, whole=True)
        return
    typed = f"data.size=[{','.join(map(str, size))}]"
    if len(size) != 2 or square:
        what = "images of this data are square" if square else "a size is one number, or height and width"
        raise ValueError(f"{typed} is not possible, since {what}; type data.size=64{'' if square else ', or [64,96]'}")
    for side in size:
        check_number("data.size", side, 1, example="[64,96]", whole=True)
    if size[0] != size[1] and any(side % MULTIPLE for side in size):
        fits = ",".join(str(max(side // MULTIPLE, 1) * MULTIPLE) for side in size)
        raise ValueError(
            f"{typed} is not possible: height and width must be multiples of {MULTIPLE}, because networks halve them; "
            f"type data.size=[{fits}]"
        )


def check_size_and_channels(
    size: Size | None, channels: int | None, required: bool = False, key: str = "channels", square: bool = False
) -> None:
    """Raise ValueError unless size is as `check_size` says and channels are 1 or 3, or None unless `required`."""
    if size is not None or required:
        check_size(size, square)
    if channels not in (1, 3) and (channels is not None or required):
        raise ValueError(f"data.{key}={channels} is not possible; type data.{key}=3 for colour, data.{key}=1 for grey")


def fits_in_memory(device: torch.device, *tensors: Tensor) -> bool:
    """Return whether tensors fit into a quarter of the free memory: networks and gradients need the rest."""
    return sum(tensor.nbytes for tensor in tensors) <= free_memory(device) / 4
