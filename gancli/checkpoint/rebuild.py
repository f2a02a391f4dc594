"""Networks rebuilt from a checkpoint, which may be untrusted."""

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from gancli import __version__
from gancli.checkpoint.trust import how_to_trust, is_vouched
from gancli.images import sides
from gancli.runtime.cache import is_remembered_text, remember_text
from gancli.runtime.text import one_line

# Noise is sampled and images are generated in blocks of this many: image i of a seed is then the same at any n.
BLOCK = 64
LARGEST_NUMBER = 2**20  # in a network's config: a width, a size, a depth
MOST_BYTES = 10**9  # that a block of images may take, and as much again what is computed on the way to them


def rebuild(config: Any) -> nn.Module:
    """Build the network of a config {"_target_": class, its arguments}; arguments may be such configs too."""
    if not isinstance(config, dict) or not isinstance(config.get("_target_"), str):
        raise ValueError("the checkpoint does not say how its network is built; it was not written by gan train")
    target = config["_target_"]
    network_class = find_class(target)
    if not network_class:
        module = target.rpartition(".")[0]
        advice = "" if is_vouched(module) else how_to_trust(module)
        raise ValueError(
            f"the checkpoint asks for {target[:99]!r}, which is not a network of gancli or of a plugin; it was not "
            f"built{advice}"
        )
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    for key, value in arguments.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(abs(n) <= LARGEST_NUMBER for n in numbers if isinstance(n, int | float)):
            raise ValueError(f"the checkpoint's {target} was not built: {key}={str(value)[:20]} is out of range")
    try:
        return network_class(**{k: rebuild(v) if isinstance(v, dict) else v for k, v in arguments.items()})
    except Exception as error:  # arguments of another version or of an untrusted file can fail in any way
        reason = f"{target} cannot be built by this version: {one_line(error, 200)}"
        raise ValueError(f"the checkpoint's {reason}") from error


def find_class(target: str) -> type[nn.Module] | None:
    """Return the nn.Module class of this name in a vouched module; None for anything else.

    Vouched are `gancli.networks`, plugins, and packages that the user trusts. Other modules are not even imported,
    since some act when they are, and `vars` runs no module's __getattr__.
    """
    module, _, name = target.rpartition(".")
    if not is_vouched(module) or not module.replace(".", "").isidentifier():
        return None
    found: Any = None
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(module.partition(".")[0]):  # what a plugin itself needs
            raise ValueError(f"{module} cannot be imported: {one_line(error, 200)}") from None
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise ValueError(f"{module} cannot be imported: {reason}") from error
    is_network = isinstance(found, type) and issubclass(found, nn.Module)
    return found if is_network and is_vouched(found.__module__) else None


def generator_weights(content: dict[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """Return the averaged or the live weights of G in a checkpoint; an exported file has only one set."""
    return content["ema"] if ema and "ema" in content else content["networks"]["G"]["state"]


def restore(config: Any, state: dict[str, Tensor], output: dict[str, Any] | None = None) -> nn.Module:
    """Build the network of a config with these weights, after checks that take no memory; `output` is checked too."""
    blueprint = outline(config, state)
    expected = {name: tuple(x.shape) for name, x in blueprint.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in state.items()}
    if expected != given:
        first = min(str(k) for k in expected.keys() | given.keys() if expected.get(k) != given.get(k))
        raise ValueError(f"the checkpoint's network does not fit its weights, such as {first[:200]}; use another one")
    images_at_once = images_that_fit(blueprint, config, output) if output else BLOCK
    network: Any = rebuild(config)
    network.load_state_dict(state)
    network.images_at_once = images_at_once
    return network


def outline(config: Any, state: dict[str, Tensor], registrations: int = 1) -> nn.Module:
    """Build the network of a config on the meta device; raise ValueError once it has more weights than `state`.

    Args:
        registrations: of each weight, 2 for a network that may have spectral norm.
    """
    left = [registrations * len(state), registrations * sum(x.numel() for x in state.values())]

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            left[0] -= 1
            left[1] -= parameter.numel()
            if min(left) < 0:
                raise ValueError("it has more weights than the file holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        with Unfilled(), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers without a weight
            return rebuild(config)
    finally:
        hook.remove()


class Unfilled(TorchFunctionMode):
    """Context in which nothing is filled with normal numbers: for the meta device PyTorch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "").endswith("normal_"):  # nn.init.kaiming_normal_, Tensor.normal_
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class LargestTensor(TorchFunctionMode):
    """Context that records the bytes of the largest tensor computed in it."""

    bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


def images_that_fit(blueprint: nn.Module, config: Any, output: dict[str, Any]) -> int:
    """Return what `check_output` does; a network that passed is remembered, since the check takes over a second.

    PyTorch imports its compiler to compute shapes on the meta device.
    """
    facts = (BLOCK, MOST_BYTES, config, output["size"], output["channels"], __version__, torch.__version__)
    if is_remembered_text(repr(facts)):
        return BLOCK
    images = check_output(blueprint, output)
    if images == BLOCK:
        remember_text(repr(facts))
    return images


def check_output(network: nn.Module, output: dict[str, Any]) -> int:
    """Return how many images a network on the meta device may compute at once, for a file to cost no more than allowed.

    Raises:
        ValueError: it has other images than `output` says, or too large ones.
    """
    z_dim, classes = int(network.z_dim), int(network.classes)  # type: ignore[arg-type]
    height, width = sides(output["size"])
    if not z_dim:
        return BLOCK  # its images depend on its inputs
    with torch.device("meta"), LargestTensor() as largest, torch.no_grad():
        shape = tuple(network.eval()(torch.empty(1, z_dim), torch.empty(1, classes)).shape)
    if shape != (1, output["channels"], height, width):
        raise ValueError(f"its images have the shape {shape[1:]}, which is not what the file says")
    one, images = 3 * largest.bytes, 4 * BLOCK * output["channels"] * height * width
    if max(one, images) > MOST_BYTES:
        raise ValueError(
            f"{BLOCK} of its images of {width}x{height} pixels take {max(one, images) / 1e9:.1f} GB of memory, more "
            f"than the {MOST_BYTES / 1e9:.0f} GB that a file may take"
        )
    return min(BLOCK, MOST_BYTES // max(one, 1))
