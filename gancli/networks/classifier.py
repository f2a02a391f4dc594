"""Small classifiers, whose features tell how alike two sets of images are. `gancli.metrics.feature_extractors` has trained ones."""

from torch import Tensor, nn


class Unit(nn.Sequential):
    """3x3 convolution, batch norm, ReLU."""

    def __init__(self, inside: int, outside: int):
        convolution = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + two units of it, as wide as x."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(Unit(width, width), Unit(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Classifier(nn.Module):
    """Two units, then twice: half the pixels by maximum, a unit to twice the width, a residual; mean; linear.

    In the manner of the ResNet-9 of Page 2018, https://myrtle.ai/learn/how-to-train-your-resnet/, whose 6.6 million
    weights are too many to carry along: narrower, and with two halvings instead of three.

    x (N, channels, H, W) in [-1, 1] to logits (N, classes). Any H and W from 4 on will do; `size` is what it is for.
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
        """What the logits are a linear function of: (N, dim), none negative."""
        return self.layers(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
