"""Checkpoint files: safetensors, with each tensor under a path name and everything else as JSON in the metadata.

    write(path, content)    # nested dicts with text keys, lists, tensors, text, numbers, None
    content = read(path)    # the same; tuples come back as lists

Equal content gives equal bytes. Files may be untrusted: reading runs no code, allocates no more than the file holds,
and refuses everything else in one sentence.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gancli
from gancli.checkpoint import hub
from gancli.config import nearest
from gancli.runtime.bundled import starters, verified
from gancli.runtime.files import flush_folder, typed_path, write_atomically
from gancli.runtime.hardware import is_out_of_memory
from gancli.runtime.serialization import PREFIX, Refused, decode, encode, map_tensors
from gancli.runtime.text import one_line

FORMAT = 2  # 1 was a zip file of torch.save
SUFFIX = ".safetensors"
# Entries that every checkpoint has, with their types. A run's checkpoint also has ema, optimizers and more.
PARTS: dict[str, Any] = {
    "config": {"data": {"name": str}, "model": {"name": str, "classes": int}, "trainer": {}, "seed": int},
    "output": {"size": int, "channels": int, "class_names": list},
    **{"format": int, "step": int, "images": int, "seconds": float, "networks": {"G": {}}, "versions": {}},
}
OPTIONAL: dict[str, Any] = {"data": {"class_names": list}}  # of a run, since some versions


class Unreadable(ValueError):
    """The file is damaged or not a checkpoint; another one may be good."""

    def __init__(self, reason: str, advice: str):
        super().__init__(f"{reason}; {advice}")
        self.reason = reason


def versions() -> dict[str, str]:
    """Return the versions that write a checkpoint or run a training."""
    return {"gancli": gancli.__version__, "torch": str(torch.__version__), "python": platform.python_version()}


def write(path: Path, content: dict[str, Any], previous: str = "", names: Sequence[str] = ()) -> Path:
    """Write a checkpoint atomically and durably.

    Args:
        previous: file name in the same folder under which the present file stays.
        names: further file names of the new file.

    Raises:
        ValueError: it cannot be written. The present file is then untouched, and nothing is left behind.
    """

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            for part in encode({"format": FORMAT, "versions": versions(), **content}):
                file.write(part)
        if previous and path.exists():
            link(path, path.with_name(previous))

    try:
        write_atomically(path, save, durable=True)
        for name in names:
            link(path, path.with_name(name))
        if names:
            flush_folder(path.parent)
    except OSError as error:
        there = next(parent for parent in path.absolute().parents if parent.exists())
        free = shutil.disk_usage(there).free / 2**20
        reason = error.strerror or one_line(error)
        raise ValueError(
            f"{path} could not be written ({reason}; {free:,.0f} MB are free there), and what was there before is "
            f"untouched; make room, or choose another folder by run.dir= or out="
        ) from error
    return path


def link(path: Path, to: Path) -> None:
    """Make `to` a second name of the file `path`, or a copy on a file system without hard links."""

    def link_or_copy(partial: Path) -> None:
        partial.unlink(missing_ok=True)
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())

    write_atomically(to, link_or_copy)


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint.

    Raises:
        Unreadable: the file is damaged or not a checkpoint.
        ValueError: there is no such file, or it has another format.
    """
    if not path.is_file():
        advice = nearest(str(path), starters()) or "; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest"
        raise ValueError(f"there is no checkpoint {path}{advice}")
    advice, previous = "use another one", path.with_name(f"previous{SUFFIX}")
    if path.name == f"last{SUFFIX}" and previous.is_file():
        advice = f"type ckpt={previous}, the one before"
    try:
        with path.open("rb") as file:
            is_old = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            content = {} if is_old else decode(file)
    except Refused as error:
        raise Unreadable(f"{path} cannot be read: {error}", advice) from None
    except Exception as error:  # a damaged file can fail in any way
        if is_out_of_memory(error):
            raise ValueError(f"memory ran out while {path} was read; close other programs") from None
        raise Unreadable(f"{path} is damaged or not a checkpoint: {one_line(error, 100)}", advice) from error
    if is_old:
        raise old_format(path)
    if type(content.get("format")) is int and content["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {content['format']}, newer than format {FORMAT} of this gancli {gancli.__version__}; "
            f"type pip install -U gancli"
        )
    present = {name: part for name, part in OPTIONAL.items() if name in content}
    if missing := [*missing_parts(content, PARTS | present)]:
        raise Unreadable(f"{path} is not a checkpoint of gan: it holds no {', no '.join(sorted(missing))}", advice)
    return content if torch.device(device).type == "cpu" else map_tensors(content, lambda x: x.to(device))


