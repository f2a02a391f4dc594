"""Start of a run from its own newest checkpoint, or from the networks of another run."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import generator_weights, outline, rebuild
from gancli.networks.layers import LabelEmbedding
from gancli.runtime import ranks
from gancli.runtime.text import one_line
from gancli.training.loop import Trainer


class Resumed(NamedTuple):
    """Checkpoint to continue from; warning: about damaged newer ones, or empty."""

    content: dict[str, Any]
    path: Path
    warning: str


def newest(folder: Path, device: torch.device) -> Resumed | None:
    """Return the newest readable checkpoint of a run, or None for a new run; only the first process reads it."""
    newest = checkpoint.newest(folder, device) if ranks.is_first() else None
    return Resumed(*newest) if newest else None


def trainer_state(content: dict[str, Any]) -> dict[str, Any]:
    """Return what Trainer.load_state_dict takes of a checkpoint."""
    return {**content, "networks": {name: network["state"] for name, network in content["networks"].items()}}


def load_trainer(trainer: Trainer, content: dict[str, Any], changes: list[str], folder: Path) -> None:
    """Load a checkpoint of this run; changes: of the config since then, for the message."""
    try:
        trainer.load_state_dict(trainer_state(content))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # names or shapes
        raise ValueError(
            f"the checkpoint of {folder} does not fit {'; '.join(changes) or 'this version'} "
            f"({one_line(error, 200)}); resume without, or start a new run with trainer.start={folder}"
        ) from error


NAMED = 3  # tensors that are left out, in the log


def start_from(trainer: Trainer, ckpt: str, class_names: Sequence[str], by_position: bool) -> list[str]:
    """Load what fits of the averaged G, and of the D if there is one, of another run's checkpoint.

    Args:
        class_names: of the data of this run; the networks know classes by their positions.
        by_position: whether classes of other names take the places of the old ones; else weights of classes are new.

    Returns:
        Sentences on what was left out.
    """
    file = checkpoint.find(ckpt)
    content = checkpoint.read(file, trainer.device)
    old, new = list(content["output"].get("class_names") or ()), list(class_names)
    others = bool(old) and old != new and not by_position
    states = {name: network["state"] for name, network in content["networks"].items()}
    states["G"] = generator_weights(content)
    notes: list[str] = []
    fits = False
    for name in sorted(trainer.networks.keys() & states.keys()):
        network = trainer.networks[name]
        without = of_classes(content["networks"][name]["config"], states[name]) if others else set()
        left_out = load_fitting(network, states[name], without)
        sizes = {key: x.numel() for key, x in network.state_dict().items()}
        fits |= any(x.dim() > 1 and key not in left_out for key, x in network.state_dict().items())
        left = sum(sizes[key] for key in left_out) / sum(sizes.values())
        if name == "G" and not int(trainer.objective.G.z_dim) and left > 0.5:  # as of a G whose branches were summed
            fits = False
            break
        if left_out:
            some = ", ".join(left_out[:NAMED]) + (f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else "")
            percent = math.floor(100 * (1 - left))  # 100 would be a contradiction
            notes.append(f"trainer.start: {percent} % of {name}'s weights are those of {ckpt}; new are {some}")
    if not fits:
        raise ValueError(
            f"the G of {file}, a {content['config']['model']['name']}, does not fit this model's; type "
            f"trainer.start= of a run with the same networks: model.width, model.scale and the like"
        )
    if others and int(trainer.objective.G.classes):
        notes.append(
            f"trainer.start: {ckpt} was trained on the classes {', '.join(map(str, old[:20]))}, and this run's are "
            f"{', '.join(new[:20])}, whose weights are new; resume.allow=[data.content] matches them by position"
        )
    trainer.ema.network.load_state_dict(trainer.networks["G"].state_dict())
    missing = sorted(trainer.networks.keys() - states.keys())
    notes += [f"trainer.start: {file} holds no {', '.join(missing)}; only G starts from it"] if missing else []
    return notes


def load_fitting(network: nn.Module, state: dict[str, Tensor], without: Collection[str] = ()) -> list[str]:
    """Load the tensors of a state that a network has with the same name and shape; return the names of its others."""
    own = network.state_dict()
    fitting = {k: x for k, x in state.items() if k in own and x.shape == own[k].shape and k not in without}
    network.load_state_dict(own | fitting)
    return [name for name in own if name not in fitting]


def of_classes(config: dict[str, Any], state: dict[str, Tensor]) -> set[str]:
    """Return the names of the tensors of a network whose shapes depend on the number of its classes."""

    def one_more(config: dict[str, Any]) -> dict[str, Any]:
        nested: dict[str, Any] = {k: one_more(v) if isinstance(v, dict) else v for k, v in config.items()}
        return nested | ({"classes": nested["classes"] + 1} if nested.get("classes") else {})

    outline(config, state, registrations=2)  # refuses a network that is far larger than its weights
    with torch.device("meta"):
        larger = rebuild(one_more(config)).state_dict()
    return {name for name, x in state.items() if name not in larger or larger[name].shape != x.shape}


def freeze(D: nn.Module, layers: int) -> None:
    """Keep the weights of D's first layers, convolutions with the norms behind them, as they are.

    Mo et al. 2020, section 3, https://arxiv.org/abs/2002.10964: FreezeD.
    """
    embedding = {id(m) for e in D.modules() if isinstance(e, LabelEmbedding) for m in e.modules()}
    modules = [module for module in D.modules() if id(module) not in embedding]
    kind = nn.Conv2d if any(isinstance(module, nn.Conv2d) for module in modules) else nn.Linear
    total = sum(isinstance(module, kind) for module in modules)
    if layers >= total:
        raise ValueError(
            f"trainer.freeze_d={layers} would keep all {total} layers of D as they are; type "
            f"trainer.freeze_d={total // 2}"
        )
    number = 0  # of the layer that a module belongs to, from 1
    for module in modules:
        number += isinstance(module, kind)
        if 0 < number <= layers:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
