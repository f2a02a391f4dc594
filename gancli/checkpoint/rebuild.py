"""Networks rebuilt from a checkpoint: what may be built, and nothing else."""

import importlib
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from gancli.runtime.hardware import free_memory
from gancli.runtime.text import one_line

# Noise is sampled and images are generated in blocks of this many: image i of a seed is then the same at any n.
BLOCK = 64
LARGEST_NUMBER = 2**20  # of a network's config: a width, a size, a depth


def rebuild(config: Any) -> nn.Module:
    """The network that a config describes: {"_target_": class, its arguments}, which may be such configs too.

    Configs come from strangers' files, so nothing is called that is not an nn.Module class written in this package's
    folder of networks: the module is imported only when its name begins with `gancli.networks.`, and one attribute of
    it is looked up, once. (Some of the other modules do things when they are imported.)
    """
    if not isinstance(config, dict) or not isinstance(config.get("_target_"), str):
        raise ValueError("the checkpoint does not say how its network is built; it was not written by gan train")
    target = config["_target_"]
    module, _, name = target.rpartition(".")
    refused = ValueError(f"the checkpoint asks for {target[:99]!r}, which is not a network of gancli; it was not built")
    if not module.startswith("gancli.networks.") or not module.replace(".", "").isidentifier():
        raise refused
    try:
        found = vars(importlib.import_module(module)).get(name)
    except ImportError:
        raise refused from None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("gancli.")):
        raise refused
    arguments = {key: value for key, value in config.items() if key != "_target_"}
    for key, value in arguments.items():
        if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
            raise ValueError(f"the checkpoint's {target} was not built: no network has {key}={str(value)[:20]}")
    try:
        return found(**{k: rebuild(v) if isinstance(v, dict) else v for k, v in arguments.items()})
    except Exception as error:  # another version's arguments, or a stranger's, can fail in any way
        reason = f"{target} cannot be built by this version: {one_line(error, 200)}"
        raise ValueError(f"the checkpoint's {reason}") from error


def generator_weights(content: dict[str, Any], ema: bool = True) -> dict[str, Tensor]:
    """Return G's weights of a checkpoint: the averaged ones or the live ones; an exported file has only one set."""
    return content["ema"] if ema and "ema" in content else content["networks"]["G"]["state"]


def restore(config: Any, state: dict[str, Tensor], output: dict[str, Any] | None = None) -> nn.Module:
    """The network of a config with these weights. Before it takes any memory both, and `output`, are known to agree."""
    blueprint = outline(config, state)
    wanted = {name: tuple(x.shape) for name, x in blueprint.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in state.items()}
    if wanted != given:
        first = min(str(k) for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))
        raise ValueError(f"the checkpoint's network does not fit its weights, {first[:200]} for one; use another one")
    if output:
        check_output(blueprint, output)
    network = rebuild(config)
    network.load_state_dict(state)
    return network


def outline(config: Any, state: dict[str, Tensor]) -> nn.Module:
    """The network of a config without memory for its weights. ValueError as soon as they outnumber those of `state`."""
    left = [len(state), sum(x.numel() for x in state.values())]

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            left[0] -= 1
            left[1] -= parameter.numel()
            if min(left) < 0:
                raise ValueError("it has more weights than the file holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without a weight
            return rebuild(config)
    finally:
        hook.remove()


class Largest(TorchFunctionMode):
    """Within it, `bytes` are those of the largest tensor that was made."""

    bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.bytes = max(self.bytes, made.nbytes)
        return made


def check_output(network: nn.Module, output: dict[str, Any]) -> None:
    """ValueError where a network, without memory, makes other images than is said, or such that memory will not do."""
    z_dim, classes, size = (int(n) for n in (network.z_dim, network.classes, output["size"]))  # type: ignore[arg-type]
    if not z_dim:
        return  # what it makes depends on what it is given
    with torch.device("meta"), Largest() as largest, torch.no_grad():
        made = tuple(network.eval()(torch.empty(1, z_dim), torch.empty(1, classes)).shape)
    if made != (1, output["channels"], size, size):
        raise ValueError(f"its images are of shape {made[1:]}, which is not what it says of them")
    needed, free = 3 * BLOCK * largest.bytes, free_memory()
    if needed > free:
        raise ValueError(f"{BLOCK} of its images take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free")
