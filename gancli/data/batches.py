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
        if size > len(data):
            raise ValueError(
                f"a batch of data.batch_size={size} is larger than the data, {len(data)} images; "
                f"type data.batch_size={len(data)} or less"
            )
        if size % ranks:
            raise ValueError(
                f"{ranks} processes share a batch in equal parts, which data.batch_size={size} is not; "
                f"type data.batch_size={max(size // ranks, 1) * ranks}"
            )
        if classes and classes != data.classes:
            raise ValueError(
                f"the model takes {classes} classes but the data has {data.classes}; choose data with classes, or an "
                f"unconditional model such as model=dcgan"
            )
        self.data, self.labels, self.device = data.to(device), data.labels.to(device), device
        self.size, self.classes, self.flip, self.seed = size, classes, flip, seed
        self.rank, self.ranks = rank, ranks
        self._shuffled: dict[int, Tensor] = {}

    @property
    def rows(self) -> slice:
        """What this process takes of a batch: neighbours, since packing puts them side by side."""
        return slice(self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks)

    def shuffle(self, epoch: int) -> Tensor:
        """The order (N,) in which the images of this epoch are drawn."""
        if epoch not in self._shuffled:
            order = torch.randperm(len(self.labels), generator=self._generator("epoch", epoch))
            # A batch spans two epochs at most.
            self._shuffled = {e: o for e, o in self._shuffled.items() if e == epoch - 1} | {epoch: order}
        return self._shuffled[epoch]

    def __call__(self, n: int) -> tuple[Tensor, Tensor]:
        epoch, start = divmod(n * self.size, len(self.labels))
        order = self.shuffle(epoch)[start : start + self.size]
        if len(order) < self.size:
            order = torch.cat([order, self.shuffle(epoch + 1)[: self.size - len(order)]])
        x = self.data.take(order, self._generator("crop", n), self.rows).to(self.device, non_blocking=True)
        order = order[self.rows].to(self.device, non_blocking=True)
        if self.flip:
            mirrored = torch.rand(self.size, 1, 1, 1, generator=self._generator("flip", n))[self.rows] < 0.5
            x = torch.where(mirrored.to(x.device, non_blocking=True), x.flip(3), x)
        return to_float(x), one_hot(self.labels[order], self.classes)

    def _generator(self, what: str, n: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, what, n))
