"""Labels of images from a table: a file name in its first column, a class or a number in each of the others."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancli.config import nearest
from gancli.runtime.files import typed_path
from gancli.runtime.text import plural, printable

MOST_CLASSES = 20  # values of a column of whole numbers that are taken for classes
GOLDEN = 0.6180339887498949
LARGEST = 10**8  # bytes of a table


@dataclass(frozen=True)
class Column:
    """One label: a class, one-hot, or a number, scaled from [low, high] to [0, 1]."""

    name: str
    values: list[str] = field(default_factory=list)  # the classes; empty for a number
    low: float = 0.0
    high: float = 1.0

    @property
    def width(self) -> int:
        return len(self.values) or 1

    def encode(self, value: str) -> list[float]:
        """Return the part of c for a value as it is typed; raise ValueError where there is no such value."""
        typed = f"labels.{self.name}={value}"
        if self.values:
            if value not in self.values:
                raise ValueError(f"{typed} is none of {', '.join(self.values[:20])}{nearest(value, self.values)}")
            return [float(value == known) for known in self.values]
        number = as_number(value)
        if number is None or not self.low <= number <= self.high:
            raise ValueError(f"{typed} is not possible; type a number from {self.low:g} to {self.high:g}")
        return [(number - self.low) / (self.high - self.low)]

    def decode(self, part: Sequence[float]) -> str:
        """Return the value that a part of c stands for; of a mixture of classes the strongest."""
        if self.values:
            return self.values[max(range(self.width), key=lambda i: part[i])]
        return f"{self.low + part[0] * (self.high - self.low):g}"

    def __str__(self) -> str:
        more = ", ..." if len(self.values) > 8 else ""
        what = f"{', '.join(self.values[:8])}{more}" if self.values else f"{self.low:g} to {self.high:g}"
        return printable(f"{self.name} ({what})")


@dataclass(frozen=True)
class Labels:
    """Conditions of N images: image i has c = codes[index[i]].

    index int64 (N,); codes float32 (M, K), the different rows of the table, K the sum of the columns' widths.
    """

    columns: list[Column]
    index: Tensor
    codes: Tensor

    @property
    def class_names(self) -> list[str]:
        """The classes of a single column, which are ordinary ones: c is one-hot."""
        return self.columns[0].values if len(self.columns) == 1 else []

    def as_arguments(self, kept: Sequence[int]) -> dict[str, Any]:
        """Return arguments of an ImageDataset of some of the images."""
        index = self.index[torch.tensor(kept, dtype=torch.int64)]
        if self.class_names:
            return {"labels": self.codes.argmax(1)[index], "class_names": self.class_names, "columns": self.columns}
        return {"labels": index, "codes": self.codes, "columns": self.columns}


def read_labels(path: str, root: Path, names: Sequence[str], short: Sequence[str]) -> Labels:
    """Return the labels of the images `names` below `root`, which may also be known by their `short` names.

    Raises:
        ValueError: images without a line, lines without an image, a column that says nothing, or a value that is none.
    """
    table = read_table(path)
    given = {name: name if name in table else other for name, other in zip(names, short)}
    if missing := [name for name in names if given[name] not in table]:
        raise ValueError(
            f"{plural(len(missing), 'image')} of {len(names):,} {'has' if len(missing) == 1 else 'have'} no line in "
            f"data.labels={path}, such as {printable(missing[0])}; add the lines, or move the images away"
        )
    if gone := [name for name in table.keys() - {*given.values()} if not (root / name).exists()]:
        raise ValueError(
            f"{plural(len(gone), 'line')} of data.labels={path} without a file in {root}, such as "
            f"{printable(min(gone))}; delete what has no image"
        )
    rows = list(table.values())  # of all splits, so that each has the same c
    columns = [column_of(path, key, [row.get(key, "") for row in rows]) for key in rows[0]]
    codes = torch.tensor([[v for one in columns for v in one.encode(row[one.name])] for row in rows])
    codes, which = codes.unique(dim=0, return_inverse=True)
    index = dict(zip(table, which.tolist()))
    return Labels(columns, torch.tensor([index[given[name]] for name in names], dtype=torch.int64), codes)


def read_table(path: str) -> dict[str, dict[str, str]]:
    """Return {file name: {column: value}} of a .csv or .json file."""
    file = typed_path(path)
    try:
        if file.stat().st_size > LARGEST:
            raise ValueError(f"data.labels={path} has more than {LARGEST / 1e6:.0f} MB; type another table")
        text = file.read_text(encoding="utf-8-sig")
        rows = from_json(json.loads(text)) if file.suffix.lower() == ".json" else from_csv(text)
    except OSError as error:
        raise ValueError(f"data.labels={path} cannot be read ({error.strerror}); type a .csv or .json file") from error
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        csv.Error,
    ) as error:
        raise ValueError(
            f"data.labels={path} is no table; a .csv begins with a line such as file,shape,colour, and a .json is "
            f'{{"a.png": {{"shape": "circle"}}}}'
        ) from error
    table = dict(rows)
    if len(table) < len(rows) or not all(table.values()):
        twice = next((name for name, n in Counter(name for name, _ in rows).items() if n > 1), "")
        why = f"names {printable(twice)} twice" if twice else "has no column of labels"
        raise ValueError(f"data.labels={path} {why}; type file,shape,colour in its first line and one line an image")
    return table


def from_csv(text: str) -> list[tuple[str, dict[str, str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    header = rows[0]
    return [(row[0], {key.strip(): row[i].strip() for i, key in enumerate(header) if i}) for row in rows[1:]]


def from_json(content: Any) -> list[tuple[str, dict[str, str]]]:
    """Read {file: {column: value}}, {file: class}, or {"labels": [[file, class], ...]} of the StyleGAN tools."""
    if isinstance(content, Mapping) and isinstance(content.get("labels"), list):
        content = {name: {"class": value} for name, value in content["labels"]}
    named = {n: row if isinstance(row, Mapping) else {"class": row} for n, row in content.items()}
    return [(str(name), {str(k): str(v) for k, v in row.items()}) for name, row in named.items()]


def column_of(path: str, name: str, values: Sequence[str]) -> Column:
    """Return what a column holds: numbers where all are, but few different whole ones are classes."""
    different = sorted({*values})
    numbers = [as_number(value) for value in different]
    column = printable(name)
    if bad := [v for v, n in zip(different, numbers) if not v or (n is None and v.lower() in ("nan", "inf", "-inf"))]:
        what = repr(bad[0]) if bad[0] else "no value"
        raise ValueError(f"column {column} of data.labels={path} has {what} for an image; give it a class or a number")
    if len(different) == 1:
        raise ValueError(
            f"column {column} of data.labels={path} has one value, {printable(different[0])}, for every image, which "
            f"says nothing; delete the column"
        )
    known = [number for number in numbers if number is not None]
    if len(known) == len(different) and (len(known) > MOST_CLASSES or not all(n.is_integer() for n in known)):
        return Column(name, low=min(known), high=max(known))
    return Column(name, sorted(different, key=lambda v: (as_number(v) is None, as_number(v) or 0.0, v)))


def as_number(text: str) -> float | None:
    """Return a text as a finite number, None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def typed_codes(columns: Sequence[Column], codes: Tensor, typed: Mapping[str, str]) -> Tensor:
    """Return the rows of `codes` (M, K) with the typed labels in place, each row once; raise ValueError for others."""
    names = [column.name for column in columns]
    for name in typed:
        if name not in names:
            there = "; ".join(map(str, columns))
            raise ValueError(f"there is no label {printable(name)}{nearest(name, names)}; the labels are {there}")
    codes, start = codes.clone(), 0
    for column in columns:
        if column.name in typed:
            codes[:, start : start + column.width] = torch.tensor(column.encode(typed[column.name]))
        start += column.width
    return spread(codes.unique(dim=0))


