"""Damage to files of ten kinds: bits, cuts, splices, extreme numbers, and for each kind what its own readers trust."""

import copy
import functools
import io
import json
import operator
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from gancli.runtime.serialization import CONTENT, PREFIX, STRIDE, TENSOR, ZEROS, decode, encode, seal

T = TypeVar("T")
# Calls that an attacker would like, and values that a program might trust.
TARGETS = (
    *("os.system", "builtins.eval", "gancli.images.os.getcwd", "gancli.networks.dcgan.nn.Module", "gancli.__main__.x"),
    *("gancli.networks.mlp.__builtins__", "gancli.networks.dcgan.Discriminator", "gancli.networks.layers.Bias"),
    *("gancli.inference.upscaler.SpandrelModel", "gancli.networks.mlp.Generator.__init__", "gancli.networks..mlp"),
    *(".", "é", ""),
)
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 255, 2**20, 2**31 - 1, 2**31, 2**62, -(2**62), 10**9, 2**64, True, None, 0.5, -0.0, 1e300),
    *(float("nan"), float("inf"), "", "1", "x" * 5000, "\x1b[2J\n", "\ud800", [], [1], {}, [[[[[[[[]]]]]]]]),
    *({"_target_": "os.system"}, {"a": {"b": {"c": {}}}}, {"tensor": "ema"}),
)


def pick(draw: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(draw.integers(len(options)))]


