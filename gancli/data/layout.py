"""Layouts of folders with images to train on and images held out, under the names that people give them.

This module does not import torch.
"""

import functools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gancli.runtime.text import printable

SPLITS = ("train", "val", "test")
# A word of a folder's name: `train2017`, `seg_train` and `trainA` have one; `trainer`, `invalid` and `latest` do not.
WORD = re.compile(
    r"(?<![A-Za-z])(?:(?P<train>(?i:train(?:ing)?(?:[-_ ]?val)?))"
    r"|(?P<val>(?i:val(?:id(?:ation)?)?|dev|eval(?:uation)?))"
    r"|(?P<test>(?i:test(?:ing)?)))(?![A-Za-z]{2}|[a-z])"
)
DOMAINS = ("a", "b")  # sources and targets, in folders such as trainA and trainB


class SplitFolder(NamedTuple):
    """A folder of a layout.

    path:     below the root
    split:    one of SPLITS
    rest:     of its name, such as "a" of trainA
    of_class: of its images, where each class has folders of its own, as in cat/train and dog/train
    """

    path: str
    split: str
    rest: str
    of_class: str = ""

    @property
    def title(self) -> str:
        """What the folders of all classes are called."""
        return f"*/{self.path.rpartition('/')[2]}/" if self.of_class else f"{self.path}/"


Placed = tuple[str, SplitFolder | None]  # an image, and the folder of the layout that it is in


@dataclass(frozen=True)
class Layout:
    """Folders of a layout: the first split there is of SPLITS is trained on, the last one is held out."""

    folders: tuple[SplitFolder, ...]

    @property
    def trained(self) -> str:
        return next(split for split in SPLITS if any(folder.split == split for folder in self.folders))

    @property
    def held_out(self) -> str:
        """The split that is evaluated on; empty where there is only one."""
        last = next(split for split in reversed(SPLITS) if any(folder.split == split for folder in self.folders))
        return "" if last == self.trained else last

    @property
    def has_domains(self) -> bool:
        """Whether there are two sets to train on, such as trainA and trainB."""
        return {folder.rest for folder in self.folders if folder.split == self.trained} == {*DOMAINS}

    def domain(self, rest: str) -> "Layout":
        """Return the folders of one of two sets."""
        return Layout(tuple(folder for folder in self.folders if folder.rest == rest))

    def chosen(self, split: str) -> str:
        """Return the split that data.split="train" or "test" means: train, val or test."""
        return self.held_out or self.trained if split == "test" else self.trained

    @functools.cached_property
    def by_path(self) -> dict[str, SplitFolder]:
        return {folder.path: folder for folder in self.folders}

    @functools.cached_property
    def depths(self) -> list[int]:
        return sorted({folder.path.count("/") + 1 for folder in self.folders})

    def place(self, names: Sequence[str]) -> list[Placed]:
        """Return each image with the folder that it is in, None where it is in none of the layout."""
        return [(name, self._folder_of(name)) for name in names]

    def _folder_of(self, name: str) -> SplitFolder | None:
        for depth in self.depths:
            *parts, rest = name.split("/", depth)
            if rest and len(parts) == depth and (folder := self.by_path.get("/".join(parts))):
                return folder
        return None

    def inside(self, placed: Sequence[Placed], split: str) -> list[tuple[str, str]]:
        """Return (name, name below its folder) of the images of a split, in their order."""
        found = [(name, folder) for name, folder in placed if folder and folder.split == split]
        return [
            (name, (f"{folder.of_class}/" if folder.of_class else "") + name[len(folder.path) + 1 :])
            for name, folder in found
            if folder.path in self.by_path
        ]

    def describe(self, root: str, placed: Sequence[Placed]) -> str:
        """Return the one sentence that says what a folder has and how it is used."""
        counts = Counter[str]()
        for path, n in Counter(folder.path if folder else "" for _, folder in placed).items():
            counts[self.by_path[path].title if path else ""] += n
        titles = {split: list(dict.fromkeys(f.title for f in self.folders if f.split == split)) for split in SPLITS}
        listed = ", ".join(f"{title} {counts[title]:,}" for split in SPLITS for title in titles[split])
        uses = {self.trained: "trained on", self.held_out: "held out"}
        order = [*filter(None, uses), *(split for split in SPLITS if titles[split] and split not in uses)]
        parts = [
            f"{' and '.join(titles[split])} {'is' if len(titles[split]) == 1 else 'are'} {uses.get(split, 'not used')}"
            for split in order
        ]
        parts += [] if self.held_out else ["none held out"]
        if counts[""]:
            first = next(name for name, folder in placed if not folder)
            parts.append(f"{counts['']:,} outside left out, such as {first}")
        return printable(f"{root} has {listed} images: {', '.join(parts)}")


