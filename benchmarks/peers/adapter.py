"""What the adapters share: arguments, training images, the clock and the file of samples.

It runs in the environment of a peer: of this project it imports nothing.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

BATCH = 500  # of samples


class TimeUp(Exception):
    """The minutes of training are over."""


class Task:
    """One training of a peer, as run.py asks for it."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--images", required=True, help=".npz of images, uint8 (N, 32, 32, C), and labels (N,)")
        parser.add_argument("--minutes", type=float, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--n", type=int, required=True, help=f"number of samples, a multiple of {BATCH}")
        parser.add_argument("--out", required=True, help=".npy of samples, uint8 (n, 32, 32, C)")
        options = parser.parse_args()
        with np.load(options.images) as content:
            self.images, self.labels = content["images"], content["labels"]
        self.channels = self.images.shape[3]
        self.seconds_given, self.seed = 60 * options.minutes, options.seed
        self.n, self.out = options.n, Path(options.out)
        self.began: float | None = None
        self.seconds, self.steps = 0.0, 0
        random.seed(self.seed)
        np.random.seed(self.seed)
        torch.manual_seed(self.seed)

    def check_clock(self) -> None:
        """Start the clock at the first call; raise TimeUp once the minutes are over."""
        now = time.perf_counter()
        self.began = now if self.began is None else self.began
        self.seconds = now - self.began
        if self.seconds >= self.seconds_given:
            raise TimeUp

    def loader(self, batch_size: int, low: float = -1.0, with_labels: bool = True) -> "Loader":
        """Return shuffled batches of the training images in [low, 1], which end in TimeUp."""
        return Loader(self, Images(self, low, with_labels), batch_size)

    def train(self, function: Callable[[], Any]) -> None:
        """Call a peer's training, which asks a loader of this task for batches, until the minutes are over."""
        try:
            function()
        except TimeUp:
            return
        raise RuntimeError(f"training ended by itself after {self.seconds:.0f} s")

    def write(self, sample: Callable[[int], Tensor], low: float = -1.0) -> None:
        """Write the samples of `sample(n)`, float (n, C, 32, 32) in [low, 1], and print steps and seconds."""
        with torch.no_grad():
            parts = [self._to_bytes(sample(BATCH), low) for _ in range(self.n // BATCH)]
        np.save(self.out, np.concatenate(parts))
        facts = {"steps": self.steps, "seconds": round(self.seconds, 1), "torch": str(torch.__version__)}
        print(json.dumps(facts))

    def _to_bytes(self, images: Tensor, low: float) -> np.ndarray:
        if images.shape != (BATCH, self.channels, 32, 32) or not images.isfinite().all():
            raise ValueError(f"samples of shape {tuple(images.shape)} are not {BATCH} finite images of 32x32")
        scaled = (images.detach().float() - low) / (1 - low)
        return (255 * scaled.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()


class Images(Dataset):
    """Training images, float (C, 32, 32) in [low, 1], with or without their labels."""

    def __init__(self, task: Task, low: float, with_labels: bool) -> None:
        self.images, self.labels, self.low, self.with_labels = task.images, task.labels, low, with_labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        pixels = torch.from_numpy(self.images[index]).permute(2, 0, 1)
        image = pixels.float().mul_((1 - self.low) / 255).add_(self.low)
        return (image, int(self.labels[index])) if self.with_labels else image


class Loader(DataLoader):
    """Batches on the clock of a task."""

    def __init__(self, task: Task, images: Images, batch_size: int) -> None:
        super().__init__(images, batch_size, shuffle=True, drop_last=True)
        self.task = task

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return Batches(self.task, super().__iter__())


class Batches(Iterator[Any]):
    """Iterator over an epoch. Each batch that it returns counts as a step."""

    def __init__(self, task: Task, batches: Iterator[Any]) -> None:
        self.task, self.batches = task, batches

    def __next__(self) -> Any:
        self.task.check_clock()
        batch = next(self.batches)
        self.task.steps += 1
        return batch
