"""The evaluation set: real images in batches, from the test split where the data have one."""

import contextlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from gancli.config import CONFIGS, build, choices, is_ours, keys, literal_text, register_resolvers
from gancli.data.by_name import load_by_name
from gancli.data.contents import PATHS, contents, data_name, digests
from gancli.data.dataset import ImageDataset
from gancli.data.layout import find_layout
from gancli.data.listing import FOLDER_TYPES, existing_folder, is_source, skipped_lines, walk_images
from gancli.images import Size, in_pixels, sides, to_float
from gancli.inference.generator import BLOCK
from gancli.runtime.cache import is_remembered
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.files import typed_path
from gancli.runtime.seeding import derive_seed
from gancli.runtime.terminal import say
from gancli.runtime.text import plural, printable, shell_quote


def random_subset(total: int, n: int, seed: int) -> Tensor:
    """Return n of `total` indices, or all if there are fewer, sorted int64.

    The first n would not do: files and data sets are often sorted by class.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "entries"))
    return torch.randperm(total, generator=generator)[:n].sort().values


def batched(indices: Tensor, description: str = "") -> Iterator[Tensor]:
    """Yield indices in batches of BLOCK; show a progress bar on a terminal if it has a description."""
    disable = None if description else True  # None: disabled unless on a terminal
    with tqdm(total=len(indices), desc=description, leave=False, disable=disable, file=sys.stderr) as bar:
        for batch in indices.split(BLOCK):
            yield batch
            bar.update(len(batch))


@dataclass(eq=False)
class EvaluationSet:
    """Real images to evaluate on."""

    data: Any  # ImageDataset or ImageCrops
    name: str  # of the data, for people and the protocol
    split: str  # "test", "train", or why the data have neither
    n: int  # upper limit on the number of images, a random subset by `seed`
    seed: int
    content: str = ""  # digest of the files, where the data are files of the user

    def __post_init__(self) -> None:
        check_number("n", self.n, least=1, example=10000)
        if getattr(self.data, "is_points", False):
            raise ValueError(f"data={self.name} are points of the plane, and only images can be evaluated")

    def indices(self, total: int) -> Tensor:
        return random_subset(total, self.n, self.seed)

    @property
    def has_two_domains(self) -> bool:
        return isinstance(self.data, ImageDataset) and len(self.data.sources) > 0

    @property
    def has_pairs(self) -> bool:
        return self.has_two_domains and self.data.paired

    @property
    def channels(self) -> int:
        return self.data.channels

    @property
    def size(self) -> Size:
        return self.data.size

    @property
    def count(self) -> int:
        return min(self.n, len(self.data))

    def uint8_batches(self, progress: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        for indices in batched(self.indices(len(self.data)), "real images" if progress else ""):
            yield self.data.take(indices).cpu(), self.data.labels[indices]

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield x (N, C, H, W) in [-1, 1], classes (N,) and sources (N, C', H, W), or (N, 0) without pairs."""
        for indices in batched(self.indices(len(self.data)), "images"):
            sources = self.data.take_sources(indices) if self.has_pairs else torch.zeros(len(indices), 0)
            yield to_float(self.data.take(indices)), self.data.labels[indices], to_float(sources)

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "data": self.name,
            **({"content": self.content} if self.content else {}),
            "split": self.split,
            "n": self.count,
            "of": len(self.data),
            "size": self.data.size,
            "channels": self.data.channels,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        mode = "grey" if self.data.channels == 1 else "colour"
        count = f"{self.count:,} of {plural(len(self.data), 'image')}"
        return f"{count} of {self.name}, split {self.split}, {in_pixels(self.data.size)} {mode}; seed {self.seed}"


