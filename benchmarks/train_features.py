"""Train the networks that our own scores are by, and write their weights, which come along with gancli.

    python benchmarks/train_features.py mnist --precision bf16  # 5 epochs, 3.5 minutes of one core
    python benchmarks/train_features.py cifar --precision bf16  # 40 epochs, about 45 minutes of two cores

Needs MNIST or CIFAR-10 under $GAN_DATA (or --root). The accuracy on the test images is told after every epoch, and
chooses nothing: the weights are those of the last. The file holds 16-bit numbers, and the accuracy at the end is
theirs. Same machine, same threads, same weights, unless --minutes ends the training.
"""

import argparse
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gancli.checkpoint.format import versions
from gancli.checkpoint.rebuild import rebuild
from gancli.data.builtin import cifar10, mnist
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader
from gancli.images import to_float
from gancli.metrics import feature_extractors as features
from gancli.runtime.files import write_atomically
from gancli.runtime.hardware import describe
from gancli.runtime.seeding import derive_seed
from gancli.training.schedules import Budget
from gancli.transforms.augment import warp

BATCH, DECAY, MOMENTUM = 128, 5e-4, 0.9
PEAK = 0.15  # the share of the training after which the rate is highest


class Recipe(NamedTuple):
    """A network and what it is trained on. turn: degrees, shift: pixels, both at most and either way."""

    data: Callable[..., ImageDataset]
    channels: int
    size: int
    width: int
    epochs: int
    rate: float
    turn: float
    shift: int
    flip: bool


RECIPES = {
    "mnist": Recipe(mnist, 1, 28, 16, 5, 0.1, 12.0, 2, False),
    "cifar": Recipe(cifar10, 3, 32, 32, 40, 0.2, 0.0, 4, True),
}


def moved(x: Tensor, turn: float, shift: int, generator: torch.Generator) -> Tensor:
    """Each image of x (N, C, H, H) turned about its centre and moved by whole pixels; what comes in is mirrored."""
    angle = math.radians(turn) * (2 * torch.rand(len(x), generator=generator) - 1)
    across, down = torch.randint(-shift, shift + 1, (2, len(x)), generator=generator)
    cos, sin = angle.cos(), angle.sin()
    return warp(x, torch.stack([cos, -sin, across, sin, cos, down], 1).unflatten(1, (2, 3)))


def train(
    network: nn.Module,
    recipe: Recipe,
    data: ImageDataset,
    test: ImageDataset,
    budget: Budget,
    options: argparse.Namespace,
) -> tuple[int, float]:
    """Cross-entropy by SGD with Nesterov's momentum, its rate straight up and straight down; gives rounds and minutes.

    Smith and Topin 2018, https://arxiv.org/abs/1708.07120.
    """
    batches = BatchLoader(data, BATCH, 10, recipe.flip, options.seed, torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), recipe.rate, MOMENTUM, weight_decay=DECAY, nesterov=True)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16")
    step, minutes, epoch, total, began = 0, 0.0, len(data) // BATCH, torch.zeros(()), time.perf_counter()
    while (progress := budget.progress(step, 0, 60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = recipe.rate * min(progress / PEAK, (1 - progress) / (1 - PEAK))
        x, c = batches(step)
        x = moved(x, recipe.turn, recipe.shift, torch.Generator().manual_seed(derive_seed(options.seed, "moved", step)))
        with autocast:
            logits = network(x.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(logits.float(), c)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step, total, minutes = step + 1, total + loss.detach(), (time.perf_counter() - began) / 60
        if step % epoch == 0:
            with autocast:
                told = f"loss {total / epoch:.4f}, {accuracy(network, test):.2%} of the test images"
            print(f"epoch {step // epoch}, {minutes:.1f} minutes: {told}", file=sys.stderr, flush=True)
            total = torch.zeros(())
    return step, minutes


@torch.no_grad()
def accuracy(network: nn.Module, test: ImageDataset) -> float:
    """The share of images whose class is found; the network is in training mode before and after."""
    network.eval()
    found = torch.cat([network(to_float(part)).argmax(1) for part in test.images.split(features.CHUNK)])
    network.train()
    return float((found == test.labels).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--minutes", type=float, default=None, help="end the training then, its rates scaled to it")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the convolutions in training")
    parser.add_argument("--out", type=Path, default=features.WEIGHTS, help="folder of features-NAME.safetensors")
    parser.add_argument("--root", default=os.environ.get("GAN_DATA", "~/.cache/gan/data"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recipe = RECIPES[options.name]
    data, test = (recipe.data(options.root, recipe.size, recipe.channels, split) for split in ("train", "test"))
    config = {
        "_target_": "gancli.networks.classifier.Classifier",
        "channels": recipe.channels,
        "size": recipe.size,
        "width": recipe.width,
        "classes": 10,
    }
    torch.manual_seed(derive_seed(options.seed, "network"))
    network = rebuild(config).to(memory_format=torch.channels_last)
    budget = Budget(steps=recipe.epochs * (len(data) // BATCH), minutes=options.minutes)
    step, minutes = train(network, recipe, data, test, budget, options)
    found = accuracy(network.half().float(), test)
    metadata = {
        "network": json.dumps(config),
        "trained": f"{step} rounds of {BATCH} images of {options.name}, {minutes:.1f} minutes, {options.precision}",
        "accuracy": f"{found:.4f}",
        "command": shlex.join(["python", *sys.argv]),
        "machine": describe(torch.device("cpu")),
        "versions": json.dumps(versions()),
    }
    path = options.out / f"features-{options.name}.safetensors"
    data = save({key: x.contiguous() for key, x in network.half().state_dict().items()}, metadata)
    write_atomically(path, lambda partial: partial.write_bytes(data))
    print(f"{path}: {path.stat().st_size:,} bytes, {found:.2%} of the test images, {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
