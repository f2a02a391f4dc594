"""Batches (x, c) of a data set that lies on the device as uint8, or is read from a memory-mapped file."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.runtime.checks import check_number
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import plural

Tensors = dict[str, Tensor]
SMALLEST_BATCH = 2  # that any number of images can fill, a single one by coming twice


class BatchLoader:
    """Batch n as a pure function of (seed, n), so resuming a run needs no loader state.

    Batch n holds the indices n * batch_size to (n + 1) * batch_size of an endless row of shuffled copies of the data
    set: every image is sampled once before any is sampled twice.

    x: float (batch_size, C, H, W) in [-1, 1], half of the images flipped left to right if `flip`.
    c: one-hot (batch_size, classes), of width zero for a model without classes. Where the data has sources, c is
    float (batch_size, C', H, W) in [-1, 1]: the sources of x, flipped as x is, or, of unpaired data, sources
    sampled and flipped independently.

    `prefetch` announces the next batches and `next_batch` returns one after the other without work for the host:
    their indices, or the stored images of data that is not on the device, are copied there in advance. A background
    thread reads the stored images of the step after.

    Args:
        classes: that the model takes, 0 for none.
        rank, world_size: this process and the number of processes; each takes batch_size / world_size rows.
        prefetch: smallest number of batches whose indices are copied together. Above 0 the buffers stay at fixed
            addresses, as CUDA graphs need.
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
        world_size: int = 1,
        prefetch: int = 0,
    ):
        check_batch(data, batch_size, classes, world_size)
        self.data, self.labels, self.device = data.to(device), data.labels.to(device), device
        if self.data.codes is not None:  # also where the images stay on the host
            self.data = replace(self.data, codes=self.data.codes.to(device))
        self.batch_size, self.classes, self.flip, self.seed = batch_size, classes, flip, seed
        self.rank, self.world_size, self.prefetch_count = rank, world_size, prefetch
        self.streamed = self.data.memory_mapped or self.data.device.type != device.type
        self.buffers: Tensors = {}  # each (batches, rows, ...)
        self.fixed_buffers: dict[tuple[torch.Size, ...], Tensors] = {}  # by their shapes
        self.first = self.next = 0  # the first batch of the buffers, and the one that next_batch returns
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        # (first, count, batch_size), their tensors, and the thread that reads them
        self.background: tuple[tuple[int, int, int], Future[Tensors], ThreadPoolExecutor] | None = None

    @property
    def unpaired(self) -> bool:
        return isinstance(self.data, ImageDataset) and len(self.data.sources) > 0 and not self.data.paired

    @property
    def buffered(self) -> bool:
        return self.prefetch_count > 0 or self.streamed

    @property
    def rows(self) -> slice:
        """Rows of a batch that this process takes: neighbours, because packing puts them side by side."""
        n, ranks = self.batch_size, self.world_size
        return slice(self.rank * n // ranks, (self.rank + 1) * n // ranks)

    def __call__(self, n: int) -> tuple[Tensor, Tensor]:
        """Return batch n."""
        return self._batch({name: t[0].to(self.device, non_blocking=True) for name, t in self._host_work(n, 1).items()})

    def prefetch(self, n: int, count: int) -> None:
        """Prepare next_batch to return batch n and the count - 1 after it; do all work of the host now."""
        if not self.buffered:
            self.next = n
            return
        batches, rows = self.buffers["index"].shape if self.buffers else (0, 0)
        there = self.first <= n <= n + count <= self.first + batches and rows == self.batch_size // self.world_size
        if self.streamed or not there:
            self._fill_buffers(
                self._read(n, count) if self.streamed else self._host_work(n, max(self.prefetch_count, count))
            )
            self.first, self.next = n, -1
        if self.next != n:
            self.cursor.fill_(n - self.first)
        self.next = n + count

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return the next of the batches that `prefetch` announced."""
        if not self.buffered:
            self.next += 1
            return self(self.next - 1)
        tensors = {name: buffer.index_select(0, self.cursor)[0] for name, buffer in self.buffers.items()}
        self.cursor.add_(1)
        return self._batch(tensors)

    def wait(self) -> None:
        """Wait for the background thread to end."""
        if self.background:
            self.background[2].shutdown()
            self.background = None

    def _read(self, n: int, count: int) -> Tensors:
        """Return the host's tensors of these batches, and begin to read those of as many batches after them."""
        tensors = None
        if self.background and self.background[0] == (n, count, self.batch_size):
            tensors = self.background[1].result()
        self.wait()
        tensors = tensors or self._host_work(n, count)
        torch.get_num_threads()  # settles this thread's number before the reader sets its own
        reader = ThreadPoolExecutor(1, "batches", torch.set_num_threads, (1,))  # the others are for the training
        following = reader.submit(self._host_work, n + count, count)
        reader.shutdown(wait=False)  # the thread ends with its work
        self.background = (n + count, count, self.batch_size), following, reader
        return tensors

    def _fill_buffers(self, tensors: Tensors) -> None:
        """Copy tensors to the device; with a prefetch count to where tensors of their shapes always lie."""
        if not self.prefetch_count:
            self.buffers = {name: t.to(self.device, non_blocking=True) for name, t in tensors.items()}
            return
        shapes = tuple(t.shape for t in tensors.values())
        if shapes not in self.fixed_buffers:
            self.fixed_buffers[shapes] = {n: torch.empty_like(t, device=self.device) for n, t in tensors.items()}
        self.buffers = self.fixed_buffers[shapes]
        for name, t in tensors.items():
            self.buffers[name].copy_(t, non_blocking=True)

    def _host_work(self, n: int, count: int) -> Tensors:
        """Return what the host contributes to `count` batches from n on: CPU tensors, each (count, rows, ...)."""
        sampled = [self._sample(n + i) for i in range(count)]
        tensors = {name: torch.stack([one[name] for one in sampled]) for name in sampled[0]}
        if self.streamed:
            stored = self._stored({name: t.flatten(0, 1) for name, t in tensors.items()})
            tensors |= {name: images.unflatten(0, (count, -1)) for name, images in stored.items()}
            if self.device.type == "cuda":  # pinned memory is copied without waiting
                tensors = {name: t.pin_memory() for name, t in tensors.items()}
        return tensors

    def _sample(self, n: int) -> Tensors:
        """Return the indices and flips of this process's rows of batch n, on the CPU, equal for every device."""
        order = self._order("epoch", len(self.labels), n)
        where = self.data.sample_indices(order, self._generator("crop", n), self.rows)
        if self.flip:
            where["flip"] = self._sample_flips("flip", n)
        if self.unpaired:
            where["source_index"] = self._order("source epoch", len(self.data.sources), n)[self.rows]
            if self.flip:
                where["source_flip"] = self._sample_flips("source flip", n)
        return where

    def _stored(self, where: Tensors) -> Tensors:
        """Return the stored images and sources of these indices."""
        stored = {"images": self.data.gather(where)}
        if isinstance(self.data, ImageDataset) and len(self.data.sources):
            stored["sources"] = self.data.take_sources(where["source_index" if self.unpaired else "index"])
        return stored

    def _batch(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        """Return x and c from the tensors of one batch on the device."""
        stored = tensors if self.streamed else self._stored(tensors)
        x = to_network(stored["images"], tensors.get("flip"))
        if "sources" in stored:
            return x, to_network(stored["sources"], tensors.get("source_flip" if self.unpaired else "flip"))
        return x, self.data.condition(self.labels[tensors["index"]], self.classes)

    def _order(self, purpose: str, total: int, n: int) -> Tensor:
        """Return the indices (batch_size,) of batch n in the endless row of shuffles of `total` indices."""
        epoch, start = divmod(n * self.batch_size, total)
        order = shuffle(total, self.seed, purpose, epoch)[start : start + self.batch_size]
        if len(order) < self.batch_size:
            rest = self.batch_size - len(order)
            order = torch.cat([order, shuffle(total, self.seed, purpose, epoch + 1)[:rest]])
        return order

    def _sample_flips(self, purpose: str, n: int) -> Tensor:
        """Return which rows of this process are flipped, bool (rows,)."""
        return torch.rand(self.batch_size, 1, 1, 1, generator=self._generator(purpose, n))[self.rows].flatten() < 0.5

    def _generator(self, purpose: str, n: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, purpose, n))


@lru_cache(4)  # a batch spans two epochs at most, of the images and of unpaired sources
def shuffle(total: int, seed: int, purpose: str, epoch: int) -> Tensor:
    """Return the permutation of `total` indices in an epoch."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(derive_seed(seed, purpose, epoch)))


def fitting_batch(data: ImageDataset | ImageCrops, batch_size: int, multiple: int = 1) -> int:
    """Return the batch size, or the largest multiple of `multiple` that the data can fill if that is smaller.

    A single image fills a batch of two, because batch norm needs two.
    """
    there = max(min(len(data), len(data.sources) or len(data)), SMALLEST_BATCH)
    return batch_size if batch_size <= there else max(there // multiple * multiple, 1)


def check_batch(data: ImageDataset | ImageCrops, batch_size: int, classes: int, world_size: int = 1) -> None:
    """Raise ValueError where the data cannot fill a batch, processes cannot share it, or classes differ."""
    check_number("data.batch_size", batch_size, 1, example=64)
    sources = len(data.sources)
    for there, name in ((len(data), "image"), (sources or batch_size, "source image")):
        if batch_size > max(there, SMALLEST_BATCH):
            raise ValueError(
                f"data.batch_size={batch_size} is more than the {plural(there, name)} of the data; "
                f"type data.batch_size={there} or less"
            )
    if batch_size % world_size:
        raise ValueError(
            f"{world_size} processes cannot share data.batch_size={batch_size} equally; "
            f"type data.batch_size={max(batch_size // world_size, 1) * world_size}"
        )
    if classes and sources:
        raise ValueError(
            f"the model takes {classes} classes, but the data gives source images; choose data with classes such as "
            "data=mnist, or an image-to-image model such as model=pix2pix"
        )
    if classes and classes != data.classes:
        raise ValueError(
            f"the model takes {classes} classes, but the data has {data.classes}; choose data with classes, or an "
            "unconditional model such as model=dcgan"
        )


def to_network(images: Tensor, flip: Tensor | None) -> Tensor:
    """Convert stored images (N, C, H, W) to float in [-1, 1], flipped left to right where `flip`, bool (N,), is set."""
    if flip is not None:
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    return to_float(images)
