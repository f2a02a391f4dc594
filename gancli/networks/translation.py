"""Image-to-image networks: CycleGAN's residual generators and discriminators, PatchGAN.

Zhu et al. 2017, https://arxiv.org/abs/1703.10593, section 7.1 (after Johnson et al. 2016); Isola et al. 2017,
https://arxiv.org/abs/1611.07004, section 6.1.2.
"""

import torch
from torch import Tensor, nn

from gancli.images import Size, sides
from gancli.networks.layers import ReflectionPad, init_normal, spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.networks.unet import WHOLE_IMAGE, check_source_channels, norm_layer, padded
from gancli.runtime.checks import check_choice


class ResidualBlock(nn.Module):
    """x + norm(conv(ReLU(norm(conv(x))))), 3x3 with reflection padding."""

    def __init__(self, width: int, norm: str):
        super().__init__()
        self.layers = nn.Sequential(
            *(ReflectionPad(1), nn.Conv2d(width, width, 3, bias=norm == "none"), norm_layer(norm, width), nn.ReLU()),
            *(ReflectionPad(1), nn.Conv2d(width, width, 3, bias=norm == "none"), norm_layer(norm, width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ResidualGenerator(nn.Module):
    """7x7 - two halvings - `depth` residual blocks at 4 width - two doublings - 7x7 - tanh.

    c (N, source_channels, H, W) to (N, channels, H, W) in [-1, 1]; z has width zero. Any size; sizes that are no
    multiple of 4 are padded. Paper: width 64, 6 blocks for images of 128 pixels and 9 for 256. Departure from the
    paper: the doublings are 4x4 (paper: 3x3), so that every output pixel depends on equally many inputs.
    """

    z_dim, classes, scale, masked, multiple = 0, 0, 1, False, 4
    least = 8  # pixels: reflection padding at a quarter of the size needs two there

    def __init__(self, channels: int, source_channels: int, width: int = 64, depth: int = 6, norm: str = "instance"):
        super().__init__()
        check_source_channels(source_channels)
        self.channels, self.source_channels = channels, source_channels
        # 3 of the first layer, then in steps of 1, 2 and 4 pixels; the last layer 3 again.
        self.halo = WHOLE_IMAGE if norm == "instance" else 3 + 1 + 2 + 8 * depth + 8 + 4 + 3
        bias = norm == "none"
        layers: list[nn.Module] = [ReflectionPad(3), nn.Conv2d(source_channels, width, 7, bias=bias)]
        layers += [norm_layer(norm, width), nn.ReLU()]
        for now in (width, 2 * width):
            layers += [nn.Conv2d(now, 2 * now, 3, 2, 1, bias=bias), norm_layer(norm, 2 * now), nn.ReLU()]
        layers += [ResidualBlock(4 * width, norm) for _ in range(depth)]
        for now in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(now, now // 2, 4, 2, 1, bias=bias)]
            layers += [norm_layer(norm, now // 2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, ReflectionPad(3), nn.Conv2d(width, channels, 7), nn.Tanh())
        init_normal(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.layers(padded(c, self.multiple, self.least))[:, :, : c.shape[2], : c.shape[3]]


class TwoWay(nn.Module):
    """CycleGAN's two generators: `there` translates the first set to the second, `back` the second to the first."""

    z_dim, classes, scale, masked = 0, 0, 1, False

    def __init__(self, there: nn.Module, back: nn.Module):
        super().__init__()
        self.there, self.back = there, back
        self.channels, self.source_channels = there.channels, there.source_channels
        self.multiple, self.halo = there.multiple, there.halo

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.there(z, c)


class PatchDiscriminator(nn.Module):
    """A logit for every patch: 4x4 convolutions and LeakyReLU(0.2), `depth` of them of stride 2 and two of 1.

    x (N, channels, H, W) and c (N, source_channels, H, W), which may have width zero, to logits (N, H', W'). A patch
    has 70x70 pixels with depth 3. Images of less than 56 pixels have fewer strides: patches of 34x34 from 28 pixels,
    of 16x16 below.

    Args:
        norm: "batch", "instance", "spectral" or "none"; only "spectral" is at the first and the last layer too.
    """

    def __init__(
        self,
        channels: int,
        source_channels: int = 0,
        size: Size = 256,
        width: int = 64,
        depth: int = 3,
        norm: str = "batch",
    ):
        super().__init__()
        check_choice("model.norm", norm, ("batch", "instance", "spectral", "none"))
        least = min(sides(size))
        depth = max(1, min(depth, 3 if least >= 56 else 2 if least >= 28 else 1))
        if least < 8:
            raise ValueError(f"PatchGAN needs images of 8 pixels or more, but data.size={least}; type data.size=32")
        self.source_channels = source_channels
        inner = "none" if norm == "spectral" else norm
        layers: list[nn.Module] = [nn.Conv2d(channels + source_channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        now = width
        for i in range(1, depth + 1):
            after = width * min(2**i, 8)
            stride, bias = 2 if i < depth else 1, inner == "none"
            layers += [nn.Conv2d(now, after, 4, stride, 1, bias=bias), norm_layer(inner, after), nn.LeakyReLU(0.2)]
            now = after
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(now, 1, 4, 1, 1)
        init_normal(self)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        features = self.layers(torch.cat([x, c], 1) if self.source_channels else x)
        return DiscriminatorOutputs(self.last(features).squeeze(1), features)


class TwoDiscriminators(nn.Module):
    """CycleGAN's two discriminators: `target` of the second set, x; `source` of the first, c."""

    def __init__(self, target: nn.Module, source: nn.Module):
        super().__init__()
        self.target, self.source = target, source

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        return self.target(x, c)