def spread(codes: Tensor) -> Tensor:
    """Return sorted rows in an order in which a few of them already differ in all columns: by steps of golden ratio."""
    turns = [i * GOLDEN % 1 for i in range(len(codes))]
    return codes[sorted(range(len(codes)), key=turns.__getitem__)]


def describe_code(columns: Sequence[Column], code: Tensor) -> str:
    """Return the labels that a row c (K,) stands for, as in "shape circle, size 3"."""
    parts = code.split([column.width for column in columns])
    return printable(", ".join(f"{one.name} {one.decode(part.tolist())}" for one, part in zip(columns, parts)))


STORED = 64  # rows of labels in a checkpoint, which gan sample takes in turn


def to_output(columns: Sequence[Column], codes: Tensor | None) -> dict[str, Any]:
    """Return the columns, and rows spread over all, as a checkpoint holds them; none of a single column of classes."""
    if codes is None:
        return {"columns": [asdict(column) for column in columns], "codes": []}
    rows = codes[torch.arange(min(len(codes), STORED)) * len(codes) // min(len(codes), STORED)]
    return {"columns": [asdict(column) for column in columns], "codes": rows.tolist()}


def from_output(output: Mapping[str, Any]) -> tuple[list[Column], Tensor | None]:
    """Return the columns and codes that a checkpoint holds; raise ValueError where they do not fit each other."""
    columns = [
        Column(str(one["name"]), list(map(str, one["values"])), float(one["low"]), float(one["high"]))
        for one in output["columns"]
    ]
    if not output["codes"]:
        return columns, None
    codes = torch.tensor(output["codes"], dtype=torch.float32)
    if codes.dim() != 2 or codes.shape[1] != sum(column.width for column in columns):
        raise ValueError("its labels do not fit each other")
    return columns, typed_codes(columns, codes, {})
