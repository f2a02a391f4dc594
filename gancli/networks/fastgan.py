"""FastGAN: a light generator with skip-layer excitation, and a discriminator that also reconstructs its inputs.

Liu et al. 2021, https://arxiv.org/abs/2101.04775, for few images of 64 pixels or more. One file for every size: G
doubles a map of 4 to 7 pixels to the size and crops to the centre, as the DCGAN's.

Departures from the paper: no noise inside G, so that an image depends on z alone; no second, smaller image out of G for
D; the reconstructions are compared by L1, where the paper's perceptual distance needs downloaded weights.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from gancli.images import Size, sides
from gancli.networks.dcgan import crop, doublings, first_map
from gancli.networks.layers import DoublingConv, LabelEmbedding, concat_planes, init_normal, spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.runtime.checks import check_choice

EXCITED = 4  # doublings between a map and the one that gates it: 4x4 gates 64x64
DECODED = 128  # largest shorter side of a reconstruction, in pixels; at most half of the image's


class GLU(nn.Module):
    """Gated linear unit: half of the channels times the sigmoid of the other half. Dauphin et al. 2017."""

    def forward(self, x: Tensor) -> Tensor:
        # torch's own glu returns gradients in another memory layout, which costs a CPU six times as much.
        values, gates = x.chunk(2, 1)
        return values * gates.sigmoid()


def up(before: int, after: int) -> nn.Sequential:
    """Return nearest doubling, 3x3, batch norm, GLU: (N, before, H, W) to (N, after, 2H, 2W)."""
    convolution = DoublingConv(before, 2 * after, bias=False)
    # The Identity keeps the names that the weights have in checkpoints.
    return nn.Sequential(nn.Identity(), convolution, nn.BatchNorm2d(2 * after), GLU())


class SkipExcitation(nn.Module):
    """Gates the channels of a large map x by a small one: sigmoid(conv(LeakyReLU(conv(pool(small))))) x, equation 1.

    small (N, before, h, w), pooled to 4x4; x (N, after, H, W).
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.gate = nn.Sequential(
            *(nn.Conv2d(before, after, 4, bias=False), nn.LeakyReLU(0.1)),
            *(nn.Conv2d(after, after, 1, bias=False), nn.Sigmoid()),
        )

    def forward(self, x: Tensor, small: Tensor) -> Tensor:
        return x * self.gate(adaptive_avg_pool2d(small, 4))


def widths_of(width: int, maps: int) -> list[int]:
    """Return the channels of G's maps from 4 pixels up: 16, 8, 4, 2, 2, 1, 1/2, 1/4 times `width`, appendix."""
    factors = [16, 8, 4, 2, 2, 1, 0.5, 0.25]
    return [max(int(width * factor), 4) for factor in factors[:maps]]


class Generator(nn.Module):
    """z - (16 width, base, base) - doublings, the later ones gated by the map 4 doublings before - 3x3 - tanh.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size) in [-1, 1]. Paper: z_dim=256, width=64.
    """

    def __init__(self, z_dim: int, channels: int, size: Size, width: int = 64, classes: int = 0, embedding: int = 50):
        super().__init__()
        self.z_dim, self.classes, self.size = z_dim, classes, size
        k = doublings(size)
        self.embed = LabelEmbedding(classes, embedding)
        widths = widths_of(width, k + 1)
        first = nn.ConvTranspose2d(z_dim + self.embed.width, 2 * widths[0], first_map(size, k), bias=False)
        self.first = nn.Sequential(first, nn.BatchNorm2d(2 * widths[0]), GLU())
        self.doublings = nn.ModuleList(up(before, after) for before, after in pairwise(widths))
        gated = range(min(EXCITED, k), k + 1)
        self.gates = nn.ModuleDict({str(i): SkipExcitation(widths[max(i - EXCITED, 0)], widths[i]) for i in gated})
        self.image = nn.Conv2d(widths[-1], channels, 3, padding=1)
        init_normal(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        maps = [self.first(torch.cat([z, self.embed(c)], 1)[:, :, None, None])]
        for i, double in enumerate(self.doublings, 1):
            x = double(maps[-1])
            maps.append(self.gates[str(i)](x, maps[max(i - EXCITED, 0)]) if str(i) in self.gates else x)
        return crop(self.image(maps[-1]).tanh(), self.size)


class Down(nn.Module):
    """Mean of [4x4 of stride 2, norm, LeakyReLU, 3x3, norm, LeakyReLU] and [mean of 2x2, 1x1, norm, LeakyReLU]."""

    def __init__(self, before: int, after: int, norm: type[nn.Module]):
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(before, after, 4, 2, 1, bias=False), norm(after), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(after, after, 3, padding=1, bias=False), norm(after), nn.LeakyReLU(0.2)),
        )
        self.shortcut = nn.Sequential(
            *(nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False), norm(after), nn.LeakyReLU(0.2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)) / 2


