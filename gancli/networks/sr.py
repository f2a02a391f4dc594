"""Super-resolution networks: G(z, c) with a small image c and z of width zero, and their discriminators.

Every G here has `scale` and `halo`, the radius of its receptive field in pixels of c: a tile that is computed with
`halo` pixels of context on each side equals the same part of the whole image. A G that adds details to the bicubic
enlargement in fp32 is `bf16_safe`: the details may be computed in bf16.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from gancli.images import Size, enlarge, sides
from gancli.networks.layers import spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.device import full_precision

SCALES = (2, 3, 4)


def check_scale(scale: int) -> int:
    """Return a scale that is one of SCALES."""
    if scale not in SCALES:
        raise ValueError(f"model.scale={scale} is not one of 2, 3, 4; type model.scale=4")
    return scale


@torch.no_grad()
def init_shuffled(convolution: nn.Conv2d, scale: int) -> nn.Conv2d:
    """Give all scale^2 pixels of a pixel shuffle the same weights, against a checkerboard at the beginning.

    Aitken et al. 2017, https://arxiv.org/abs/1707.02937, "ICNR".
    """
    weight = convolution.weight
    weight.copy_(weight[:: scale * scale].repeat_interleave(scale * scale, 0))
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution


class Compact(nn.Module):
    """3x3 convolutions at the small size and one pixel shuffle, added to the bicubic enlargement.

    The shape is that of Shi et al. 2016 (ESPCN), https://arxiv.org/abs/1609.05158, deeper, with the skip of Kim et
    al. 2016 (VDSR), https://arxiv.org/abs/1511.04587. The last layer begins as zero, so the untrained network is
    bicubic; those in the middle begin as the identity plus a little noise, a residual connection without cost.

    c: (N, channels, h, w) in [-1, 1], any h and w from 1; returns (N, channels, scale * h, scale * w), about [-1, 1].
    """

    z_dim, classes, bf16_safe = 0, 0, True

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 10, scale: int = 4):
        super().__init__()
        check_number("model.depth", depth, 1, example=10)
        check_number("model.width", width, 1, example=32)
        self.channels, self.scale = channels, check_scale(scale)
        self.halo = depth + 2  # bicubic has 2, which is no more
        layers: list[nn.Module] = []
        for i in range(depth + 1):
            layers += [nn.Conv2d(width if i else channels, width, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        for i, layer in enumerate(m for m in self.body if isinstance(m, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, a=0.1)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            if i:
                identity = nn.init.dirac_(torch.empty_like(layer.weight))
                layer.weight.data.mul_(0.3).add_(identity)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return enlarge(c, self.scale) + self.shuffle(self.last(self.body(c)))


class MergedConv(nn.Module):
    """A 3x3 convolution that trains as the sum of three branches and runs as one.

    The branches are 3x3, 1x1 - 3x3 - 1x1 without biases inside, and identity times a learned factor of each channel.
    Their weights are summed (after Ding et al. 2021, RepVGG, https://arxiv.org/abs/2101.03697), so a step of training
    costs about as much as with one 3x3 convolution. `merged=True` has the sum alone.

    Args:
        expand: channels between the 1x1 convolutions, as a multiple of `width`.
    """

    def __init__(self, width: int, expand: int = 2, merged: bool = False):
        super().__init__()
        self.merged = merged
        self.weight = nn.Parameter(torch.zeros(width, width, 3, 3))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.kaiming_normal_(self.weight, a=0.1)
        if not merged:
            inner = expand * width
            self.weight.data.mul_(0.3)
            self.identity = nn.Parameter(torch.ones(width))
            self.narrow = nn.Parameter(torch.randn(inner, width) / width**0.5)
            self.middle = nn.Parameter(0.3 * torch.randn(inner, inner, 3, 3) / (3 * inner**0.5))
            self.widen = nn.Parameter(0.3 * torch.randn(width, inner) / inner**0.5)

    def kernel(self) -> Tensor:
        """Return the weights (width, width, 3, 3) of the one convolution."""
        if self.merged:
            return self.weight
        with full_precision(self.weight):
            inner = torch.einsum("abhw,bi->aihw", self.middle, self.narrow)
            kernel = self.weight + torch.einsum("oa,aihw->oihw", self.widen, inner)
            return kernel + pad(torch.diag(self.identity)[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.kernel(), self.bias, padding=1)


class AttentionBlock(nn.Module):
    """Three convolutions y of x, and (x + y) times an attention without parameters, 1/2 + sigmoid(y).

    After Wan et al. 2023 (SPAN), https://arxiv.org/abs/2311.12770, whose attention is sigmoid(y) - 1/2:
    with 1/2 + sigmoid(y) a block begins near the identity.
    """

    def __init__(self, width: int, merged: bool = False):
        super().__init__()
        last = MergedConv(width, merged=merged)
        self.layers = nn.Sequential(
            *(MergedConv(width, merged=merged), nn.LeakyReLU(0.1, inplace=True)),
            *(MergedConv(width, merged=merged), nn.LeakyReLU(0.1, inplace=True)),
            last,
        )
        if not merged:  # y begins as a small noise
            nn.init.zeros_(last.identity)
            last.weight.data.mul_(0.3)
            last.widen.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return (x + y) * (y.sigmoid() + 0.5)


class Attentive(nn.Module):
    """AttentionBlocks at the small size and one pixel shuffle, added to the bicubic enlargement.

    The last layer begins as zero, so the untrained network is bicubic.

    c: (N, channels, h, w) in [-1, 1], any h and w from 1; returns (N, channels, scale * h, scale * w), about [-1, 1].

    Args:
        depth: number of blocks.
        merged: one convolution for each MergedConv, as `merge` returns it.
    """

    z_dim, classes, bf16_safe = 0, 0, True

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 6, scale: int = 4, merged: bool = False):
        super().__init__()
        check_number("model.depth", depth, 1, example=6)
        check_number("model.width", width, 1, example=32)
        self.channels, self.scale = channels, check_scale(scale)
        self.halo = 3 * depth + 2
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(AttentionBlock(width, merged) for _ in range(depth)))
        self.last = nn.Conv2d(width, channels * scale * scale, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.first(c)
        return enlarge(c, self.scale) + self.shuffle(self.last(x + self.blocks(x)))

    @torch.no_grad()
    def merge(self) -> "Attentive":
        """Return the same function with one convolution for each MergedConv."""
        width, depth = self.first.out_channels, len(self.blocks)
        merged = Attentive(self.channels, width, depth, self.scale, merged=True)
        state = merged.state_dict()
        mine = self.state_dict() | {
            f"{name}.weight": module.kernel() for name, module in self.named_modules() if isinstance(module, MergedConv)
        }
        merged.load_state_dict({name: mine[name] for name in state})
        return merged.train(self.training)


class ResidualBlock(nn.Module):
    """x + BN(conv(PReLU(BN(conv(x))))), all 3x3."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU()),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SRResNet(nn.Module):
    """The generator of Ledig et al. 2017 (SRGAN), figure 4, https://arxiv.org/abs/1609.04802.

    A 9x9 convolution, `depth` residual blocks with a skip around all of them, pixel shuffles by 2 (x4: two of them;
    x3: one by 3), a 9x9 convolution. Linear at the end.

    c: (N, channels, h, w) in [-1, 1] (paper: [0, 1]); returns (N, channels, scale * h, scale * w), about [-1, 1].
    """

    z_dim, classes = 0, 0

    def __init__(self, channels: int = 3, width: int = 64, depth: int = 16, scale: int = 4):
        super().__init__()
        self.channels, self.scale = channels, check_scale(scale)
        self.first = nn.Sequential(nn.Conv2d(channels, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(
            *(ResidualBlock(width) for _ in range(depth)),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )
        steps = [2, 2] if scale == 4 else [scale]
        up: list[nn.Module] = []
        for step in steps:
            convolution = init_shuffled(nn.Conv2d(width, width * step * step, 3, padding=1), step)
            up += [convolution, nn.PixelShuffle(step), nn.PReLU()]
        self.up = nn.Sequential(*up, nn.Conv2d(width, channels, 9, padding=4))
        # In pixels of c: behind a shuffle a layer's receptive field is 1/2, 1/4, ... as wide.
        at = [math.prod(steps[:i]) for i in range(len(steps) + 1)]
        self.halo = math.ceil(4 + 2 * depth + 1 + sum(1 / a for a in at[:-1]) + 4 / at[-1])

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.first(c)
        return self.up(x + self.blocks(x))


class Discriminator(nn.Module):
    """The discriminator of Ledig et al. 2017, figure 4: eight 3x3 convolutions, every second with stride 2, two dense.

    x: (N, channels, size, size); c, the small image, is ignored. Returns logits (N,).
    """

    def __init__(self, channels: int = 3, size: Size = 96, width: int = 64, norm: str = "batch"):
        super().__init__()
        check_choice("model.norm", norm, ("batch", "none"))
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for i in range(1, 8):
            now = width * 2 ** (i // 2)
            layers.append(nn.Conv2d(before, now, 3, stride=1 + i % 2, padding=1, bias=norm == "none"))
            layers += [nn.BatchNorm2d(now)] if norm == "batch" else []
            layers.append(nn.LeakyReLU(0.2))
            before = now
        pixels = math.prod(math.ceil(side / 16) for side in sides(size))
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.dense = nn.Sequential(nn.Linear(before * pixels, 16 * width), nn.LeakyReLU(0.2))
        self.last = nn.Linear(16 * width, 1)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        features = self.dense(self.convolutions(x))
        return DiscriminatorOutputs(self.last(features).squeeze(1), features)


class PatchDiscriminator(nn.Module):
    """A logit for every patch of x, concatenated with the enlarged c.

    A small PatchGAN (Isola et al. 2017, section 3.2.2, https://arxiv.org/abs/1611.07004): 3x3, two 4x4 with stride 2,
    3x3, so that a logit's receptive field has 20 pixels of x. The first has no stride: with one, D had separate weights
    for every position of a pixel shuffle's grid and did not detect a checkerboard. Each has spectral norm
    (model.norm=spectral) or no norm.

    x: (N, channels, H, W); c: (N, channels, H / scale, W / scale). Returns (N, H / 4, W / 4).
    """

    def __init__(self, channels: int = 3, width: int = 32, scale: int = 4, norm: str = "spectral"):
        super().__init__()
        check_choice("model.norm", norm, ("spectral", "none"))
        self.scale = check_scale(scale)
        self.layers = nn.Sequential(
            *(nn.Conv2d(2 * channels, width // 2, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width // 2, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
        )
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        features = self.layers(torch.cat([x, enlarge(c, self.scale)], 1))
        return DiscriminatorOutputs(self.last(features).squeeze(1), features)
