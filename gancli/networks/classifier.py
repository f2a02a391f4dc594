"""Small classifiers for the feature space of metrics; `gancli.metrics.feature_extractors` loads trained ones."""

from typing import Self

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Unit(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int):
        convolution = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x plus two units of the same width."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(Unit(width, width), Unit(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Classifier(nn.Module):
    """Two units, then twice: max pooling, a unit to twice the width, a residual block; mean; linear.

    A narrower ResNet-9 (Page 2018, https://myrtle.ai/learn/how-to-train-your-resnet/) with two halvings instead of
    three: 6.6 million weights are too many to bundle.

    x (N, channels, H, W) in [-1, 1] to logits (N, classes), for H and W from 4; `size` is that of the training data.
    """

    def __init__(self, channels: int, size: int, width: int = 32, classes: int = 10):
        super().__init__()
        self.channels, self.size, self.classes, self.dim = channels, size, classes, 4 * width
        layers: list[nn.Module] = [Unit(channels, width), Unit(width, width)]
        for wide in (2 * width, 4 * width):
            layers += [nn.MaxPool2d(2), Unit(wide // 2, wide), Residual(wide)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(self.dim, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last layer, (N, dim), not negative."""
        return self.layers(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def folded(self) -> Self:
        """Return self, in evaluation alone, with each batch norm as part of the convolution before it."""
        self.eval()
        for unit in [module for module in self.modules() if isinstance(module, Unit)]:
            convolution, norm, *_ = unit
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            unit[0], unit[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
        return self
