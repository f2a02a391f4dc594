"""Installed packages that add to gan: each declares an entry point in the group gancli.plugins of its pyproject.toml.

    [project.entry-points."gancli.plugins"]
    calm = "calm_gan.configs:calm_gan.networks"

These are a name, a package of configs, and the module whose networks a checkpoint may build, by default the package
around the configs. Nothing here imports a plugin, so a broken one costs no more than its own classes.
"""

import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUP = "[gancli.plugins]"
# Nothing that gan itself runs on is vouched for as a whole: much of it acts when it is built.
OURS = {"gancli", "torch", "torchvision", "torchgen", "functorch", "numpy", "PIL", "yaml", "jinja2", "tqdm"}
NEVER = {*sys.stdlib_module_names, *OURS, "hydra", "hydra_plugins", "omegaconf", "antlr4", "safetensors"}


class Plugin(NamedTuple):
    """One installed plugin."""

    name: str
    package: str  # of its configs, such as calm_gan.configs
    folder: Path  # of this package
    vouched: str  # module below which its networks are defined
    distribution: str  # what pip calls it


def installed() -> tuple[Plugin, ...]:
    """Return the plugins that can be used, in the order of their names."""
    return _read()[0]


def problems() -> tuple[str, ...]:
    """Return a sentence for each plugin that cannot be used."""
    return _read()[1]


@functools.cache
def _read() -> tuple[tuple[Plugin, ...], tuple[str, ...]]:
    usable: dict[str, Plugin] = {}
    wrong = []
    for distribution, name, value in sorted(set(_entry_points())):
        package, _, vouched = (part.strip() for part in value.partition(":"))
        vouched = vouched or package.rpartition(".")[0] or package
        folder = package_folder(package)
        remove = f"pip uninstall {distribution}"
        if folder is None:
            wrong.append(f"the plugin {name} names the package {package}, which is not there; {remove}, or install it")
        elif vouched.partition(".")[0] in NEVER:
            wrong.append(f"the plugin {name} vouches for {vouched}, which is not its own, and is not used; {remove}")
        elif name in usable:
            other = usable[name]
            wrong.append(
                f"two plugins are called {name}: {other.package} of {other.distribution} is used, and {package} of "
                f"{distribution} is not; pip uninstall one of them"
            )
        else:
            usable[name] = Plugin(name, package, folder, vouched, distribution)
    return tuple(usable.values()), tuple(wrong)


def _entry_points() -> Iterator[tuple[str, str, str]]:
    """Yield distribution, name and value of each entry point of the group.

    `importlib.metadata` would take a third of the time of gan --help.
    """
    for entry in dict.fromkeys(sys.path):
        try:
            names = [file.name for file in os.scandir(entry or ".")]
        except OSError:  # an archive, or a folder that is not there
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                yield from _entry_points_of(Path(entry, name))


def _entry_points_of(information: Path) -> Iterator[tuple[str, str, str]]:
    try:
        text = (information / "entry_points.txt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.partition(GROUP)[2].partition("\n[")[0].splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith(("#", ";")):
            yield information.name.partition("-")[0], name.strip(), value.strip()


def package_folder(package: str) -> Path | None:
    """Return the folder of an importable package without importing it, or None where there is none."""
    top, *inner = package.split(".")
    try:
        spec = importlib.util.find_spec(top) if package.replace(".", "").isidentifier() else None
    except (ImportError, ValueError):
        return None
    folders = (Path(path, *inner) for path in (spec.submodule_search_locations or ()) if spec) if spec else ()
    return next((folder for folder in folders if folder.is_dir()), None)
