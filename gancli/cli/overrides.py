"""Words typed on the command line: reading, checks and the nearest right word. Needs neither Hydra nor torch."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gancli.cli import hints, received, stored
from gancli.cli.known import LOGGERS, chosen, every_key, swept_values, train_keys
from gancli.cli.stored import Word
from gancli.config import (
    CONFIGS,
    ON_CPU,
    QUOTED,
    Key,
    UsageError,
    choices,
    defaults,
    entries,
    groups,
    is_ours,
    keys,
    literal_text,
    nearest,
    own_configs,
    quote,
    unquote,
)
from gancli.runtime.files import expand_home

# Options of `gan train`, which may stand anywhere.
SWITCHES = {"-m": "sweep", "--multirun": "sweep", "--resolve": "resolve"}
WITH_VALUE = {
    **{"--cfg": "cfg", "-c": "cfg", "--package": "package", "-p": "package"},
    **{"--config-dir": "config_dir", "-cd": "config_dir", "--config-name": "config_name", "-cn": "config_name"},
}
FUNCTIONS = {"gan", "hydra", "now", "oc"}  # first words of those that ${...} may call
SEARCH = "hydra.searchpath"
NAMES = ("classes", "words", "trust")  # lists of names, in which ~ is no home
READERS: dict[type, tuple[Any, str]] = {
    str: (str, "a text"),
    bool: ({"true": True, "false": False}.__getitem__, "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}


class TrainCommand(NamedTuple):
    """The words after `gan train`."""

    words: list[str]  # key=value with full keys, values as typed
    overrides: list[str]  # the same, quoted for Hydra
    sweep: bool = False
    cfg: str = ""  # "job", "hydra" or "all": print this config instead of training
    resolve: bool = False
    package: str = ""  # the part of the config that is printed
    config_dir: str = ""  # a folder of the user's own configs
    config_name: str = "train"
    places: tuple[str, ...] = ()  # of more configs: config_dir, then those of hydra.searchpath
    trust: tuple[str, ...] = ()  # packages whose classes a run that is resumed may name
    # In the folder of a run:
    config: dict[str, Any] | None = None  # its own, resolved
    stored: int = 0  # number of the overrides that it was started with; the typed ones follow
    replaced: tuple[str, ...] = ()  # keys whose stored values do not count
    received: str = ""  # the folder, if somebody else started it


# --- commands other than train: each value exactly as typed -----------------------------------------------------


def read_values(command: str, words: list[str]) -> dict[str, Any]:
    """Return the values of configs/`command`.yaml with the typed ones in place.

    Words without `=` are paths and names. If the command's first key is a list it takes all of them; else they fill
    the text keys in order.
    """
    import yaml

    values: dict[str, Any] = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text(encoding="utf-8"))
    first = next(iter(values))
    texts = [key for key, default in values.items() if isinstance(default, str)]
    bare, rest = list[str](), iter(words)
    for word in rest:
        key, equals, text = word.partition("=")
        if WITH_VALUE.get(key) == "config_dir" and "config_dir" in values:  # an option, as in gan train
            values["config_dir"] = expand_home(_value_of(key, equals, text, rest))
        elif key == SEARCH and "config_dir" in values:
            values["config_dir"] = text
        elif word.startswith("-"):
            name = key.lstrip("-").replace("-", "_")
            hint = f"type {name}={text or '...'}" if name in values else f"gan {command} --help lists its keys"
            raise UsageError(f"gan {command} takes no option {word}; {hint}")
        elif equals and isinstance(values.get((group := key.partition("."))[0]), dict) and group[2]:
            values[group[0]] = {**values[group[0]], group[2]: text}
        elif equals and key in values and not isinstance(values[key], dict):
            values[key] = read_value(key, text, values[key])
        elif equals and key.replace("_", "a").isidentifier() and not Path(word).exists():
            raise UsageError(f"gan {command} has no key {key!r}{nearest(key, values)}; gan {command} --help lists them")
        else:
            bare.append(expand_home(word))
    if bare and isinstance(values[first], list):
        return values | {first: bare}
    if len(bare) > len(texts):
        given = f"{len(bare)} words were given: {' '.join(bare)}"
        raise UsageError(f"gan {command} takes {' and '.join(texts)}, but {given}; gan {command} --help shows how")
    return values | dict(zip(texts, bare))


def read_value(key: str, text: str, default: Any) -> Any:
    """Return a typed value in the type of its default; texts and paths stay exactly as typed."""
    if isinstance(default, list):
        if text.startswith("[") and not text.endswith("]"):
            raise UsageError(f"{key} is a list, but {key}={text} was given; type it as in {key}=[3,7]")
        given = entries(text)
        return given if key in NAMES else [read_value(key, e, default[0] if default else "") for e in given]
    reader, expected = READERS[type(default)]
    try:
        return expand_home(text) if reader is str else reader(text)
    except (KeyError, ValueError):
        example = f"{key}={str(default).lower()}"
        raise UsageError(f"{key} is {expected}, but {key}={text} was given; type it as in {example}") from None


# --- gan train: options, and overrides for Hydra ------------------------------------------------------------------


def read_train(words: list[str]) -> TrainCommand:
    """Return what was typed after `gan train`. Raise UsageError, with the nearest right word, where it is wrong.

    In the folder of a run, the words that it was started with come first.
    """
    options, typed = _split(words)
    folder, typed = stored.folder_of(typed)
    command = TrainCommand([], [], **options)
    _check_options(command)
    run = folder or _run_folder(typed, command.sweep)
    content = stored.read_stored(run, _split_word) if run else None
    if content:
        received.check_options(content.received, content.options, options)
        command = command._replace(**{**content.options, **options})
    words_of_hydra = [*(content.words if content and not content.received else ()), *typed]
    searched = [value for key, _, value in words_of_hydra if key.lstrip("+") == SEARCH]
    command = command._replace(places=(command.config_dir, *(place for text in searched for place in entries(text))))
    with own_configs(*command.places):
        return _read(command, content, typed)


def _read(command: TrainCommand, content: stored.Stored | None, typed: list[Word]) -> TrainCommand:
    """Return the command with its words checked, among the configs of all its folders."""
    old: list[Word] = []
    replaced: list[str] = []
    config: dict[str, Any] = {}
    limits: list[str] = []
    if content:
        replaced, config = stored.replaced_keys(content.words, typed), content.config
        limits = stored.other_budgets(content, typed)
        old = _usable(content.words, config, replaced, command)
        command = command._replace(received=content.received)
        received.check_words(content.received, old)
    every = [*old, *typed]
    check_choices(typed, command.sweep)
    if command.config_name == "train":
        check_keys(typed, chosen([key + equals + value for key, equals, value in every]), command.sweep)
    quoted = [
        key + equals + _quoted(key, value, command.sweep) for key, equals, value in every if key.lstrip("+") != SEARCH
    ]
    return command._replace(
        words=[key + equals + value for key, equals, value in every],
        overrides=[*quoted, *(f"{key}=null" for key in limits)],
        config=config,
        stored=len(old),
        replaced=(*replaced, *limits),
    )


def _split(words: list[str]) -> tuple[dict[str, Any], list[Word]]:
    """Return the options among the words of `gan train`, and the others split into key, "=" and value."""
    options: dict[str, Any] = {}
    typed: list[Word] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if word in SWITCHES:
            options[SWITCHES[word]] = True
        elif name in WITH_VALUE:
            options[WITH_VALUE[name]] = _value_of(name, equals, value, rest)
        elif word.startswith("-"):
            raise UsageError(f"gan train takes no option {word}{hints.for_option(name, value or next(rest, ''))}")
        elif name == "trust":
            options["trust"] = tuple(entries(value))
        elif (not equals and not word.startswith("~")) or not name:
            raise UsageError(f"{word!r} is not key=value; {hints.for_word(word)}")
        else:
            typed.append(_split_word(word))
    return options, typed


def _value_of(option: str, equals: str, value: str, rest: Iterator[str]) -> str:
    """Return the value of an option, which is after its = or the next word."""
    value = value if equals else next(rest, "")
    if not value:
        example = "--config-dir=my_configs" if WITH_VALUE[option] == "config_dir" else "--cfg=job"
        raise UsageError(f"{option} needs a value, as in {example}")
    return value


def _split_word(word: str) -> Word:
    """Return the full key of a word, its "=" and its value, a path with the home folder in place of ~."""
    key, equals, value = word.partition("=")
    key = full_key(key)
    return key, equals, _at_home(value) if _is_path(key) or key == "resume" else value


def _at_home(path: str) -> str:
    """Return a path with ~ replaced by the home folder, unless a file of this very name is here."""
    if QUOTED.fullmatch(path) and path[1] == "~":
        return path[0] + expand_home(path[1:-1]) + path[-1]
    return expand_home(path)


def _run_folder(typed: list[Word], sweep: bool) -> Path | None:
    """Return the folder of run.dir= if it holds a run to continue; refuse one that holds a sweep."""
    folder = Path(unquote(next((value for key, _, value in reversed(typed) if key == "run.dir"), "")))
    if sweep or not folder.name:
        return None
    try:
        is_sweep = (folder / stored.SWEEP).is_file()
    except OSError as error:  # a name that is too long, or a folder that this user may not open
        reason = f"run.dir={folder} cannot be written ({error.strerror})"
        raise UsageError(f"{reason}; type another run.dir=") from error
    if is_sweep:
        raise UsageError(f"run.dir={folder} holds a sweep; to continue it, type resume={folder}")
    return folder if stored.has_checkpoint(folder) else None


def _usable(words: list[Word], config: dict[str, Any], replaced: list[str], command: TrainCommand) -> list[Word]:
    """Return the stored words that count: not replaced, and known to this version or in a folder of own configs."""
    words = [word for word in words if not stored.is_within(stored.bare(word[0]), replaced)]
    known = []
    for word in words:
        with contextlib.suppress(UsageError):
            check_choices([word], command.sweep)
            known.append(word)
    choice = chosen(["=".join((key, value)) for key, _, value in known])
    for group in ("model", "data"):
        node = config.get(group)
        name = str(node.get("name")) if isinstance(node, dict) else ""
        if name != choice[group] and name in choices(group) and group not in replaced:
            known.append((group, "=", name))
    choice = chosen(["=".join((key, value)) for key, _, value in known])
    usable = []
    for word in known:
        with contextlib.suppress(UsageError):
            check_keys([word], choice, command.sweep)
            usable.append(word)
    return usable


def _check_options(command: TrainCommand) -> None:
    if command.cfg not in ("", "job", "hydra", "all"):
        raise UsageError(f"--cfg prints job, hydra or all, but {command.cfg} was given; type --cfg job")
    if command.sweep and command.cfg:
        raise UsageError("-m runs a sweep and --cfg prints a config; leave one out")
    if (command.resolve or command.package) and not command.cfg:
        raise UsageError("--resolve and --package say how --cfg prints; add --cfg job")


def places_of(words: list[str]) -> list[str]:
    """Return the folders of configs that a line names which is still being typed; not those that do not exist."""
    pairs = [word.partition("=")[::2] for word in words]
    found = [value for key, value in pairs if WITH_VALUE.get(key) == "config_dir"]
    found += [word for before, word in itertools.pairwise(words) if WITH_VALUE.get(before) == "config_dir"]
    found += [place for key, value in pairs if key == SEARCH for place in entries(value)]
    return [place for place in map(expand_home, found) if "://" in place or Path(place).is_dir()]


def full_key(key: str) -> str:
    """Return model/task for task, and so for every group inside the model's."""
    inner = {group.partition("/")[2]: group for group in groups() if group.startswith("model/")}
    return {**inner, "trainer.log": LOGGERS}.get(key, key)


