"""Which packages may define the networks that a checkpoint builds. Needs no torch."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from gancli import plugins
from gancli.config import UsageError

OWN = "gancli.networks"
VARIABLE = "GAN_TRUST"  # packages separated by commas

_TRUSTED: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())  # by trust=


@contextlib.contextmanager
def trusting(packages: Iterable[str]) -> Iterator[None]:
    """Let checkpoints build networks of these packages too, within `with`.

    Raises:
        UsageError: for one that is not installed, or that belongs to Python or to what gan runs on.
    """
    token = _TRUSTED.set((*_TRUSTED.get(), *_checked(packages, "trust=")))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def _checked(packages: Iterable[str], key: str) -> list[str]:
    names = [str(name).strip() for name in packages]
    for name in names:
        top = name.partition(".")[0]
        if top in plugins.NEVER:
            raise UsageError(
                f"{key}{name} is refused: a checkpoint could then call what is not a network; type the name of the "
                f"package that defines the network"
            )
        if not name.replace(".", "").isidentifier() or importlib.util.find_spec(top) is None:
            raise UsageError(f"{key}{name} is no installed package; type the name by which it is imported")
    return names


def vouched() -> dict[str, str]:
    """Return the modules below which networks may be defined, each with what vouches for it."""
    named = (name for name in os.environ.get(VARIABLE, "").split(",") if name.strip())
    return {
        OWN: "gan",
        **{plugin.vouched: f"the plugin {plugin.name}" for plugin in plugins.installed()},
        **dict.fromkeys(_checked(named, f"{VARIABLE}="), VARIABLE),
        **dict.fromkeys(_TRUSTED.get(), "trust="),
    }


def is_vouched(module: str) -> bool:
    """Return whether networks that are defined in a module may be built."""
    return any(module == name or module.startswith(f"{name}.") for name in vouched())


def how_to_trust(module: str) -> str:
    """Return what to type so that the networks of a module may be built, or an empty string where nothing helps."""
    package = module.partition(".")[0]
    if not package.isidentifier() or package in plugins.NEVER:
        return ""
    return (
        f"; if you trust that package, install it as a plugin (docs/extending.md) or type trust=[{package}], or set "
        f"{VARIABLE}={package}"
    )


def not_vouched(module: str) -> list[str]:
    """Return a warning about a network in training that nothing vouches for, or none."""
    if is_vouched(module):
        return []
    return [
        f"G is of {module}, which no plugin vouches for, so that gan sample will not build it{how_to_trust(module)}"
    ]
