"""The config files, their own documentation, and the calls that compose them and build objects from them.

Everything above `compose` needs neither Hydra nor torch. Help, completion and suggestions read the yaml files, so a
key's default and meaning are written once, in its line of yaml.
"""

import contextlib
import difflib
import functools
import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from gancli import plugins

_HERE = Path(__file__).resolve().parent
# In a wheel the configs lie inside the package, in a checkout next to it.
CONFIGS = next((d for d in (_HERE / "configs", _HERE.parent / "configs") if d.is_dir()), _HERE / "configs")
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")  # one whole text in Hydra's quotes
ON_CPU = re.compile(r"\$\{gan\.on_cpu:(\[[^]]*\]|[^,]+),(\[[^]]*\]|[^,}]+)\}")  # ${gan.on_cpu:32,64}
EXPERIMENT = "experiment"  # the group whose names may have folders: experiment=paper/wgan

_OWN: ContextVar[tuple[Path, ...]] = ContextVar("own", default=())  # folders of the user's own configs


class UsageError(ValueError):
    """Error in what was typed: exit code 2 instead of 1."""


@contextlib.contextmanager
def own_configs(*places: str) -> Iterator[None]:
    """Let keys, defaults, headers, groups and choices within `with` be those of the user's own configs too.

    Args:
        places: of --config-dir and hydra.searchpath: folders, file://FOLDER or pkg://PACKAGE; empty ones are left out.
    """
    token = _OWN.set(tuple(_place(place) for place in places if place))
    try:
        yield
    finally:
        _OWN.reset(token)


def _place(place: str) -> Path:
    """Return the folder that --config-dir or an entry of hydra.searchpath names."""
    if place.startswith("pkg://"):
        if folder := plugins.package_folder(place.removeprefix("pkg://").replace("/", ".")):
            return folder
        raise UsageError(f"{place} names no installed package; type pkg:// and the package of your own configs")
    folder = Path(place.removeprefix("file://"))
    if not folder.is_dir():
        raise UsageError(f"--config-dir={folder} is no folder; type that of your own configs")
    return folder


def folders() -> tuple[Path, ...]:
    """Return the folders of configs in the order in which Hydra searches them: ours, the user's own, plugins'."""
    return tuple(dict.fromkeys([CONFIGS, *_OWN.get(), *(plugin.folder for plugin in plugins.installed())]))


def search_path() -> list[str]:
    """Return the override by which Hydra searches all folders."""
    more = ",".join(quote(f"file://{folder.absolute()}") for folder in folders()[1:])
    return [f"hydra.searchpath=[{more}]"] if more else []


def config_file(name: str) -> Path:
    """Return the file of the config `name`, such as model/dcgan."""
    files = [folder / f"{name}.yaml" for folder in folders()]
    return next((file for file in files if file.is_file()), files[0])


def is_ours(name: str) -> bool:
    """Return whether the config `name` comes with gan."""
    return (CONFIGS / f"{name}.yaml").is_file()


def problems_of_plugins() -> list[str]:
    """Return a sentence for each plugin, and for each of its configs, that cannot be used."""
    hidden = []
    for i, plugin in enumerate(plugins.installed()):
        earlier = [CONFIGS, *(other.folder for other in plugins.installed()[:i])]
        names = sorted(file.relative_to(plugin.folder).as_posix() for file in plugin.folder.rglob("*.yaml"))
        if twice := [name for name in names if any((folder / name).is_file() for folder in earlier)]:
            hidden.append(
                f"{', '.join(twice)} of the plugin {plugin.name} is hidden by another of this name; rename it"
            )
    return [*plugins.problems(), *hidden]


def _read(name: str) -> str:
    """Return the text of the config `name`."""
    return config_file(name).read_text(encoding="utf-8")


class Key(NamedTuple):
    """One key of a config file."""

    name: str  # dotted
    default: str  # as written
    meaning: str  # the comment on its line
    rare: bool  # below the line "# Rarely changed"


def keys(name: str, prefix: str = "") -> list[Key]:
    """Return the keys of configs/`name`.yaml in order, after those of the yaml that it builds on.

    Args:
        prefix: text before every name, such as "model."
    """
    named: dict[str, Key] = {}
    parents: list[tuple[int, str]] = []  # indentation and name
    text = _read(name)
    for base in _bases(name, text):
        named |= {key.name: key for key in keys(base, prefix)}
    for base, package in re.findall(r"^  - ([\w-]+)@([\w.]+) *$", text, re.M):
        inner = keys((Path(name).parent / base).as_posix(), f"{prefix}{package}.")
        named |= {key.name: key._replace(rare=True) for key in inner}
    rare = False
    for line in text.splitlines():
        rare |= line == "# Rarely changed"
        match = re.match(r"( *)([A-Za-z_][\w.]*):(?: +([^#\s].*?))?(?: +# (.*))?$", line)
        if not match:
            continue
        indent, word, default, meaning = len(match[1]), match[2], match[3] or "", match[4] or ""
        parents = [p for p in parents if p[0] < indent] + [(indent, word)]
        dotted = prefix + ".".join(p[1] for p in parents)
        if parents[0][1] not in ("defaults", "hydra") and (default or meaning):
            old = named.get(dotted, Key(dotted, default, meaning, rare))
            named[dotted] = Key(dotted, default or old.default, meaning or old.meaning, old.rare and rare)
    listed = [key for key in named.values() if not key.name.endswith(("_target_", "_partial_"))]
    return sorted(listed, key=lambda key: key.rare)