def check_choices(typed: list[tuple[str, str, str]], sweep: bool) -> None:
    """Raise UsageError for a choice that does not exist, with the nearest."""
    for key, _, value in typed:
        group = key.lstrip("+~").partition("@")[0]
        if group not in groups():
            continue
        known = choices(group)
        none = "" if group == LOGGERS else "null" if defaults("train").get(group) == "null" else None
        if group != LOGGERS and "," in value and not sweep and all(part.strip() in known for part in value.split(",")):
            raise UsageError(f"{key}={value} gives several values; type gan train -m {key}={value} for a sweep of them")
        for choice in swept_values(value.strip("'\"")) if sweep or group == LOGGERS else [value]:
            if choice not in known and choice != none and "(" not in choice:
                similar = hints.for_choice(group, choice) or nearest(choice, known)
                raise UsageError(f"there is no {group} {choice!r}{similar}; there are: {', '.join(known)}")


def keys_of_choices(overrides: list[str]) -> list[str]:
    """Return a sweep's overrides with keys that only swept choices have as sweeps of one value.

    Hydra checks all others against the default choices before it looks at any job.
    """
    single = [word for word in overrides if "," not in word and "(" not in word]
    known = train_keys(chosen(single))
    keys = {word: word.partition("=")[0] for word in single}
    dependent = {word for word, key in keys.items() if key in every_key() and key not in known}
    return [word.replace("=", "=choice(", 1) + ")" if word in dependent else word for word in overrides]


