"""Autoencoders applied to images of any mode and size: patch by patch, each of the size they were trained on.

reconstructor = load_reconstructor("outputs/my-run")
result = reconstructor(Image.open("photo.jpg"))
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gancli.data.classes import one_hot
from gancli.images import in_pixels
from gancli.inference.generator import BLOCK, Generator, load
from gancli.inference.translator import Translator


class Patches(nn.Module):
    """An autoencoder as an image-to-image network: encodes and decodes each patch of an image separately.

    Args:
        classes: candidates by number or name, all if empty. Each patch gets the one that reconstructs it best.
    """

    z_dim, classes, scale, halo = 0, 0, 1, 0

    def __init__(self, generator: Generator, classes: Sequence[int | str] = ()):
        super().__init__()
        self.network = generator.network
        self.channels = self.source_channels = generator.channels
        if not isinstance(generator.size, int):
            raise ValueError(
                f"images of any size are encoded in squares, and this model's are {in_pixels(generator.size)}; type "
                f"gan project IN ckpt=..., for images of its size"
            )
        self.multiple, self.class_names = generator.size, generator.class_names
        n = len(classes) or max(generator.classes, 1)
        self.candidates = one_hot(generator.labels(n, classes), generator.classes)  # (n, classes)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        n, channels, h, w = c.shape
        s = self.multiple
        rows, columns = h // s, w // s
        patches = c.reshape(n, channels, rows, s, columns, s).permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, s, s)
        result = torch.cat([self.reconstruct(x) for x in patches.split(BLOCK)])
        return result.reshape(n, rows, columns, channels, s, s).permute(0, 3, 1, 4, 2, 5).reshape(c.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return for each patch of x (N, C, s, s) the nearest of its reconstructions with every candidate class."""
        best, least = x, x.new_full((len(x),), torch.inf)
        for row in self.candidates.to(x.device):
            c = row.expand(len(x), -1)
            y = self.network(self.network.encode(x, c), c).clamp(-1, 1)  # type: ignore[operator]
            error = (y - x).square().flatten(1).mean(1)
            better = ~(error >= least)  # true for NaN as well, so that it is reported
            best = torch.where(better[:, None, None, None], y, best)
            least = torch.where(better, error, least)
        return best


def load_reconstructor(
    ckpt: str | Path, classes: Sequence[int | str] = (), ema: bool = True, device: torch.device | str = "cpu"
) -> Translator:
    """Load a reconstructor from a checkpoint file, a run folder or "latest"; `classes` are those of `Patches`."""
    return Translator(Patches(load(ckpt, ema, device, "reconstruct"), classes))
