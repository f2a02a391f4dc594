"""What identifies the content of a data set, wherever it lies: names and sizes of its files, without decoding them."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any

from gancli.config import data_title
from gancli.data.decode_cache import file_stamp
from gancli.data.listing import walk_images, without_tables
from gancli.runtime.files import typed_path
from gancli.runtime.text import plural, printable

PATHS = ("path", "sources", "labels")  # keys of a data config that name a folder or an archive


def contents(data: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Return count, bytes and a digest of the files of each of PATHS, the number of built-in images, and the classes.

    Args:
        data: the loaded data set.
        config: its resolved config.
    """
    described: dict[str, Any] = {"class_names": list(data.class_names)}
    for key in PATHS:
        if path := config.get(key):
            described[key] = describe_files(typed_path(str(path)))
    return described if PATHS[0] in described else described | {"images": len(data)}


def describe_files(path: Path) -> dict[str, Any]:
    """Return the number, bytes and a digest of names and sizes of the images below a folder, or of arrays in an npz."""
    path = without_tables(path)
    if path.is_dir():
        names = walk_images(path)[0]
        sizes = [size for name in names for size, _ in [file_stamp(f"{path}/{name}") or (0, 0)]]
        return _summary("image", [*names, *sizes], len(names), sum(sizes))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [(entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()]
        return _summary("array", sorted(entries), len(entries), sum(size for _, size, _ in entries))
    if path.is_file():
        return _summary("file", [hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()], 1, path.stat().st_size)
    return {}


def _summary(noun: str, entries: list[Any], count: int, size: int) -> dict[str, Any]:
    digest = hashlib.blake2b(repr(entries).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return {"noun": noun, "count": count, "bytes": size, "digest": digest}


def data_name(name: str, path: Any) -> str:
    """Return what data are called in a protocol, such as "folder cats": not by how or where their path was typed."""
    return printable(f"{name} {data_title(name, path)}" if path else name)


def digests(described: dict[str, Any]) -> str:
    """Return the digests of `contents` as one text, which is equal for equal files; empty for built-in data."""
    return " ".join(files["digest"] for key in PATHS if (files := described.get(key)))


def name_and_content(config: dict[str, Any], described: dict[str, Any]) -> dict[str, str]:
    """Return name and digest of data that are files of the user; nothing for built-in data."""
    content = digests(described)
    return {"name": data_name(config["name"], config.get("path")), "content": content} if content else {}


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return how the content of a data set has changed, as in "24 images -> 25 images"; empty where it has not."""
    parts = []
    for key in PATHS:
        old, new = before.get(key), now.get(key, {})
        old = old if isinstance(old, dict) else {}  # a checkpoint may be damaged
        if old != new:
            a, b = (plural(files.get("count", 0), files.get("noun", "file")) for files in (old, new))
            parts.append(f"data.{key} {a} -> {b if a != b else f'{b} of other names or sizes'}")
    if before.get("images") != now.get("images"):
        parts.append(f"{before.get('images')} images -> {now.get('images')} images")
    if before.get("class_names") != now.get("class_names"):
        a, b = (
            ", ".join(map(str, names[:20])) + ", ..." * (len(names) > 20) or "none"
            for names in (before["class_names"], now["class_names"])
        )
        parts.append(f"classes {a} -> {b}")
    return ", ".join(parts)
