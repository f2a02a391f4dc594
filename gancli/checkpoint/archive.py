"""What torch.save wrote, read as if a stranger had made it: plain values and tensors, and nothing else happens.

torch.load(weights_only=True) runs no code either, but it looks at no checksum, and a file of a few bytes can have it
call bytearray(10**12), unpack a member to gigabytes, or hash a tuple so deep that the process dies. Here the two dozen
opcodes that torch.save writes for such values are followed one by one, no function is called by name, and nothing is
allocated that the file does not hold.
"""

import io
import math
import pickletools
import struct
import sys
import zipfile
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

DTYPES = {
    **{"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    "Bool": torch.bool,
}
LARGEST_PICKLE = 2**24  # bytes; what stands beside the tensors, some 300 bytes for each
DEEPEST, MOST = 50, 2**19  # dicts and lists in one another, and values in all
SHARED = 4  # times the file's size that its tensors may have, where several see the same numbers


class Refused(ValueError):
    """The file is whole, but holds what torch.save does not write for plain values and tensors."""


class Name(NamedTuple):
    """A function or class that the file asks for: only its name."""

    text: str  # "torch FloatStorage"


class Stored(NamedTuple):
    """The numbers of one member, (n,)."""

    values: Tensor


def load(path: Path) -> Any:
    """The dicts, lists, tuples, texts, numbers and CPU tensors of a file that torch.save wrote.

    zipfile.BadZipFile where the file is cut short or not such an archive, Refused where it holds anything else, and
    ValueError, OSError, NotImplementedError or RuntimeError where it is damaged.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size for m in members):
            raise Refused("its members are compressed, which torch.save never does")
        # Each fits in the file then; that they overlap would show in their sum.
        if sum(m.file_size for m in members) > size:
            raise Refused("its members are larger than the file")
        root = members[0].filename.partition("/")[0] if members else ""
        sizes = {m.filename: m.file_size for m in members}
        if sizes.get(f"{root}/data.pkl", math.inf) > LARGEST_PICKLE:
            raise Refused("it has no list of contents, or far too long a one")
        if f"{root}/byteorder" in sizes and archive.read(f"{root}/byteorder") != sys.byteorder.encode():
            raise Refused(f"its numbers are not in this machine's byte order, {sys.byteorder}-endian")
        return _Reader(archive, root, SHARED * size).read(archive.read(f"{root}/data.pkl"))


class _Reader:
    """Follows a pickle of protocol 2. most: bytes that all its tensors may have together."""

    def __init__(self, archive: zipfile.ZipFile, root: str, most: int):
        self.archive, self.root, self.most = archive, root, most
        self.storages: dict[str, Stored] = {}
        self.stack: list[Any] = []
        self.marks: list[int] = []

    def read(self, pickle: bytes) -> Any:
        memo: dict[int, Any] = {}
        try:
            for opcode, given, _ in pickletools.genops(pickle):
                name, argument = opcode.name, cast(Any, given)
                if name in ("BINPUT", "LONG_BINPUT"):
                    memo[argument] = self.stack[-1]
                elif name in ("BINGET", "LONG_BINGET"):
                    self.stack.append(memo[argument])
                elif name != "STOP":
                    self.follow(name, argument)
            (value,) = self.stack
        except (IndexError, KeyError, struct.error) as error:
            raise Refused("its list of contents makes no sense") from error
        check_tree(value)
        return value

    def follow(self, name: str, argument: Any) -> None:
        """One opcode: what it takes from the stack, and what it leaves there."""
        stack = self.stack
        if name in ("NONE", "NEWTRUE", "NEWFALSE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}.get(name, ...))
            if stack[-1] is ...:
                stack[-1] = {} if name == "EMPTY_DICT" else []
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"):
            if isinstance(argument, int) and abs(argument) >= 2**63:
                raise Refused("it holds a whole number of more than 64 bits")
            stack.append(argument)
        elif name == "GLOBAL":
            stack.append(Name(argument))
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(reversed([stack.pop() for _ in range(int(name[-1]))])))
        elif name == "TUPLE":
            stack.append(tuple(self.above_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self.above_mark()
            self.top(list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop() for _ in range(2)][::-1] if name == "SETITEM" else self.above_mark()
            keys = values[::2]
            # No tuples: one inside the other they take as long to hash as somebody likes.
            if not all(type(key) in (str, int) for key in keys) or len(values) % 2:
                raise Refused("it names something by what is neither a text nor a number")
            self.top(dict).update(zip(keys, values[1::2]))
        elif name == "BINPERSID":
            stack.append(self.storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.made(function, arguments))
        elif name == "BUILD":
            stack.pop()  # the versions of modules, which a dict of state carries as an attribute
            self.top(dict)
        elif name != "PROTO":
            raise Refused(f"it holds Python objects ({name}), which could run code")

    def above_mark(self) -> list[Any]:
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise Refused("its list of contents makes no sense")
        return self.stack[-1]

    def made(self, function: Any, arguments: Any) -> Any:
        """What the only two functions that are known give: an ordered dict, and a tensor."""
        if function == Name("collections OrderedDict") and arguments == ():
            return {}
        if function == Name("torch._utils _rebuild_tensor_v2") and type(arguments) is tuple and len(arguments) >= 4:
            return self.tensor(*arguments[:4])
        wanted = function.text.replace(" ", ".") if isinstance(function, Name) else "something that is no function"
        raise Refused(f"it holds Python objects ({wanted}), which could run code")

    def storage(self, described: Any) -> Stored:
        """The numbers of the member ("storage", type, name, device, count) as a vector."""
        match described:
            case ("storage", Name(text), str(key), str(), int(count)):
                dtype = DTYPES.get(text.removeprefix("torch ").removesuffix("Storage"))
            case _:
                dtype = None
        if dtype is None:
            raise Refused("it holds numbers of a kind that is not known")
        if key not in self.storages:
            member = self.archive.getinfo(f"{self.root}/data/{key}")
            if member.file_size != count * dtype.itemsize:
                raise Refused(f"its member {member.filename} is not as large as it should be")
            values = torch.empty(count, dtype=dtype)
            with self.archive.open(member) as file:  # which compares the checksum at its end
                cast(io.BufferedIOBase, file).readinto(memoryview(values.view(torch.uint8).numpy().data))
            self.storages[key] = Stored(values)
        if (stored := self.storages[key]).values.dtype != dtype or len(stored.values) != count:
            raise Refused(f"it gives the same numbers, {key}, two types")
        return stored

    def tensor(self, stored: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        numbers = [offset, *size, *stride] if isinstance(size, tuple) and isinstance(stride, tuple) else [None]
        if not isinstance(stored, Stored) or not all(type(n) is int and n >= 0 for n in numbers):
            raise Refused("it holds a tensor that makes no sense")
        values = stored.values
        count, last = math.prod(size), offset + sum((n - 1) * step for n, step in zip(size, stride))
        # Not even where a number is seen many times, by stride 0: a copy of it would be as large as it says.
        if len(size) != len(stride) or len(size) > 8 or count > len(values) or (count and last >= len(values)):
            raise Refused("it holds a tensor that is larger than its numbers")
        self.most -= count * values.itemsize
        if self.most < 0:
            raise Refused("its tensors are larger than the file")
        return values.as_strided(size, stride, offset)


def check_tree(value: Any) -> None:
    """Refused where a value is not plain, they lie too deep in one another, or one is found in itself.

    And where they are many more than a file lists: one that is put in two places counts twice, as it will when shown.
    """
    waiting, count = [(value, 0)], 0
    while waiting:
        outer, depth = waiting.pop()
        count += 1
        if depth > DEEPEST or count > MOST:
            raise Refused("its values lie too deep in one another, or are too many")
        if type(outer) in (dict, list, tuple):
            waiting += [(inner, depth + 1) for inner in (outer.values() if type(outer) is dict else outer)]
        elif type(outer) not in (Tensor, str, int, float, bool, NoneType):
            raise Refused("it holds Python objects, which could run code")
