"""Events of files in a process, such as writes and renames: it can die at one, with its machine, or find no room."""

import builtins
import errno
import io
import itertools
import json
import os
import random
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from gancli.training.loop import Trainer

GROW = ("open", "write", "os.mkdir", "os.link")  # events that need room
CHANGE = ("os.remove", "os.rmdir", "os.mkdir", "os.truncate")


class Watch:
    """Watcher of all that this process does to the files below a folder: at event `at` the process dies, 0 never."""

    CODE = 9  # of a process that dies

    def __init__(self, folder: Path, at: int = 0):
        self.folder, self.at, self.count, self.active = str(folder), at, 0, False
        self.lock = threading.RLock()

    def begin(self) -> None:
        """Watch from now on."""
        self.active = True
        original, sync, write = io.open, os.fsync, os.write

        def opened(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
            if not (self.covers(file) and set(mode) & set("wax+")):
                return original(file, mode, buffering, *more, **options)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            raw.watch = self
            if buffering == 0:
                return raw
            buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *more, **options)

        def synced(handle: int) -> None:
            self.event("fsync", path_of(handle))
            sync(handle)

        def written(handle: int, data: bytes) -> int:
            self.event("write", path_of(handle))
            return write(handle, data)

        io.open = builtins.open = opened  # type: ignore[assignment]
        os.fsync, os.write = synced, written  # type: ignore[assignment]
        sys.addaudithook(self.hook)

    def end(self) -> None:
        """Stop watching: the command has ended."""

    def covers(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder)  # type: ignore[arg-type]

    def hook(self, name: str, values: tuple[Any, ...]) -> None:
        if not values or not self.covers(values[0]):
            return
        if name in ("os.rename", "os.link"):
            self.event(name, os.fspath(values[0]), os.fspath(values[1]))
        elif name in CHANGE or (name == "open" and values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            self.event(name, os.fspath(values[0]))

    def event(self, name: str, path: str, to: str = "") -> None:
        """Count an event that comes next; other threads wait, also when the process dies here."""
        with self.lock:
            if self.active and path.startswith(self.folder):
                self.active = False  # what this does is no event
                try:
                    self.count += 1
                    self.meet(name, path, to)
                finally:
                    self.active = True

    def meet(self, name: str, path: str, to: str) -> None:
        if self.count == self.at:
            self.die()

    def die(self) -> None:
        os._exit(self.CODE)


class Raw(io.FileIO):
    """File whose writes are events."""

    watch: Watch

    def write(self, data: Any) -> int:
        with self.watch.lock:
            is_cut = self.watch.active and self.watch.count + 1 == self.watch.at
            written = super().write(bytes(data)[: len(data) // 2]) if is_cut else 0
            self.watch.event("write", str(self.name))
        return written if is_cut else super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self.watch.event("truncate", str(self.name))
        return super().truncate(size)


class Counter(Watch):
    """Counter of events, which writes their number, that of the first one after the last step, and the modules."""

    def __init__(self, folder: Path, file: Path, steps: int):
        super().__init__(folder)
        self.file, self.steps, self.first = file, steps, 0

    def begin(self) -> None:
        super().begin()
        train_step = Trainer.train_step

        def counted(trainer: Trainer, progress: float) -> None:
            train_step(trainer, progress)
            if trainer.step == self.steps:  # in a sweep of its last job
                self.first = self.count + 1

        Trainer.train_step = counted  # type: ignore[method-assign]

    def end(self) -> None:
        self.file.write_text(json.dumps([self.count, self.first, sorted(sys.modules)]))


class FullDisk(Watch):
    """From an event on, what needs room fails; the write of this event writes its first half."""

    def meet(self, name: str, path: str, to: str) -> None:
        if name in GROW and self.count >= self.at and not (name == "write" and self.count == self.at):
            names = [path] * (name != "write")  # an error of a write names no file
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *names)


class PowerCut(Watch):
    """The process dies at an event, and of its folder only that is left which a disk may have after a power cut.

    Flushed are the content of a file by fsync of the file, its name by fsync of the folder. Names that were not flushed
    are lost from some moment on; content that was not is lost, cut, or zeros.
    """

    def __init__(self, folder: Path, at: int, seed: float):
        super().__init__(folder, at)
        self.rng, self.numbers = random.Random(seed), itertools.count()
        self.names: dict[str, int] = {}  # files and folders by path, as the process sees them
        self.safe: dict[str, int] = {}  # the same on the disk
        self.pending: dict[str, list[list[tuple[str, int | None]]]] = {}  # changes of names by folder, None: removed
        self.flushed: dict[int, bytes] = {}
        self.gone: dict[int, bytes] = {}  # content of files that have no name any more
        self.folders: set[int] = set()
        for path in folder.rglob("*"):
            number = self.names[str(path)] = next(self.numbers)
            if path.is_dir():
                self.folders.add(number)
            else:
                self.flushed[number] = path.read_bytes()
        self.safe |= self.names

    def meet(self, name: str, path: str, to: str) -> None:
        super().meet(name, path, to)
        self.record(name, path, to)

    def record(self, name: str, path: str, to: str) -> None:
        """Note what an event, which comes next, changes."""
        there = os.path.lexists(path)
        if name in ("open", "os.mkdir") and not there:
            number = next(self.numbers)
            if name == "os.mkdir":
                self.folders.add(number)
            self.change((path, number))
        elif name == "fsync" and self.names.get(path) in self.folders | {None}:
            for change in self.pending.pop(path, []):
                apply(self.safe, change)
        elif name == "fsync":
            self.flushed[self.names[path]] = Path(path).read_bytes()
        elif name in ("os.remove", "os.rmdir", "os.rename") and there:
            replaced = to if name == "os.rename" else path
            if os.path.isfile(replaced):  # noqa: PTH113
                self.gone[self.names[replaced]] = Path(replaced).read_bytes()
            self.change(*([(to, self.names[path])] if name == "os.rename" else []), (path, None))
        elif name == "os.link" and there and not os.path.lexists(to):
            self.change((to, self.names[path]))

    def change(self, *changes: tuple[str, int | None]) -> None:
        apply(self.names, list(changes))
        self.pending.setdefault(os.path.dirname(changes[0][0]), []).append(list(changes))  # noqa: PTH120

    def die(self) -> None:
        for changes in self.pending.values():
            for change in changes[: self.rng.randint(0, len(changes))]:
                apply(self.safe, change)
        content = {number: Path(path).read_bytes() for path, number in self.names.items() if os.path.isfile(path)}  # noqa: PTH113
        content = {number: self.cut(number, data) for number, data in (self.gone | content).items()}
        shutil.rmtree(self.folder)
        Path(self.folder).mkdir()
        for path, number in sorted(self.safe.items()):  # a folder before what is in it
            if not Path(path).parent.is_dir():
                continue
            if number in self.folders:
                Path(path).mkdir()
            else:
                Path(path).write_bytes(content.get(number, b""))
        super().die()

    def cut(self, number: int, data: bytes) -> bytes:
        """Return what a disk may hold of a file."""
        safe = self.flushed.get(number, b"")
        if data == safe:
            return data
        safe = safe if data.startswith(safe) else b""
        more = data[len(safe) :]
        return safe + self.rng.choice([b"", more, more[: self.rng.randint(0, len(more))], bytes(len(more))])


def apply(names: dict[str, int], change: list[tuple[str, int | None]]) -> None:
    for path, number in change:
        if number is None:
            names.pop(path, None)
        else:
            names[path] = number


def path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