def missing_parts(content: dict[str, Any], parts: dict[str, Any] = PARTS, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of PARTS, and of network configs and weights, that are missing or of another type."""
    for name, expected in parts.items():
        value: Any = content.get(name)
        if name == "size" and isinstance(value, list) and len(value) == 2:  # [height, width]
            value = value[0] if type(value[0]) is type(value[1]) else value
        if isinstance(expected, dict) and isinstance(value, dict):
            yield from missing_parts(value, expected, f"{prefix}{name}.")
        elif type(value) is not expected or (expected is list and not all(isinstance(text, str) for text in value)):
            yield f"{prefix}{name}"
    if not prefix and isinstance(networks := content.get("networks"), dict):
        states = {"ema": content.get("ema", {})}
        for name, network in networks.items():
            saved = network if isinstance(network, dict) else {}
            states[f"networks.{name}.state"] = saved.get("state")
            if not isinstance(saved.get("config"), dict) or not isinstance(saved["config"].get("_target_"), str):
                yield f"networks.{name}.config"
        for name, state in states.items():
            if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
                yield name


def is_checkpoint(path: Path) -> bool:
    """Return whether a file begins like a checkpoint; a missing file counts as one."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(8 + len(PREFIX))[8:] == PREFIX


def find(path: str | Path, outputs: Path = Path("outputs")) -> Path:
    """Return the checkpoint file of a path: a file itself, or the best (else the last) of a run folder or of `latest`.

    A name of `starters` is the bundled file, unless a file or a run of this name is here; hf:user/name is downloaded.
    """
    if not str(path):
        raise ValueError("no checkpoint was given; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    if str(path) == "latest":
        return find(latest_run(outputs))
    if hub.is_address(path):
        return hub.download(str(path))
    name, path = str(path), typed_path(path)
    if path.exists() and not path.is_dir():
        return path
    folders = (path / "checkpoints", path)
    for stem in ("best", "last", "previous"):
        for file in [folder / f"{stem}{SUFFIX}" for folder in folders]:
            if file.is_file():
                return file
    if starter := starters().get(name):
        return verified(starter)
    if not path.is_dir():
        return path
    refuse_old(*folders)
    raise ValueError(f"there is no checkpoint in {path}; type ckpt=FILE, or a run folder with checkpoints/last{SUFFIX}")


def latest_run(outputs: Path = Path("outputs")) -> Path:
    """Return the folder of the run, alone or in a sweep, whose last checkpoint is the newest; not of a benchmark's."""
    files = outputs.glob(f"**/checkpoints/last{SUFFIX}")
    files = (file for file in files if not file.relative_to(outputs).parts[0].startswith("bench-"))
    written = {file.parent.parent: file.stat().st_mtime for file in files}
    if not written:
        raise ValueError(f"there is no run in {outputs.resolve()} yet; type gan train")
    return max(written, key=lambda folder: written[folder])


def newest(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Path, str] | None:
    """Return the newest readable checkpoint of a checkpoints folder, or None where there is none.

    Returns:
        Its content, its file, and a sentence about newer files that cannot be read.

    Raises:
        Unreadable: all of them are damaged.
    """
    last, previous = folder / f"last{SUFFIX}", folder / f"previous{SUFFIX}"
    wrong = [] if last.is_file() else [f"{last} is gone"]
    files = [file for file in (last, previous, *numbered_files(folder)) if file.is_file()]
    for file in files:
        try:
            content = read(file, device)
        except Unreadable as error:
            wrong.append(error.reason)
        else:
            instead = f"; went on from {file.name}, of step {content['step']:,}" if wrong else ""
            return content, file, "; ".join(wrong) + instead
    if files:
        raise Unreadable(f"no checkpoint of this run can be read: {'; '.join(wrong)}", "type another run.dir=")
    refuse_old(folder)
    return None


def numbered_files(folder: Path) -> list[Path]:
    """Return the numbered checkpoints of a folder, newest first."""
    return sorted(folder.glob(f"step-*{SUFFIX}"), key=lambda file: (len(file.name), file.name), reverse=True)


def refuse_old(*folders: Path) -> None:
    """Raise ValueError where a folder holds a run's checkpoint of the format before safetensors."""
    for file in [folder / f"{name}.pt" for folder in folders for name in ("best", "last", "previous")]:
        if file.is_file():
            raise old_format(file)


def old_format(path: Path) -> ValueError:
    return ValueError(f"{path} is a checkpoint of the format before safetensors; train it anew")
