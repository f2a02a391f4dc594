"""Batches as a pure function of (seed, n), wherever the images are stored."""

import threading
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from gancli.data import dataset as dataset_module
from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader

CPU = torch.device("cpu")


def numbered(n: int = 10, m: int = 0, paired: bool = False) -> ImageDataset:
    """Image i has the value i, source i the value 100 + i; the left column is 255, so that a flip shows."""
    images, sources = (
        torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, channels, 4, 4)
        for first, count, channels in ((0, n, 3), (100, m, 1))
    )
    images[..., 0] = sources[..., 0] = 255
    if m:
        return ImageDataset(images, sources=sources, paired=paired)
    return ImageDataset(images, torch.arange(n) % 3, ["a", "b", "c"])


def crops() -> ImageCrops:
    """Crops of two images of 7x9 and 12x5 pixels."""
    pixels = torch.arange(123, dtype=torch.uint8).repeat_interleave(3).view(-1, 3)
    return ImageCrops(pixels, torch.tensor([[7, 9], [12, 5]]), torch.tensor([0, 63]), 2)


DATA = {
    "images": (numbered(), 0),
    "classes": (numbered(), 3),
    "paired": (numbered(10, 10, paired=True), 0),
    "unpaired": (numbered(10, 7), 0),
    "crops": (crops(), 0),
}


def loader(data: ImageDataset | ImageCrops, size: int = 4, classes: int = 0, flip: bool = True, **options: Any):
    return BatchLoader(data, size, classes, flip, **{"seed": 3, "device": CPU, **options})


def values(x: Tensor) -> list[int]:
    return [round((v + 1) * 127.5) for v in x[:, 0, 0, 1].tolist()]


def flipped(x: Tensor) -> Tensor:
    return x[:, 0, 0, -1] == 1


def assert_equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> None:
    assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("size", [4, 5])