def check_keys(typed: list[tuple[str, str, str]], choice: dict[str, str], sweep: bool) -> None:
    """Raise UsageError for a key that does not exist, with the nearest, or a value of another type than its default."""
    known = train_keys(choice)
    # Configs of others may be written in ways that `keys` does not read: Hydra decides.
    has_others = any(name in choices(group) and not is_ours(f"{group}/{name}") for group, name in choice.items())
    for key, equals, value in typed:
        is_sides = key == "data.size" and "[" in value  # height and width, which the data check
        if not equals or is_sides or key.startswith(("+", "~", "hydra")) or key.partition("@")[0] in groups():
            continue
        if key not in known:
            if not has_others and not _may_exist(key, known, sweep):
                raise UsageError(unknown_key(key, value))
        elif (default := typed_default(key, known)) is not None and not re.search(r"[(${]|^null$", value):
            if "," in value and not sweep:
                raise UsageError(f"{key}={value} gives several values; add -m to sweep over them")
            for one in value.split(","):
                read_value(key, one, default)


def _may_exist(key: str, known: dict[str, Key], sweep: bool) -> bool:
    """Return whether a key that is not listed may exist all the same. Hydra, which is slower, knows for certain."""

    def is_parent(names: dict[str, Key]) -> bool:
        return any(name.startswith(f"{key}.") for name in names)

    everywhere = every_key()
    if key in everywhere or is_parent(everywhere):
        return sweep or is_parent(known)  # other jobs of a sweep may have it
    # Values on one line, as in {mlp: 256}, hold keys that are not listed.
    return any(key.startswith(f"{k.name}.") and k.default.startswith(("{", "[", "$")) for k in everywhere.values())


