"""Tensors that took long to make, kept in files until what they follow from has changed."""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from torch import Tensor

FOLDER = Path("~/.cache/gan")


def place(kind: str, *facts: Any) -> Path:
    """The file below FOLDER/kind for what follows from these facts alone."""
    return FOLDER.expanduser() / kind / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:24]}.safetensors"


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; none where it is not there, or not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return {}


def write(file: Path, tensors: dict[str, Tensor]) -> None:
    """Keep them, whole or not at all. On a full or read-only disk they are made again the next time."""
    from safetensors.torch import save

    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(save({name: t.contiguous() for name, t in tensors.items()}))
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
