"""Tensors that are slow to compute, cached in files until their inputs change, and what the user has named.

Nothing in a cache is believed: a file that was changed, or that another user made, is made again.
"""

import contextlib
import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from gancli.runtime.files import user_folder, write_atomically
from gancli.runtime.text import printable

FOLDER = Path("~/.cache/gan")


def cache_path(group: str, *facts: Any) -> Path:
    """Return the file below FOLDER/group for tensors that depend on these facts alone."""
    return user_folder(FOLDER) / group / f"{_digest(facts)}.safetensors"


def _text(facts: Any) -> str:
    return printable(repr(facts))


def _digest(facts: Any) -> str:
    return hashlib.sha256(_text(facts).encode()).hexdigest()[:24]


def read_cached(group: str, *facts: Any) -> dict[str, Tensor]:
    """Return the tensors that `write_cached` wrote for these facts; none where there are none that can be believed."""
    from safetensors import SafetensorError, safe_open

    from gancli.runtime.terminal import say

    file, reason = cache_path(group, *facts), "it was changed"
    try:
        if not is_own(file):
            reason = "another user made it"
            raise KeyError(file)
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        if (metadata["facts"], metadata["sha256"]) != (_text(facts), checksum(tensors)):
            raise KeyError(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, SafetensorError, KeyError):
        say(f"gan: {file} is not used, since {reason}; it is made again")
        return {}
    return tensors


def write_cached(tensors: dict[str, Tensor], group: str, *facts: Any) -> None:
    """Write tensors for these facts; do nothing on a full or read-only disk, since they can be computed again."""
    from safetensors.torch import save

    tensors = {name: t.contiguous() for name, t in tensors.items()}
    data = save(tensors, {"facts": _text(facts), "sha256": checksum(tensors)})
    with contextlib.suppress(OSError):
        write_atomically(cache_path(group, *facts), lambda partial: partial.write_bytes(data))


def checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        digest.update(repr((name, str(x.dtype), tuple(x.shape))).encode())
        digest.update(x.contiguous().numpy().reshape(-1).data)
    return digest.hexdigest()


def is_own(file: Path) -> bool:
    """Return whether this user or the system made a file; OSError if it is missing."""
    return os.name == "nt" or file.stat().st_uid in (os.getuid(), 0)


def remember(path: str | Path) -> None:
    """Remember that the user named this folder or file in a command, so that a run that names it can be believed."""
    remember_text(_real(path))


def is_remembered(path: str | Path) -> bool:
    """Return whether the user of this machine has named this folder or file."""
    return is_remembered_text(_real(path))


def data_folder_of(path: str | Path, folders: Collection[str | Path] = ()) -> str:
    """Return which of the `folders`, or of all that a run was trained on here, is or holds `path`; empty for none."""
    known = {_real(folder) for folder in folders}
    above = [Path(_real(path)), *Path(_real(path)).parents]
    return next((str(p) for p in above if (str(p) in known if folders else is_remembered_text(str(p)))), "")


def remember_text(text: str) -> None:
    """Remember that the user typed this, such as the words of a sweep, or that it was found to be so."""
    with contextlib.suppress(OSError):
        write_atomically(_mark(text), lambda partial: partial.touch())


def is_remembered_text(text: str) -> bool:
    """Return whether the user of this machine has typed this, or gan has found it so."""
    with contextlib.suppress(OSError):
        return is_own(_mark(text))
    return False


def _mark(text: str) -> Path:
    return user_folder(FOLDER) / "named" / _digest(text)


def _real(path: str | Path) -> str:
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111
