"""Pictures encoded and decoded again by an autoencoder, at any size: square by square of the size it was trained on.

reconstructor = load_reconstructor("outputs/my-run")
again = reconstructor(Image.open("photo.jpg"))
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gancli.data.classes import one_hot
from gancli.inference.generator import BLOCK, Generator, load
from gancli.inference.translator import Translator


class Patches(nn.Module):
    """An autoencoder as a network of pictures of any size: each square of them encoded and decoded by itself.

    Of several classes each square is given the one whose reconstruction of it is nearest.
    """

    z_dim, classes, scale, halo = 0, 0, 1, 0

    def __init__(self, generator: Generator, classes: Sequence[int | str] = ()):
        super().__init__()
        self.network = generator.network
        self.channels = self.source_channels = generator.channels
        self.multiple = generator.size
        n = len(classes) or max(generator.classes, 1)
        self.known = one_hot(generator.labels(n, classes), generator.classes)  # a row for each class that may be

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        n, channels, h, w = c.shape
        s = self.multiple
        rows, columns = h // s, w // s
        squares = c.reshape(n, channels, rows, s, columns, s).permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, s, s)
        made = torch.cat([self.nearest(x) for x in squares.split(BLOCK)])
        return made.reshape(n, rows, columns, channels, s, s).permute(0, 3, 1, 4, 2, 5).reshape(c.shape)

    def nearest(self, x: Tensor) -> Tensor:
        """Of the reconstructions of squares x (N, C, s, s) by every class the nearest."""
        best, least = x, x.new_full((len(x),), torch.inf)
        for row in self.known.to(x.device):
            c = row.expand(len(x), -1)
            y = self.network(self.network.encode(x, c), c).clamp(-1, 1)  # type: ignore[operator]
            error = (y - x).square().flatten(1).mean(1)
            better = ~(error >= least)  # also what is no number, which is then seen
            best = torch.where(better[:, None, None, None], y, best)
            least = torch.where(better, error, least)
        return best


def load_reconstructor(
    ckpt: str | Path, classes: Sequence[int | str] = (), ema: bool = True, device: torch.device | str = "cpu"
) -> Translator:
    """A reconstructor with the network of a checkpoint. classes: what pictures may be of; without it any."""
    return Translator(Patches(load(ckpt, ema, device, "reconstruct"), classes))
