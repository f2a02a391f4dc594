"""A run that is continued: by one process at a time, and with the config it was begun with."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from gancli.config import flatten, nearest

# Only these may differ unasked: everything else changes what is learned.
FREE = (
    *("run.", "resume.", "device", "deterministic", "data.root", "data.source.root", "data.cache", "data.source.cache"),
    *("trainer.steps", "trainer.kimg", "trainer.minutes", "trainer.log_every", "trainer.sample_"),
    *("trainer.checkpoint_", "trainer.keep_", "trainer.evaluate_", "trainer.tensorboard", "trainer.preflight"),
    *("trainer.sync_bn", "trainer.graphs"),
)
SHOWN = 12  # changes in a message


def changes(before: dict[str, Any], cfg: DictConfig) -> dict[str, tuple[Any, Any]]:
    """What `cfg` changes of the resolved config `before`, by name: (was, is).

    What only follows from a change, by interpolation, is left out: a changed key is put back to what it was, and what
    then still differs was changed too.
    """
    cfg = copy.deepcopy(cfg)
    raw, old = flatten(OmegaConf.to_container(cfg)), flatten(before)
    found: dict[str, tuple[Any, Any]] = {}

    def order(key: str) -> tuple[bool, int, str]:  # what was typed comes before what follows, and the short name first
        return key not in raw or "${" in str(raw[key]), key.count("."), key

    with open_dict(cfg):
        while True:
            new = flatten(OmegaConf.to_container(cfg, resolve=True))
            differ = [k for k in old.keys() | new.keys() if old.get(k) != new.get(k)]
            differ = [k for k in differ if not k.startswith(FREE) and k not in found]
            if not differ:
                return found
            key = min(differ, key=order)
            found[key] = (old.get(key), new.get(key))
            OmegaConf.update(cfg, key, old.get(key), force_add=True)


def allowed(before: dict[str, Any], cfg: DictConfig, folder: Path) -> list[str]:
    """The changes that resume.allow allows, a line each. ValueError, with all others, where there are any."""
    allow = [cfg.resume.allow] if isinstance(cfg.resume.allow, str) else list(cfg.resume.allow)
    known = flatten(before) | flatten(OmegaConf.to_container(cfg))
    for name in allow:
        if not any(below(key, [name]) for key in known):
            raise ValueError(f"resume.allow={name} is no key of this run{nearest(str(name), known)}")
    found = changes(before, cfg)
    lines = {key: f"{key}: {was} -> {now}" for key, (was, now) in found.items()}
    if refused := [key for key in found if not below(key, allow)]:
        names = list(dict.fromkeys(key.removesuffix("._target_") for key in refused))
        names = [name for name in names if not below(name, [n for n in names if n != name])]
        more = [f"and {len(refused) - SHOWN} more"] if len(refused) > SHOWN else []
        raise ValueError(
            f"the run in {folder} was begun with another config: "
            f"{'; '.join([*(lines[key] for key in refused[:SHOWN]), *more])}; type the values it was begun with "
            f"({folder / 'config.yaml'}), resume.allow=[{','.join([*allow, *names])}] to go on with these, or another "
            f"run.dir="
        )
    return list(lines.values())


def below(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of the names or lies below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
