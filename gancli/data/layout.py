"""Layouts of folders with images to train on and images held out, under the names that people give them.

This module does not import torch.
"""

import re
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
    """A folder of a layout: its path below the root, its split, and the rest of its name, such as "a" of trainA."""

    path: str
    split: str
    rest: str


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

    def inside(self, names: Sequence[str], split: str) -> list[tuple[str, str]]:
        """Return (name, name below its folder) of the images of a split, in the order of `names`."""
        prefixes = tuple(f"{folder.path}/" for folder in self.folders if folder.split == split)
        found = [name for name in names if name.startswith(prefixes)]
        return [(name, name.removeprefix(next(p for p in prefixes if name.startswith(p)))) for name in found]

    def describe(self, root: str, names: Sequence[str]) -> str:
        """Return the one sentence that says what a folder has and how it is used."""
        counts = {f.path: sum(name.startswith(f"{f.path}/") for name in names) for f in self.folders}
        listed = ", ".join(f"{path}/ {n:,}" for path, n in counts.items())
        use = {self.trained: "trained on", self.held_out: "held out"}
        used = {split: how for split, how in use.items() if split}
        used |= {f.split: "not used" for f in self.folders if f.split not in used}
        parts = [self._clause([f.path for f in self.folders if f.split == split], how) for split, how in used.items()]
        parts += [] if self.held_out else ["none held out"]
        if outside := self.outside(names):
            parts.append(f"{len(outside):,} outside left out, such as {outside[0]}")
        return printable(f"{root} has {listed} images: {', '.join(parts)}")

    def outside(self, names: Sequence[str]) -> list[str]:
        """Return the images that are in no folder of the layout."""
        prefixes = tuple(f"{folder.path}/" for folder in self.folders)
        return [name for name in names if not name.startswith(prefixes)]

    @staticmethod
    def _clause(paths: list[str], how: str) -> str:
        return f"{' and '.join(f'{path}/' for path in paths)} {'is' if len(paths) == 1 else 'are'} {how}"


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
    paths = [SplitFolder(_without_repeats(prefix + f.path, names), f.split, f.rest) for f in found]
    return Layout(tuple(sorted(paths, key=lambda f: (SPLITS.index(f.split), f.path)))) if found else None


def _split_folders(folders: Collection[str]) -> list[SplitFolder]:
    """Return those of the folders that make up a layout; none where they are classes, one of which may be `train`."""
    found = [folder for folder in map(_parse, folders) if folder]
    splits = {folder.split for folder in found}
    rests = {folder.rest for folder in found}
    if len(found) < len(folders):  # other folders lie beside them: two that differ in the word are no coincidence
        pairs = [{f.split for f in found if f.rest == rest} for rest in rests]
        return found if any("train" in pair and len(pair) > 1 for pair in pairs) else []
    return found if len(splits) > 1 or len(rests) == 1 or rests == {*DOMAINS} else []


def _parse(name: str) -> SplitFolder | None:
    match = WORD.search(name)
    if not match:
        return None
    rest = re.sub(r"[\W_]+", "", name[: match.start()] + name[match.end() :]).casefold()
    return SplitFolder(name, str(match.lastgroup), rest)


def _without_repeats(path: str, names: Sequence[str]) -> str:
    """Return the innermost of folders such as seg_train/seg_train, of which each has nothing but the next."""
    split = (_parse(path.rsplit("/", 1)[-1]) or SplitFolder("", "", "")).split
    while True:
        below = [name.removeprefix(f"{path}/") for name in names if name.startswith(f"{path}/")]
        folders = {name.split("/", 1)[0] if "/" in name else "" for name in below}
        inner = _parse(next(iter(folders))) if len(folders) == 1 else None
        if not inner or inner.split != split:
            return path
        path += f"/{inner.path}"