class Decoder(nn.Module):
    """Decodes a map of D (N, before, h, w) to an image (N, channels, 2^k h, 2^k w) in [-1, 1]."""

    def __init__(self, before: int, channels: int, k: int, width: int):
        super().__init__()
        widths = [before] + [max(2 * width >> i, 8) for i in range(k)]
        self.layers = nn.Sequential(*(up(a, b) for a, b in pairwise(widths)), nn.Conv2d(widths[-1], channels, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).tanh()


class DecoderInputs(NamedTuple):
    """An input of D, and the maps that it is reconstructed from: the last, and the one of twice its side."""

    image: Tensor
    fine: Tensor
    coarse: Tensor


class Discriminator(nn.Module):
    """Image - halvings to 8 to 15 pixels - 1x1 - 4x4 to logits of overlapping patches, 5x5 of them at 64 pixels.

    x (N, channels, size, size) in [-1, 1] and c (N, classes), concatenated as constant planes, to logits (N, H', W').
    The last map has 8 width channels, and each of twice the side half as many.

    Args:
        norm: "batch", "spectral" for both batch norm and spectral norm at every layer but the decoders', or "none".
    """

    def __init__(
        self, channels: int, size: Size, width: int = 64, classes: int = 0, embedding: int = 8, norm: str = "batch"
    ):
        super().__init__()
        check_choice("model.norm", norm, ("batch", "spectral", "none"))
        least = min(sides(size))
        if least < 16:
            raise ValueError(f"this model needs images of 16 pixels or more, but data.size={least}; type model=dcgan")
        layer: type[nn.Module] = nn.Identity if norm == "none" else nn.BatchNorm2d
        k = doublings(size) - 1  # halvings
        widths = [max(8 * width >> (k - i), 8) for i in range(k + 1)]
        self.embed = LabelEmbedding(classes, embedding)
        # The stem halves images of 64 pixels or more: full-size maps cost most.
        halve = least >= 64
        stem = (4, 2, 1) if halve else (3, 1, 1)
        self.stem = nn.Sequential(nn.Conv2d(channels + self.embed.width, widths[halve], *stem), nn.LeakyReLU(0.2))
        steps = list(pairwise(widths[halve:]))
        self.downs = nn.ModuleList(Down(before, after, layer) for before, after in steps)
        features = steps[-1][1]
        self.last = nn.Sequential(
            *(nn.Conv2d(features, features, 1, bias=False), layer(features), nn.LeakyReLU(0.2)),
            nn.Conv2d(features, 1, 4),
        )
        doubled = max((min(least // 2, DECODED) // (least >> k)).bit_length() - 1, 1)
        self.whole = Decoder(features, channels, doubled, width)
        self.part = Decoder(steps[-1][0], channels, doubled, width)
        init_normal(self)
        if norm == "spectral":
            for part in (self.stem, self.downs, self.last):
                spectral(part)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        fine = coarse = self.stem(concat_planes(x, self.embed(c)))
        for down in self.downs:
            fine, coarse = coarse, down(coarse)
        return DiscriminatorOutputs(self.last(coarse).squeeze(1), coarse, decoder_inputs=DecoderInputs(x, fine, coarse))

    def reconstruction_error(self, inputs: DecoderInputs) -> Tensor:
        """Return the mean absolute error of the image out of its coarse map, plus that of a random quarter, a scalar.

        Equation 4. The quarter, one for the batch, is reconstructed from the same quarter of the finer map.
        """
        which = torch.randint(4, (1,), device=inputs.image.device)
        image, fine = (quarters(t).index_select(0, which)[0] for t in (inputs.image, inputs.fine))
        pairs = ((self.whole(inputs.coarse), inputs.image), (self.part(fine), image))
        errors = [(ours.float() - resized(wanted, ours)).abs().mean() for ours, wanted in pairs]
        return torch.stack(errors).sum()


def quarters(x: Tensor) -> Tensor:
    """Return the four quarters of x (N, C, H, W): (4, N, C, H // 2, W // 2)."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    return torch.stack([x[:, :, i : i + h, j : j + w] for i in (0, x.shape[2] - h) for j in (0, x.shape[3] - w)])


def resized(x: Tensor, like: Tensor) -> Tensor:
    """Return x (N, C, H, W) at the size of `like`, averaged where it is smaller."""
    height, width = like.shape[2:]
    if x.shape[2] % height == 0 and x.shape[3] % width == 0:
        return adaptive_avg_pool2d(x, (height, width))
    return interpolate(x, (height, width), mode="bilinear", antialias=True)
