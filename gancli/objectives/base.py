"""The interface between an objective and the training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Terms = dict[str, Tensor]


class Fakes(NamedTuple):
    """Batch of D's update, which G's update trains on as well."""

    x: Tensor  # real images (N, C, H, W)
    c: Tensor  # condition of x
    fake: Any  # generated images, with G's autograd graph


class Update(NamedTuple):
    """One optimizer step of one network.

    Attributes:
        network: "G" or "D", whose parameters are stepped.
        loss: Method of the objective, or a functools.partial of it with keyword settings. It maps a batch (x, c) and
            the `Fakes` of the update before to named scalars and the `Fakes` for the next update. It gets None where
            there are none, and always with trainer.accumulate. Scalars that require a gradient are summed and
            minimised, the others are only logged.
        after_step: Called after the optimizer step.
    """

    network: str
    loss: Callable[[Tensor, Tensor, Fakes | None], tuple[Terms, Fakes | None]]
    after_step: Callable[[], None] | None = None

    @property
    def key(self) -> tuple[str, str, tuple[tuple[str, Any], ...]]:
        """Network, name of the loss and its settings: two updates of one key run the same kernels."""
        settings = getattr(self.loss, "keywords", {})
        return self.network, getattr(self.loss, "func", self.loss).__qualname__, tuple(sorted(settings.items()))


@dataclass(eq=False)
class Objective:
    """Networks, and the loss that each of them minimises.

    x: real images (N, C, H, W) in [-1, 1]. c: one-hot classes (N, classes), a source image, or width zero (N, 0).
    Modules under G and D are trained; other modules among the attributes are only put on the device.
    """

    G: Any

    def __post_init__(self) -> None:
        """Check the settings; subclasses add to it."""

    def check_data(self, data: Any) -> None:
        """Raise ValueError unless this objective can train on an ImageDataset or ImageCrops."""
        if len(data.sources):
            raise ValueError(
                "these data have source images, but this model generates from noise or computes its own sources; "
                "type model=pix2pix or model=cyclegan, or data=folder for the images alone"
            )

    @property
    def double_backward(self) -> bool:
        """True if a loss differentiates a gradient, which torch.compile does not support."""
        return False

    @property
    def whole_batch(self) -> str:
        """Why the losses are no mean over images, so that trainer.accumulate cannot compute a batch in parts, or empty.

        Batch norm, minibatch statistics and DRAGAN's standard deviation are then those of a part, which is allowed.
        """
        return ""

    def updates(self, step: int, progress: float) -> list[Update]:
        """Return the updates of a step; progress is the used fraction of the budget, 0 to 1. Changes nothing."""
        raise NotImplementedError

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the condition from which G generates x: c itself, or something computed from x."""
        return c

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """Return images of G, live or averaged, for the sample grid; z: noise (N, z_dim), c: condition of x."""
        return G(z, c)

    @property
    def preview_parts(self) -> tuple[str, ...]:
        """Names of the images that `preview` puts side by side."""
        return ("generated",)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that lasts from step to step, apart from the networks'."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""


def sample_noise(G: Any, c: Tensor) -> Tensor:
    """Return noise (N, z_dim) for N conditions, from torch's default generator, which the loop seeds for every step."""
    return torch.randn(len(c), G.z_dim, device=c.device)
