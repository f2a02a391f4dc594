"""Pictures decoded once, into a file that is mapped into memory from then on.

Beside the pixels lies an index, a line a picture: its shape, or why it cannot be read. A line is written when the
pixels it tells of are on the disk, so a process may be killed at any moment: the next start believes the lines that
are whole, and goes on from there.
"""

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from torch import Tensor
from tqdm import tqdm

from gancli.data.image_files import each, printable
from gancli.runtime.hardware import free_memory
from gancli.runtime.locks import RunBusy, RunLock

CACHE = Path("~/.cache/gan/decoded")
FORM = 1  # of the files
PAUSE = 2.0  # seconds between two writings of lines: what a process that is killed loses at most

Fact = list[int] | str  # of a picture: its shape, or why it cannot be read


@dataclass
class Decoded:
    """All pictures of a folder.

    pixels:  uint8 (P,), of those that can be read, one after the other
    facts:   of every name
    mapped:  whether the pixels lie in a file rather than in memory
    warnings: why not, where that is so
    """

    pixels: Tensor
    facts: list[Fact]
    mapped: bool = True
    warnings: list[str] = field(default_factory=list)


def decoded(
    root: Path,
    names: list[str],
    settings: list[Any],
    read: Callable[[Path], np.ndarray | ValueError],
    cache: str = "",
    largest: int = 0,
) -> Decoded:
    """The pictures `names` below the folder `root`, each as the uint8 array that `read` makes of it.

    A ValueError that it raises is the reason to leave the picture out; one that it gives back is raised. settings:
    whatever else its arrays depend on. largest: bytes of one, where they are alike.
    The files lie below the folder `cache`, else ~/.cache/gan/decoded: one pair for each root and settings, as its
    pictures were, by name, size and time, when they were decoded last. Where that cannot be written to, all is done in
    memory. ValueError for a disk that is full.
    """
    if not names:
        return Decoded(torch.empty(0, dtype=torch.uint8), [], mapped=False)
    place = Path(str(cache or CACHE)).expanduser() / digest(FORM, str(root.resolve()), settings)
    # Another Pillow may read what this one cannot.
    name = digest(PIL.__version__, [[name, *state(f"{root}/{name}")] for name in names])
    file, index = place / f"{name}.pixels", place / f"{name}.index"
    with contextlib.suppress(OSError), file.open("rb") as pixels, index.open("rb") as lines:
        facts, used, _ = whole(pixels, lines)
        if len(facts) == len(names):
            return Decoded(mapped(pixels, used), facts)
    with contextlib.ExitStack() as stack:
        try:
            place.mkdir(parents=True, exist_ok=True)
            enter(stack, place, root)
            file.touch()
            index.touch()
        except OSError as error:
            why = f"{printable(str(place))} cannot be written to ({error.strerror})"
            return in_memory(root, names, read, largest, why)
        for old in place.glob("[!.]*"):  # a folder that grows would fill the disk with what it was
            if old.stem != name:
                with contextlib.suppress(OSError):  # Windows keeps what another process has mapped
                    old.unlink()
        if (needed := largest * len(names) - file.stat().st_size) > shutil.disk_usage(place).free:
            raise no_room(root, place, f"{needed / 1e6:,.0f} MB are needed")
        try:
            with file.open("r+b") as out, index.open("r+b") as told:
                facts, used = decode(root, names, read, out, told)
                return Decoded(mapped(out, used), facts)
        except OSError as error:
            raise no_room(root, place, error.strerror or str(error)) from error


def in_memory(
    root: Path, names: list[str], read: Callable[[Path], np.ndarray | ValueError], largest: int, why: str
) -> Decoded:
    """The same where there is no file."""
    advice = "type data.cache=DIR, a folder that can"
    if (needed := largest * len(names)) > (free := free_memory()):
        raise ValueError(
            f"the decoded pictures of {printable(str(root))} are {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB of memory are free, and {why}: {advice}"
        )
    row = io.BytesIO()
    facts, _ = decode(root, names, read, row, io.BytesIO())
    pixels = torch.from_numpy(np.frombuffer(row.getbuffer(), np.uint8))
    remark = f"the decoded pictures are held in memory, and will be decoded again: {why}; {advice}"
    return Decoded(pixels, facts, mapped=False, warnings=[remark])


