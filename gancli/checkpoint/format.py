"""One file that needs nothing else: tensors and plain values, safe to open, whole or not there."""

import contextlib
import errno
import os
import platform
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gancli
from gancli.checkpoint import archive

FORMAT = 1
# What stands in every checkpoint, and what of what kind; inside, what commands read of it.
PARTS: dict[str, Any] = {
    "config": {"data": {"name": str}, "model": {"name": str, "classes": int}, "trainer": {}, "seed": int},
    "output": {"size": int, "channels": int, "class_names": list},
    **{"step": int, "images": int, "seconds": float},
    **{"networks": {"G": {}}, "ema": {}, "optimizers": {}, "versions": {}},
}


class Unreadable(ValueError):
    """The file is damaged, or no checkpoint; another one may be good."""


def versions() -> dict[str, str]:
    """What wrote a checkpoint or ran a training."""
    return {"gancli": gancli.__version__, "torch": str(torch.__version__), "python": platform.python_version()}


# --- writing ------------------------------------------------------------------------------------------------------


def save(path: Path, content: dict[str, Any], previous: str = "", kept: str = "") -> Path:
    """Write `content` to `path` whole: under a temporary name, flushed to the disk, then renamed.

    A reader sees the old file or the new one. previous: a name beside it under which the old one stays; kept: one for
    the new one. ValueError where it cannot be written, the disk being full, say; `path` is then whole, and nothing is
    left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, "versions": versions(), **content}, file)
            file.flush()
            os.fsync(file.fileno())
        if previous and path.exists():
            alias(path, path.with_name(previous))
        partial.replace(path)
        if kept:
            alias(path, path.with_name(kept))
        flush(path.parent)
    except (OSError, RuntimeError) as error:  # a full disk reaches us as either
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        chain = [error, error.__context__]  # torch says "unexpected pos" while the disk's own word is being handled
        said = [e.strerror for e in chain if isinstance(e, OSError) and e.strerror]
        reason = said[0] if said else sentence(error)
        free = shutil.disk_usage(existing_parent(path)).free / 2**20
        raise ValueError(
            f"the checkpoint {path} could not be written ({reason}; {free:,.0f} MB are free there) and the one before "
            f"it is there; make room, or type another run.dir="
        ) from error
    return path


def alias(path: Path, to: Path) -> None:
    """`to` becomes the file that `path` is: another name of it, or a copy where the file system has no such names."""
    partial = to.with_name(f".{to.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(to)
    finally:
        partial.unlink(missing_ok=True)  # where `to` was that file already, nothing is renamed


def flush(folder: Path) -> None:
    """The names in a folder to the disk, so that a power cut takes no rename back."""
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


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


# --- reading ------------------------------------------------------------------------------------------------------


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint. ValueError where it is of a newer format, Unreadable where it is none or damaged."""
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    foreign, other = f"{path} is not a gan checkpoint", path.with_name("previous.pt")
    advice = f"type ckpt={other}, the one before" if path.name == "last.pt" and other.is_file() else "use another one"
    try:
        content = archive.load(path)
    except archive.Refused as error:
        raise Unreadable(f"{foreign}: {error}, and was not opened; {advice}") from None
    except zipfile.BadZipFile as error:
        what = "is damaged" if "CRC" in str(error) else "is not a gan checkpoint, or it is cut short"
        reason = str(error).replace("Bad CRC-32 for file", "the checksum does not match of")
        raise Unreadable(f"{path} {what}: {reason}; {advice}") from None
    except MemoryError:
        raise ValueError(f"memory ran out while {path} was read; close other programs") from None
    except Exception as error:  # a damaged file can fail in any way
        raise Unreadable(f"{foreign}, or it is damaged: {sentence(error)}; {advice}") from error
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise Unreadable(f"{foreign}; train one with gan train")
    if content["format"] > FORMAT:
        wrote = content.get("versions")
        raise ValueError(
            f"{path} was written by gancli {wrote.get('gancli', '?') if isinstance(wrote, dict) else '?'} in format "
            f"{content['format']}, newer than format {FORMAT} of this one, {gancli.__version__}; "
            f"type pip install -U gancli"
        )
    if missing := [*lacking(content)]:
        raise Unreadable(f"{foreign}: it holds no {', no '.join(sorted(missing))}; {advice}")
    return content if torch.device(device).type == "cpu" else mapped(content, lambda x: x.to(device))


def newest(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Path, str] | None:
    """The newest checkpoint of a run's folder that can be read: content, file, and what is wrong with newer ones.

    None where there is none at all, Unreadable where all are damaged.
    """
    files = [folder / "last.pt", folder / "previous.pt", *steps(folder)]
    wrong = [] if files[0].is_file() else [f"{files[0]} is gone"]
    for file in [file for file in files if file.is_file()]:
        try:
            content = read(file, device)
        except Unreadable as error:
            wrong.append(str(error).rpartition(";")[0])
        else:
            instead = f"; went on from {file.name}, of step {content['step']:,}" if wrong else ""
            return content, file, "; ".join(wrong) + instead
    if any(file.is_file() for file in files):
        raise Unreadable(f"no checkpoint of this run can be read: {'; '.join(wrong)}; type another run.dir=")
    return None


def steps(folder: Path) -> list[Path]:
    """The checkpoints that are kept, newest first."""
    return sorted(folder.glob("step-*.pt"), key=lambda file: (len(file.name), file.name), reverse=True)


def lacking(content: dict[str, Any], parts: dict[str, Any] = PARTS, prefix: str = "") -> Iterator[str]:
    """What of PARTS is not there, or of another kind."""
    for name, kind in parts.items():
        value: Any = content.get(name)
        if isinstance(kind, dict):
            if isinstance(value, dict):
                yield from lacking(value, kind, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"
        elif type(value) is not kind or (kind is list and not all(isinstance(text, str) for text in value)):
            yield f"{prefix}{name}"
    if not prefix and isinstance(networks := content.get("networks"), dict):
        states = {"ema": content.get("ema")}
        for player, network in networks.items():
            found = network if isinstance(network, dict) else {}
            states[f"networks.{player}.state"] = found.get("state")
            if not isinstance(found.get("config"), dict) or not isinstance(found["config"].get("_target_"), str):
                yield f"networks.{player}.config"
        for name, state in states.items():
            if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
                yield name


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested dicts, lists and tuples with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: mapped(v, change) for k, v in value.items()}
    return type(value)(mapped(v, change) for v in value) if isinstance(value, list | tuple) else value


def sentence(error: BaseException) -> str:
    """What an error says, in one line of moderate length."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


# --- networks -----------------------------------------------------------------------------------------------------


def find(path: str | Path, outputs: Path = Path("outputs")) -> Path:
    """The checkpoint file that is meant: a file; in a run folder the best, else the last; `latest` of all runs."""
    if not str(path):
        raise ValueError("no checkpoint was given; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    if str(path) == "latest":
        written = {f: f.stat().st_mtime for f in outputs.glob("**/checkpoints/last.pt")}
        if not written:
            raise ValueError(f"there is no run in {outputs.resolve()} yet; type gan train")
        return find(max(written, key=lambda f: written[f]).parent.parent)
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    for name in ("best.pt", "last.pt", "previous.pt"):
        for file in (path / "checkpoints" / name, path / name):
            if file.is_file():
                return file
    raise ValueError(f"there is no checkpoint in {path}; type ckpt=FILE, or a run folder with checkpoints/last.pt")
