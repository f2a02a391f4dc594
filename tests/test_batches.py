"""Batches as a pure function of (seed, n)."""

import pytest
import torch

from gancli.data.batches import Batches
from gancli.data.image_set import ImageSet

CPU = torch.device("cpu")


def numbered(n: int = 10) -> ImageSet:
    """Image i has the value i everywhere but in its left column, which is 255: a flip shows."""
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1).repeat(1, 1, 4, 4)
    images[..., 0] = 255
    return ImageSet(images, torch.arange(n) % 3, ["a", "b", "c"])


def numbers(x: torch.Tensor) -> list[int]:
    return [round((v + 1) * 127.5) for v in x[:, 0, 0, 1].tolist()]


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    batches = Batches(numbered(), 5, 0, False, 0, CPU)
    epochs = [[i for n in (2 * e, 2 * e + 1) for i in numbers(batches(n)[0])] for e in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_span_epochs_without_loss():
    batches = Batches(numbered(), 4, 0, False, 7, CPU)
    drawn = [i for n in range(5) for i in numbers(batches(n)[0])]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))


def test_any_batch_can_be_drawn_first():
    forward, backward = (Batches(numbered(), 4, 3, True, 3, CPU) for _ in range(2))
    ahead = [forward(n) for n in range(9)]
    for n in reversed(range(9)):
        for a, b in zip(ahead[n], backward(n)):
            assert torch.equal(a, b)


def test_labels_stay_with_their_images_as_one_hot():
    x, c = Batches(numbered(), 10, 3, False, 0, CPU)(0)
    assert c.shape == (10, 3) and c.argmax(1).tolist() == [i % 3 for i in numbers(x)]
    x, c = Batches(numbered(), 10, 0, False, 0, CPU)(0)
    assert c.shape == (10, 0)


def test_flips_are_drawn_for_each_image():
    batches = Batches(numbered(100), 100, 0, True, 0, CPU)
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
        Batches(numbered(), size, classes, False, 0, CPU)
