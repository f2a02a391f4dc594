"""What a training on few images of one's own gets: DiffAugment, and a watch on whether D memorises them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gancli.config import build, config_file, literal_text, map_texts
from gancli.data.dataset import ImageDataset
from gancli.data.listing import FEW
from gancli.images import to_float
from gancli.inference.generator import noise
from gancli.objectives.gan import GAN
from gancli.runtime.text import plural

OWN = ("folder", "npz")  # data sets that hold images of the user, of which there may be few
NONE = "gancli.transforms.augment.NoAugment"
COMPARED = 256  # images of either set
GAP = "gap(held out)"


def augment_few(cfg: DictConfig, data: Any, typed: Sequence[str], before: dict[str, Any] | None) -> None:
    """Turn DiffAugment on for few images, unless an augmentation was typed, and note it with the data.

    Args:
        typed: the overrides of the run.
        before: config of a resumed run, which keeps its augmentation.
    """
    if cfg.data.name not in OWN or "augment" not in cfg.model or is_typed("model/augment", typed):
        return
    on: Any = OmegaConf.load(config_file("model/augment/diffaugment"))
    is_few = len(data) < FEW if before is None else before["model"].get("augment", {}).get("_target_") == on["_target_"]
    if not is_few or cfg.model.augment["_target_"] not in (on["_target_"], NONE):
        return
    if cfg.model.augment["_target_"] == NONE:
        OmegaConf.update(cfg, "model.augment", on, merge=False)
    data.notes.append(
        f"{plural(len(data), 'image')} are few, so D gets them augmented (model/augment=diffaugment); type "
        f"model/augment=none to leave it out"
    )


def is_typed(group: str, words: Sequence[str]) -> bool:
    """Return whether a choice of a config group, or one of its keys, was typed."""
    names = [word.lstrip("+~").partition("=")[0].replace("/", ".") for word in words]
    return any(f"{name}.".startswith(f"{group.replace('/', '.')}.") for name in names)


class HeldOut:
    """Compares D's logits on training images with those on images that it never saw.

    Karras et al. 2020, equation 1, https://arxiv.org/abs/2006.06676: the gap is 0 where D finds both equally real, and
    1 where images that it has not seen look generated to it.
    """

    def __init__(self, objective: GAN, data: ImageDataset, held_out: ImageDataset, classes: int, device: torch.device):
        self.objective = objective
        n = min(COMPARED, len(data), len(held_out)) // objective.packing * objective.packing
        self.sides = []
        for side in (data, held_out):
            indices = torch.arange(n) * len(side) // n
            labels = side.labels[indices].to(device)
            self.sides.append((to_float(side.take(indices)).to(device), side.condition(labels, classes)))
        self.z = noise(range(n), objective.G.z_dim, 0).to(device)

    @torch.no_grad()
    def metrics(self, G: Any) -> dict[str, float]:
        """Return the gap; nothing where D does not tell training images from those of G, the average in eval mode."""
        objective, training = self.objective, self.objective.D.training
        objective.D.eval()
        try:
            conditions = [objective.condition(x, c) for x, c in self.sides]
            images = [*(x for x, _ in self.sides), G(self.z, conditions[1])]
            known, unknown, fake = map(self.logits, images, [*conditions, conditions[1]])
        finally:
            objective.D.train(training)
        distance, error = known.mean() - fake.mean(), (known.var() + fake.var()).sqrt() / len(known) ** 0.5
        return {GAP: float((known.mean() - unknown.mean()) / distance)} if distance > 4 * error else {}

    def logits(self, x: Tensor, c: Tensor) -> Tensor:
        """Return a logit for each image, or for each group of packed ones."""
        packed = self.objective.packed
        logits = self.objective.D(packed(x), packed(c)).logits
        return logits.reshape(len(x) // self.objective.packing, -1).mean(1)


def watch(objective: Any, data: Any, config: dict[str, Any], device: torch.device) -> Callable[[Any], dict[str, float]]:
    """Return `HeldOut.metrics` for a run on few images of which some are held out; for others what returns nothing."""
    own = config["data"]
    few = own["name"] == "folder" and len(data) < FEW and data.split not in ("", "test") and not len(data.sources)
    if not few or not isinstance(objective, GAN):
        return lambda G: {}
    try:
        held_out = build(OmegaConf.create(map_texts({**own["source"], "split": "test"}, literal_text)))
    except ValueError as error:  # a test folder of broken images must not end a training that does not need it
        data.warnings.append(f"memorising is not watched: {error}")
        return lambda G: {}
    return HeldOut(objective, data, held_out, int(config["model"]["classes"]), device).metrics
