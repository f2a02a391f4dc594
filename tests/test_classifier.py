"""The judge of the README's figures knows digits, and what it measures moves the right way."""

import os

import pytest
import torch
from classifier import judge, train_judge

from gancli.data.builtin import mnist
from gancli.images import to_float


class Fixed:
    """A generator of given images, in the judge's eyes."""

    def __init__(self, x: torch.Tensor, labels: torch.Tensor):
        self.x, self.y, self.classes = x, labels, 10

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        return self.x[:n]

    def labels(self, n: int) -> torch.Tensor:
        return self.y[:n]


@pytest.mark.slow
@pytest.mark.data
def test_the_judge_knows_digits_and_sees_what_goes_wrong():
    root = os.environ["GAN_DATA"]
    referee = train_judge(root)
    assert referee.accuracy >= 0.985
    test = mnist(root=root, split="test")
    x, y = to_float(test.images), test.labels
    real = judge(referee, Fixed(x, y))
    assert real["classes"] == 10 and real["entropy/ln10"] > 0.99 and real["as asked"] == pytest.approx(referee.accuracy)
    assert real["confidence/real"] == pytest.approx(1) and real["variety/real"] == pytest.approx(1)
    noise = judge(referee, Fixed((x + torch.randn_like(x)).clamp(-1, 1), y))
    assert noise["confidence/real"] < real["confidence/real"]
    one_each = torch.cat([x[y == k][:1] for k in range(10)])[y]
    assert judge(referee, Fixed(one_each, y))["variety/real"] < 0.01
    without = y != 3
    assert judge(referee, Fixed(x[without], y[without]), int(without.sum()))["entropy/ln10"] < 0.96
