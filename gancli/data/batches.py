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

    ahead: batches whose numbers are brought to the device together; `upcoming` then gives one after the other with
    nothing for the host to do. 0, or data that are photographs: each batch's numbers come with it.
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
        ahead: int = 0,
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
        self.ahead = ahead if isinstance(data, ImageSet) else 0
        self.first = self.next = 0  # of the batches whose numbers lie on the device, and the one that is upcoming
        self.numbers: dict[str, Tensor] = {}
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._shuffled: dict[tuple[str, int], Tensor] = {}

    @property
    def rows(self) -> slice:
        """What this process takes of a batch: neighbours, since packing puts them side by side."""
        return slice(self.rank * self.size // self.ranks, (self.rank + 1) * self.size // self.ranks)

    def __call__(self, n: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.data, ImageSet):
            drawn = {what: t.to(self.device, non_blocking=True) for what, t in self._drawn(n).items()}
            return self._batch(self.data, drawn)
        order = self._order("epoch", len(self.labels), n)
        x = self.data.take(order, self._generator("crop", n), self.rows).to(self.device, non_blocking=True)
        flip = self._coins("flip", n).to(self.device, non_blocking=True) if self.flip else None
        return seen(x, flip), one_hot(self.labels[: len(x)], self.classes)

    def bring(self, n: int, count: int) -> None:
        """Batch n is upcoming, and after it count - 1 others; whatever they need of the host is done now."""
        if not self.ahead:
            self.next = n
            return
        kept, rows = next(iter(self.numbers.values())).shape if self.numbers else (0, 0)
        if not self.first <= n <= n + count <= self.first + kept or rows != self.size // self.ranks:
            drawn = [self._drawn(n + i) for i in range(max(self.ahead, count))]
            for what in drawn[0]:
                table, before = torch.stack([d[what] for d in drawn]), self.numbers.get(what)
                if before is not None and before.shape == table.shape:
                    before.copy_(table, non_blocking=True)  # a recorded round looks for it where it has been
                else:
                    self.numbers[what] = table.to(self.device)
            self.first, self.next = n, -1
        if self.next != n:
            self.cursor.fill_(n - self.first)
        self.next = n + count

    def upcoming(self) -> tuple[Tensor, Tensor]:
        """The batch that `bring` has told of, and when called again the one after it."""
        if not self.ahead:
            self.next += 1
            return self(self.next - 1)
        assert isinstance(self.data, ImageSet)
        drawn = {what: table.index_select(0, self.cursor)[0] for what, table in self.numbers.items()}
        self.cursor.add_(1)
        return self._batch(self.data, drawn)

    def _drawn(self, n: int) -> dict[str, Tensor]:
        """The numbers of batch n, this process's rows: which images, and which of them mirrored; the same of sources.

        On the CPU: a GPU has other random numbers.
        """
        found = {"order": self._order("epoch", len(self.labels), n)[self.rows]}
        if self.flip:
            found["flip"] = self._coins("flip", n)
        if len(self.data.sources) and not self.data.paired:  # type: ignore[union-attr]
            found["source order"] = self._order("source epoch", len(self.data.sources), n)[self.rows]
            if self.flip:
                found["source flip"] = self._coins("source flip", n)
        return found

    def _batch(self, data: ImageSet, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """x and c of these numbers, on the device."""
        order, flip = drawn["order"], drawn.get("flip")
        x = seen(data.images[order], flip)
        if not len(data.sources):
            return x, one_hot(self.labels[order], self.classes)
        if data.paired:
            return x, seen(data.sources[order], flip)
        return x, seen(data.sources[drawn["source order"]], drawn.get("source flip"))

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

    def _coins(self, what: str, n: int) -> Tensor:
        """Which of this process's rows are mirrored, bool (rows,)."""
        return torch.rand(self.size, 1, 1, 1, generator=self._generator(what, n))[self.rows].flatten() < 0.5

    def _generator(self, what: str, n: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(self.seed, what, n))


def seen(images: Tensor, mirrored: Tensor | None) -> Tensor:
    """Stored images (N, C, H, W) as floats, those mirrored that are marked, bool (N,)."""
    if mirrored is not None:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return to_float(images)
