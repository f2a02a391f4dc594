"""BatchLoader as a pure function of (seed, n), wherever their images lie."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch

from gancli.data import dataset as image_set
from gancli.data.crops import ImageCrops
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader

CPU = torch.device("cpu")


def numbered(n: int = 10) -> ImageDataset:
    """Image i has the value i everywhere but in its left column, which is 255: a flip shows."""
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).repeat(1, 1, 4, 4)
    images[..., 0] = 255
    return ImageDataset(images, torch.arange(n) % 3, ["a", "b", "c"])


def numbers(x: torch.Tensor) -> list[int]:
    return [round((v + 1) * 127.5) for v in x[:, 0, 0, 1].tolist()]


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    batches = BatchLoader(numbered(), 5, 0, False, 0, CPU)
    epochs = [[i for n in (2 * e, 2 * e + 1) for i in numbers(batches(n)[0])] for e in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_span_epochs_without_loss():
    batches = BatchLoader(numbered(), 4, 0, False, 7, CPU)
    drawn = [i for n in range(5) for i in numbers(batches(n)[0])]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))


def test_any_batch_can_be_drawn_first():
    forward, backward = (BatchLoader(numbered(), 4, 3, True, 3, CPU) for _ in range(2))
    ahead = [forward(n) for n in range(9)]
    for n in reversed(range(9)):
        for a, b in zip(ahead[n], backward(n)):
            assert torch.equal(a, b)


def test_labels_stay_with_their_images_as_one_hot():
    x, c = BatchLoader(numbered(), 10, 3, False, 0, CPU)(0)
    assert c.shape == (10, 3) and c.argmax(1).tolist() == [i % 3 for i in numbers(x)]
    x, c = BatchLoader(numbered(), 10, 0, False, 0, CPU)(0)
    assert c.shape == (10, 0)


def test_flips_are_drawn_for_each_image():
    batches = BatchLoader(numbered(100), 100, 0, True, 0, CPU)
    mirrored = torch.cat([batches(n)[0][:, 0, 0, 3] == 1 for n in range(4)]).float().mean().item()
    assert 0.4 < mirrored < 0.6
    assert (batches(0)[0][:, 0, 0, 3] == 1).any() and (batches(0)[0][:, 0, 0, 0] == 1).any()


@pytest.mark.parametrize(
    ("size", "classes", "sentence"),
    [
        (0, 0, "at least one image"),
        (11, 0, "larger than the data, 10 images"),
        (4, 5, "takes 5 classes but the data has 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(size, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        BatchLoader(numbered(), size, classes, False, 0, CPU)


# --- streamed -----------------------------------------------------------------------------------------------------


def with_sources(paired: bool) -> ImageDataset:
    return ImageDataset(
        numbered().images, torch.zeros(10, dtype=torch.int64), [], [], numbered(10).images + 100, paired
    )


def photos() -> ImageCrops:
    """Of 7x9 and 12x5 pixels."""
    pixels = torch.arange(123, dtype=torch.uint8).repeat_interleave(3).view(-1, 3)
    return ImageCrops(pixels, torch.tensor([[7, 9], [12, 5]]), torch.tensor([0, 63]), 2)


STREAMED = {
    "images": (numbered(), 0),
    "classes": (numbered(), 3),
    "pairs": (with_sources(True), 0),
    "unpaired": (with_sources(False), 0),
    "photographs": (photos(), 0),
}


def assert_equal(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("kind", STREAMED)
def test_streamed_batches_are_those_of_resident_data(kind, ahead):
    """Over epochs, of one batch and of several, forward, back, and again."""
    data, classes = STREAMED[kind]
    resident = BatchLoader(data, 4, classes, True, 5, CPU)
    streamed = BatchLoader(replace(data, mapped=True), 4, classes, True, 5, CPU, ahead=ahead)
    assert streamed.streamed and not resident.streamed
    for first, count in ((0, 1), (1, 1), (2, 2), (4, 2), (6, 2), (8, 3), (100, 1), (101, 1), (7, 2), (7, 2), (0, 1)):
        streamed.prefetch(first, count)
        for n in range(first, first + count):
            assert_equal(streamed.next_batch(), resident(n))
        assert_equal(streamed(first + 50), resident(first + 50))
    streamed.wait()
    assert not readers()


def test_resident_data_have_no_thread_and_streamed_ones_one_that_ends():
    for ahead in (0, 3):
        resident = BatchLoader(numbered(), 4, 0, True, 0, CPU, ahead=ahead)
        for n in range(5):
            resident.prefetch(n, 1)
            resident.next_batch()
            assert not readers() and not resident.reading
    streamed = BatchLoader(replace(numbered(), mapped=True), 4, 0, True, 0, CPU)
    for n in range(5):
        streamed.prefetch(n, 1)
        assert len(readers()) <= 1 and streamed.reading
    streamed.reading[1].join(10)  # by itself, whether or not anybody waits
    assert not readers()


class Torn(ImageDataset):
    """Images that cannot be read from the third time on."""

    def gathered(self, numbers: dict[str, torch.Tensor]) -> torch.Tensor:
        self.times = getattr(self, "times", 0) + 1
        if self.times > 2:
            raise OSError("the disk is gone")
        return super().gathered(numbers)


def test_what_fails_in_the_thread_is_raised_where_its_batch_is_wanted():
    data = numbered()
    batches = BatchLoader(Torn(data.images, data.labels, data.class_names, mapped=True), 4, 0, False, 0, CPU)
    batches.prefetch(0, 1)
    batches.prefetch(1, 1)
    batches.next_batch()
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            batches.prefetch(2, 1)
    batches.wait()
    assert not readers()


def test_threads_of_torch_are_as_many_as_before():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        batches = BatchLoader(replace(numbered(), mapped=True), 4, 0, False, 0, CPU)
        batches.prefetch(0, 1)
        batches.wait()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_recorded_finds_streamed_images_where_they_have_been():
    """A batch size or a number of moves that comes back has its old place."""
    batches = BatchLoader(replace(numbered(), mapped=True), 4, 0, True, 0, CPU, ahead=3)
    places: dict[int, dict[str, int]] = {}
    for first, count in ((0, 1), (1, 2), (3, 1), (4, 2), (6, 2)):
        batches.prefetch(first, count)
        found = {what: table.data_ptr() for what, table in batches.parts.items()}
        assert places.setdefault(count, found) == found and {"order", "flip", "images"} == found.keys()


@pytest.mark.parametrize("data", [numbered(), photos()], ids=["images", "photographs"])
def test_data_lie_on_a_device_with_room_for_them(data, monkeypatch):
    device: Any = torch.device("meta")
    mapped = replace(data, mapped=True)
    monkeypatch.setattr(image_set, "free_memory", lambda device: 4 * 3 * 123)
    there = mapped.to(device)
    assert there.device == device and not there.mapped and mapped.device == CPU
    assert mapped.to(CPU) is mapped, "what is mapped stays in its file"
    monkeypatch.setattr(image_set, "free_memory", lambda device: 4 * 100)
    assert mapped.to(device) is mapped and data.to(device) is data
