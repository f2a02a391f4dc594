"""Checkpoint files: safetensors, with each tensor under a path name and everything else as JSON in the metadata.

    write(path, content)    # nested dicts with text keys, lists, tensors, text, numbers, None
    content = read(path)    # the same; tuples come back as lists

Equal content gives equal bytes. A checksum covers the whole file. Files may come from anybody: reading runs no code,
allocates no more than the file holds, and refuses everything else in one sentence.
"""

import hashlib
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO

import torch
from torch import Tensor

import gancli
from gancli.runtime.files import flush_folder, write_atomically
from gancli.runtime.text import one_line

FORMAT = 2  # 1 was a zip file of torch.save
SUFFIX = ".safetensors"
# The first bytes of the header, before the checksum in hexadecimal digits; `write` puts the JSON after it.
PREFIX, CONTENT = b'{"__metadata__":{"gancli_sha256":"', "gancli_content"
ZEROS = b"0" * 64  # in place of the checksum while it is computed
TENSOR, STRIDE = "$tensor", "stride"  # JSON of a tensor: its name, and its memory layout unless row-major

DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
LARGEST_HEADER = 2**23  # bytes; a tensor takes about 200
MOST_VALUES, DEEPEST, MOST_DIMS = 2**18, 50, 8

# Entries that every checkpoint has, with their types. A run's checkpoint also has ema, optimizers and more.
PARTS: dict[str, Any] = {
    "config": {"data": {"name": str}, "model": {"name": str, "classes": int}, "trainer": {}, "seed": int},
    "output": {"size": int, "channels": int, "class_names": list},
    **{"step": int, "images": int, "seconds": float, "networks": {"G": {}}, "versions": {}},
}


class Refused(ValueError):
    """The bytes are not what `encode` writes."""


class Unreadable(ValueError):
    """The file is damaged or not a checkpoint; another one may be good."""


class OldFormat(ValueError):
    """The file has the format before safetensors."""

    def __init__(self, path: Path):
        super().__init__(f"{path} is a checkpoint of the format before safetensors; train it anew")


def versions() -> dict[str, str]:
    """Return the versions that write a checkpoint or run a training."""
    return {"gancli": gancli.__version__, "torch": str(torch.__version__), "python": platform.python_version()}


# --- bytes --------------------------------------------------------------------------------------------------------


