"""Cache of decoded images: a file of pixels that is memory-mapped from the second run on.

Next to the pixels lies an index. Its first line says of what and how they were decoded, with a checksum. Each further
line is an image: its shape, with notes on its decoding if there are any, or the reason why it cannot be decoded. A line
is written after its pixels are on the disk, so a process may be killed at any moment: the next run reads the complete
lines and goes on from there.

A file with another first line, or that another user made, is not believed and made again.
"""

import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import math
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL
import torch
from torch import Tensor
from tqdm import tqdm

from gancli.data.image_files import map_parallel
from gancli.data.listing import Skipped
from gancli.runtime.cache import is_own
from gancli.runtime.files import user_folder
from gancli.runtime.hardware import free_memory
from gancli.runtime.locks import RunBusy, RunLock
from gancli.runtime.terminal import say
from gancli.runtime.text import plural, printable

FOLDER = Path("~/.cache/gan/decoded")
FORMAT = 4  # of the files and of how images are decoded; 3: with a header, 4: 12 bits and profiles of 16-bit grey
FLUSH_SECONDS = 2.0  # between two writings of lines: a process that is killed loses no more than this

Entry = list[int] | str  # an image's shape, or the reason why it cannot be decoded
Line = Entry | dict[str, Any]  # of the index: an entry, or {"shape": ..., "notes": [...]}
Read = Callable[[Path], tuple[np.ndarray, Sequence[str]]]  # the pixels, and notes on their decoding


@dataclass(frozen=True)
class Header:
    """First line of an index."""

    source: str  # folder of the images
    settings: list[Any]  # everything that the decoded arrays depend on, the size among it
    files: str  # digest of names, sizes and times of the images
    bytes_each: int  # of a decoded image, where they are alike; else 0

    @property
    def line(self) -> bytes:
        facts = {"format": FORMAT, **vars(self)}
        return f"{json.dumps({**facts, 'checksum': digest(facts)})}\n".encode()


@dataclass
class DecodedImages:
    """All images of a folder: their pixels, uint8 (P,), one image after the other, and an entry for each name.

    memory_mapped: the pixels are in a file rather than in memory; `warnings` says why they are not
    notes: what decoding changed or left out, and of how many images
    """

    pixels: Tensor
    entries: list[Entry]
    memory_mapped: bool = True
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_lines(
        cls, pixels: Tensor, lines: list[Line], memory_mapped: bool = True, warning: str = ""
    ) -> "DecodedImages":
        """Return the images of the lines of an index."""
        notes = Counter(note for line in lines if isinstance(line, dict) for note in line["notes"])
        entries = [line["shape"] if isinstance(line, dict) else line for line in lines]
        return cls(pixels, entries, memory_mapped, [warning] if warning else [], dict(notes.most_common()))

    def reasons(self, names: list[str]) -> Skipped:
        """Return (name, reason) of the images that cannot be decoded."""
        return [(name, entry) for name, entry in zip(names, self.entries) if isinstance(entry, str)]


