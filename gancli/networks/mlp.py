"""Multi-layer perceptrons: the generator and discriminator of the first GANs.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661; with the class concatenated to the noise and to the image,
Mirza and Osindero 2014, https://arxiv.org/abs/1411.1784. Unconditional is classes=0: c then has width zero.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gancli.images import Size, sides
from gancli.networks.layers import LabelEmbedding, minibatch_layer, spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.runtime.checks import check_choice


class Generator(nn.Module):
    """z_dim - width - 2 width - 4 width - pixels, LeakyReLU(0.2) between, tanh at the end.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size) in [-1, 1].
    """

    def __init__(self, z_dim: int, channels: int, size: Size, width: int = 256, classes: int = 0, embedding: int = 50):
        super().__init__()
        self.z_dim, self.classes = z_dim, classes
        self.shape = (channels, *sides(size))
        self.embed = LabelEmbedding(classes, embedding)
        widths = [z_dim + self.embed.width, width, 2 * width, 4 * width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], math.prod(self.shape)))

    def raw(self, z: Tensor, c: Tensor) -> Tensor:
        """Return the images before tanh, as a likelihood needs them."""
        return self.layers(torch.cat([z, self.embed(c)], 1)).unflatten(1, self.shape)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.raw(z, c).tanh()


class Discriminator(nn.Module):
    """pixels - 4 width - 2 width - width - 1, LeakyReLU(0.2) and dropout between.

    x (N, channels, size, size) in [-1, 1] and c (N, classes) to logits (N,). norm: "none", or "spectral" at every
    layer. minibatch: "none", "discrimination" or "std", before the last layer.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        width: int = 256,
        classes: int = 0,
        embedding: int = 50,
        dropout: float = 0.0,
        norm: str = "none",
        minibatch: str = "none",
        outputs: int = 1,
    ):
        super().__init__()
        check_choice("model.norm", norm, ("none", "spectral"))
        self.embed = LabelEmbedding(classes, embedding)
        widths = [channels * math.prod(sides(size)) + self.embed.width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.minibatch = minibatch_layer(minibatch, width)
        self.last = nn.Linear(width + self.minibatch.extra, outputs)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> Any:
        features = self.minibatch(self.layers(torch.cat([x.flatten(1), self.embed(c)], 1)))
        return DiscriminatorOutputs(self.last(features).squeeze(1), features)


class Encoder(Discriminator):
    """The discriminator's layers with `outputs` values: x and c to (N, outputs)."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.last(super().forward(x, c).features)
