"""What the trainer asks of any objective."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gancli.data.dataset import ImageDataset

Terms = dict[str, Tensor]
Move = tuple[str, Callable[[Tensor, Tensor], Terms]]


@dataclass(eq=False)
class Objective:
    """The networks of the players, by name, and the moves of a round. Here: a G and no move.

    x: real images (N, C, H, W) in [-1, 1]. c: what is known of them (N, classes) one-hot, or (N, 0). A loss returns
    named scalars: those that require a gradient are summed and minimised, the detached ones are only watched.
    Noise comes from torch's default generators, which the trainer seeds afresh for every step.
    """

    headline: ClassVar[str]  # of its measures, the one that runs are compared by
    lower_is_better: ClassVar[bool] = True
    # Whether a round depends on its number and on the budget by its `kind` alone: then it can be recorded.
    steady: ClassVar[bool] = False
    # Whether it learns as well by products of 16 bits (docs/results/speed.md), and so may be given them unasked.
    half: ClassVar[bool] = False

    G: Any

    def __post_init__(self) -> None:
        self.step, self.progress = 0, 0.0

    def check(self, data: Any) -> None:
        """ValueError where the objective cannot be played with these data, an ImageDataset or ImageCrops."""
        if len(data.sources):
            raise ValueError(
                "these data bring images to begin with, and this model begins with noise or makes its own; "
                "type model=pix2pix or model=cyclegan, or data=folder for the images alone"
            )

    @property
    def double_backward(self) -> bool:
        """Whether a move differentiates a gradient, which torch.compile cannot."""
        return False

    @property
    def warnings(self) -> list[str]:
        """What is allowed but hardly meant, a sentence each."""
        return []

    def to(self, device: torch.device) -> None:
        """Bring what is no player to the device; the trainer brings the players."""

    def updates(self, step: int, progress: float) -> list[Move]:
        """The moves of round `step`, begun when `progress`, 0 to 1, of the budget is used: (player, its loss)."""
        raise NotImplementedError

    def kind(self, step: int, progress: float) -> Hashable:
        """What Python decides about a round: which moves, and the numbers in them that change."""
        return tuple(
            (player, getattr(loss, "func", loss).__qualname__) for player, loss in self.updates(step, progress)
        )

    def stepped(self, player: str) -> None:
        """This player's optimizer has just stepped."""

    def noise(self, c: Tensor) -> Tensor:
        return torch.randn(len(c), self.G.z_dim, device=c.device)

    def condition(self, x: Tensor, c: Tensor) -> Tensor:
        """What G is given beside noise where it shall make x: c itself, or something made of x."""
        return c

    def preview(self, G: nn.Module, z: Tensor, c: Tensor, x: Tensor) -> Tensor:
        """What a person wants to see of G (the live one or its average), for noise z, `condition` c of real x."""
        return G(z, c)

    def measure(self, G: nn.Module, real: ImageDataset, seed: int) -> dict[str, float]:
        """How good G (the average, in eval mode) is now, beside real images: cheap figures by name, nan if untold."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """What the objective remembers from round to round, beside its networks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
