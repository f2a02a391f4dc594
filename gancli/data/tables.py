"""Tables of images, parquet or Arrow files as the library `datasets` writes them, unpacked as a folder of image files.

Only files that lie there are read: no script of a data set is run, and nothing is downloaded.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from gancli.data.archive import LABELS, most_bytes, too_large
from gancli.data.classes import class_folders
from gancli.data.layout import DOMAINS, as_split, find_layout
from gancli.data.listing import EXTENSIONS
from gancli.runtime.text import one_line, printable, shell_quote

SHARD = re.compile(r"-\d+-of-\d+.*")  # of a name such as train-00000-of-00002.parquet
OTHER = "other"  # a split that is neither for training nor held out
LABEL = "label"
AT_ONCE = 16  # rows
BLOCK = 4096  # bytes that a file takes at least
STARTS = {b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}


class Columns(NamedTuple):
    """The columns that are read, and the classes of each of `labels`, empty where the column holds names itself."""

    image: str
    labels: tuple[str, ...]
    class_names: tuple[tuple[str, ...], ...]


class Table:
    """One file of a table.

    split: such as train or testB, from the file's name or from a folder above it
    """

    def __init__(self, file: Path, split: str):
        self.file, self.split = file, split
        with self.readable():
            from datasets import Features
            from pyarrow import ipc, memory_map, parquet

            if file.suffix.lower() == ".parquet":
                opened = parquet.ParquetFile(file)
                groups = (opened.metadata.row_group(i) for i in range(opened.num_row_groups))
                self.schema, self.size = opened.schema_arrow, sum(group.total_byte_size for group in groups)
            else:
                self.schema, self.size = ipc.open_stream(memory_map(str(file))).schema, 0
            self.features = Features.from_arrow_schema(self.schema)

    def rows(self, names: Sequence[str]) -> Iterator[list[Any]]:
        """Yield the values of these columns, row by row."""
        from pyarrow import ipc, memory_map, parquet

        with self.readable():
            if self.file.suffix.lower() == ".parquet":
                batches = parquet.ParquetFile(self.file).iter_batches(AT_ONCE, columns=list(names))
            else:
                batches = iter(ipc.open_stream(memory_map(str(self.file))))
        while True:
            with self.readable():
                batch = next(batches, None)
                columns = [batch.column(name) for name in names] if batch else []
            if batch is None:
                return
            for i in range(len(batch)):
                with self.readable():
                    row = [column[i].as_py() for column in columns]
                yield row

    @contextlib.contextmanager
    def readable(self) -> Iterator[None]:
        """Raise ValueError for whatever goes wrong within: a damaged file can fail in any way."""
        try:
            yield
        except MemoryError:
            raise
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{self.file} is a table, which needs the package datasets; type pip install 'gancli[datasets]'"
            ) from error
        except Exception as error:
            raise ValueError(
                f"{self.file} is damaged or no table ({one_line(error, 100)}); download or save it again"
            ) from error

    def columns(self, root: Path) -> Columns:
        """Return the column of images and those of classes; raise ValueError unless one column holds images."""
        from datasets import ClassLabel, Image, Value

        images = [name for name, of in self.features.items() if isinstance(of, Image) or is_image_struct(of)]
        there = printable(", ".join(self.features))
        if len(images) != 1:
            has = f"has the image columns {printable(', '.join(images))}" if images else "has no column of images"
            raise ValueError(
                f"{root} {has}{'' if images else f', only {there}'}; save a table with one, as by "
                f"table.select_columns(['image', 'label']).save_to_disk(DIR), and type data.path=DIR"
            )
        labels = [name for name, of in self.features.items() if isinstance(of, ClassLabel)]
        own = self.features.get(LABEL)
        if isinstance(own, ClassLabel) or (isinstance(own, Value) and own.dtype in ("string", "large_string")):
            labels = [LABEL]
        names = [tuple(map(str, getattr(self.features[label], "names", ()))) for label in labels]
        return Columns(images[0], tuple(labels), tuple(names))


def is_image_struct(feature: Any) -> bool:
    """Return whether a column holds images, though the file does not say so: as other programs write them."""
    types = {key: getattr(inner, "dtype", "") for key, inner in feature.items()} if isinstance(feature, dict) else {}
    return {*types} == {"bytes", "path"} and types["bytes"] in ("binary", "large_binary")


def unpack_tables(root: Path, files: Sequence[Path], folder: Path) -> None:
    """Write the images of the tables `files`, those of the file or folder `root`, as split/class/number below `folder`.

    One split alone has no folder, and so the classes are as those of any folder. Several columns of classes become a
    table of labels next to the images instead.
    """
    most, limit = most_bytes(sum(file.stat().st_size for file in files), folder.parent)
    tables = [Table(file, split_of(file, root)) for file in files]
    if (size := sum(table.size for table in tables)) > most:
        raise too_large(root, size, limit)
    columns, splits = agreed_columns(root, tables), {table.split for table in tables}
    folders, size, known, numbers, has_image = folders_of(tables, columns), 0, set(), Counter[str](), False
    labels: dict[str, dict[str, str]] = {}
    for table, content, path, values in images(tables, columns):
        place = folder / (table.split if len(splits) > 1 else "") / (folders.get(values[0], "") if folders else "")
        if place not in known:
            place.mkdir(parents=True, exist_ok=True)
            known.add(place)
        size += max(len(content), BLOCK)
        if size > most:
            raise too_large(root, size, limit)
        file = place / f"{numbers[table.split]:06}{suffix_of(content, path)}"
        file.write_bytes(content)
        if len(values) > 1:
            labels[file.relative_to(folder).as_posix()] = named_classes(root, columns, values)
        numbers[table.split] += 1
        has_image |= bool(content)
    if not has_image:
        raise ValueError(
            f"{root} holds no image itself, at most paths of images; type data.path=, the folder that these are in"
        )
    if said := [name for name in columns.labels if len({row[name] for row in labels.values()}) > 1]:
        rows = {file: {name: row[name] for name in said} for file, row in labels.items()}
        (folder / LABELS).write_text(json.dumps(rows), encoding="utf-8")


def named_classes(root: Path, columns: Columns, values: Sequence[Any]) -> dict[str, str]:
    """Return the class of a row in each of several columns; raise ValueError where it has none."""
    row = {}
    for column, names, value in zip(columns.labels, columns.class_names, values):
        if value is None or not 0 <= value < len(names):
            rest = f"table.filter(lambda row: row[{column!r}] in range({len(names)}))"
            raise ValueError(
                f"{root} has a row without a class in its column {printable(column)}; leave such rows out by "
                f"{rest}.save_to_disk(DIR), and type data.path=DIR"
            )
        row[column] = names[value]
    return row


def agreed_columns(root: Path, tables: Sequence[Table]) -> Columns:
    """Return the columns that all tables have; raise ValueError where they differ, or where no split is to train on."""
    columns = tables[0].columns(root)
    if other := next((table for table in tables if table.columns(root) != columns), None):
        raise ValueError(
            f"{tables[0].file} and {other.file} have different columns; type data.path={shell_quote(str(other.file))}, "
            f"or the folder of tables that belong together"
        )
    splits = sorted({table.split for table in tables})
    if len(splits) > 1 and not find_layout([f"{split}/0.png" for split in splits]):
        raise ValueError(f"{root} has the splits {', '.join(splits)}; type data.path=, the file or folder of one")
    return columns


def split_of(file: Path, root: Path) -> str:
    """Return the split of a file, such as train, or testB of two sets, by its name or that of a folder below `root`."""
    below = file.relative_to(root if root.is_dir() else file.parent)
    for part in (SHARD.sub("", below.stem), *reversed(below.parts[:-1])):
        if found := as_split(part):
            return f"{found.split}{found.rest.upper() if found.rest in DOMAINS else ''}"
    return OTHER


def folders_of(tables: Sequence[Table], columns: Columns) -> dict[Any, str]:
    """Return the folder of each value of the only column of classes; a row with another value has no class."""
    if len(columns.labels) != 1:
        return {}
    [names] = columns.class_names
    if names:
        return dict(enumerate(class_folders(names)))
    names = tuple(sorted({value for table in tables for [value] in table.rows(columns.labels) if value}))
    return dict(zip(names, class_folders(names)))


def images(tables: Sequence[Table], columns: Columns) -> Iterator[tuple[Table, bytes, str, list[Any]]]:
    """Yield the table, the bytes, the path and the values of `labels` of each row; no bytes where it has no image."""
    for table in tables:
        for image, *values in table.rows([columns.image, *columns.labels]):
            image = image or {}
            yield table, image.get("bytes") or b"", str(image.get("path") or ""), values


def suffix_of(content: bytes, path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in EXTENSIONS:
        return suffix
    return next((suffix for start, suffix in STARTS.items() if content.startswith(start)), ".png")
