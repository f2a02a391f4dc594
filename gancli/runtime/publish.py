"""Texts of files that are made to be given away: pages, tables and exported networks."""

import contextlib
import getpass
import os
import re
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

_SHOWN: ContextVar[bool] = ContextVar("shown", default=False)  # publish.paths

# An absolute path, of Unix or of Windows, in a longer text: up to a quote if one is before it, else up to a space.
# D/loss, images/s, a relative path and the address of a website are none.
_ROOT = r"(?:file://)?(?:(?<![\w.~…/<])(?<!:/)(?!(?<=:)//\w)/+(?=[^\s/])|(?<!\w)[A-Za-z]:[\\/]|(?<![\\\w])\\\\(?=\w))"
_PATH = re.compile(
    rf"(?<=')({_ROOT}[^'\n]*)(?=')|(?<=\")({_ROOT}[^\"\n]*)(?=\")|({_ROOT}[^\s'\"<>|;,)\]}}]*[^\s'\"<>|;,:.)\]}}])"
)
_HOMES = re.compile(r"(?<!\S)~\w[\w.-]*/")  # of another user, as in ~joe/
_NOBODY = ("root", "user", "home", "localhost", "data", "images")  # names that tell nothing


@contextlib.contextmanager
def publishing(paths: bool) -> Iterator[None]:
    """Let the files that are written within `with` show paths and names, if `paths` is true."""
    token = _SHOWN.set(bool(paths))
    try:
        yield
    finally:
        _SHOWN.reset(token)


def published(value: Any) -> Any:
    """Return a text, or all those in nested dicts and lists, as a file for others may hold it.

    The home folder is ~, of other absolute paths the last part stays, and the names of the user and the machine are
    USER and HOST. With publish.paths=true everything stays.
    """
    if _SHOWN.get():
        return value
    if isinstance(value, dict):
        return {key: inner if key == "_target_" else published(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [published(inner) for inner in value]
    return _cleaned(value) if isinstance(value, str) else value


def is_shown() -> bool:
    """Return whether publish.paths is true."""
    return _SHOWN.get()


def _cleaned(text: str) -> str:
    if "/" in text or "\\" in text:
        home = _home()
        if home:
            text = re.sub(rf"(?<![\w.]){re.escape(home)}(?![\w.-])", "~", text)
        whole = text.startswith("/") and os.path.lexists(text)  # and no sentence that begins with a path
        text = _cut(text) if whole else _PATH.sub(lambda match: _cut(match[0]), text)
        text = _HOMES.sub("~/", text)
    for name, stand_in in _names(_home(), socket.gethostname()):
        if name in text:
            text = re.sub(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", stand_in, text)
    return text


def _cut(path: str) -> str:
    """Return the last part of an absolute path, marked as cut."""
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1]
    return f"…/{name}" if name and not re.fullmatch("[A-Za-z]:", name) else "…/"


def _home() -> str:
    """Return the home folder; empty where there is none, or where it is the root of everything."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return ""
    return home if len(home) > 1 else ""


@lru_cache(maxsize=1)  # a page has hundreds of texts
def _names(home: str, machine: str) -> list[tuple[str, str]]:
    """Return the names of the user and of the machine, each with what stands in its place; the longest first."""
    users = {Path(home).name}
    with contextlib.suppress(OSError, KeyError, ImportError):
        users.add(getpass.getuser())
    names = dict.fromkeys(users, "USER") | dict.fromkeys((machine, machine.partition(".")[0]), "HOST")
    telling = (name for name in names if len(name) > 2 and name.lower() not in _NOBODY)
    return [(name, names[name]) for name in sorted(telling, key=len, reverse=True)]