def defaults(name: str) -> dict[str, str]:
    """Return the `defaults` of configs/`name`.yaml in other groups: {"model": "dcgan", "data": "mnist10k"}."""
    text, parent = _read(name), Path(name).parent
    chosen: dict[str, str] = {}
    for base in _bases(name, text):
        chosen |= defaults(base)
    for group, choice in re.findall(r"^  - (?:override )?([\w/]+)(?:@_global_[\w.]*)?: +(\w+)", text, re.M):
        chosen[group[1:] if group.startswith("/") else (parent / group).as_posix()] = choice
    return chosen


def base_configs(name: str) -> list[str]:
    """Return the names of the configs of its group that the config `name` builds on."""
    return [Path(base).name for base in _bases(name, _read(name))]


def _bases(name: str, text: str) -> list[str]:
    """Return the configs of the same group that a config builds on: a variant's `defaults: [- dcgan]`."""
    bases = re.findall(r"^  - ([\w-]+) *(?:#.*)?$", text, re.M)
    return [(Path(name).parent / base).as_posix() for base in bases if base != "_self_"]


def readable(default: str) -> str:
    """Return a default as a reader is shown it: `${gan.on_cpu:32,64}` is 32 on a CPU, else 64."""
    return ON_CPU.sub(r"\1 on a CPU, else \2", default)


def header(name: str) -> str:
    """Return the comment at the top of configs/`name`.yaml without its marks: a title, then examples."""
    text = _read(name)
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return "\n".join(line[1:].removeprefix(" ") for line in lines if not line.startswith("# @package"))


def groups() -> list[str]:
    """Return the groups of choices of `gan train`: data, experiment, model, model/loss, ..."""
    return sorted({group for folder in folders() for group in _groups_in(folder)})


@functools.cache
def _groups_in(folder: Path) -> set[str]:
    parents = {file.relative_to(folder).parent.as_posix() for file in folder.rglob("*/*.yaml")}
    return {group for group in parents if not group.startswith(f"{EXPERIMENT}/")}


def choices(group: str) -> list[str]:
    """Return the names in a group. Those that begin with _ are bases of others and no choices.

    An experiment may lie in a folder: paper/wgan.
    """
    at = [folder / group for folder in folders()]
    files = [(file, root) for root in at for file in (root.rglob if group == EXPERIMENT else root.glob)("*.yaml")]
    return sorted(
        {file.relative_to(root).with_suffix("").as_posix() for file, root in files if not file.stem.startswith("_")}
    )


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the most similar candidate, or an empty string if none is similar."""
    whole = list(candidates)
    # lrr for model.lr, batch_size for data.batch_size: the last part alone, under a parent that was not typed.
    lasts = {c.rsplit(".", 1)[-1]: c for c in reversed(whole)}
    close = difflib.get_close_matches(word, whole, 1, 0.6)
    close = close or [lasts[c] for c in difflib.get_close_matches(word.rsplit(".", 1)[-1], lasts, 1, 0.6)]
    return f"; did you mean {close[0]}?" if close else ""


def quote(value: str) -> str:
    """Return a text as Hydra must be given it to read back exactly this text. For a shell, quote it once more."""
    words = ("null", "true", "false", "nan", "inf")
    if re.fullmatch(r"(?!\.[0-9])[A-Za-z_./][A-Za-z0-9_./-]*", value) and value.lower() not in words:
        return value
    # A backslash counts for Hydra only before a quote or at the end.
    escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
    return f"'{escaped}'"


def literal_text(text: str) -> str:
    """Return a text as a config must hold it so that ${...} in it is a name and no interpolation."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return nested dicts and lists with `change` applied to every text."""
    if isinstance(value, dict):
        return {key: map_texts(v, change) for key, v in value.items()}
    if isinstance(value, list):
        return [map_texts(v, change) for v in value]
    return change(value) if isinstance(value, str) else value


