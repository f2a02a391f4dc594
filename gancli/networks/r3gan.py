"""R3GAN: residual networks without normalisation, a StyleGAN2 without its tricks.

Huang et al. 2024, section 4 and the appendix, https://arxiv.org/abs/2501.05441. One width at every resolution, the same
blocks in G and D. One file for every size: the maps double from 4 to 7 pixels, as the DCGAN's, and G crops to the
centre.

Without normalisation, a deep stack trains only from a suitable initialisation (Fixup, Zhang et al. 2019, section 3,
https://arxiv.org/abs/1901.09321). The last convolution W of every block is zero, so a network begins as its shortcuts
alone. If a block's branch is W a, a gradient step of rate r moves W by -r g a^T, where g is the gradient at the block's
output, and that output by -r g |a|^2. L blocks together move the network's output by L |a|^2 as much. The two
convolutions before W scale a by s each, so |a|^2 is s^4, and s = L^(-1/4) makes the first steps as long as those of a
single block.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu, pad

from gancli.images import Size
from gancli.networks.dcgan import crop, doublings, first_map, last_map
from gancli.networks.layers import LabelEmbedding, minibatch_layer, spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.runtime.checks import check_choice


def blur(x: Tensor) -> Tensor:
    """Return x (N, C, H, W) convolved with [1, 2, 1] / 4 along both axes, its edge repeated outwards by a pixel.

    [1, 2, 1] / 4 is the mean of two neighbours, twice. The first mean counts only neighbours inside x and returns one
    pixel more, so a constant stays constant at the edges too.
    """
    return avg_pool2d(avg_pool2d(x, 2, 1, padding=1, count_include_pad=False), 2, 1)


class Up(nn.Module):
    """Bilinear upsampling by 2: pixels doubled, then blurred; constants stay constant."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:  # where the gradient of bilinear interpolation is a sum in no fixed order
            return blur(interpolate(x, scale_factor=2.0, mode="nearest"))
        return interpolate(x, scale_factor=2.0, mode="bilinear")


