"""Tensors that are slow to compute, cached in files until their inputs change."""

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from torch import Tensor

from gancli.runtime.files import user_folder, write_atomically

FOLDER = Path("~/.cache/gan")


def cache_path(group: str, *facts: Any) -> Path:
    """Return the file below FOLDER/group for tensors that depend on these facts alone."""
    return user_folder(FOLDER) / group / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.safetensors"


def read_cached(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; none if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def write_cached(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file; do nothing on a full or read-only disk, since they can be computed again."""
    from safetensors.torch import save

    data = save({name: t.contiguous() for name, t in tensors.items()})
    with contextlib.suppress(OSError):
        write_atomically(file, lambda partial: partial.write_bytes(data))