def unknown_key(key: str, value: str = "") -> str:
    """Return the sentence for a key that the chosen config does not have."""
    for group in groups():
        prefix = f"{group.replace('/', '.')}."
        if owners := [c for c in choices(group) if key in (k.name for k in keys(f"{group}/{c}", prefix))]:
            name = group.rpartition("/")[2]
            return f"{key} is a key of {name}={', '.join(owners)} and not of the {name} chosen here; gan train --help"
    hint = hints.for_key(key, value) or f"{nearest(key, [*groups(), *every_key()])}; gan train --help lists them"
    return f"there is no key {key!r}{hint}"


def typed_default(key: str, known: dict[str, Key]) -> int | float | bool | None:
    """Return the default of a key if it is a number or true or false, else None."""
    text = ON_CPU.sub(r"\1", known[key].default) if key in known else ""
    if follows := re.fullmatch(r"\$\{([\w.]+)\}", text):
        return typed_default(follows[1], known)
    for type_ in (bool, int, float):
        with contextlib.suppress(KeyError, ValueError):
            return READERS[type_][0](text)
    return None


def _quoted(key: str, value: str, sweep: bool) -> str:
    """Return a value as Hydra must be given it. A path is never grammar: ( ) = ~ , {} and spaces are ordinary in it."""
    if key == "model.between" and not re.search(r"[$('\"]", value):  # classes may be called true, 1_0 or Дом
        return re.sub(r"[^\[\],]+", _quoted_class, value)
    if key in groups() and value != "null" and re.fullmatch(r"[\w .+@-]+", value):  # a file of configs may be Łódź.yaml
        return quote(value)
    if not _is_path(key) or QUOTED.fullmatch(value):
        return value
    if sweep and key != "run.dir" and "," in value and not Path(value).exists():  # one run for each path
        return ",".join(_quoted_path(expand_home(path)) for path in entries(f"[{value}]"))
    return _quoted_path(value)


def _quoted_path(path: str) -> str:
    return quote(path if _interpolates(path) else literal_text(path))


def _interpolates(path: str) -> bool:
    """Return whether ${...} in a path are keys and functions, as in outputs/${model.name}, not parts of its name."""
    known = {key.partition(".")[0] for key in every_key()}
    parts = re.findall(r"\$\{(?:(\w+)[\w.]*(?::[^{}]*)?\})?", path)  # empty where it is no such expression
    return all(part in known | FUNCTIONS for part in parts) and not os.path.lexists(path)


def _quoted_class(name: re.Match[str]) -> str:
    """Return the name of a class as a text, its number as a number."""
    text = name[0].strip()
    return text if re.fullmatch(r"0|[1-9][0-9]*", text) else quote(text)


def _is_path(key: str) -> bool:
    """Return whether the value of a key is a path: all free texts of gan train are."""
    return key in ("run.dir", "data.root") or (key in every_key() and every_key()[key].default == '""')