def test_every_image_is_sampled_once_before_any_is_sampled_twice(size):
    batches = loader(numbered(), size, flip=False)
    row = [i for n in range(40 // size) for i in values(batches(n)[0])]
    epochs = [row[start : start + 10] for start in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("name", DATA)
def test_any_batch_can_be_sampled_first_and_is_divided_among_ranks(name):
    data, classes = DATA[name]
    forward, backward = loader(data, 6, classes), loader(data, 6, classes)
    batches = [forward(n) for n in range(9)]
    for n in reversed(range(9)):
        assert_equal(batches[n], backward(n))
        parts = [loader(data, 6, classes, rank=rank, world_size=3)(n) for rank in range(3)]
        assert_equal(batches[n], tuple(torch.cat(side) for side in zip(*parts)))


def test_labels_stay_with_their_images_as_one_hot_rows():
    x, c = loader(numbered(), 10, 3, flip=False)(0)
    assert c.shape == (10, 3) and c.argmax(1).tolist() == [i % 3 for i in values(x)]
    assert loader(numbered(), 10)(0)[1].shape == (10, 0)


def test_half_of_the_images_are_flipped():
    batches = loader(numbered(100), 100)
    assert 0.4 < torch.cat([flipped(batches(n)[0]) for n in range(4)]).float().mean() < 0.6
    assert 0 < flipped(batches(0)[0]).sum() < 100 and not flipped(loader(numbered(), flip=False)(0)[0]).any()


def test_pairs_stay_together_and_are_flipped_together():
    batches = loader(numbered(50, 50, paired=True), 20)
    pairs = [batches(n) for n in range(5)]
    for x, c in pairs:
        assert x.shape == (20, 3, 4, 4) and c.shape == (20, 1, 4, 4) and c.dtype == torch.float32
        assert [100 + i for i in values(x)] == values(c) and torch.equal(flipped(x), flipped(c))
    assert sorted(i for _, c in pairs for i in values(c)) == sorted(2 * list(range(100, 150)))
    assert 0.3 < torch.cat([flipped(c) for _, c in pairs]).float().mean() < 0.7


def test_unpaired_sources_are_sampled_and_flipped_independently():
    batches = loader(numbered(10, 15), 5)
    pairs = [batches(n) for n in range(12)]
    images, sources = ([i for batch in side for i in values(batch)] for side in zip(*pairs))
    for row, count, first in ((images, 10, 0), (sources, 15, 100)):
        epochs = [row[start : start + count] for start in range(0, 60, count)]
        assert all(sorted(epoch) == list(range(first, first + count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    flips = [torch.cat([flipped(batch) for batch in side]) for side in zip(*pairs)]
    assert not torch.equal(*flips) and all(0.3 < side.float().mean() < 0.7 for side in flips)
    assert len(set(zip(images, sources))) > 40, "the partners change"


def test_sources_do_not_change_which_images_are_sampled():
    for name in ("paired", "unpaired"):
        assert all(torch.equal(loader(DATA[name][0])(n)[0], loader(numbered())(n)[0]) for n in range(6))


@pytest.mark.parametrize(
    ("data", "size", "classes", "world_size", "message"),
    [
        (numbered(), 0, 0, 1, r"data\.batch_size=0 is out of range.*; type data\.batch_size=64"),
        (numbered(), 11, 0, 1, r"batch_size=11 is more than the 10 images of the data; type data\.batch_size=10 or"),
        (numbered(10, 7), 8, 0, 1, r"batch_size=8 is more than the 7 source images of the data; type data"),
        (numbered(), 4, 5, 1, "takes 5 classes, but the data has 3"),
        (numbered(10, 10, True), 4, 3, 1, "takes 3 classes, but the data gives source images"),
        (numbered(), 4, 0, 3, r"3 processes cannot share data\.batch_size=4 equally; type data\.batch_size=3"),
    ],
)  # fmt: skip
def test_impossible_batches_are_refused(data, size, classes, world_size, message):
    with pytest.raises(ValueError, match=message):
        loader(data, size, classes, world_size=world_size)


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("name", DATA)
def test_streamed_batches_equal_those_of_resident_data(name, prefetch):
    data, classes = DATA[name]
    direct = loader(data, 4, classes)
    resident = loader(data, 4, classes, prefetch=prefetch)
    streamed = loader(replace(data, memory_mapped=True), 4, classes, prefetch=prefetch)
    assert streamed.streamed and not resident.streamed
    for first, count in ((0, 1), (1, 1), (2, 2), (4, 2), (6, 2), (8, 3), (100, 1), (101, 1), (7, 2), (7, 2), (0, 1)):
        for batches in (resident, streamed):
            batches.prefetch(first, count)
            for n in range(first, first + count):
                assert_equal(batches.next_batch(), direct(n))
            assert_equal(batches(first + 50), direct(first + 50))
        assert not resident.background
    streamed.wait()
    assert not readers()


def test_streamed_data_has_one_thread_that_ends():
    streamed = loader(replace(numbered(), memory_mapped=True))
    for n in range(5):
        streamed.prefetch(n, 1)
        assert len(readers()) <= 1 and streamed.background
    for thread in readers():
        thread.join(10)
    assert not readers()


def test_an_error_of_the_thread_is_raised_when_its_batch_is_needed(monkeypatch):
    data = replace(numbered(), memory_mapped=True)
    reads = [data.images[:4], data.images[:4], OSError("the disk is gone")]
    monkeypatch.setattr(data, "gather", Mock(side_effect=reads))
    batches = loader(data)
    batches.prefetch(0, 1)
    batches.prefetch(1, 1)
    batches.next_batch()
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            batches.prefetch(2, 1)
    batches.wait()
    assert not readers()


def test_reading_leaves_torchs_number_of_threads_alone():
    torch.set_num_threads(2)
    try:
        batches = loader(replace(numbered(), memory_mapped=True))
        batches.prefetch(0, 1)
        batches.wait()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)  # as conftest.py


def test_prefetched_buffers_keep_their_addresses():

    batches = loader(replace(numbered(), memory_mapped=True), prefetch=3)
    addresses: dict[int, dict[str, int]] = {}
    for first, count in ((0, 1), (1, 2), (3, 1), (4, 2), (6, 2)):
        batches.prefetch(first, count)
        now = {name: buffer.data_ptr() for name, buffer in batches.buffers.items()}
        assert addresses.setdefault(count, now) == now and {"index", "flip", "images"} == now.keys()


@pytest.mark.parametrize("data", [numbered(), crops()], ids=["images", "crops"])
def test_data_is_copied_to_a_device_where_it_fits(data, monkeypatch):
    device, mapped = torch.device("meta"), replace(data, memory_mapped=True)
    monkeypatch.setattr(dataset_module, "free_memory", lambda device: 4 * 3 * 160)
    moved = mapped.to(device)
    assert moved.device == device and not moved.memory_mapped and mapped.device == CPU
    assert mapped.to(CPU) is mapped, "memory-mapped data stays in its file"
    monkeypatch.setattr(dataset_module, "free_memory", lambda device: 4 * 100)
    assert mapped.to(device) is mapped and data.to(device) is data