def find_layout(names: Sequence[str], prefix: str = "") -> Layout | None:
    """Return the layout of a folder with these images, paths with forward slashes; None where it has none.

    A folder that has nothing but one folder is looked into.

    Args:
        prefix: path of the folder below the root that is looked into, with a slash at its end.
    """
    below = [name.removeprefix(prefix) for name in names]
    folders = sorted({name.split("/", 1)[0] for name in below if "/" in name})
    found = _split_folders(folders)
    if len(folders) == 1:
        if any("/" not in name for name in below):  # images next to one folder belong to it
            return None
        inner = find_layout(names, f"{prefix}{folders[0]}/")
        if inner and (not found or len(inner.folders) > 1):
            return inner
    if not found and len(folders) > 1 and all("/" in name for name in below):
        return _layout_of_classes(below, folders, prefix)
    paths = [SplitFolder(_without_repeats(prefix + f.path, names), f.split, f.rest) for f in found]
    return Layout(tuple(sorted(paths, key=lambda f: (SPLITS.index(f.split), f.path)))) if found else None


def _layout_of_classes(below: Sequence[str], classes: Sequence[str], prefix: str) -> Layout | None:
    """Return the layout of classes that each have a training set and another one, as in cat/train and cat/test."""
    inner: dict[str, set[str]] = {of_class: set() for of_class in classes}
    for of_class, *rest in (name.split("/", 2) for name in below):
        if len(rest) < 2 or not as_split(rest[0]):
            return None
        inner[of_class].add(rest[0])
    found: list[SplitFolder] = []
    for of_class, folders in inner.items():
        splits = _split_folders(sorted(folders))
        if "train" not in {f.split for f in splits} or len({f.split for f in splits}) < 2:
            return None
        found += [f._replace(path=f"{prefix}{of_class}/{f.path}", of_class=of_class) for f in splits]
    return Layout(tuple(found))


def _split_folders(folders: Collection[str]) -> list[SplitFolder]:
    """Return those of the folders that make up a layout; none where they are classes, one of which may be `train`."""
    found = [folder for folder in map(as_split, folders) if folder]
    splits = {folder.split for folder in found}
    rests = {folder.rest for folder in found}
    if len(found) < len(folders):  # other folders lie beside them: two that differ in the word are no coincidence
        pairs = [{f.split for f in found if f.rest == rest} for rest in rests]
        return found if any("train" in pair and len(pair) > 1 for pair in pairs) else []
    return found if len(splits) > 1 or len(rests) == 1 or rests == {*DOMAINS} else []


def as_split(name: str) -> SplitFolder | None:
    """Return what the name of a folder says about its split; None where that is nothing."""
    match = WORD.search(name)
    if not match:
        return None
    rest = re.sub(r"[\W_]+", "", name[: match.start()] + name[match.end() :]).casefold()
    return SplitFolder(name, str(match.lastgroup), rest)


def _without_repeats(path: str, names: Sequence[str]) -> str:
    """Return the innermost of folders such as seg_train/seg_train, of which each has nothing but the next."""
    split = (as_split(path.rsplit("/", 1)[-1]) or SplitFolder("", "", "")).split
    while True:
        below = [name.removeprefix(f"{path}/") for name in names if name.startswith(f"{path}/")]
        folders = {name.split("/", 1)[0] if "/" in name else "" for name in below}
        inner = as_split(next(iter(folders))) if len(folders) == 1 else None
        if not inner or inner.split != split:
            return path
        path += f"/{inner.path}"
