"""The images that a network is measured on, in blocks: of those that it was not trained on where there are such."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gancli.config import CONFIGS, build, choices, keys, register_resolvers
from gancli.data.by_name import load_by_name
from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.inference.generator import BLOCK
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import printable


@dataclass(eq=False)
class EvaluationSet:
    """data: an ImageDataset or ImageCrops, and what they are called. split: "test" or "train", or why neither.

    n: how many of them are measured at most, drawn by the seed.
    """

    data: Any
    name: str
    split: str
    n: int
    seed: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"at least one image is measured, but n={self.n}; type n=10000")
        if getattr(self.data, "is_points", False):
            raise ValueError(f"data={self.name} are points of the plane, and pictures alone are measured so far")

    def indices(self, total: int) -> Tensor:
        """Which of so many are measured, int64, in their order: all of them, or n drawn at random.

        The first n would not do: the beginning of a set is often of other images, of one class say.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "indices"))
        return torch.randperm(total, generator=generator)[: self.n].sort().values

    @property
    def pairs(self) -> bool:
        """Whether every image has its source."""
        return self.two_sets and self.data.paired

    @property
    def two_sets(self) -> bool:
        return isinstance(self.data, ImageDataset) and len(self.data.sources) > 0

    @property
    def channels(self) -> int:
        return self.data.channels

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def count(self) -> int:
        """How many images are measured."""
        return min(self.n, len(self.data))

    def stored(self, bar: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """The images, uint8 (N, C, H, H), and their classes (N,), on the CPU."""
        indices = self.indices(len(self.data))
        for block in blocks(indices, "real images") if bar else indices.split(BLOCK):
            yield self.data.take(block).cpu(), self.data.labels[block]

    def images(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """x (N, C, H, W) in [-1, 1], classes (N,) and sources (N, C', H, W), of pairs, else (N, 0); on the CPU."""
        for indices in blocks(self.indices(len(self.data)), "images"):
            sources = self.data.take_sources(indices) if self.pairs else torch.zeros(len(indices), 0)
            yield to_float(self.data.take(indices)), self.data.labels[indices], to_float(sources)

    @property
    def protocol(self) -> dict[str, Any]:
        """Which images these are."""
        return {
            "data": self.name,
            "split": self.split,
            "n": self.count,
            "of": len(self.data),
            "size": self.data.size,
            "channels": self.data.channels,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        """The same in a line, for a person."""
        kind = "grey" if self.data.channels == 1 else "colour"
        count = f"{self.count:,} of {len(self.data):,} images"
        return f"{count} of {self.name}, split {self.split}, {self.data.size}x{self.data.size} {kind}; seed {self.seed}"


def blocks(indices: Tensor, what: str) -> Iterator[Tensor]:
    """`indices` in blocks of BLOCK, with a bar on a terminal."""
    with tqdm(total=len(indices), desc=what, leave=False, disable=None, file=sys.stderr) as bar:
        for block in indices.split(BLOCK):
            yield block
            bar.update(len(block))


@contextlib.contextmanager
def drawing(seed: int, *what: str | int) -> Iterator[None]:
    """Within it torch draws on the CPU what depends on this alone; outside as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *what))
        yield


# How a folder that is typed is read, by what the model was trained on; others as data=folder has it.
FOLDERS = {"photos": "photos", "pairs": "pairs", "unpaired": "pairs"}


def load(word: str, split: str, trained: dict[str, Any], size: int, channels: int) -> tuple[Any, str, str]:
    """The data that are meant, what they are called, and which split of them it is.

    word: a name of configs/data; a folder or .npz file, read with the settings of what the model was trained on; or
    empty for that itself. trained: what a checkpoint says of it. size, channels: of the model's images.
    """
    if split not in ("test", "train"):
        raise ValueError(f"split={split} is neither test nor train; type split=test")
    own, names = str(trained["name"]), choices("data")
    if not word and own not in names:
        raise ValueError(
            f"this model was trained on data={printable(own)}, which is not here; type data=DIR, or a name of "
            f"{', '.join(names)}"
        )
    kind, path = own, {}
    if word:
        is_file = word.lower().endswith(".npz")
        if word in names or not (is_file or Path(word).expanduser().is_dir()):
            return load_by_name(word, size, channels, split), word, split if has_split(word) else "none"
        kind, path = "npz" if is_file else FOLDERS.get(own, "folder"), {"path": word, "sources": ""}
    settings = {**trained, "size": size, "channels": channels, "split": split, **path}
    name = " ".join(str(part) for part in (kind, settings.get("path")) if part)
    data = filled(kind, settings)
    for file, reason in data.skipped:
        print(f"gan: {file} was left out: {reason}", file=sys.stderr)
    undivided = "none" if word else "none, those it was trained on"
    return data, printable(name), split if has_split(kind) else undivided


def has_split(name: str) -> bool:
    return any(key.name == "split" for key in keys(f"data/{name}"))


def filled(kind: str, settings: dict[str, Any]) -> Any:
    """The data that configs/data/`kind`.yaml describes, with those of its settings that are given.

    They may be a stranger's: what is called is what our own yaml names, and of theirs plain values are taken, but not
    where data sets lie and where something is written.
    """
    from omegaconf import OmegaConf

    register_resolvers()
    data: Any = OmegaConf.load(CONFIGS / "data" / f"{kind}.yaml")
    for key, value in settings.items():
        plain = value is None or (isinstance(value, int | float | str) and "${" not in str(value))
        if key in data and key not in ("source", "root", "cache") and plain:
            data[key] = value
    return build(OmegaConf.create({"data": data}).data.source)
