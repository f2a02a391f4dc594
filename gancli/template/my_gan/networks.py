"""A generator that enlarges by nearest neighbours and convolves, which leaves no checkerboards.

Odena et al. 2016, https://distill.pub/2016/deconv-checkerboard.
"""

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """A linear layer to a map of 4x4 pixels, then a convolution after each doubling.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size) in [-1, 1].
    """

    def __init__(self, z_dim: int, channels: int, size: int, width: int = 64, classes: int = 0):
        super().__init__()
        self.z_dim, self.classes = z_dim, classes  # gan reads these two
        self.size, self.width = size, width
        self.first = nn.Linear(z_dim + classes, width * 4 * 4)
        blocks = []
        side = 4
        while side < size:
            side *= 2
            blocks += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)]
            blocks += [nn.ReLU()]
        self.blocks = nn.Sequential(*blocks, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.first(torch.cat([z, c], 1)).relu().unflatten(1, (self.width, 4, 4))
        return self.blocks(x)[:, :, : self.size, : self.size].tanh()
