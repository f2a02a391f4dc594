"""Where the configs are, what they say of themselves, and the one place where a config becomes objects.

The top half needs neither Hydra nor torch: help, completion and suggestions read the yaml files themselves, so a
key's default and meaning are written down once, in its own line of yaml.
"""

import difflib
import re
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    pass

_HERE = Path(__file__).resolve().parent
# In a wheel the configs lie inside the package, in a checkout beside it.
CONFIGS = next((d for d in (_HERE / "configs", _HERE.parent / "configs") if d.is_dir()), _HERE / "configs")


class UsageError(ValueError):
    """What was typed cannot be understood: exit code 2 instead of 1."""


class Key(NamedTuple):
    name: str  # dotted
    default: str  # as written
    meaning: str


def keys(name: str, prefix: str = "") -> list[Key]:
    """The keys of configs/`name`.yaml in order, those of the yaml it builds on first; `prefix` goes before each."""
    found: dict[str, Key] = {}
    path: list[tuple[int, str]] = []  # indentation and name of the open parents
    text = (CONFIGS / f"{name}.yaml").read_text()
    for base in re.findall(r"^  - (\w+) *(?:#.*)?$", text, re.M):  # `defaults: [- dcgan]`: a variant
        if base != "_self_":
            found |= {key.name: key for key in keys(f"{Path(name).parent}/{base}", prefix)}
    for line in text.splitlines():
        match = re.match(r"( *)([A-Za-z_]\w*):(?: +(.*?))?(?: +# (.*))?$", line)
        if not match:
            continue
        indent, word, default, meaning = len(match[1]), match[2], match[3] or "", match[4] or ""
        path = [p for p in path if p[0] < indent] + [(indent, word)]
        dotted = prefix + ".".join(p[1] for p in path)
        if path[0][1] not in ("defaults", "hydra") and (default or meaning):
            before = found.get(dotted)
            found[dotted] = Key(dotted, default, meaning or (before.meaning if before else ""))
    return [key for key in found.values() if not key.name.endswith("_target_")]


def header(name: str) -> str:
    """The comment at the top of configs/`name`.yaml, without its marks: first line what it is, then examples."""
    lines = []
    for line in (CONFIGS / f"{name}.yaml").read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        lines.append(line[1:].removeprefix(" "))
    return "\n".join(lines)


def groups() -> list[str]:
    """The groups a train command chooses from: data, experiment, model, model/loss, ..."""
    folders = (d for d in CONFIGS.rglob("*") if d.is_dir() and any(d.glob("*.yaml")))
    return sorted(d.relative_to(CONFIGS).as_posix() for d in folders)


def choices(group: str) -> list[str]:
    """What can be chosen in a group, by name."""
    return sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))


def nearest(word: str, candidates: Iterable[str]) -> str:
    """'; did you mean ...?' with the most alike candidate, or nothing where none is alike."""
    whole = list(candidates)
    # lrr for model.lr, batch_size for data.batch_size: the last part alone, under a parent that was not typed.
    lasts = {c.rsplit(".", 1)[-1]: c for c in reversed(whole)}
    close = difflib.get_close_matches(word, whole, 1, 0.6)
    close = close or [lasts[c] for c in difflib.get_close_matches(word.rsplit(".", 1)[-1], lasts, 1, 0.6)]
    return f"; did you mean {close[0]}?" if close else ""


def override(key: str, value: str) -> str:
    """Return `key=value` as an override that Hydra reads back as exactly this text. For a shell, quote it once more."""
    plain = re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value) and value.lower() not in (
        "null",
        "true",
        "false",
        "nan",
        "inf",
    )
    if not plain:
        # A backslash counts for Hydra only before a quote or at the end.
        escaped = re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), value)
        value = f"'{escaped}'"
    return f"{key}={value}"


def build(cfg: Any) -> Any:
    """Make what a config describes by its `_target_`, inner ones first. The one call of instantiate."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(cfg, _convert_="all")
    except InstantiationException as error:
        # Hydra wraps what a constructor says to the user; that sentence is the one to show.
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested keys to dotted ones."""
    if not isinstance(config, dict):
        return {prefix: config}
    return {k: v for key, value in config.items() for k, v in flatten(value, f"{prefix}.{key}".lstrip(".")).items()}


def stamp() -> str:
    """The time and six random hexadecimal digits, so that runs begun in one second do not share a folder."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def register_resolvers(name: str = "") -> None:
    """What the yaml files compute.

    `${gan.stamp:}`: the name of a run, `name` where it was agreed upon before.
    `${gan.times:a,b}`, `${gan.plus:a,b}`: product and sum; of a number that only the data will tell, null until then.
    `${gan.where:a,b,x,y}`: x where a is b, else y.
    """
    from omegaconf import OmegaConf

    def where(a: object, b: object, then: object, otherwise: object) -> object:
        return then if a == b else otherwise

    OmegaConf.register_new_resolver("gan.where", where, replace=True)
    OmegaConf.register_new_resolver("gan.stamp", lambda: name or stamp(), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("gan.times", lambda a, b: None if b is None else a * b, replace=True)
    OmegaConf.register_new_resolver("gan.plus", lambda a, b: None if a is None else a + b, replace=True)
