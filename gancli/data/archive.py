"""A zip of images, such as the StyleGAN tools write, read as a folder: unpacked once into the cache.

This module does not import torch before there is a zip.
"""

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from gancli.runtime.files import partial_path
from gancli.runtime.text import one_line, printable

LABELS = "dataset.json"  # of the StyleGAN tools
SMALL, LARGEST_RATIO = 2**29, 50  # bytes that a zip may take unpacked, or times its own size; images hardly compress


def is_archive(file: Path) -> bool:
    return file.suffix.lower() == ".zip" and file.is_file()


def unpacked(file: Path) -> Path:
    """Return the folder of a zip's files, made anew where the zip has changed; ValueError where one is broken."""
    from gancli.runtime import cache
    from gancli.runtime.files import user_folder

    stat = file.stat()
    place, content = (_digest(*facts) for facts in ((file.resolve(),), (stat.st_size, stat.st_mtime_ns)))
    folder = user_folder(cache.FOLDER) / "unpacked" / place / content
    if folder.is_dir() and cache.is_own(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for older in folder.parent.iterdir():
        shutil.rmtree(older, ignore_errors=True)
    partial = partial_path(folder)
    try:
        unpack(file, partial)
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
            size, most = sum(m.file_size for m in members), max(SMALL, LARGEST_RATIO * file.stat().st_size)
            if size > min(most, free := shutil.disk_usage(folder.parent).free):
                limit = "as it may" if most < free else "as the disk has"
                raise ValueError(f"{file} unpacks to {size / 1e6:,.0f} MB, more {limit}; unpack it yourself")
            for member in members:
                name = member.filename
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
                    raise ValueError(f"{file} holds {printable(name)}, a name that leads out of it; pack it again")
                archive.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        what = f"its {printable(name)} cannot be read" if name else "it is no zip"
        raise ValueError(f"{file} is damaged: {what} ({one_line(error, 100)}); pack it again") from error


def _digest(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()
