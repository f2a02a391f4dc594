"""Residual GAN: pre-activation blocks that double or halve the map, batch norm in G, spectral norm in D.

The networks of Miyato et al. 2018 for CIFAR-10 (appendix), https://arxiv.org/abs/1802.05957; with classes, those of
Miyato and Koyama 2018, https://arxiv.org/abs/1802.05637: conditional batch norm in G, projection in D. Without norm in
D and with pool=mean it is the critic of WGAN-GP (Gulrajani et al. 2017, appendix, https://arxiv.org/abs/1704.00028).
One file for every size: G doubles a map of 4 pixels or more to the size and crops to the centre, as the DCGAN; D halves
the image until a side has less than 16.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from gancli.images import Size, sides
from gancli.networks.dcgan import crop, doublings, first_map
from gancli.networks.layers import DoublingConv, HalvingConv, minibatch_layer, spectral
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.runtime.checks import check_choice


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes classes and ignores them."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class ClassBatchNorm(nn.BatchNorm2d):
    """Conditional batch norm: each class has its own gain and bias per channel, linear in c.

    Dumoulin et al. 2017, section 2.2, https://arxiv.org/abs/1610.07629. x (N, features, H, W), c (N, classes).
    """

    def __init__(self, features: int, classes: int):
        super().__init__(features, affine=False)
        # paper: gain 1 and bias 0 for every class; here gains of 1 +- 0.02, so that classes differ from the start.
        self.table = nn.Parameter(torch.cat([0.02 * torch.randn(classes, features), torch.zeros(classes, features)], 1))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:  # type: ignore[override]
        gain, bias = (c @ self.table)[:, :, None, None].chunk(2, 1)
        return super().forward(x) * (1 + gain) + bias


def batch_norm(features: int, classes: int) -> nn.Module:
    return ClassBatchNorm(features, classes) if classes else BatchNorm(features)


def double(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")


class UpBlock(nn.Module):
    """[norm, ReLU, x2, 3x3, norm, ReLU, 3x3] plus [x2, 1x1]: (N, before, H, W) to (N, after, 2H, 2W)."""

    def __init__(self, before: int, after: int, classes: int):
        super().__init__()
        self.norm1, self.norm2 = batch_norm(before, classes), batch_norm(after, classes)
        # paper: with biases; later batch norm removes every one of them.
        self.conv1 = DoublingConv(before, after, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        y = self.conv1(relu(self.norm1(x, c)))
        y = self.conv2(relu(self.norm2(y, c)))
        # A 1x1 convolution of doubled pixels is the same before doubling, at a quarter of the work.
        return y + double(self.shortcut(x))


class DownBlock(nn.Module):
    """[ReLU, 3x3, ReLU, 3x3, mean of 2x2] plus [mean of 2x2, 1x1].

    Args:
        first: No ReLU, because x is the image.
        halve: False pools neither branch, and adds x itself if the widths are equal.
    """

    def __init__(self, before: int, after: int, first: bool = False, halve: bool = True):
        super().__init__()
        self.first, self.halve = first, halve
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = HalvingConv(after, after) if halve else nn.Conv2d(after, after, 3, padding=1)
        identity = before == after and not halve
        self.shortcut: nn.Module = nn.Identity() if identity else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x if self.first else relu(x))
        # The paper pools after the shortcut's 1x1: the same, at four times the work.
        return self.conv2(relu(y)) + self.shortcut(avg_pool2d(x, 2) if self.halve else x)


def init_xavier(network: nn.Module) -> None:
    """Initialise by Xavier's uniform: gain sqrt(2) for the 3x3 of the blocks, which follow a ReLU, 1 elsewhere.

    Biases zero. Glorot and Bengio 2010; the gains are those of Gulrajani et al. 2017's code.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, math.sqrt(2) if name.endswith(("conv1", "conv2")) else 1.0)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Generator(nn.Module):
    """z - linear - (2 width, base, base) - one UpBlock a doubling, 2 width throughout - norm, ReLU, 3x3, tanh.

    z (N, z_dim) and c (N, classes) to images (N, channels, size, size) in [-1, 1]. Paper: 32x32, z_dim=128, width=128,
    that is 256 channels and base 4; `width` is D's, half of G's. Every norm is conditional where there are classes.
    """

    def __init__(self, z_dim: int, channels: int, size: Size, width: int = 128, classes: int = 0):
        super().__init__()
        self.z_dim, self.classes, self.size = z_dim, classes, size
        k, width = doublings(size), 2 * width
        self.base = (width, *first_map(size, k))
        self.linear = nn.Linear(z_dim, math.prod(self.base))
        self.blocks = nn.ModuleList(UpBlock(width, width, classes) for _ in range(k))
        self.norm = batch_norm(width, classes)
        self.image = nn.Conv2d(width, channels, 3, padding=1)
        init_xavier(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.linear(z).unflatten(1, self.base)
        for block in self.blocks:
            x = block(x, c)
        return crop(torch.tanh(self.image(relu(self.norm(x, c)))), self.size)


class Discriminator(nn.Module):
    """Image - DownBlocks until a side has less than 16 pixels - two blocks - ReLU - pool - linear to one logit.

    x (N, channels, size, size) in [-1, 1] and c (N, classes) to logits (N,). At 32x32: 32 - 16 - 8 and two blocks at
    8x8, `width` channels throughout.

    Args:
        norm: "spectral", at every layer, or "none".
        pool: "sum" over positions (Miyato et al. 2018) or "mean" (Gulrajani et al. 2017).
        projection: Add the class's embedding times the features to the logit (Miyato and Koyama 2018, equation 3);
            otherwise c is ignored.
        auxiliary: Predict class logits from the features (Odena et al. 2017, https://arxiv.org/abs/1610.09585).
        minibatch: "none", "discrimination" or "std", behind the pooling.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        width: int = 128,
        classes: int = 0,
        norm: str = "spectral",
        pool: str = "sum",
        projection: bool = False,
        auxiliary: bool = False,
        minibatch: str = "none",
    ):
        super().__init__()
        check_choice("model.norm", norm, ("spectral", "none"))
        self.pool = check_choice("model.pool", pool, ("sum", "mean"))
        for wanted, name, instead in ((projection, "projection", "sngan"), (auxiliary, "acgan", "dcgan")):
            if wanted and not classes:
                raise ValueError(
                    f"{name} needs classes, but data.classes=0; choose data with classes, or model={instead}"
                )
        self.blocks = nn.Sequential(DownBlock(channels, width, first=True))
        side = min(sides(size)) // 2
        while side >= 16:
            self.blocks.append(DownBlock(width, width))
            side //= 2
        self.blocks.extend(DownBlock(width, width, halve=False) for _ in range(2))
        self.minibatch = minibatch_layer(minibatch, width)
        features = width + self.minibatch.extra
        # paper: with a bias; losses of logit differences (Wasserstein) give it no gradient, and hinge none at first.
        self.linear = nn.Linear(features, 1, bias=False)
        self.embed = nn.Linear(classes, features, bias=False) if projection else None
        self.classifier = nn.Linear(features, classes) if auxiliary else None
        init_xavier(self)
        if norm == "spectral":
            spectral(self)

    def forward(self, x: Tensor, c: Tensor) -> DiscriminatorOutputs:
        x = relu(self.blocks(x))
        features = self.minibatch(x.sum((2, 3)) if self.pool == "sum" else x.mean((2, 3)))
        class_logits = self.classifier(features) if self.classifier else None
        logits = self.linear(features).squeeze(1)
        if self.embed:
            logits = logits + (self.embed(c) * features).sum(1)
        return DiscriminatorOutputs(logits, features, class_logits)