def digest(*what: Any) -> str:
    return hashlib.blake2b(json.dumps(what).encode(), digest_size=8).hexdigest()


def state(file: str) -> list[int]:
    """What changes with a picture; nothing of one that cannot be opened, so that it has changed once it can."""
    with contextlib.suppress(OSError):
        if os.access(file, os.R_OK):
            found = os.stat(file)  # noqa: PTH116  of a hundred thousand at every start
            return [found.st_size, found.st_mtime_ns]
    return []


def enter(stack: contextlib.ExitStack, place: Path, root: Path) -> None:
    """Hold the lock of `place` until the stack ends; another process that holds it is waited for.

    It spares them the same work twice, and no more: where a file system knows no locks, both write the same bytes to
    the same places.
    """
    for tries in itertools.count():
        with contextlib.suppress(RunBusy):
            stack.enter_context(RunLock(place))
            return
        if not tries:
            print(f"gan: another process decodes {printable(str(root))}: waiting for it", file=sys.stderr, flush=True)
        time.sleep(0.2)


def whole(pixels: BinaryIO, lines: BinaryIO) -> tuple[list[Fact], int, int]:
    """The facts that can be believed, and the bytes of the pixels and of the lines that are theirs."""
    there = pixels.seek(0, io.SEEK_END)
    facts: list[Fact] = []
    used = length = 0
    lines.seek(0)
    for line in lines:
        try:
            fact = json.loads(line)
            end = used + (0 if isinstance(fact, str) else math.prod(fact))
        except (ValueError, TypeError):  # a power cut may leave anything
            break
        if not line.endswith(b"\n") or end > there:
            break
        facts.append(fact)
        used, length = end, length + len(line)
    return facts, used, length


def decode(
    root: Path,
    names: list[str],
    read: Callable[[Path], np.ndarray | ValueError],
    pixels: BinaryIO,
    lines: BinaryIO,
) -> tuple[list[Fact], int]:
    """Write what is not there yet, with a bar on a terminal; gives all facts, and the bytes of all pixels."""
    facts, used, length = whole(pixels, lines)
    lines.truncate(length)
    lines.seek(length)
    pixels.seek(used)
    told, since = len(facts), time.monotonic()

    def tell() -> None:
        nonlocal told, since
        pixels.flush()
        if not isinstance(pixels, io.BytesIO):
            os.fsync(pixels.fileno())
        lines.write("".join(f"{json.dumps(fact)}\n" for fact in facts[told:]).encode())
        lines.flush()
        told, since = len(facts), time.monotonic()

    pictures = each(read, [root / name for name in names[told:]])
    title = f"decoding {printable(str(root))}, once"
    try:
        for picture in tqdm(pictures, title, len(names), initial=told, disable=None, unit="picture", leave=False):
            if isinstance(picture, ValueError):
                raise picture
            if isinstance(picture, str):
                facts.append(picture)
            else:
                used += pixels.write(np.ascontiguousarray(picture).data)
                facts.append(list(picture.shape))
            if time.monotonic() - since > PAUSE:
                tell()
    finally:
        tell()
    return facts, used


def mapped(file: BinaryIO, size: int) -> Tensor:
    """The first bytes of a file, uint8 (size,), to be read only."""
    if not size:  # which cannot be mapped
        return torch.empty(0, dtype=torch.uint8)
    # Not copy-on-write, of which a system promises no more than it has memory.
    pixels = np.memmap(file, np.uint8, "r", shape=(size,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of memory that must not be written to
        return torch.from_numpy(pixels)


def no_room(root: Path, place: Path, why: str) -> ValueError:
    free = shutil.disk_usage(place).free / 1e6
    return ValueError(
        f"the decoded pictures of {printable(str(root))} cannot be written to {printable(str(place))} ({why}, "
        f"{free:,.0f} MB are free there): make room, or type data.cache=DIR, a folder on another disk"
    )