def flip(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for at in draw.integers(len(data), size=2 ** int(draw.integers(0, 7))):
        changed[at] ^= 1 << int(draw.integers(8)) if draw.random() < 0.5 else int(draw.integers(1, 256))
    return bytes(changed)


def cut(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    start = 0 if draw.random() < 0.7 else int(draw.integers(len(data)))
    return data[start : int(draw.integers(start, len(data) + 1))] + bytes(int(draw.integers(0, 2)) * 100)


def splice(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    other = pick(draw, others)
    a, b, n = int(draw.integers(len(data))), int(draw.integers(len(other))), 2 ** int(draw.integers(0, 14))
    return data[:a] + other[b : b + n] + data[a + (n if draw.random() < 0.5 else 0) :]


def change_numbers(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Write extreme numbers at the file's beginning or end, where formats store sizes and offsets."""
    changed, near = bytearray(data), min(len(data), 600)
    for _ in range(int(draw.integers(1, 5))):
        at = int(draw.integers(near)) if draw.random() < 0.5 else len(data) - 1 - int(draw.integers(near))
        form = pick(draw, ("<I", ">I", "<H", ">H", "<Q"))
        largest = 256 ** struct.calcsize(form) - 1
        value = pick(draw, (0, 1, largest, largest // 2, largest // 2 + 1, int(draw.integers(largest // 2))))
        changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


def follow(value: Any, path: Sequence[Any]) -> Any:
    return functools.reduce(operator.getitem, path, value)


def split_file(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors' bytes of a checkpoint."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def sealed_file(header: dict[str, Any], body: bytes) -> bytes:
    """Return a checkpoint with a valid checksum."""
    metadata = {**header.pop("__metadata__"), "gancli_sha256": ZEROS.decode()}
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    assert text.startswith(PREFIX)
    return seal(text, [body]) + body


def change_header(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change types, shapes, offsets and names of tensors, or add and remove tensors."""
    header, body = split_file(data)
    for _ in range(int(draw.integers(1, 4))):
        names = [name for name in header if name != "__metadata__"]
        name = pick(draw, names)
        entry, change, odd = header[name], int(draw.integers(7)), copy.deepcopy(pick(draw, ODD))
        if change < 3:
            key = ("dtype", "shape", "data_offsets")[change]
            header[name] = {**entry, key: odd} if isinstance(entry, dict) else odd
        elif change == 3:
            entry["shape"] = [*entry["shape"], odd] if isinstance(entry.get("shape"), list) else [odd]
        elif change == 4:
            del header[name]
        elif change == 5:
            header[name], header[names[0]] = header[names[0]], entry
        else:
            body += bytes(int(draw.integers(1, 100)))
            header[f"{name}/more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body) - 4, len(body)]}
    return sealed_file(header, body)


def change_text(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change characters of the JSON."""
    header, body = split_file(data)
    metadata = header["__metadata__"]
    text = pick(draw, (flip, cut, splice))(metadata[CONTENT].encode(), draw, others)
    metadata[CONTENT] = text.decode(errors="replace")
    return sealed_file(header, body)


def change_content(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change values of the content."""
    content = decode(io.BytesIO(data))
    for _ in range(int(draw.integers(1, 4))):
        every = list(paths(content))
        # Half of the changes are where G's config or its images are described.
        likely = [p for p in every if p[0] == "output" or (p[:2] == ("networks", "G") and "config" in p)] or every
        *outer, key = pick(draw, likely if draw.random() < 0.5 else every)
        parent = follow(content, outer)
        value = parent[key]
        if key == "_target_":
            parent[key] = str(draw.choice(TARGETS))
        elif isinstance(value, torch.Tensor) and draw.random() < 0.8:
            none, nan = value.reshape(-1)[:0], value * float("nan")
            shapes = [none, value.double(), value.reshape(-1), value[None], value.bool()]
            parent[key] = pick(draw, [*shapes, nan, torch.zeros(3), value + value])
        elif draw.random() < 0.15 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(pick(draw, ODD)) if draw.random() < 0.97 else json.loads("[" * 200 + "]" * 200)
    return b"".join(encode(content))


def change_layout(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change how tensors are named and laid out in the JSON."""
    header, body = split_file(data)
    content = json.loads(header["__metadata__"][CONTENT])
    tensors = [follow(content, path[:-1]) for path in paths(content) if path[-1] == TENSOR]
    for _ in range(int(draw.integers(1, 4))):
        chosen, odd = pick(draw, tensors), copy.deepcopy(pick(draw, ODD))
        name = pick(draw, tensors)[TENSOR] if draw.random() < 0.5 else odd
        chosen |= {TENSOR: name} if draw.random() < 0.5 else {STRIDE: [odd] if draw.random() < 0.5 else odd}
    header["__metadata__"][CONTENT] = json.dumps(content)
    return sealed_file(header, body)


# What people hide in names, tables and settings.
TEXTS = (
    *(
        "=cmd|' /C calc'!A0",
        "@SUM(1+9)*cmd",
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "\x1b[2J\x1b]0;x\x07",
    ),
    *(
        "${oc.env:HOME}",
        "${oc.env:PATH}",
        "../../../../tmp/x",
        "/etc/passwd",
        "~/.ssh/id_rsa",
        "!!python/object/apply:os.system",
    ),
    *(
        "&a [*a,*a]",
        "{a: &x [1], b: *x}",
        "_target_: os.system",
        "\x00",
        "\ud800",
        "NaN",
        "1e999",
        "-" * 3000,
        "[" * 3000,
    ),
    *("$(touch pwned)", "`touch pwned`", "'; touch pwned; '", "%s%n", "\r\nSet: x", "\u202egnp.exe"),
)


def change_lines(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Put hostile texts and odd numbers among the words of a text file, and repeat, remove and join its lines."""
    lines = data.decode(errors="replace").split("\n")
    for _ in range(int(draw.integers(1, 5))):
        at, change = int(draw.integers(len(lines))), int(draw.integers(5))
        odd = pick(draw, (*TEXTS, *(json.dumps(x) for x in ODD if not isinstance(x, float))))
        words = lines[at].split(" ")
        if change < 3:
            words[int(draw.integers(len(words)))] = odd
            lines[at] = " ".join(words)
        elif change == 3:
            lines.insert(at, odd if draw.random() < 0.5 else pick(draw, lines))
        else:
            lines[at : at + 2] = ["".join(lines[at : at + 2])]
    return "\n".join(lines).encode(errors="backslashreplace")


def change_values(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change values in the lines of a JSON file."""
    rows = [json.loads(line) for line in data.splitlines() if line.strip()]
    for _ in range(int(draw.integers(1, 5))):
        row = pick(draw, rows)
        if every := list(paths(row)):
            *outer, key = pick(draw, every)
            follow(row, outer)[key] = copy.deepcopy(pick(draw, (*TEXTS, *ODD)))
    return "\n".join(map(json.dumps, rows)).encode()


def change_config(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change values of a run's config, classes to build among them."""
    import yaml

    config = yaml.safe_load(data)
    for _ in range(int(draw.integers(1, 4))):
        every = list(paths(config))
        classes = [path for path in every if path[-1] == "_target_"]
        *outer, key = pick(draw, classes if draw.random() < 0.5 and classes else every)
        parent: Any = follow(config, outer)
        odd = [x for x in ODD if x == x]
        value = pick(draw, TARGETS) if key == "_target_" else pick(draw, (*TEXTS, *odd, {"_target_": "os.system"}))
        parent[key] = copy.deepcopy(value)
    return yaml.safe_dump(config, allow_unicode=False).encode(errors="backslashreplace")


def change_archive(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Write an archive anew: names that lead out, entries twice, zeros that take no place, damaged arrays, pickles."""
    import pickle

    entries = [
        (info.filename, zipfile.ZipFile(io.BytesIO(data)).read(info))
        for info in zipfile.ZipFile(io.BytesIO(data)).infolist()
    ]
    for _ in range(int(draw.integers(1, 4))):
        at, change = int(draw.integers(len(entries))), int(draw.integers(6))
        name, content = entries[at]
        if change == 0:
            entries[at] = (
                pick(draw, ("../../x.npy", "/tmp/x.npy", "a/../../x", "images.npy", "x" * 300, "\x1b[2J.npy")),
                content,
            )
        elif change == 1:
            entries[at] = (name, pick(draw, (flip, cut, change_numbers))(content or b"x", draw, others))
        elif change == 2:
            entries.append((name, content + bytes(2**24)))
        elif change == 3:
            entries[at] = (name, pickle.dumps(Call()))
        elif change == 4:
            shape = pick(draw, ("(2**40,)", "(99999999999, 28, 28, 1)", "(-1,)", "(20, 28, 28, 1)", "()", "[1]"))
            descr = pick(draw, ("'|u1'", "'|O'", "'<f8'", "[('a', '|O')]", "'<U9999'", "__import__('os')"))
            header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            entries[at] = (
                name,
                b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content[128:],
            )
        else:
            del entries[at]
            entries = entries or [("a", b"")]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", int(pick(draw, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


class Call:
    """Object that runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch pwned",)


Change = Callable[[bytes, np.random.Generator, list[bytes]], bytes]
ANY: tuple[Change, ...] = (flip, cut, splice, change_numbers)
CHANGES: dict[str, tuple[Change, ...]] = {
    "safetensors": (*ANY, *[change_header, change_text, change_layout] * 2, *[change_content] * 4),
    **dict.fromkeys(("npz", "zip"), (*ANY, *[change_archive] * 4)),
    **dict.fromkeys(("png", "jpg", "gif", "onnx"), ANY),
    **dict.fromkeys(("csv",), (flip, cut, splice, *[change_lines] * 3)),
    "jsonl": (flip, cut, splice, *[change_lines] * 2, *[change_values] * 3),
    "yaml": (flip, cut, splice, *[change_lines] * 2, *[change_config] * 3),
}


def damaged(kind: str, data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Return a file of a kind with one sort of damage."""
    return pick(draw, CHANGES[kind])(data, draw, others)
