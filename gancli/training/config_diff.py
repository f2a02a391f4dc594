"""Changes of a resumed run's config, and which of them resume.allow allows."""

import copy
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from gancli.config import flatten, nearest
from gancli.data.contents import PATHS

# Only these may change without resume.allow: everything else changes what is learned.
FREE = (
    *(
        "run.",
        "resume.",
        "publish.",
        "device",
        "deterministic",
        "data.root",
        "data.source.root",
        "data.cache",
        "data.source.cache",
    ),
    *("trainer.steps", "trainer.kimg", "trainer.minutes", "trainer.log", "trainer.sample_"),
    *("trainer.checkpoint_", "trainer.keep_", "trainer.evaluate_", "trainer.preflight"),
    *("trainer.sync_bn", "trainer.graphs", "model.bf16_safe", "model.graph_safe", "model.quick_metrics"),
)
# These belong to the machine and to the command rather than to the run.
LOCAL = ("run.", "resume.", "data.root", "data.source.root", "data.cache", "data.source.cache")
FOLLOW = ("data.classes", "data.batch_size")  # which the images decide
CONTENT = "data.content"  # stands in resume.allow for other images in the data set
MAX_SHOWN = 12  # changes in a message


def changes(
    before: dict[str, Any], cfg: DictConfig, typed: Collection[str] = (), free: tuple[str, ...] = FREE
) -> dict[str, tuple[Any, Any]]:
    """Return {key: (old value, new value)} of the changes that `cfg` makes to the resolved config `before`.

    Values that only follow by interpolation are left out: each changed key is set back, and keys that still differ
    were changed too. A key that `before` lacks is new in this version and no change, unless it was typed.
    """
    cfg = copy.deepcopy(cfg)
    raw, old = flatten(OmegaConf.to_container(cfg)), flatten(before)
    changed: dict[str, tuple[Any, Any]] = {}

    def order(key: str) -> tuple[bool, int, str]:  # typed keys before interpolated ones, short keys first
        return key not in raw or "${" in str(raw[key]), key.count("."), key

    with open_dict(cfg):
        while True:
            new = flatten(OmegaConf.to_container(cfg, resolve=True))
            differ = [k for k in old.keys() | new.keys() if old.get(k) != new.get(k)]
            differ = [k for k in differ if not k.startswith(free) and k not in changed and (k in old or k in typed)]
            if not differ:
                return changed
            key = min(differ, key=order)
            changed[key] = (old.get(key), new.get(key))
            OmegaConf.update(cfg, key, old.get(key), merge=False, force_add=True)


def allowed_changes(
    before: dict[str, Any], cfg: DictConfig, folder: Path, typed: Collection[str] = (), content: str | None = None
) -> list[str]:
    """Return the changes that resume.allow allows, one line each; raise ValueError if there are others.

    Args:
        typed: keys that were typed.
        content: how the content of the data has changed, empty if it has not, None if that is unknown. The same data
            by another path are the same data.
    """
    allow = [cfg.resume.allow] if isinstance(cfg.resume.allow, str) else list(cfg.resume.allow)
    known = {**flatten(before), **flatten(OmegaConf.to_container(cfg)), CONTENT: None}
    for name in allow:
        if not any(_is_within(key, [name]) for key in known):
            raise ValueError(f"resume.allow={name} is no key of this run{nearest(str(name), known)}")
    free = FREE if content is None else (*FREE, *(f"data.{inner}{key}" for inner in ("", "source.") for key in PATHS))
    lines = {key: f"{key}: {old} -> {new}" for key, (old, new) in changes(before, cfg, typed, free).items()}
    if content and not any(key.startswith("data.") and key not in FOLLOW for key in lines):
        lines[CONTENT] = f"{CONTENT}: {content}"
    if refused := [key for key in lines if not _is_within(key, allow)]:
        names = list(dict.fromkeys(key.removesuffix("._target_") for key in refused))
        names = [name for name in names if not _is_within(name, [n for n in names if n != name])]
        more = [f"and {len(refused) - MAX_SHOWN} more"] if len(refused) > MAX_SHOWN else []
        raise ValueError(
            f"the run in {folder} was started with another config: "
            f"{'; '.join([*(lines[key] for key in refused[:MAX_SHOWN]), *more])}; leave these keys out to keep the old "
            f"values, type resume.allow=[{','.join([*allow, *names])}] to continue with the new ones, or another "
            f"run.dir="
        )
    return list(lines.values())


def _is_within(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