class Down(nn.Module):
    """Downsampling by 2 without aliasing: blurred, then the mean of 2x2; an odd last row or column is dropped.

    Both are one convolution of each channel with [1, 3, 3, 1] / 8 along both axes: pooling is slow on a CPU.
    """

    weight: Tensor

    def __init__(self, width: int):
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("weight", torch.outer(row, row).expand(width, 1, 4, 4).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(pad(x, (1, 1, 1, 1), mode="replicate"), self.weight, stride=2, groups=len(self.weight))


def linear_(weight: Tensor) -> None:
    """Initialise a layer without activation by fan-in, in place: variance 1 stays 1."""
    nn.init.kaiming_normal_(weight, nonlinearity="linear")


class Block(nn.Module):
    """x + [1x1 to twice the width, LeakyReLU(0.2), 3x3 in groups, LeakyReLU(0.2), 1x1 back], biases before LeakyReLU.

    Groups of 16 channels, or of a few more where 16 do not divide them; fewer than 32 channels are one group. The last
    convolution begins as zero, the two before it with fan-in initialisation times total^(-1/4) (see above). The zero
    stops the gradient: the very first step moves the last convolution alone.

    Args:
        total: Number of blocks of the network.
        zero: False initialises the last convolution by fan-in, for a norm that divides by the weight's size.
    """

    def __init__(self, width: int, total: int, zero: bool = True):
        super().__init__()
        inner = 2 * width
        groups = next(g for g in range(max(inner // 16, 1), 0, -1) if inner % g == 0)
        self.expand = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.project = nn.Conv2d(inner, width, 1, bias=False)
        for layer in (self.expand, self.mix):
            nn.init.kaiming_normal_(layer.weight, 0.2)  # the mean square is 1 again behind the LeakyReLU
            layer.weight.data *= total ** (-1 / 4)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        (nn.init.zeros_ if zero else linear_)(self.project.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(leaky_relu(self.mix(leaky_relu(self.expand(x), 0.2)), 0.2))


class Generator(nn.Module):
    """A learned map, each channel scaled by z and c - blocks - Up - blocks - ... - 1x1 to the image, without tanh.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size), in [-1, 1] only after training. Paper,
    CIFAR-10: z_dim=64, width=768, blocks=2 at each of 4, 8, 16 and 32 pixels, embedding=64 for the class.
    """

    def __init__(
        self,
        z_dim: int,
        channels: int,
        size: Size,
        width: int = 256,
        classes: int = 0,
        blocks: int = 2,
        embedding: int = 64,
    ):
        super().__init__()
        self.z_dim, self.classes, self.size = z_dim, classes, size
        k = doublings(size)
        self.embed = LabelEmbedding(classes, embedding)
        self.scale = nn.Linear(z_dim + self.embed.width, width, bias=False)
        self.basis = nn.Parameter(torch.randn(width, *first_map(size, k)))
        layers: list[nn.Module] = []
        for i in range(k + 1):
            # The paper has a 1x1 here where the width changes; ours never does.
            layers += [Up()] if i else []
            layers += [Block(width, blocks * (k + 1)) for _ in range(blocks)]
        self.layers = nn.Sequential(*layers)
        self.image = nn.Conv2d(width, channels, 1, bias=False)
        for layer in (self.scale, self.image):
            linear_(layer.weight)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        scales = self.scale(torch.cat([z, self.embed(c)], 1))
        x = self.basis * scales[:, :, None, None]
        first = self.layers[0]
        if isinstance(first, Block) and first.mix.weight.is_contiguous(memory_format=torch.channels_last):
            # Each block adds to x and keeps its layout, so every convolution would convert it.
            x = x.contiguous(memory_format=torch.channels_last)
        return self.image(crop(self.layers(x), self.size))


class Ones(nn.Module):
    """Direction without classes: c (N, 0) to ones (N, 1)."""

    def forward(self, c: Tensor) -> Tensor:
        return c.new_ones(len(c), 1)


class Discriminator(nn.Module):
    """G's mirror: 1x1 from the image - blocks - Down - blocks - ... - one weight a place and channel - linear; logits.

    x (N, channels, size, size) in [-1, 1] and c (N, classes) to logits (N,). With classes the logit is the dot product
    of the linear layer's output and the class's embedding, both `width` long (the paper's 768 is its width too). The
    last layer has no bias, because the loss depends on differences of logits only.

    Args:
        norm: "none", or "spectral" at every layer, which is not the paper's. Blocks then do not begin as zero, which
            has no singular value to divide by.
        minibatch: "none", "discrimination" or "std", before the last layer.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        width: int = 256,
        classes: int = 0,
        blocks: int = 2,
        norm: str = "none",
        minibatch: str = "none",
    ):
        super().__init__()
        zero = check_choice("model.norm", norm, ("none", "spectral")) == "none"
        k = doublings(size)
        image = nn.Conv2d(channels, width, 1, bias=False)
        layers: list[nn.Module] = [image]
        for i in range(k + 1):
            layers += [Down(width)] if i else []
            layers += [Block(width, blocks * (k + 1), zero) for _ in range(blocks)]
        basis = nn.Conv2d(width, width, last_map(size, k), groups=width, bias=False)
        self.layers = nn.Sequential(*layers, basis, nn.Flatten())
        self.minibatch = minibatch_layer(minibatch, width)
        directions = width if classes else 1
        self.linear = nn.Linear(width + self.minibatch.extra, directions, bias=False)
        self.embed: nn.Module = Ones()
        if classes:
            self.embed = nn.Linear(classes, directions, bias=False)
            nn.init.normal_(self.embed.weight, 0.0, 1 / math.sqrt(directions))  # vectors of length 1, about
        for layer in (image, basis, self.linear):
            linear_(layer.weight)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        features = self.minibatch(self.layers(x))
        return DiscriminatorOutputs((self.linear(features) * self.embed(c)).sum(1), features)
