"""A checkpoint as it is given away: one set of G's weights, and texts without paths and names of this machine."""

from typing import Any

import torch
from torch import Tensor

from gancli.checkpoint.rebuild import generator_weights, restore
from gancli.config import flatten
from gancli.data.contents import PATHS
from gancli.runtime.publish import is_shown, published

LOCAL_KEYS = (*PATHS, "root", "cache")  # of a data config: folders of the machine that trained


def generator_only(
    content: dict[str, Any], ema: bool, half: bool = False, other: dict[str, Any] | None = None, weight: float = 0.5
) -> dict[str, Any]:
    """Return the content of a checkpoint with one set of G's weights and nothing that only training needs.

    Args:
        other: content of a checkpoint that is blended in, of which one was fine-tuned from the other. Section 3.4 of
            Wang et al. 2018 (ESRGAN), https://arxiv.org/abs/1809.00219.
        weight: of `content` in that blend, 0 to 1.
    """
    config, state = merged(content["networks"]["G"]["config"], generator_weights(content, ema))
    trained = summary(content)
    if other:
        theirs = merged(other["networks"]["G"]["config"], generator_weights(other, ema))[1]
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in theirs.items()}:
            raise ValueError("blend= has another network than ckpt=; type a checkpoint that ckpt was fine-tuned from")
        state = {k: torch.lerp(theirs[k], v, weight) if v.is_floating_point() else v for k, v in state.items()}
        trained = f"{weight:g} of {trained}; {1 - weight:g} of {summary(other)}"
    if half:
        state = {name: x.half() if x.is_floating_point() else x for name, x in state.items()}
    facts = {name: content[name] for name in ("output", "step", "images", "seconds", "versions")}
    run = {name: content["config"][name] for name in ("seed", "data", "model", "trainer")}
    if not is_shown():
        run["data"] = {key: "" if key in LOCAL_KEYS and value else value for key, value in run["data"].items()}
    averaged = bool(content.get("averaged", ema))
    texts = published({**facts, "config": run, "trained": trained, "averaged": averaged})
    return {**texts, "networks": {"G": {"config": config, "state": state}}}


def merged(config: dict[str, Any], state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the config and the weights of a network whose branches are summed; other networks as they are."""
    network = restore(config, state)
    if config.get("merged") or not hasattr(network, "merge"):
        return config, state
    return {**config, "merged": True}, network.merge().state_dict()  # type: ignore[operator]


def settings(config: dict[str, Any]) -> list[str]:
    """Return the settings of a run as they are typed, each once."""
    values = flatten({key: config[key] for key in ("seed", "data", "model", "trainer")})
    repeated = ("model.objective", "model.optimizers", "data.source")
    return [f"{k}={v}" for k, v in values.items() if "_target_" not in k and not k.startswith(repeated)]


def summary(content: dict[str, Any]) -> str:
    """Return in one line what a checkpoint's network was trained on, and for how long."""
    config = content["config"]
    return str(content.get("trained", "")) or (
        f"{config['model']['name']} on {config['data']['name']}, {content['step']} steps, {content['images']} images, "
        f"{content['seconds'] / 60:.1f} minutes, seed {config['seed']}"
    )
