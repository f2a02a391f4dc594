"""One file that needs nothing else: tensors and plain values, safe to open, whole or not there."""

import contextlib
import importlib
import os
import pickle
import platform
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gancli
from gancli.sampling import Generator

FORMAT = 1
PARTS = {"config", "output", "step", "images", "seconds", "networks", "ema", "optimizers", "versions"}


def versions() -> dict[str, str]:
    """What wrote a checkpoint or ran a training."""
    return {"gancli": gancli.__version__, "torch": str(torch.__version__), "python": platform.python_version()}


def save(path: Path, content: dict[str, Any]) -> Path:
    """Write `content` to `path` whole: under a temporary name, flushed to the disk, then renamed.

    A reader sees the old file or the new one. ValueError where it cannot be written, the disk being full, say;
    `path` is then untouched and nothing is left behind.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, "versions": versions(), **content}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # a full disk reaches us as either
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        free = shutil.disk_usage(existing_parent(path)).free / 2**20
        raise ValueError(
            f"the checkpoint {path} could not be written ({reason}; {free:,.0f} MB are free there) and the one before "
            f"it is untouched; make room, or type another run.dir="
        ) from error
    return path


def existing_parent(path: Path) -> Path:
    """The nearest folder above `path` that is there."""
    return next(parent for parent in path.absolute().parents if parent.exists())


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint. ValueError where the file is not one, is damaged, or is of a newer format."""
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    foreign = f"{path} is not a gan checkpoint"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums it wrote
        content = None if damaged else torch.load(path, map_location=device, weights_only=True)
    except zipfile.BadZipFile:
        raise ValueError(f"{foreign}, or it is cut short; train one with gan train") from None
    except pickle.UnpicklingError:
        raise ValueError(f"{foreign}: it holds Python objects, which could run code, and was not opened") from None
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{foreign}, or it is damaged: {str(error).splitlines()[0]}") from error
    if damaged:
        raise ValueError(f"{path} is damaged: the checksum of {damaged} does not match; use another checkpoint")
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError(f"{foreign}; train one with gan train")
    if content["format"] > FORMAT:
        raise ValueError(
            f"{path} was written by gancli {content.get('versions', {}).get('gancli', '?')} in format "
            f"{content['format']}, newer than format {FORMAT} of this one, {gancli.__version__}; "
            f"type pip install -U gancli"
        )
    if missing := PARTS - content.keys():
        raise ValueError(f"{foreign}: it holds no {', no '.join(sorted(missing))}")
    return content


def rebuild(config: Any) -> nn.Module:
    """The network that a config describes: {"_target_": class, its arguments}, which may be such configs too.

    Configs come from strangers' files, so nothing is called that is not an nn.Module class written in this package:
    the module is imported only when its name begins with `gancli.`, and one attribute of it is looked up, once.
    """
    if not isinstance(config, dict) or not isinstance(config.get("_target_"), str):
        raise ValueError("the checkpoint does not say how its network is built; it was not written by gan train")
    target = config["_target_"]
    module, _, name = target.rpartition(".")
    refused = ValueError(f"the checkpoint asks for {target!r}, which is not a network of gancli; it was not built")
    if not module.startswith("gancli."):
        raise refused
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ImportError:
        raise refused from None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("gancli.")):
        raise refused
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    try:
        return found(**{k: rebuild(v) if isinstance(v, dict) else v for k, v in arguments.items()})
    except TypeError as error:
        raise ValueError(f"the checkpoint's {target} cannot be built by this version: {error}") from error


def load(path: str | Path, ema: bool = True, device: torch.device | str = "cpu") -> Generator:
    """The generator of a checkpoint, ready to sample: `path` is a file, a run folder or "latest".

    ema: the averaged weights, which are the better ones; False gives those that were being trained.
    """
    content = read(find(path), device)
    try:
        network = content["networks"]["G"]
        G = rebuild(network["config"])
        G.load_state_dict(content["ema"] if ema else network["state"])
        return Generator(G.to(device), **content["output"])
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be rebuilt: {type(error).__name__}: {str(error).splitlines()[0]}") from error


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
    for name in ("checkpoints/best.pt", "checkpoints/last.pt", "best.pt", "last.pt"):
        if (path / name).is_file():
            return path / name
    raise ValueError(f"there is no checkpoint in {path}; type ckpt=FILE, or a run folder with checkpoints/last.pt")
