"""Batches of (x, c), drawn from a data set that lies on the device as uint8, or in a file that is mapped."""

import torch
from torch import Tensor

from gancli.config import seed_of
from gancli.data.image_set import ImageSet
from gancli.data.photographs import Photographs
from gancli.images import to_float
from gancli.sampling import one_hot


class Batches:
    """Batch n as a pure function of (seed, n): resuming needs no loader state, only the number.

    Every image is drawn once before any is drawn twice: batch n is entries n * size to (n + 1) * size of an endless
    row of shuffled copies of the data set. x: (size, C, H, W) float in [-1, 1]; c: one-hot (size, classes), or
    (size, 0) where the recipe takes no classes. Of `ranks` processes each takes its size / ranks rows of it.

    Where the data has sources, c is source images (size, C', H, W) float in [-1, 1]: those of x, mirrored as x is, or,
    of a set that is not paired, others, from a row of their own and mirrored for themselves.
    """

    def __init__(
        self,
        data: ImageSet | Photographs,
        size: int,
        classes: int,
        flip: bool,
        seed: int,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
    ):
        if size < 1:
            raise ValueError(f"a batch has at least one image, but data.batch_size={size}; type data.batch_size=64")
        sources = len(data.sources) if isinstance(data, ImageSet) else 0
        for there, what in ((len(data), "images"), (sources or size, "source images")):
            if size > there:
                raise ValueError(
                    f"a batch of data.batch_size={size} is larger than the data, {there} {what}; "
                    f"type data.batch_size={there} or less"
                )
        if size % ranks:
            raise ValueError(
                f"{ranks} processes share a batch in equal parts, which data.batch_size={size} is not; "
                f"type data.batch_size={max(size // ranks, 1) * ranks}"
            )
        if classes and sources:
            raise ValueError(
                f"the model takes {classes} classes but what is known of these images is other images; choose data "
                f"with classes such as data=mnist, or a model that makes images of images"
            )
        if classes and classes != data.classes:
            raise ValueError(
                f"the model takes {classes} classes but the data has {data.classes}; choose data with classes, or an "
                f"unconditional model such as model=dcgan"
            )
        self.data, self.labels, self.device = data.to(device), data.labels.to(device), device
        self.size, self.classes, self.flip, self.seed = size, classes, flip, seed
        self.rank, self.ranks = rank, ranks
        self._shuffled: dict[tuple[str, int], Tensor] = {}

    @property
    def rows(self) -> slice:
        """What this process takes of a batch: neighbours, since packing puts them side by side."""
        return slice(self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks)

    def __call__(self, n: int) -> tuple[Tensor, Tensor]:
        order = self._order("epoch", len(self.labels), n)
        x = self._seen(self.data.take(order, self._generator("crop", n), self.rows), "flip", n)
        return x, self._known(order, n)

    def _known(self, order: Tensor, n: int) -> Tensor:
        """c of the images `order` (size,): their classes, or source images."""
        data = self.data
        if not isinstance(data, ImageSet) or not len(data.sources):
            return one_hot(self.labels[order[self.rows].to(self.device, non_blocking=True)], self.classes)
        if data.paired:
            return self._seen(data.take_sources(order, self.rows), "flip", n)
        order = self._order("source epoch", len(data.sources), n)
        return self._seen(data.take_sources(order, self.rows), "source flip", n)

    def _order(self, what: str, count: int, n: int) -> Tensor:
        """The entries (size,) of batch n in the endless row of `count` shuffled ones."""
        epoch, start = divmod(n * self.size, count)
        order = self._shuffle(what, count, epoch)[start : start + self.size]
        if len(order) < self.size:
            order = torch.cat([order, self._shuffle(what, count, epoch + 1)[: self.size - len(order)]])
        return order

    def _shuffle(self, what: str, count: int, epoch: int) -> Tensor:
        """The order (count,) of this epoch."""
        if (what, epoch) not in self._shuffled:
            order = torch.randperm(count, generator=self._generator(what, epoch))
            # A batch spans two epochs at most.
            kept = {key: o for key, o in self._shuffled.items() if key[0] != what or key[1] == epoch - 1}
            self._shuffled = kept | {(what, epoch): order}
        return self._shuffled[what, epoch]

    def _seen(self, images: Tensor, coin: str, n: int) -> Tensor:
        """Stored images (N, C, H, W), this process's rows, as floats on the device, about half of them mirrored."""
        x = images.to(self.device, non_blocking=True)
        if self.flip:
            mirrored = torch.rand(self.size, 1, 1, 1, generator=self._generator(coin, n))[self.rows] < 0.5
            x = torch.where(mirrored.to(x.device, non_blocking=True), x.flip(3), x)
        return to_float(x)

    def _generator(self, what: str, n: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, what, n))
