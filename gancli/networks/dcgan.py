"""Deep convolutional GAN: strided 4x4 convolutions, batch norm, no pooling, no hidden dense layer.

Radford et al. 2016, https://arxiv.org/abs/1511.06434. One file for every size: an image of base * 2^k pixels is
made by k doublings of a base x base map, 4 <= base <= 7 (28 = 7 * 4, 32 = 4 * 8). For any other size the map grows
to the next such size and its centre is kept.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gancli.networks.layers import LabelEmbedding, beside, check_choice, init_normal, minibatch_layer, spectral
from gancli.networks.outputs import DiscriminatorOutputs


def doublings(size: int) -> int:
    """How many times a DCGAN halves an image of `size` pixels: until 4 to 7 remain. ValueError below 8."""
    if size < 8:
        raise ValueError(f"a DCGAN makes images of 8 pixels or more, but data.size={size}; try model=mlp")
    return (size // 4).bit_length() - 1


def crop(x: Tensor, size: int) -> Tensor:
    """The central size x size of x (N, C, H, W)."""
    top, left = (x.shape[2] - size) // 2, (x.shape[3] - size) // 2
    return x[:, :, top : top + size, left : left + size]


class Generator(nn.Module):
    """z - (2^(k-1) width, base, base) - ... - (width, size/2, size/2) - image, by transposed convolutions.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size) in [-1, 1]. At 32x32 and width 64: 100 -
    256x4x4 - 128x8x8 - 64x16x16 - channels x 32x32. Batch norm and ReLU between, tanh at the end, no biases before
    batch norm.
    """

    def __init__(self, z_dim: int, channels: int, size: int, width: int = 64, classes: int = 0, embedding: int = 50):
        super().__init__()
        self.z_dim, self.classes, self.size = z_dim, classes, size
        k = doublings(size)
        self.embed = LabelEmbedding(classes, embedding)
        widths = [z_dim + self.embed.width] + [width << i for i in reversed(range(k))]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(pairwise(widths)):
            first = i == 0  # the first kernel is the base map itself: ceil(size / 2^k) pixels from 1
            kernel, stride, padding = (-(-size >> k), 1, 0) if first else (4, 2, 1)
            layers += [nn.ConvTranspose2d(before, after, kernel, stride, padding, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(True)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1))
        init_normal(self)

    def raw(self, z: Tensor, c: Tensor) -> Tensor:
        """What goes through tanh, which a likelihood may want to see."""
        return crop(self.layers(torch.cat([z, self.embed(c)], 1)[:, :, None, None]), self.size)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.raw(z, c).tanh()


NORMS = ("batch", "none", "spectral")


class Discriminator(nn.Module):
    """The generator's mirror: image - (width, size/2, size/2) - ... - one logit, LeakyReLU(0.2).

    x (N, channels, size, size) in [-1, 1] and c (N, classes) to logits (N,). norm: "batch", everywhere but at the first
    and last layer (section 3 of the paper); "spectral", at every layer instead (Miyato et al. 2018,
    https://arxiv.org/abs/1802.05957); "none". minibatch: "none", "discrimination" or "std", before the last layer.

    A class becomes `embedding` constant planes beside the image, and again beside the features at every layer: with
    planes at the image alone fewer samples were of the class that was asked for, and with one learned value per pixel
    the samples of a class became alike (docs/results/conditioning.md).
    """

    def __init__(
        self,
        channels: int,
        size: int,
        width: int = 64,
        classes: int = 0,
        embedding: int = 8,
        norm: str = "batch",
        minibatch: str = "none",
        outputs: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        batch = check_choice("model.norm", norm, NORMS) == "batch"
        k = doublings(size)
        self.embed = LabelEmbedding(classes, embedding)
        widths = [channels] + [width << i for i in range(k)]
        self.stages = nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(widths)):
            normed = batch and i > 0
            layers: list[nn.Module] = [nn.Conv2d(before + self.embed.width, after, 4, 2, 1, bias=not normed)]
            layers += [nn.BatchNorm2d(after)] if normed else []
            self.stages.append(nn.Sequential(*layers, nn.LeakyReLU(0.2, True)))
        self.minibatch = minibatch_layer(minibatch, widths[-1] * (size >> k) ** 2)
        self.last = nn.Conv2d(widths[-1] + self.minibatch.extra + self.embed.width, outputs, size >> k, bias=bias)
        init_normal(self)
        if norm == "spectral":
            spectral(self)

    def layers(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last layer's output (N, outputs, 1, 1) and its input (N, features, size / 2^k, size / 2^k)."""
        label = self.embed(c)
        for stage in self.stages:
            x = stage(beside(x, label))
        features = self.minibatch(x)
        return self.last(beside(features, self.embed(c))), features

    def forward(self, x: Tensor, c: Tensor) -> Any:
        outputs, features = self.layers(x, c)
        return DiscriminatorOutputs(outputs.flatten(), features)


class Encoder(Discriminator):
    """The discriminator's layers up to numbers that describe the image instead of a verdict on it.

    x (N, channels, size, size) in [-1, 1] and c (N, classes) to (N, outputs). bias: of the last layer.
    """

    def __init__(
        self,
        outputs: int,
        channels: int,
        size: int,
        width: int = 64,
        classes: int = 0,
        norm: str = "batch",
        bias: bool = True,
    ):
        super().__init__(channels, size, width, classes, norm=norm, outputs=outputs, bias=bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.layers(x, c)[0].flatten(1)
