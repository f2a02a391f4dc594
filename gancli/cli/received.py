"""What a run or a sweep from somebody else may not choose: classes to build, files to touch, and settings of Hydra.

A run or a sweep that this user started is known by a mark in the cache, and may choose all of them.
"""

import os
import re
from collections.abc import Collection, Iterable
from typing import Any

from gancli.cli.known import every_key
from gancli.config import UsageError, flatten, folders, unquote
from gancli.runtime.text import one_line, shell_quote

PATHS = ("path", "sources", "root", "cache", "start", "weights")  # last parts of the keys that name files
LONGEST = 200  # characters of a text from a file


def check_words(folder: str, words: Iterable[tuple[str, str, str]]) -> None:
    """Raise UsageError for a word that only its user may type; the folder is empty if this user started the run."""
    for key, equals, value in words if folder else ():
        word = shell_quote(f"{key}{equals}{value}"[:LONGEST])
        if "hydra" in key:
            refuse(folder, word, "it sets how programs are started", word)
        if "_target_" in key + value or "${oc." in value:
            refuse(folder, word, "it may name a class", word)
        if key.rpartition(".")[2] in PATHS and unquote(value):
            refuse(folder, word, "it names a file or a folder", word)


def check_options(folder: str, stored: dict[str, Any], typed: Collection[str]) -> None:
    """Raise UsageError for a folder or a name of configs that was not typed."""
    usual = {"config_dir": "", "config_name": "train"}
    for key, default in usual.items() if folder else ():
        if stored.get(key, default) != default and key not in typed:
            word = f"--{key.replace('_', '-')}={shell_quote(str(stored[key])[:LONGEST])}"
            refuse(folder, word, "configs name classes", word)


def check_config(cfg: Any, folder: str, typed: Iterable[str], classes: Collection[str]) -> None:
    """Raise UsageError for a class that no config names, and for a file that was not typed.

    Args:
        cfg: composed, without Hydra's part.
        folder: of the run or sweep; empty if this user started it, and may choose anything.
        typed: words of this command.
        classes: that configs name.
    """
    if not folder:
        return
    from omegaconf import OmegaConf

    from gancli.checkpoint.rebuild import find_class
    from gancli.runtime.cache import is_remembered

    values = {unquote(word.partition("=")[2]) for word in typed}
    files = {"", os.environ.get("GAN_DATA") or "~/.cache/gan/data"} | values
    for key, value in flatten(_listed(OmegaConf.to_container(cfg, resolve=True))).items():
        name = key.rpartition(".")[2]
        if name == "_target_" and value not in (*classes, *values) and not find_class(str(value)):
            again = "--config-dir=DIR with configs of yours that name it"
            refuse(folder, f"{key}={shell_quote(str(value)[:LONGEST])}", "no config of gan names this class", again)
        if key.startswith("trainer.log.") and not _is_usual(key, value) and str(value) not in values:
            word = shell_quote(f"{key}={value}"[:LONGEST])
            refuse(folder, word, "a logger may send what it logs", word)
        if name in PATHS and isinstance(value, str) and value not in files and not is_remembered(value):
            word = shell_quote(f"{key.replace('.source.', '.')}={value}"[:LONGEST])
            refuse(folder, word, "it names a file or a folder", word)


def refuse(folder: str, word: str, reason: str, again: str) -> None:
    raise UsageError(
        f"{shell_quote(folder)} was not started by you on this machine, and its {one_line(word)} is not used, "
        f"since {reason}; if you trust it, type {one_line(again)} too"
    )


def _is_usual(key: str, value: Any) -> bool:
    """Return whether a setting of a logger has its default, with which nothing leaves this machine."""
    if key.endswith("._target_"):
        return True
    default = every_key()[key].default if key in every_key() else None
    return default is not None and str(value) == default.strip('"')


def targets() -> frozenset[str]:
    """Return the classes that configs of gan, of plugins and of the user name."""
    texts = (file.read_text(encoding="utf-8") for folder in folders() for file in folder.rglob("*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"_target_: *['\"]?([\w.]+)", text))


def _listed(value: Any) -> Any:
    """Return nested dicts and lists with dicts in place of the lists, so that `flatten` reaches what is in them."""
    if isinstance(value, list):
        return {str(i): _listed(inner) for i, inner in enumerate(value)}
    return {str(key): _listed(inner) for key, inner in value.items()} if isinstance(value, dict) else value