def decode_cached(
    root: Path, names: list[str], settings: list[Any], read: Read, cache: str = "", bytes_each: int = 0
) -> DecodedImages:
    """Return the images `names` below the folder `root`, decoded now or read from the cache.

    The cache has one pair of files for each root and settings. Images that are new, changed or gone (by name, size and
    time) replace it. Where the cache folder cannot be written to, the images are decoded into memory.

    Args:
        settings: everything that the decoded arrays depend on.
        read: decodes one file to uint8, or raises BadImage to skip it.
        cache: folder of the caches; FOLDER unless given.
        bytes_each: size of one decoded image, where they are alike.
    """
    if not names:
        return DecodedImages(torch.empty(0, dtype=torch.uint8), [], memory_mapped=False)
    folder = user_folder(str(cache or FOLDER)) / digest(FORMAT, str(root.resolve()), settings)
    # Another version of Pillow, or pillow-heif, may decode what this one cannot.
    decoders = [PIL.__version__, *(["heif"] if importlib.util.find_spec("pillow_heif") else [])]
    name = digest(decoders, [[name, *file_stamp(f"{root}/{name}")] for name in names])
    head = Header(printable(str(root.resolve())), settings, name, bytes_each)
    pixel_file, index_file = folder / f"{name}.pixels", folder / f"{name}.index"
    if reason := untrusted(head, pixel_file, index_file):
        say(f"gan: {printable(str(index_file))} is not used, since {reason}; it is made again")
        with contextlib.suppress(OSError):
            pixel_file.unlink(missing_ok=True)
            index_file.unlink(missing_ok=True)
    with contextlib.suppress(OSError), pixel_file.open("rb") as pixels, index_file.open("rb") as index:
        lines, used, _ = complete_lines(pixels, index, head)
        if len(lines) == len(names):
            return DecodedImages.from_lines(memory_map(pixels, used), lines)
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            wait_for_lock(stack, folder, root)
            pixel_file.touch()
            index_file.touch()
            if untrusted(head, pixel_file, index_file):
                raise PermissionError(0, "another user's files lie there")
        except OSError as error:
            why = f"{printable(str(folder))} cannot be written to ({error.strerror})"
            return decode_in_memory(root, names, read, bytes_each, why)
        for old in folder.glob("[!.]*"):  # every change of a growing folder would leave a copy on the disk
            if old.stem != name:
                with contextlib.suppress(OSError):  # Windows keeps files that another process has mapped
                    old.unlink()
        if (needed := bytes_each * len(names) - pixel_file.stat().st_size) > shutil.disk_usage(folder).free:
            raise disk_full(root, folder, f"{needed / 1e6:,.0f} MB are needed for {plural(len(names), 'image')}")
        try:
            with pixel_file.open("r+b") as pixels, index_file.open("r+b") as index:
                lines, used = decode_rest(root, names, read, pixels, index, head)
                return DecodedImages.from_lines(memory_map(pixels, used), lines)
        except OSError as error:
            raise disk_full(root, folder, error.strerror or str(error)) from error


def decode_in_memory(root: Path, names: list[str], read: Read, bytes_each: int, why: str) -> DecodedImages:
    """Decode all images without a cache; raise ValueError if they do not fit into memory."""
    advice = "type data.cache=DIR, a folder that can"
    if (needed := bytes_each * len(names)) > (free := free_memory()):
        raise ValueError(
            f"the {plural(len(names), 'decoded image')} of {printable(str(root))} take {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB of memory are free, and {why}; {advice}, or a smaller data.size="
        )
    buffer = io.BytesIO()
    lines, _ = decode_rest(root, names, read, buffer, io.BytesIO(), Header("", [], "", bytes_each))
    pixels = torch.from_numpy(np.frombuffer(buffer.getbuffer(), np.uint8))
    warning = f"the decoded images are in memory and every run decodes them again: {why}; {advice}"
    return DecodedImages.from_lines(pixels, lines, memory_mapped=False, warning=warning)


def digest(*values: Any) -> str:
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()


def file_stamp(file: str) -> list[int]:
    """Return size and time of a file; nothing if it cannot be opened, so that it counts as changed once it can."""
    with contextlib.suppress(OSError):
        if os.access(file, os.R_OK):
            stat = os.stat(file)  # noqa: PTH116  a Path is slow for a hundred thousand files at every start
            return [stat.st_size, stat.st_mtime_ns]
    return []


def wait_for_lock(stack: contextlib.ExitStack, folder: Path, root: Path) -> None:
    """Hold the lock of `folder` until the stack ends, waiting for another process that holds it.

    The lock only saves work: on a file system without locks both processes write the same bytes to the same file.
    """
    for attempt in itertools.count():
        with contextlib.suppress(RunBusy):
            stack.enter_context(RunLock(folder))
            return
        if not attempt:
            say(f"gan: another process decodes {printable(str(root))}: waiting for it")
        time.sleep(0.2)


