"""BatchLoader of (x, c), drawn from a data set that lies on the device as uint8, or in a file that is mapped."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from gancli.data.classes import one_hot
from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.runtime.seeding import derive_seed


class BatchLoader:
    """Batch n as a pure function of (seed, n): resuming needs no loader state, only the number.

    Every image is drawn once before any is drawn twice: batch n is indices n * size to (n + 1) * size of an endless
    row of shuffled copies of the data set. x: (size, C, H, W) float in [-1, 1]; c: one-hot (size, classes), or
    (size, 0) where the recipe takes no classes. Of `ranks` processes each takes its size / ranks rows of it.

    Where the data has sources, c is source images (size, C', H, W) float in [-1, 1]: those of x, mirrored as x is, or,
    of a set that is not paired, others, from a row of their own and mirrored for themselves.

    `prefetch` says which batches are next, and `next_batch` gives one after the other with nothing for the host to do: what
    they are made of has been brought to the device, the numbers of their images or, of data that do not lie there, the
    images as they are stored. A thread reads these in the round before.

    ahead: batches whose numbers are brought together at least. Above 0 they lie where they have always been, for a
    recorded round to find them.
    """

    def __init__(
        self,
        data: ImageDataset | ImageCrops,
        batch_size: int,
        classes: int,
        flip: bool,
        seed: int,
        device: torch.device,
        rank: int = 0,
        ranks: int = 1,
        ahead: int = 0,
    ):
        if batch_size < 1:
            raise ValueError(
                f"a batch has at least one image, but data.batch_size={batch_size}; type data.batch_size=64"
            )
        sources = len(data.sources)
        for there, what in ((len(data), "images"), (sources or batch_size, "source images")):
            if batch_size > there:
                raise ValueError(
                    f"a batch of data.batch_size={batch_size} is larger than the data, {there} {what}; "
                    f"type data.batch_size={there} or less"
                )
        if batch_size % ranks:
            raise ValueError(
                f"{ranks} processes share a batch in equal parts, which data.batch_size={batch_size} is not; "
                f"type data.batch_size={max(batch_size // ranks, 1) * ranks}"
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
        self.batch_size, self.classes, self.flip, self.seed = batch_size, classes, flip, seed
        self.rank, self.ranks, self.ahead = rank, ranks, ahead
        self.streamed = self.data.mapped or self.data.device.type != device.type
        self.first = self.next = 0  # of the batches that lie on the device, and the one that is next_batch
        self.parts: dict[str, Tensor] = {}
        self.places: dict[tuple[torch.Size, ...], dict[str, Tensor]] = {}
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.reading: tuple[tuple[int, int, int], Reading] | None = None  # of (first, count, size)
        self._shuffled: dict[tuple[str, int], Tensor] = {}

    @property
    def two_sets(self) -> bool:
        """Whether there are sources that belong to no image."""
        return isinstance(self.data, ImageDataset) and len(self.data.sources) > 0 and not self.data.paired

    @property
    def brings(self) -> bool:
        """Whether batches are on the device before they are asked for; else their numbers come with them."""
        return self.ahead > 0 or self.streamed

    @property
    def rows(self) -> slice:
        """What this process takes of a batch: neighbours, since packing puts them side by side."""
        return slice(self.rank * self.batch_size // self.ranks, (self.rank + 1) * self.batch_size // self.ranks)

    def __call__(self, n: int) -> tuple[Tensor, Tensor]:
        return self._batch({what: t[0].to(self.device, non_blocking=True) for what, t in self._parts(n, 1).items()})

    def prefetch(self, n: int, count: int) -> None:
        """Batch n is next_batch, and after it count - 1 others; whatever they need of the host is done now."""
        if not self.brings:
            self.next = n
            return
        kept, rows = self.parts["order"].shape if self.parts else (0, 0)
        there = self.first <= n <= n + count <= self.first + kept and rows == self.batch_size // self.ranks
        if self.streamed or not there:
            self._place(self._read(n, count) if self.streamed else self._parts(n, max(self.ahead, count)))
            self.first, self.next = n, -1
        if self.next != n:
            self.cursor.fill_(n - self.first)
        self.next = n + count

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """The batch that `prefetch` has told of, and when called again the one after it."""
        if not self.brings:
            self.next += 1
            return self(self.next - 1)
        parts = {what: table.index_select(0, self.cursor)[0] for what, table in self.parts.items()}
        self.cursor.add_(1)
        return self._batch(parts)

    def wait(self) -> None:
        """Until nothing is read any more."""
        if self.reading:
            self.reading[1].join()
            self.reading = None

    def _read(self, n: int, count: int) -> dict[str, Tensor]:
        """The parts of these batches; those of as many after them are read from then on."""
        asked, parts = (n, count, self.batch_size), None
        if self.reading and self.reading[0] == asked:
            parts = self.reading[1].result()
        self.wait()
        parts = parts or self._parts(n, count)
        self.reading = (n + count, count, self.batch_size), Reading(lambda: self._parts(n + count, count))
        return parts

    def _place(self, parts: dict[str, Tensor]) -> None:
        """Onto the device."""
        if not self.ahead:
            self.parts = {what: table.to(self.device, non_blocking=True) for what, table in parts.items()}
            return
        shapes = tuple(table.shape for table in parts.values())
        if shapes not in self.places:
            self.places[shapes] = {what: torch.empty_like(t, device=self.device) for what, t in parts.items()}
        self.parts = self.places[shapes]
        for what, table in parts.items():
            self.parts[what].copy_(table, non_blocking=True)

    def _parts(self, n: int, count: int) -> dict[str, Tensor]:
        """What the host does for `count` batches from n on, each part stacked (count, rows, ...), on the CPU."""
        drawn = [self._drawn(n + i) for i in range(count)]
        parts = {what: torch.stack([numbers[what] for numbers in drawn]) for what in drawn[0]}
        if self.streamed:
            stored = self._stored({what: table.flatten(0, 1) for what, table in parts.items()})
            parts |= {what: images.unflatten(0, (count, -1)) for what, images in stored.items()}
            if self.device.type == "cuda":  # from where it is copied without waiting
                parts = {what: table.pin_memory() for what, table in parts.items()}
        return parts

    def _drawn(self, n: int) -> dict[str, Tensor]:
        """The numbers of batch n, this process's rows: which images, and which of them mirrored; the same of sources.

        On the CPU: a GPU has other random numbers.
        """
        order = self._order("epoch", len(self.labels), n)
        found = self.data.numbers(order, self._generator("crop", n), self.rows)
        if self.flip:
            found["flip"] = self._coins("flip", n)
        if self.two_sets:
            found["source order"] = self._order("source epoch", len(self.data.sources), n)[self.rows]
            if self.flip:
                found["source flip"] = self._coins("source flip", n)
        return found

    def _stored(self, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
        """The images of these numbers, and their sources, as they are stored."""
        found = {"images": self.data.gathered(numbers)}
        if isinstance(self.data, ImageDataset) and len(self.data.sources):
            found["sources"] = self.data.take_sources(numbers["source order" if self.two_sets else "order"])
        return found

    def _batch(self, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """x and c of these parts, on the device."""
        stored = parts if self.streamed else self._stored(parts)
        x = seen(stored["images"], parts.get("flip"))
        if "sources" in stored:
            return x, seen(stored["sources"], parts.get("source flip" if self.two_sets else "flip"))
        return x, one_hot(self.labels[parts["order"]], self.classes)

    def _order(self, what: str, count: int, n: int) -> Tensor:
        """The indices (size,) of batch n in the endless row of `count` shuffled ones."""
        epoch, start = divmod(n * self.batch_size, count)
        order = self._shuffle(what, count, epoch)[start : start + self.batch_size]
        if len(order) < self.batch_size:
            order = torch.cat([order, self._shuffle(what, count, epoch + 1)[: self.batch_size - len(order)]])
        return order

    def _shuffle(self, what: str, count: int, epoch: int) -> Tensor:
        """The order (count,) of this epoch."""
        order = self._shuffled.get((what, epoch))
        if order is None:
            order = torch.randperm(count, generator=self._generator(what, epoch))
            # A batch spans two epochs at most.
            kept = {key: o for key, o in self._shuffled.items() if key[0] != what or key[1] == epoch - 1}
            self._shuffled = kept | {(what, epoch): order}
        return order

    def _coins(self, what: str, n: int) -> Tensor:
        """Which of this process's rows are mirrored, bool (rows,)."""
        return torch.rand(self.batch_size, 1, 1, 1, generator=self._generator(what, n))[self.rows].flatten() < 0.5

    def _generator(self, what: str, n: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, what, n))


class Reading(threading.Thread):
    """Work in a thread of its own, which ends with it."""

    def __init__(self, work: Callable[[], dict[str, Tensor]]):
        super().__init__(name="batches")
        self.work, self.made = work, dict[str, Tensor]()
        self.error: BaseException | None = None
        torch.get_num_threads()  # torch settles now how many this thread uses, and not when `run` has changed it
        self.start()

    def run(self) -> None:
        torch.set_num_threads(1)  # of this thread: the others are for the training
        try:
            self.made = self.work()
        except BaseException as error:  # it is raised where somebody waits for this
            self.error = error

    def result(self) -> dict[str, Tensor]:
        self.join()
        if self.error:
            raise self.error
        return self.made


def seen(images: Tensor, mirrored: Tensor | None) -> Tensor:
    """Stored images (N, C, H, W) as floats, those mirrored that are marked, bool (N,)."""
    if mirrored is not None:
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    return to_float(images)
