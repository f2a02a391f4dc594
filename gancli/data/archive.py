"""A zip of images, such as the StyleGAN tools write, or tables of them, read as a folder: unpacked once into the cache.

This module does not import torch before there is one.
"""

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from gancli.runtime.files import partial_path, remove_partials
from gancli.runtime.text import one_line, printable

LABELS = "dataset.json"  # of the StyleGAN tools
SMALL, LARGEST_RATIO = 2**29, 50  # bytes that one may take unpacked, or times its own size; images hardly compress


def is_archive(file: Path) -> bool:
    return file.suffix.lower() == ".zip" and file.is_file()


def unpacked(path: Path, tables: Sequence[Path] = ()) -> Path:
    """Return the folder of the files of a zip, or of the images in `tables`, made anew where one of these has changed.

    Raises:
        ValueError: one of them is broken.
    """
    from gancli.runtime import cache
    from gancli.runtime.files import user_folder

    # The same file may be typed as a.zip, ./a.zip or by its whole path.
    stamps = [(str(file)[len(str(path)) :], file.stat().st_size, file.stat().st_mtime_ns) for file in tables or [path]]
    place, content = (_digest(*facts) for facts in ((path.resolve(),), stamps))
    folder = user_folder(cache.FOLDER) / "unpacked" / place / content
    if folder.is_dir() and cache.is_own(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(folder.parent)
    partial = partial_path(folder)
    try:
        if tables:
            from gancli.data.tables import unpack_tables

            unpack_tables(path, tables, partial)
        else:
            unpack(path, partial)
        if not (folder.is_dir() and cache.is_own(folder)):  # else another process was faster
            for older in folder.parent.glob("[!.]*"):
                shutil.rmtree(older, ignore_errors=True)
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def unpack(file: Path, folder: Path) -> None:
    """Write the files of a zip below a folder."""
    name = ""
    try:
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size = sum(member.file_size for member in members)
            most, limit = most_bytes(file.stat().st_size, folder.parent)
            if size > most:
                raise too_large(file, size, limit)
            for member in members:
                name = member.filename
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
                    raise ValueError(f"{file} holds {printable(name)}, a name that leads out of it; pack it again")
                archive.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        what = f"its {printable(name)} cannot be read" if name else "it is no zip"
        raise ValueError(f"{file} is damaged: {what} ({one_line(error, 100)}); pack it again") from error


def most_bytes(packed: int, folder: Path) -> tuple[int, str]:
    """Return how many bytes may be unpacked into a folder from so many `packed` ones, and what sets the limit."""
    most, free = max(SMALL, LARGEST_RATIO * packed), shutil.disk_usage(folder).free
    return (most, "than it may") if most < free else (free, "than the disk has")


def too_large(path: Path, size: int, limit: str) -> ValueError:
    return ValueError(f"{path} unpacks to {size / 1e6:,.0f} MB, more {limit}; unpack it yourself and type the folder")


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()