@contextlib.contextmanager
def fixed_seed(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's CPU generator for one purpose and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *purpose))
        yield


LARGEST_SET = {"test": 10_000, "train": 60_000}  # images of a built-in data set
MOST_BYTES = 3 * 10**9  # that the images may take on the word of a checkpoint


def load_reference(
    word: str, split: str, trained: dict[str, Any], size: Size, channels: int
) -> tuple[Any, str, str, str]:
    """Load the data to evaluate a model on.

    Args:
        word: name of a data set; folder or .npz file, read with the settings of the training data; or "" for the
            training data's own test split.
        trained: data section of the checkpoint's config.
        size, channels: of the model's images.

    Returns:
        The data, their name, their split and their content, as for EvaluationSet.
    """
    check_choice("split", split, ("test", "train"))
    own, names = str(trained["name"]), choices("data")
    ours = own in names and is_ours(f"data/{own}")  # a file must not choose what else is called
    if not word and not ours:
        raise ValueError(
            f"this model was trained on data={printable(own)}, which is not here; type data=DIR, or a name of "
            f"{', '.join(names)}"
        )
    name, path = own, {}
    if word and ours and is_stored(word, trained):
        word = ""  # the typed path confirms the file's own settings; a second folder has to be known too
        path = {"path": trained["path"]}
    if not word:
        confirm(trained, typed=bool(path))
    else:
        is_file = word.lower().endswith(".npz")
        if word in names or not (is_file or is_source(typed_path(word))):
            if word in names:
                check_cost(word, {"size": size, "channels": channels, "split": split})
            return load_by_name(word, size, channels, split), word, split if has_split(word) else "none", ""
        name, path = (
            "npz" if is_file else folder_type(own, word),
            {"path": word, "sources": "", "labels": "", "hold_out": 0},
        )
    settings = {**trained, "size": size, "channels": channels, "split": split, **path}
    check_cost(name, settings)
    data = build_data(name, settings)
    for line in [*data.notes, *skipped_lines(data.skipped)]:
        say(f"gan: {line}")
    without_split = "none" if word else "none, training images"
    if name in FOLDER_TYPES:
        split = data.split or without_split
    elif not has_split(name):
        split = without_split
    return data, data_name(name, settings.get("path")), split, digests(contents(data, settings))


def folder_type(trained: str, folder: str) -> str:
    """Return the data that a typed folder is read as, for a model that was trained on data=`trained`."""
    if trained == "unpaired":
        layout = find_layout(walk_images(existing_folder(folder))[0])
        return "unpaired" if layout and layout.has_domains else "pairs"
    return trained if trained in FOLDER_TYPES else "folder"


def is_stored(word: str, trained: dict[str, Any]) -> bool:
    """Return whether a typed path is the one that the training data have in the checkpoint."""
    stored = trained.get("path")
    return isinstance(stored, str) and bool(stored) and typed_path(word).resolve() == typed_path(stored).resolve()


def confirm(trained: dict[str, Any], typed: bool) -> None:
    """Raise ValueError for a path of a checkpoint that the user of this machine has never named in a command.

    A file may be untrusted: it must not choose what is read here.
    """
    paths = [str(trained[key]) for key in PATHS if trained.get(key)]
    unknown = [path for path in paths[int(typed) :] if not is_remembered(path)]
    if unknown:
        command = f"type {shell_quote(f'data={paths[0]}')} to evaluate on it, or data= of other images"
        if unknown[0] != paths[0]:
            command = "type data=DIR, a folder of images side by side"
        raise ValueError(
            f"the checkpoint names {printable(unknown[0])} as its training data, which was not read, since no gan "
            f"train on this machine has named it; {command}"
        )


def check_cost(name: str, settings: dict[str, Any]) -> None:
    """Raise ValueError where the settings of a checkpoint ask for more memory than a file may."""
    n = settings.get("n", LARGEST_SET[settings["split"]])
    if "n" not in {key.name for key in keys(f"data/{name}")}:
        n = LARGEST_SET[settings["split"]] if name in choices("data") and not settings.get("path") else 1
    size, channels = settings["size"], settings["channels"]
    if not isinstance(n, int) or not n * math.prod(sides(size)) * channels <= MOST_BYTES:
        raise ValueError(
            f"the checkpoint asks for data={name} of {n} images of {in_pixels(size)} pixels, more than the "
            f"{MOST_BYTES / 1e9:.0f} GB that a file may take; type data=DIR, a folder of fewer images"
        )


def has_split(name: str) -> bool:
    return any(key.name == "split" for key in keys(f"data/{name}"))


def build_data(name: str, settings: dict[str, Any]) -> Any:
    """Build the data of configs/data/`name`.yaml with the settings of a checkpoint.

    Settings may be untrusted. The yaml chooses the function to call. Only numbers and strings are taken over, and none
    that name the folders of data sets and caches.
    """
    from omegaconf import OmegaConf

    register_resolvers()
    data: Any = OmegaConf.load(CONFIGS / "data" / f"{name}.yaml")
    for key, value in settings.items():
        is_scalar = value is None or isinstance(value, int | float | str) or key == "size"
        if key in data and key not in ("source", "root", "cache") and is_scalar:
            data[key] = literal_text(value) if isinstance(value, str) else value
    return build(OmegaConf.create({"data": data}).data.source)
