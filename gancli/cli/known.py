"""The keys and choices of `gan train` among all folders of configs. Needs neither Hydra nor torch."""

import functools
import re
from pathlib import Path

from gancli.config import Key, choices, defaults, folders, groups, keys

LOGGERS = "trainer/log"  # the group of which several are chosen


def swept_values(value: str) -> list[str]:
    """Return the values that a sweep's list, choice(), shuffle() or sort() names; none of glob() and ranges."""
    while function := re.fullmatch(r"(?:choice|shuffle|sort)\((.*)\)", value.strip()):
        value = function[1]
    parts = [part.strip() for part in re.sub(r"[\[\]]", "", value).split(",")]
    return [] if "(" in value else [part for part in parts if "=" not in part]


def chosen(words: list[str]) -> dict[str, str]:
    """Return the choice in each group after these overrides: {"model": "dcgan", "model/loss": "hinge", ...}."""
    pairs = [word.partition("=") for word in words]
    typed = {key: values[0] for key, _, value in pairs if key in groups() and (values := swept_values(value))}
    typed |= {key: value for key, _, value in pairs if key == LOGGERS}
    name, choice = typed.get("experiment", "null"), defaults("train")
    experiment = defaults(f"experiment/{name}") if name in choices("experiment") else {}
    data = (choice | experiment | typed)["data"]
    choice |= (defaults(f"data/{data}") if data in choices("data") else {}) | experiment | typed
    model = choice["model"]
    return (defaults(f"model/{model}") if model in choices("model") else {}) | choice


def train_keys(choice: dict[str, str]) -> dict[str, Key]:
    """Return the keys of `gan train` with these choices by name: its own, then those of each choice."""
    inner = [group for group in choice if group.startswith("model/")]
    order = [group for group in ("data", "model", *inner, "trainer", "experiment") if choice[group] in choices(group)]
    loggers = [name for name in swept_values(choice.get(LOGGERS, "")) if name in choices(LOGGERS)]
    return _keys_of(["train", *(f"{group}/{choice[group]}" for group in order), *(f"{LOGGERS}/{n}" for n in loggers)])


def every_key() -> dict[str, Key]:
    """Return the keys of `gan train` with any choice; those of the default choices come first."""
    return _every_key(folders())


@functools.cache
def _every_key(folders: tuple[Path, ...]) -> dict[str, Key]:
    every = _keys_of([f"{group}/{name}" for group in groups() for name in choices(group)])
    first = train_keys(chosen([]))
    return first | {name: key for name, key in every.items() if name not in first}


def _keys_of(configs: list[str]) -> dict[str, Key]:
    """Return the keys of configs such as model/dcgan by their dotted names; the first of equal names."""
    named: dict[str, Key] = {}
    for name in configs:
        group = name.rpartition("/")[0]
        prefix = "" if group in ("", "experiment", "sweep") else f"{group.replace('/', '.')}."
        for key in keys(name, prefix):
            named.setdefault(key.name, key)
    return named