def encode(content: dict[str, Any]) -> list[Any]:
    """Return a safetensors file of `content` as a list of bytes-like parts."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_separate(content, (), tensors), sort_keys=True, separators=(",", ":"))
    # Sorted as safetensors does: large elements first, so that each tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"gancli_sha256": ZEROS.decode(), CONTENT: text}}
    parts, end = [], 0
    for name in names:
        x = tensors[name].detach().cpu().contiguous()
        header[name] = {"dtype": DTYPE_NAMES[x.dtype], "shape": [*x.shape], "data_offsets": [end, end + x.nbytes]}
        parts.append(_bytes(x))
        end += x.nbytes
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    head = len(head).to_bytes(8, "little") + head
    digest = hashlib.sha256(head)
    for part in parts:
        digest.update(part)
    return [head.replace(PREFIX + ZEROS, PREFIX + digest.hexdigest().encode(), 1), *parts]


def decode(file: BinaryIO) -> dict[str, Any]:
    """Return the content of a file that `encode` wrote, on the CPU.

    Raises:
        Refused: it is damaged, or holds anything that `encode` does not write.
    """
    head = file.read(8)
    length, size = int.from_bytes(head, "little"), file.seek(0, os.SEEK_END)
    file.seek(8)
    header = file.read(length) if length <= min(LARGEST_HEADER, size) else b""
    if not is_ours(head + header):
        raise Refused("it is not a checkpoint of gan, or it is cut short")
    begin = len(PREFIX)
    checksum = header[begin : begin + len(ZEROS)]
    digest = hashlib.sha256(head + header[:begin] + ZEROS + header[begin + len(ZEROS) :])
    entries = _parse(header.decode())
    text = entries.pop("__metadata__").get(CONTENT)
    tensors = {}
    for name, dtype, shape in _layout(entries, size - 8 - length):
        tensors[name] = torch.empty(shape, dtype=dtype)
        data = _bytes(tensors[name])
        file.readinto(data)  # type: ignore[attr-defined]
        digest.update(data)
    if digest.hexdigest().encode() != checksum:
        raise Refused("its checksum does not match")
    value = _parse(text)
    _check_tree(value)
    content = _join(value, tensors)
    if tensors or not isinstance(content, dict):
        raise Refused("its tensors do not belong to its content")
    return content


def is_ours(start: bytes) -> bool:
    """Return whether a file with these first bytes was written by `write`, as far as they tell."""
    return start[8:].startswith(PREFIX)


def _bytes(x: Tensor) -> Any:
    """Return the memory of a contiguous CPU tensor."""
    return memoryview(x.reshape(-1).view(torch.uint8).numpy())


def _separate(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Return `value` with a JSON object in place of each tensor, which goes into `tensors` under its path.

    A dict called "state" adds nothing to the path: networks/G/layers.0.weight, optimizers/D/layers.0.weight/exp_avg.
    """
    if isinstance(value, Tensor):
        name = "/".join(path)
        assert name not in tensors, f"two tensors are called {name}"
        tensors[name] = value
        row_major = torch.empty_like(value, device="meta", memory_format=torch.contiguous_format).stride()
        # A tensor with gaps or repeated elements becomes row-major: only dense layouts such as channels_last are kept.
        kept = value.stride() != row_major and _spans(value.shape, value.stride()) == value.numel()
        return {TENSOR: name, STRIDE: [*value.stride()]} if kept else {TENSOR: name}
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value) and TENSOR not in value, f"{'/'.join(path)}: {value.keys()}"
        return {k: _separate(v, path if k == "state" else (*path, k), tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_separate(v, (*path, str(i)), tensors) for i, v in enumerate(value)]
    return value


def _spans(shape: Any, stride: Any) -> int:
    """Return how many elements lie between the first and the last of a strided tensor, both included."""
    return 1 + sum((n - 1) * step for n, step in zip(shape, stride))


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo `_separate`; each tensor is used, and removed from `tensors`, once."""
    if isinstance(value, list):
        return [_join(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if TENSOR not in value:
        return {k: _join(v, tensors) for k, v in value.items()}
    x = tensors.pop(value[TENSOR])
    if (stride := value.get(STRIDE)) is None:
        return x
    whole = isinstance(stride, list) and all(type(n) is int and n >= 0 for n in stride) and len(stride) == x.dim()
    if not whole or not x.numel() or _spans(x.shape, stride) != x.numel():
        raise Refused("it holds a tensor with an impossible memory layout")
    return torch.empty_strided(x.shape, stride, dtype=x.dtype).copy_(x)  # which refuses overlapping elements


def _parse(text: str) -> Any:
    """Parse JSON that is not much larger in memory than as text."""
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise Refused("it holds too many values")
    return json.loads(text, parse_int=_whole)


def _whole(text: str) -> int:
    if len(text) > 19 or abs(int(text)) >= 2**63:
        raise Refused("it holds a whole number of more than 64 bits")
    return int(text)


def _layout(entries: dict[str, Any], size: int) -> Iterator[tuple[str, torch.dtype, list[int]]]:
    """Check that the tensors of a header fill `size` bytes without gaps, then yield name, dtype, shape in their order."""
    end, layout = 0, []
    for name, entry in entries.items():
        dtype, shape, offsets = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None or len(shape) > MOST_DIMS or not all(type(n) is int and n >= 0 for n in shape):
            raise Refused("it holds a tensor of an unknown type or shape")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        if offsets != [begin, end] or end > size:
            raise Refused("its tensors do not fill the file")
        layout.append((name, dtype, shape))
    if end != size:
        raise Refused("its tensors do not fill the file")
    yield from layout


def _check_tree(value: Any) -> None:
    """Raise Refused where values are nested too deep for the functions that walk them."""
    waiting = [(value, 0)]
    while waiting:
        outer, depth = waiting.pop()
        if depth > DEEPEST:
            raise Refused("its values are nested too deep")
        if isinstance(outer, dict | list):
            waiting += [(inner, depth + 1) for inner in (outer.values() if isinstance(outer, dict) else outer)]
        else:
            assert isinstance(outer, str | int | float | NoneType)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested dicts, lists and tuples with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: map_tensors(v, change) for k, v in value.items()}
    return type(value)(map_tensors(v, change) for v in value) if isinstance(value, list | tuple) else value


# --- writing ------------------------------------------------------------------------------------------------------


def write(path: Path, content: dict[str, Any], previous: str = "", numbered: str = "") -> Path:
    """Write a checkpoint atomically and durably.

    Args:
        previous: file name beside `path` under which the file that is there now stays.
        numbered: second file name for the new file.

    Raises:
        ValueError: it cannot be written. `path` is then what it was, and nothing is left behind.
    """

    def save(partial: Path) -> None:
        with partial.open("wb") as file:
            for part in encode({"format": FORMAT, "versions": versions(), **content}):
                file.write(part)
        if previous and path.exists():
            link(path, path.with_name(previous))

    try:
        write_atomically(path, save, durable=True)
        if numbered:
            link(path, path.with_name(numbered))
            flush_folder(path.parent)
    except OSError as error:
        there = next(parent for parent in path.absolute().parents if parent.exists())
        free = shutil.disk_usage(there).free / 2**20
        raise ValueError(
            f"the checkpoint {path} could not be written ({error.strerror or one_line(error)}; {free:,.0f} MB are free "
            f"there) and the one before it is there; make room, or type another run.dir="
        ) from error
    return path


def link(path: Path, to: Path) -> None:
    """Make `to` a second name of the file `path`, or a copy on a file system without hard links."""

    def make(partial: Path) -> None:
        partial.unlink(missing_ok=True)
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
            with partial.open("rb+") as file:
                os.fsync(file.fileno())

    write_atomically(to, make)


# --- reading ------------------------------------------------------------------------------------------------------


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint.

    Raises:
        Unreadable: the file is damaged or not a checkpoint.
        ValueError: there is no such file, or it has another format.
    """
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    other = path.with_name(f"previous{SUFFIX}")
    before = path.name == f"last{SUFFIX}" and other.is_file()
    advice = f"type ckpt={other}, the one before" if before else "use another one"
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                raise OldFormat(path)
            file.seek(0)
            content = decode(file)
    except OldFormat:
        raise
    except Refused as error:
        raise Unreadable(f"{path} cannot be read: {error}; {advice}") from None
    except MemoryError:
        raise ValueError(f"memory ran out while {path} was read; close other programs") from None
    except Exception as error:  # a damaged file can fail in any way
        raise Unreadable(f"{path} is damaged or not a checkpoint: {one_line(error, 100)}; {advice}") from error
    if type(content.get("format")) is int and content["format"] > FORMAT:
        wrote = content.get("versions")
        raise ValueError(
            f"{path} was written by gancli {wrote.get('gancli', '?') if isinstance(wrote, dict) else '?'} in format "
            f"{content['format']}, newer than format {FORMAT} of this one, {gancli.__version__}; "
            f"type pip install -U gancli"
        )
    if missing := [*missing_parts(content)]:
        raise Unreadable(f"{path} is not a checkpoint of gan: it holds no {', no '.join(sorted(missing))}; {advice}")
    return content if torch.device(device).type == "cpu" else map_tensors(content, lambda x: x.to(device))


def missing_parts(content: dict[str, Any], parts: dict[str, Any] = PARTS, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of PARTS, and of network configs and weights, that are missing or of another type."""
    for name, kind in parts.items():
        value: Any = content.get(name)
        if isinstance(kind, dict):
            if isinstance(value, dict):
                yield from missing_parts(value, kind, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"
        elif type(value) is not kind or (kind is list and not all(isinstance(text, str) for text in value)):
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


# --- files of a run -----------------------------------------------------------------------------------------------


def find(path: str | Path, outputs: Path = Path("outputs")) -> Path:
    """Return the checkpoint file of a path: a file itself, the best (else the last) of a run folder, or of `latest`."""
    if not str(path):
        raise ValueError("no checkpoint was given; type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest")
    if str(path) == "latest":
        written = {file: file.stat().st_mtime for file in outputs.glob(f"**/checkpoints/last{SUFFIX}")}
        if not written:
            raise ValueError(f"there is no run in {outputs.resolve()} yet; type gan train")
        return find(max(written, key=lambda file: written[file]).parent.parent)
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    folders = (path / "checkpoints", path)
    for name in ("best", "last", "previous"):
        for file in [folder / f"{name}{SUFFIX}" for folder in folders]:
            if file.is_file():
                return file
    refuse_old(*folders)
    raise ValueError(
        f"there is no checkpoint in {path}; type ckpt=FILE, or a run folder with checkpoints/last{SUFFIX}"
    )


def newest(folder: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], Path, str] | None:
    """Return the newest readable checkpoint of a checkpoints folder, or None where there is none.

    Returns:
        Its content, its file, and a sentence about newer files that cannot be read.

    Raises:
        Unreadable: all of them are damaged.
    """
    files = [folder / f"last{SUFFIX}", folder / f"previous{SUFFIX}", *numbered_files(folder)]
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
    refuse_old(folder)
    return None


def numbered_files(folder: Path) -> list[Path]:
    """Return the numbered checkpoints of a folder, newest first."""
    return sorted(folder.glob(f"step-*{SUFFIX}"), key=lambda file: (len(file.name), file.name), reverse=True)


def refuse_old(*folders: Path) -> None:
    """Raise OldFormat where a folder holds a run's checkpoint of the format before safetensors."""
    for file in [folder / f"{name}.pt" for folder in folders for name in ("best", "last", "previous")]:
        if file.is_file():
            raise OldFormat(file)
