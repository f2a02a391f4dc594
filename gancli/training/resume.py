"""Start of a run from its own newest checkpoint, or from the networks of another run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import generator_weights
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


def start_from(trainer: Trainer, ckpt: str, class_names: Sequence[str], allowed: bool) -> list[str]:
    """Load the averaged G, and the D if there is one, of another run's checkpoint; return warnings.

    Args:
        class_names: of the data of this run; the networks know classes by their positions.
        allowed: whether classes may have other names than in the other run.
    """
    file = checkpoint.find(ckpt)
    content = checkpoint.read(file, trainer.device)
    old, new = list(content["output"].get("class_names") or ()), list(class_names)
    if int(trainer.objective.G.classes) and old and old != new and not allowed:
        raise ValueError(
            f"trainer.start={ckpt} was trained on the classes {', '.join(map(str, old))}, and this run's are "
            f"{', '.join(new)}; rename the folders, or type resume.allow=[data.content] to match them by position"
        )
    states = {name: network["state"] for name, network in content["networks"].items()}
    states["G"] = generator_weights(content)
    for name in trainer.networks.keys() & states.keys():
        try:
            trainer.networks[name].load_state_dict(states[name])
        except RuntimeError:  # names or shapes
            raise ValueError(
                f"the {name} of {file}, a {content['config']['model']['name']}, does not fit this model's; type "
                f"trainer.start= of a run with the same networks: model.width, model.scale, data.size and the like"
            ) from None
    trainer.ema.network.load_state_dict(states["G"])
    missing = sorted(trainer.networks.keys() - states.keys())
    return [f"trainer.start: {file} holds no {', '.join(missing)}; only G starts from it"] if missing else []