def unquote(text: str) -> str:
    """Return the text that Hydra reads where quotes enclose the whole, else the text itself."""
    if not QUOTED.fullmatch(text):
        return text
    return re.sub(rf"(\\*)({text[0]}|\Z)", lambda m: m[1][: len(m[1]) // 2] + m[2], text[1:-1])


def entries(text: str) -> list[str]:
    """Return the entries of a typed list, each exactly as typed: a class may be called no, 007, >50K or #1.

    Quotes enclose an entry with a comma or with spaces at its ends.
    """
    if not text.startswith("["):
        return [unquote(text)] if text else []
    parts = re.findall(rf"\s*((?:{QUOTED.pattern})(?=\s*(?:,|\Z))|[^,]*)(?:,|\Z)", text[1:-1])
    return [unquote(part.strip()) for part in parts if part.strip()]


def override(key: str, value: str) -> str:
    """Return `key=value` as an override that Hydra reads back as exactly this text."""
    return f"{key}={quote(value)}"


def typed(key: str, path: str) -> str:
    """Return `key=path` as it is typed: without quotes, unless those of the path would count as Hydra's."""
    return override(key, path) if path.startswith(("'", '"')) else f"{key}={path}"


def compose(overrides: list[str]) -> Any:
    """Return the config of `gan train` with these overrides."""
    import hydra

    register_resolvers()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", [*overrides, *search_path()])


def build(cfg: Any) -> Any:
    """Build the object that a config describes by its `_target_`, inner ones first. The one call of instantiate."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(cfg, resolve=True)
    try:
        # Hydra resolves what it is given, then reads it as if it had not.
        return instantiate(map_texts(map_texts(values, literal_text), literal_text), _convert_="all")
    except InstantiationException as error:
        # Hydra wraps a constructor's sentence for the user, which is the one to show.
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        if located := re.match(r"Error locating target '([\w.]+)'", str(error)):
            cause: BaseException = error
            while cause.__cause__:
                cause = cause.__cause__
            reason = f"{type(cause).__name__}: {str(cause).strip().splitlines()[-1] if str(cause) else ''}"
            raise ValueError(f"{located[1]}, which the config names, cannot be imported ({reason})") from error
        if isinstance(error.__cause__, TypeError) and (
            called := re.match(r"Error in call to target '([\w.]+)'", str(error))
        ):
            reason = str(error.__cause__).splitlines()[0]
            raise ValueError(f"{called[1]} does not take what the config gives it: {reason}") from error
        raise


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested keys as dotted ones."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {k: v for key, value in config.items() for k, v in flatten(value, f"{prefix}.{key}".lstrip(".")).items()}


def data_title(name: str, path: Any = "") -> str:
    """Return what data are called: by the file or folder `path` that they are read from, else by their `name`."""
    title = os.path.basename(os.path.realpath(os.path.expanduser(str(path)))) if path else ""  # noqa: PTH111, PTH119
    return title or name


def _in_folder_name(name: str, path: Any = "") -> str:
    """Return `data_title` as a part of a folder's name: letters, digits, - and _, and not too many."""
    return re.sub(r"[^\w-]+", "-", data_title(name, path))[:40].strip("-") or name


def stamp() -> str:
    """Return the time and six random hexadecimal digits, unique among runs that start in the same second."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def _environment(name: str, default: str | None = None) -> str | None:
    """Return a variable of the environment; ValueError for all but GAN_DATA, whose values do not belong into files."""
    if name != "GAN_DATA":
        raise ValueError(
            f"${{oc.env:{name}}} would write the variable {name} into the run's files; type its value, or ${name}, "
            f"which the shell replaces"
        )
    return os.environ.get(name, default)


def _on_cpu(cpu: Any, other: Any, *, _root_: Any) -> Any:
    """Return `cpu` where the run computes on a CPU: a width, say, with which minutes of a CPU suffice."""
    device = str(_root_.device)
    if device == "auto":
        import torch

        device = "gpu" if torch.cuda.is_available() or torch.backends.mps.is_available() else "cpu"
    return cpu if device == "cpu" else other


def register_resolvers(name: str = "") -> None:
    """Register the functions that the yaml files call, such as `${gan.times:a,b}`.

    Args:
        name: name of the run if several processes agreed on one.
    """
    from omegaconf import OmegaConf

    functions: dict[str, Callable[..., Any]] = {
        "gan.where": lambda a, b, then, otherwise: then if a == b else otherwise,
        "gan.times": lambda a, b: None if b is None else a * b,  # null until the data set is known
        "gan.plus": lambda a, b: None if a is None else a + b,
        "gan.on_cpu": _on_cpu,
    }
    functions |= {"gan.title": _in_folder_name, "oc.env": _environment}
    for key, function in functions.items():
        OmegaConf.register_new_resolver(key, function, replace=True)
    OmegaConf.register_new_resolver("gan.stamp", lambda: name or stamp(), use_cache=True, replace=True)
