"""An independent judge of MNIST samples: a small classifier trained here, on real digits, in under a minute.

    python tests/judge.py CHECKPOINT_OR_RUN ...      # GAN_DATA must hold MNIST

It prints, over 10,000 samples of seed 0: how many classes are predicted, the entropy of the predicted classes over
ln 10, the mean confidence over the mean confidence on real test digits, the variety within the predicted classes
(the pixels' variance around the class's mean) over that of real test digits, and, for a conditional model, how often
the class that was asked for is the one predicted.
"""

import math
import sys
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

import gancli
from gancli.data.builtin import mnist
from gancli.images import to_float
from gancli.inference.generator import Generator

SAMPLES = 10_000


class Judge(NamedTuple):
    """A trained classifier and what it says of the 10,000 real test digits."""

    network: nn.Module
    accuracy: float
    confidence: float
    variety: float


def train_judge(root: str, epochs: int = 3, seed: int = 0) -> Judge:
    torch.manual_seed(seed)
    train, test = mnist(root=root, split="train"), mnist(root=root, split="test")
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    batch, n = 128, len(train)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * (n // batch))
    for _ in range(epochs):
        for chosen in torch.randperm(n)[: n // batch * batch].split(batch):
            loss = cross_entropy(network(to_float(train.images[chosen])), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    probabilities = predict(network, to_float(test.images))
    accuracy = float((probabilities.argmax(1) == test.labels).float().mean())
    variety = variety_within(to_float(test.images), probabilities.argmax(1))
    return Judge(network, accuracy, float(probabilities.max(1).values.mean()), variety)


def variety_within(x: Tensor, classes: Tensor) -> float:
    """The variance of pixels around the mean image of their class, summed over pixels, averaged over the classes."""
    parts = [x[classes == k].flatten(1) for k in range(10)]
    return float(torch.stack([part.var(0).sum() for part in parts if len(part) > 1]).mean())


@torch.no_grad()
def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Class probabilities (N, 10) of images x (N, 1, 28, 28)."""
    return torch.cat([network(part).softmax(1) for part in x.split(1000)])


def judge(referee: Judge, G: Generator, n: int = SAMPLES) -> dict[str, float]:
    """The numbers of the module's docstring for one generator."""
    x = G.sample(n, seed=0)
    probabilities = predict(referee.network, x)
    predicted = probabilities.argmax(1)
    share = one_hot(predicted, 10).sum(0) / n
    numbers = {
        "classes": int((share > 0).sum()),
        "entropy/ln10": -float((share * share.clamp_min(1e-12).log()).sum()) / math.log(10),
        "confidence/real": float(probabilities.max(1).values.mean()) / referee.confidence,
        "variety/real": variety_within(x, predicted) / referee.variety,
    }
    if G.classes:
        numbers["as asked"] = float((predicted == G.labels(n)).float().mean())
    return numbers


if __name__ == "__main__":
    import os

    referee = train_judge(os.environ["GAN_DATA"])
    print(f"classifier: {referee.accuracy:.2%} of the test digits, mean confidence {referee.confidence:.4f}")
    for path in sys.argv[1:]:
        numbers = judge(referee, gancli.load(path))
        print(path, "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()), flush=True)
