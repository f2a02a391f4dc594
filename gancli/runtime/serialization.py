"""Nested dicts of tensors and JSON values as safetensors bytes, and back.

Each tensor lies under a path name; everything else is JSON in the metadata. A checksum covers all bytes. Equal content
gives equal bytes, which the safetensors library does not promise: it writes metadata in random order.
Bytes may be untrusted: `decode` runs no code and allocates no more than they hold.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor

# The first bytes of the header, before the checksum in hexadecimal digits; the JSON comes after it.
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


class Refused(ValueError):
    """The bytes are not what `encode` writes."""


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
    return [seal(head + b" " * (-len(head) % 8), parts), *parts]


def seal(header: bytes, parts: Iterable[Any]) -> bytes:
    """Return a header with its length before it and the checksum of the file in it."""
    head = len(header).to_bytes(8, "little") + header
    digest = hashlib.sha256(head)
    for part in parts:
        digest.update(part)
    return head.replace(PREFIX + ZEROS, PREFIX + digest.hexdigest().encode(), 1)


def decode(file: BinaryIO) -> dict[str, Any]:
    """Return the content of a file that `encode` wrote, on the CPU.

    Raises:
        Refused: it is damaged, or holds anything that `encode` does not write.
    """
    head = file.read(8)
    length, size = int.from_bytes(head, "little"), file.seek(0, os.SEEK_END)
    file.seek(8)
    header = file.read(length) if length <= min(LARGEST_HEADER, size) else b""
    if not header.startswith(PREFIX):
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
    content = _join(_parse(text), tensors)
    if tensors or not isinstance(content, dict):
        raise Refused("its tensors do not belong to its content")
    return content


def _bytes(x: Tensor) -> Any:
    """Return the memory of a contiguous CPU tensor."""
    return x.reshape(-1).view(torch.uint8).numpy().data


def _separate(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Return `value` with a JSON object in place of each tensor, which goes into `tensors` under its path.

    A dict called "state" adds nothing to the path: networks/G/layers.0.weight, optimizers/D/layers.0.weight/exp_avg.
    """
    if isinstance(value, Tensor):
        name = "/".join(path)
        assert name not in tensors, f"two tensors are called {name}"
        tensors[name] = value
        row_major = torch.empty_like(value, device="meta", memory_format=torch.contiguous_format).stride()
        # Dense layouts such as channels_last stay; a tensor with gaps or repeated elements becomes row-major.
        stays = value.stride() != row_major and _is_dense(value.shape, value.stride())
        return {TENSOR: name, STRIDE: [*value.stride()]} if stays else {TENSOR: name}
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value) and TENSOR not in value, f"{'/'.join(path)}: {value.keys()}"
        return {k: _separate(v, path if k == "state" else (*path, k), tensors) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_separate(v, (*path, str(i)), tensors) for i, v in enumerate(value)]
    return value


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether the elements of a tensor fill its memory, each once."""
    count = 1
    for step, n in sorted(zip(stride, shape)):
        if n != 1 and step != count:
            return False
        count *= n
    return count > 0


def _join(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Any:
    """Undo `_separate`; each tensor is used, and removed from `tensors`, once."""
    if depth > DEEPEST:
        raise Refused("its values are nested too deep")
    if isinstance(value, list):
        return [_join(v, tensors, depth + 1) for v in value]
    if not isinstance(value, dict):
        return value
    if TENSOR not in value:
        return {k: _join(v, tensors, depth + 1) for k, v in value.items()}
    x = tensors.pop(value[TENSOR])
    if (stride := value.get(STRIDE)) is None:
        return x
    valid = isinstance(stride, list) and all(type(n) is int and n >= 0 for n in stride) and len(stride) == x.dim()
    if not valid or not _is_dense(x.shape, stride):
        raise Refused("it holds a tensor with an impossible memory layout")
    return torch.empty_strided(x.shape, stride, dtype=x.dtype).copy_(x)


def _parse(text: str) -> Any:
    """Parse JSON that is not much larger in memory than as text."""
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise Refused("it holds too many values")
    return json.loads(text, parse_int=_parse_int)


def _parse_int(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= 2**63:
        raise Refused("it holds a whole number of more than 64 bits")
    return int(text)


def _layout(entries: dict[str, Any], size: int) -> list[tuple[str, torch.dtype, list[int]]]:
    """Return name, dtype and shape of a header's tensors, which must fill `size` bytes in this order without gaps."""
    end, layout = 0, []
    for name, entry in entries.items():
        dtype, shape, offsets = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        if dtype is None or len(shape) > MOST_DIMS or not all(type(n) is int and n >= 0 for n in shape):
            raise Refused("it holds a tensor of an unknown type or shape")
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        if offsets != [begin, end]:
            raise Refused("its tensors overlap or leave gaps")
        layout.append((name, dtype, shape))
    if end != size:
        raise Refused("its tensors do not fill the file")
    return layout


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested dicts, lists and tuples with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {k: map_tensors(v, change) for k, v in value.items()}
    return type(value)(map_tensors(v, change) for v in value) if isinstance(value, list | tuple) else value
