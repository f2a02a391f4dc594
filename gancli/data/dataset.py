"""A data set: the images, their classes or the images they belong to, and what could not be read."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.runtime.hardware import free_memory


@dataclass(eq=False)  # tensors do not compare to one bool
class ImageDataset:
    """N images of one size, with a class each, and the M images of the same size that they are to be made of.

    images:      uint8 (N, C, H, H) in [0, 255], C 1 or 3; or points of the plane, float32 (N, 2, 1, 1) in [-1, 1]
    labels:      int64 (N,) in [0, classes); zeros where there are no classes
    class_names: a name per class; empty where there are no classes
    skipped:     (file, reason) of every file that was left out
    sources:     uint8 (M, C', H, H) in [0, 255], C' 1 or 3; M = 0 where the images are all there is
    paired:      whether source i belongs to image i, M = N; else the two are sets without an order between them
    mapped:      whether the images lie in a file, of which is read what is looked at
    warnings:     what to say of how they were read
    """

    images: Tensor
    labels: Tensor
    class_names: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    sources: Tensor = field(default_factory=lambda: torch.empty(0, 1, 0, 0, dtype=torch.uint8))
    paired: bool = True
    mapped: bool = False
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        n, c, h, w = self.images.shape
        pictures = self.images.dtype == torch.uint8 and c in (1, 3) and h == w
        assert pictures or self.is_points, (self.images.dtype, tuple(self.images.shape))
        assert self.labels.dtype == torch.int64 and tuple(self.labels.shape) == (n,), tuple(self.labels.shape)
        m, c, *sides = self.sources.shape
        fit = self.sources.dtype == torch.uint8 and c in (1, 3) and sides == [h, w] and (m == n or not self.paired)
        assert not m or (pictures and fit), (self.sources.dtype, tuple(self.sources.shape), self.paired)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        return self.images.shape[2]

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    @property
    def source_channels(self) -> int:
        """0 where there are no sources."""
        return self.sources.shape[1] if len(self.sources) else 0

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def is_points(self) -> bool:
        return self.images.is_floating_point() and tuple(self.images.shape[1:]) == (2, 1, 1)

    @property
    def device(self) -> torch.device:
        return self.images.device

    def numbers(self, indices: Tensor, generator: torch.Generator, rows: slice) -> dict[str, Tensor]:
        """What `gathered` wants to know of `rows` of these indices, int64 (N,); nothing about images is random."""
        return {"order": indices[rows]}

    def gathered(self, numbers: dict[str, Tensor]) -> Tensor:
        """The images of these numbers, (N, C, H, W)."""
        return self.take(numbers["order"])

    def take(self, indices: Tensor) -> Tensor:
        """These images, (N, C, H, W) of int64 (N,)."""
        return self.images[indices.to(self.images.device, non_blocking=True)]

    def take_sources(self, indices: Tensor) -> Tensor:
        """These sources, (N, C', H, W) of int64 (N,)."""
        return self.sources[indices.to(self.sources.device, non_blocking=True)]

    def to(self, device: torch.device) -> "ImageDataset":
        """The same set with its images and sources on the device where they have room; else as it is."""
        if self.device.type == device.type or not has_room(device, self.images, self.sources):
            return self
        return replace(self, images=self.images.to(device), sources=self.sources.to(device), mapped=False)

    def resized(self, size: int | None = None, channels: int | None = None) -> "ImageDataset":
        """The same set at `size` pixels a side and with `channels` 1 or 3; None leaves either as it is.

        Sources are resized too and keep their own channels.
        Resizing is antialiased bicubic on 8 bits, Pillow's to within two levels; grey is Pillow's "L" exactly.
        Raises ValueError for a size below 1, for other channels, and for points, which have neither.
        """
        if self.is_points:
            if size not in (None, 1) or channels not in (None, 2):
                raise ValueError(
                    f"points of the plane cannot be made pictures of data.size={size} data.channels={channels}: "
                    "leave both out, or choose data.kind=shapes"
                )
            return self
        check_size_and_channels(size, channels)
        if size in (None, self.size) and channels in (None, self.channels):
            return self
        images, sources = self.images, self.sources
        if channels == 1 and self.channels == 3:
            images = grey(images)
        if size is not None and size != self.size:
            images = interpolate(images, (size, size), mode="bicubic", antialias=True)
            if len(sources):
                sources = interpolate(sources, (size, size), mode="bicubic", antialias=True)
        if channels == 3 and self.channels == 1:
            images = images.repeat(1, 3, 1, 1)
        return replace(self, images=images.contiguous(), sources=sources.contiguous(), mapped=False)


def check_size_and_channels(size: int | None, channels: int | None, source_channels: int | None = None) -> None:
    """Raises ValueError unless size is None or a whole number from 1 and either channels are None, 1 or 3."""
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ValueError(
            f"data.size={size} is not a number of pixels: give a whole number from 1 on, such as data.size=32"
        )
    for name, given in (("channels", channels), ("source_channels", source_channels)):
        if given not in (None, 1, 3):
            raise ValueError(
                f"data.{name}={given} is not possible: give data.{name}=3 (colour) or data.{name}=1 (grey)"
            )


def has_room(device: torch.device, *tensors: Tensor) -> bool:
    """Whether they fit into a quarter of what is free on the device: networks and their gradients come after them."""
    return sum(tensor.nbytes for tensor in tensors) <= free_memory(device) / 4


def grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma of uint8 (N, 3, H, W), (N, 1, H, W), in the fixed point of Pillow so that both agree exactly."""
    luma = torch.empty_like(images[:, :1])
    for start in range(0, len(images), 4096):  # int32 needs four times the memory
        r, g, b = images[start : start + 4096].int().split(1, dim=1)
        luma[start : start + 4096] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16
    return luma
