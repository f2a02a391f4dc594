"""The grid of samples, of the same noise, classes and real images at every step; and a grid of real images like it."""

from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gancli import images
from gancli.inference.generator import noise
from gancli.runtime.hardware import in_batches
from gancli.runtime.seeding import derive_seed

POINTS = 1024  # in a scatter plot
CLASS_COLUMNS = 16  # a column is a class up to so many classes


class Preview:
    """Inputs of the sample grid, with the noise of `gan sample` for the same seed.

    Attributes:
        rows, columns: of the grid. Each column is a class where there are 2 to 16.
        parts: names of the images side by side in each cell.
        class_names: a name per column; empty unless the columns are classes with names.
        inputs: noise, condition and real images for `Objective.preview`.
    """

    def __init__(self, objective: Any, data: Any, classes: int, rows: int, seed: int, device: torch.device):
        is_points = (data.size, data.channels) == (1, 2)
        by_class = 1 < classes <= CLASS_COLUMNS and data.codes is None
        self.objective = objective
        self.columns = classes if by_class else 8
        self.rows = 1 if is_points else rows
        self.parts = ("generated",) if is_points else objective.preview_parts
        self.class_names = list(data.class_names) if by_class and not is_points else []
        n = POINTS if is_points else self.rows * self.columns
        z = noise(range(n), objective.G.z_dim, seed).to(device)
        labels = torch.arange(n) % max(classes, 1)
        indices = indices_of(data, labels, classes if data.codes is None else 0)
        self.real = images.to_float(data.take(indices)).cpu()
        labels = labels if data.codes is None else data.labels[indices]
        x, c = self.real.to(device), data.condition(labels.to(device), classes)
        if len(data.sources):
            c = images.to_float(sources_of(data, indices)).to(device)
        torch.manual_seed(derive_seed(seed, "preview"))
        self.inputs = (z, objective.condition(x, c), x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a grid, without the lines between its images."""
        return (self.rows * self.columns * len(self.parts), *self.real.shape[1:])

    @torch.no_grad()
    def grid(self, G: nn.Module) -> Image.Image:
        """Return a grid of images of G, the average in eval mode."""
        return images.grid(torch.cat(in_batches(partial(self.objective.preview, G), *self.inputs)), self.columns)

    def real_grid(self) -> Image.Image | None:
        """Return real images laid out as the grid is, or None where the grid shows real images itself."""
        return None if "real" in self.parts else images.grid(self.real, self.columns)


def indices_of(data: Any, labels: Tensor, classes: int) -> Tensor:
    """Return the index of an image of each of these classes, int64 (N,), spread over the data.

    Neighbours may be crops of one file. Without classes, and for a class without images, any image will do.
    """
    n = len(labels)
    indices = torch.arange(n) * len(data) // n
    for k in range(classes if classes > 1 else 0):
        members = (data.labels == k).nonzero().flatten()
        cells = (labels == k).nonzero().flatten()
        if len(members) and len(cells):
            indices[cells] = members[torch.arange(len(cells)) * len(members) // len(cells)]
    return indices


def sources_of(data: Any, indices: Tensor) -> Tensor:
    """Return the source images of these indices, those at the same fraction of an unpaired set, or an empty tensor."""
    n = len(data.sources)
    return data.sources[indices * n // len(data)] if n else data.sources
