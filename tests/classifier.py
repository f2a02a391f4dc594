"""An independent MNIST classifier that measures samples: trained here, on real digits, in under a minute.

    python tests/classifier.py CHECKPOINT_OR_RUN ...      # GAN_DATA must hold MNIST

For 10,000 samples of seed 0 it prints: the number of predicted classes; their entropy over ln 10; the mean confidence
relative to real test digits; the variance of pixels within predicted classes relative to real test digits; and for a
conditional model the accuracy of the requested classes.
"""

import math
import os
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


class Classifier(NamedTuple):
    """A trained network, and its accuracy, confidence and variance within classes on the real test digits."""

    network: nn.Module
    accuracy: float
    confidence: float
    variance: float


def train_classifier(root: str, epochs: int = 3, seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    train, test = mnist(root=root, split="train"), mnist(root=root, split="test")
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    batch_size, n = 128, len(train)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * (n // batch_size))
    for _ in range(epochs):
        for chosen in torch.randperm(n)[: n // batch_size * batch_size].split(batch_size):
            loss = cross_entropy(network(to_float(train.images[chosen])), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    probabilities = predict(network, to_float(test.images))
    accuracy = float((probabilities.argmax(1) == test.labels).float().mean())
    variance = variance_within_classes(to_float(test.images), probabilities.argmax(1))
    return Classifier(network, accuracy, float(probabilities.max(1).values.mean()), variance)


def variance_within_classes(x: Tensor, classes: Tensor) -> float:
    """Return the variance of pixels around their class's mean image, summed over pixels, averaged over classes."""
    parts = [x[classes == k].flatten(1) for k in range(10)]
    return float(torch.stack([part.var(0).sum() for part in parts if len(part) > 1]).mean())


@torch.no_grad()
def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Return class probabilities (N, 10) of images x (N, 1, 28, 28)."""
    return torch.cat([network(part).softmax(1) for part in x.split(1000)])


def measure(classifier: Classifier, G: Generator, n: int = SAMPLES) -> dict[str, float]:
    """Return the measures of the module's docstring for one generator."""
    x = G.sample(n, seed=0)
    probabilities = predict(classifier.network, x)
    predicted = probabilities.argmax(1)
    frequency = one_hot(predicted, 10).sum(0) / n
    values = {
        "classes": int((frequency > 0).sum()),
        "entropy/ln10": -float((frequency * frequency.clamp_min(1e-12).log()).sum()) / math.log(10),
        "confidence/real": float(probabilities.max(1).values.mean()) / classifier.confidence,
        "variance/real": variance_within_classes(x, predicted) / classifier.variance,
    }
    if G.classes:
        values["accuracy"] = float((predicted == G.labels(n)).float().mean())
    return values


if __name__ == "__main__":
    classifier = train_classifier(os.environ["GAN_DATA"])
    print(f"classifier: {classifier.accuracy:.2%} of the test digits, mean confidence {classifier.confidence:.4f}")
    for path in sys.argv[1:]:
        values = measure(classifier, gancli.load(path))
        print(path, "  ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)
