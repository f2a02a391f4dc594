"""Files that are whole or not there: written under a temporary name, then renamed."""

import contextlib
import errno
import functools
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

TEXT_ERRORS = "backslashreplace"  # for file names that are no text
LONGEST = 255  # bytes of a name, on nearly every file system
NOWHERE = Path(os.devnull, "gan")  # no file can be made there
PARTIAL = re.compile(r"\.(\d+)-[0-9a-f]{8}\.partial(\..*)?")  # temporary names, with the process


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = False) -> Path:
    """Call `write` with a temporary path in the same folder, then rename: readers see the old file or the new one.

    If `write` raises, `path` is untouched and nothing is left behind. A missing folder is created. An error of the
    system names `path`.

    Args:
        write: writes the file; the temporary name has the suffix of `path`, by which libraries choose a format.
        durable: flush file and folder to the disk, so that a power cut loses neither.
    """
    make_folder(path.parent)
    partial = partial_path(path)
    try:
        with naming(path, partial):
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


@contextlib.contextmanager
def naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Context in which errors of the system name the file `path`: those without a name, and those of `partial`."""
    try:
        yield
    except OSError as error:
        if error.strerror and (error.filename is None or str(error.filename) == str(partial)):
            error.filename, error.filename2 = str(path), None
        raise


def make_folder(folder: Path) -> None:
    """Create a folder and its parents where they are missing, and flush their names: a power cut takes none back."""
    missing = []
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        missing.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


def partial_path(path: Path) -> Path:
    """Return the temporary name of a file: of its own length, because that of `path` may be as long as allowed."""
    suffix = path.suffix if len(path.suffix) < 16 else ""  # no library's format has a longer one
    return path.with_name(f".{os.getpid()}-{zlib.crc32(os.fsencode(path.name)):08x}.partial{suffix}")


def with_ending(name: str, ending: str) -> str:
    """Return name + ending; a name that this makes too long for a file system is cut, and marked by its checksum."""
    if len(os.fsencode(name + ending)) <= LONGEST:
        return name + ending
    mark = f"~{zlib.crc32(os.fsencode(name)):08x}"
    while len(os.fsencode(name + mark + ending)) > LONGEST:
        name = name[:-1]
    return name + mark + ending


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left under temporary names, folders too; that of living ones stays."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if (match := PARTIAL.fullmatch(path.name)) and not _is_another_process(int(match[1])):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_another_process(pid: int) -> bool:
    if pid == os.getpid() or os.name == "nt":  # Windows removes no open file, and signal 0 would end a process there
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def write_text(path: Path, text: str, durable: bool = False) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda partial: partial.write_text(text, "utf-8", TEXT_ERRORS), durable)


def append_line(path: Path, line: str, durable: bool = False) -> None:
    """Append a line as a whole or not at all, on a line of its own even after one that a killed process left."""
    with path.open("ab+", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        torn = bool(size) and not (file.seek(-1, os.SEEK_END), file.read(1) == b"\n")[1]
        data = ("\n" * torn + line + "\n").encode("utf-8", TEXT_ERRORS)
        with naming(path):
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise
            if durable:
                os.fsync(file.fileno())


def flush_file(path: Path) -> None:
    """Flush a file to the disk, if it exists."""
    if path.is_file():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def expand_home(path: str) -> str:
    """Return a typed path with ~ replaced by the home folder, unless a file of this very name is here."""
    if not path.startswith("~") or os.path.lexists(path):
        return path
    expanded = os.path.expanduser(path)  # noqa: PTH111
    if expanded.startswith("~") and not set("*?[") & set(path):
        raise ValueError(f"{path} names the home of a user who does not exist; type ./{path} for a file of this name")
    return expanded


def typed_path(path: str | Path) -> Path:
    """Return the path that was typed. Path.expanduser would take ./~ for the home, because Path drops the ./."""
    return Path(expand_home(str(path)))


def user_folder(path: Path | str) -> Path:
    """Return a path with ~ replaced by the home folder; without a home, as in containers, by one of temporary files."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(_temporary_home(), *Path(path).parts[1:])


@functools.cache
def _temporary_home() -> Path:
    """Return the folder of this user among the temporary files, or NOWHERE: its name is known to every other user."""
    try:
        folder = Path(tempfile.gettempdir(), f"gan-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError:  # no folder for temporary files can be written
        return NOWHERE
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    from gancli.runtime.terminal import say

    say(f"gan: {folder} can be written by others, so nothing is cached there; type export HOME=DIR, a folder of yours")
    return NOWHERE


def check_writable(key: str, path: Path) -> None:
    """Raise ValueError unless a file or folder `path` can be written; for a command to call before its work.

    Results, key="out", do not go where images to train on lie, of which they would become some.
    """
    from gancli.runtime.cache import data_folder_of

    if key == "out" and (data := data_folder_of(path)):
        raise ValueError(f"out={path} would add to {data}, which a run was trained on; type out=DIR, another folder")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        folder = path if stat.S_ISDIR(path.stat().st_mode) else folder
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{key}={path} cannot be written ({error.strerror}); type another {key}=") from error
    try:
        _try_writing(folder)
    except OSError as error:
        raise ValueError(f"{key}={path} cannot be written ({folder}: {error.strerror}); type another {key}=") from error


def _try_writing(folder: Path) -> None:
    """Create a file without a name, which no kill leaves behind; where the system has none, a folder for a moment."""
    with contextlib.suppress(AttributeError):
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
            return
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EOPNOTSUPP, errno.EINVAL):
                raise
    tried = partial_path(folder / "written")
    with contextlib.suppress(FileExistsError):
        tried.mkdir()
    tried.rmdir()


def relative(path: Path) -> str:
    """Return a path as it is typed in the working folder: relative when it lies below, never an option or a key."""
    path = path.resolve()
    if not path.is_relative_to(Path.cwd()):
        return str(path)
    text = str(path.relative_to(Path.cwd()))
    return f"./{text}" if text.startswith(("-", "~")) or "=" in text or text == "latest" else text


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