def untrusted(head: Header, *files: Path) -> str:
    """Return why the files of pixels and index are not believed; empty where they are, or are missing or empty."""
    with contextlib.suppress(OSError):
        if not all(is_own(file) for file in files):
            return "another user made it"
        with files[-1].open("rb") as index:
            first = index.readline(len(head.line))
        # A power cut may leave a part of the line, or zeros.
        return "its header was changed" if first.strip(b"\0") and not head.line.startswith(first) else ""
    return ""


def complete_lines(pixels: BinaryIO, index: BinaryIO, head: Header) -> tuple[list[Line], int, int]:
    """Return the complete lines, and the bytes that they take in the pixel file and in the index."""
    size = pixels.seek(0, io.SEEK_END)
    lines: list[Line] = []
    used = 0
    index.seek(0)
    length = len(head.line)
    if index.readline() != head.line:
        return [], 0, 0
    for text in index:
        try:
            line = json.loads(text)
            shape = line["shape"] if isinstance(line, dict) else line
            end = used + (0 if isinstance(line, str) else checked_bytes(shape, head.bytes_each))
            whole = not isinstance(line, dict) or all(isinstance(note, str) for note in line["notes"])
        except (ValueError, TypeError, KeyError):  # a power cut may leave anything
            break
        if not whole or not text.endswith(b"\n") or end > size:
            break
        lines.append(line)
        used, length = end, length + len(text)
    return lines, used, length


def checked_bytes(shape: list[int], bytes_each: int) -> int:
    """Return the bytes of an image of this shape; ValueError for a shape that no decoder returns."""
    size = math.prod(shape)
    if not all(type(n) is int and n > 0 for n in shape) or (bytes_each and size != bytes_each):
        raise ValueError(shape)
    return size


def decode_rest(
    root: Path, names: list[str], read: Read, pixels: BinaryIO, index: BinaryIO, head: Header
) -> tuple[list[Line], int]:
    """Decode and write what the files lack; return all lines and the bytes of all pixels."""
    lines, used, length = complete_lines(pixels, index, head)
    index.truncate(length)
    index.seek(length)
    if not length:
        index.write(head.line)
    pixels.seek(used)
    written, since = len(lines), time.monotonic()

    def flush() -> None:
        nonlocal written, since
        pixels.flush()
        if not isinstance(pixels, io.BytesIO):
            os.fsync(pixels.fileno())
        index.write("".join(f"{json.dumps(line)}\n" for line in lines[written:]).encode())
        index.flush()
        written, since = len(lines), time.monotonic()

    results = map_parallel(read, [root / name for name in names[written:]])
    title = f"decoding {printable(str(root))}, once"
    try:
        for result in tqdm(results, title, len(names), initial=written, disable=None, unit="image", leave=False):
            if isinstance(result, str):
                lines.append(result)
            else:
                array, notes = result
                used += pixels.write(np.ascontiguousarray(array).data)
                shape = list(array.shape)
                lines.append({"shape": shape, "notes": list(notes)} if notes else shape)
            if time.monotonic() - since > FLUSH_SECONDS:
                flush()
    finally:
        flush()
    return lines, used


def memory_map(file: BinaryIO, size: int) -> Tensor:
    """Return the first `size` bytes of a file as a read-only tensor, uint8 (size,)."""
    if not size:  # an empty file cannot be mapped
        return torch.empty(0, dtype=torch.uint8)
    # Not copy-on-write, which systems limit to the memory they have.
    pixels = np.memmap(file, np.uint8, "r", shape=(size,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about read-only memory
        return torch.from_numpy(pixels)


def disk_full(root: Path, folder: Path, why: str) -> ValueError:
    free = shutil.disk_usage(folder).free / 1e6
    return ValueError(
        f"the decoded images of {printable(str(root))} cannot be written to {printable(str(folder))} ({why}, "
        f"{free:,.0f} MB are free there); free some space, or type data.cache=DIR, a folder on another disk, or a "
        "smaller data.size="
    )
