"""Files that are whole or not there: written under a temporary name, then renamed."""

import errno
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

PARTIAL = ".*.partial*"  # pattern of the temporary names


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = False) -> Path:
    """Call `write` with a temporary path in the same folder, then rename: readers see the old file or the new one.

    If `write` raises, `path` is untouched and nothing is left behind. A missing folder is created.

    Args:
        write: writes the file; the temporary name has the suffix of `path`, by which libraries choose a format.
        durable: flush file and folder to the disk, so that a power cut loses neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own length: that of `path` may be as long as the file system allows.
    token = f"{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}"
    partial = path.with_name(f".{token}.partial{path.suffix}")
    try:
        partial.unlink(missing_ok=True)  # a received folder may have a link of this name
        write(partial)
        if durable:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        flush_folder(path.parent)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def expand_home(path: str) -> str:
    """Return a typed path with ~ replaced by the home folder, unless a file of this very name is here."""
    return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path  # noqa: PTH111


def user_folder(path: Path | str) -> Path:
    """Return a path with ~ replaced by the home folder; without a home, as in containers, by one of temporary files."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"gan-{os.getuid()}", *Path(path).parts[1:])


def check_writable(key: str, path: Path) -> None:
    """Raise ValueError unless a file or folder `path` can be written; for a command to call before its work."""
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    folder = path if path.is_dir() else folder
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".", dir=folder))  # noqa: PTH106
    except OSError as error:
        raise ValueError(f"{key}={path} cannot be written ({folder}: {error.strerror}); type another {key}=") from error


def relative(path: Path) -> str:
    """Return a path as it is typed in the working folder: relative when it lies below, never an option or a key."""
    path = path.resolve()
    if not path.is_relative_to(Path.cwd()):
        return str(path)
    text = str(path.relative_to(Path.cwd()))
    return f"./{text}" if text.startswith(("-", "~")) or "=" in text or text == "latest" else text


def without_home(text: str) -> str:
    """Return a text that is given away, such as a page, with ~ for the home folder, whose name is often a person's."""
    try:
        home = str(Path.home())
    except RuntimeError:  # there is none
        return text
    return text.replace(f"{home}/", "~/") if len(home) > 1 else text


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, so that a power cut takes no rename back."""
    if os.name == "nt":  # which opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that does not know this
            raise
    finally:
        os.close(handle)
