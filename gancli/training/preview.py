"""The grid of samples: the same noise, classes and real images at every step."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gancli import images
from gancli.data.classes import one_hot
from gancli.inference.generator import noise
from gancli.runtime.seeding import derive_seed

POINTS = 1024  # in a scatter plot


class Preview:
    """Inputs of the sample grid, with the noise of `gan sample` for the same seed.

    Attributes:
        rows, columns: of the grid. Each column is a class where there are 2 to 16.
        inputs: noise, condition and real images for `Objective.preview`.
    """

    def __init__(self, objective: Any, data: Any, classes: int, rows: int, seed: int, device: torch.device):
        is_points = (data.size, data.channels) == (1, 2)
        self.objective = objective
        self.columns = classes if 1 < classes <= 16 else 8
        self.rows = 1 if is_points else rows
        n = POINTS if is_points else self.rows * self.columns
        z = noise(range(n), objective.G.z_dim, seed).to(device)
        c = one_hot(torch.arange(n, device=device) % max(classes, 1), classes)
        # Spread over the data: neighbours may be crops of one file.
        indices = torch.arange(n) * len(data) // n
        x = images.to_float(data.take(indices)).to(device)
        if len(data.sources):
            c = images.to_float(sources_of(data, indices)).to(device)
        torch.manual_seed(derive_seed(seed, "preview"))
        self.inputs = (z, objective.condition(x, c), x)

    @torch.no_grad()
    def grid(self, G: nn.Module) -> Image.Image:
        """Return a grid of images of G, the average in eval mode."""
        return images.grid(self.objective.preview(G, *self.inputs), self.columns)


def sources_of(data: Any, indices: Tensor) -> Tensor:
    """Return the source images of these indices, those at the same fraction of an unpaired set, or an empty tensor."""
    n = len(data.sources)
    return data.sources[indices * n // len(data)] if n else data.sources
