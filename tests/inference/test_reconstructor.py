import numpy as np
import pytest
import torch
from PIL import Image
from scenes import difference, scene
from torch import nn

from gancli.inference.generator import Generator
from gancli.inference.reconstructor import Patches
from gancli.inference.translator import Translator


class Levels(nn.Module):
    """Encodes the mean of a patch, rounded, and decodes it as one level; class k adds k / 10."""

    z_dim, size = 1, 4

    def __init__(self, channels: int = 1, classes: int = 0):
        super().__init__()
        self.channels, self.classes = channels, classes
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, x, c):
        assert x.shape[1:] == (self.channels, self.size, self.size) and c.shape == (len(x), self.classes)
        return x.mean((1, 2, 3))[:, None].round(decimals=1)

    def forward(self, z, c):
        shift = (c * torch.arange(self.classes)).sum(1, keepdim=True) / 10
        return (z + shift)[:, :, None, None].expand(-1, self.channels, self.size, self.size)


def test_each_patch_is_reconstructed_by_itself():
    levels = np.array([[26, 51, 77], [102, 128, 153]], np.uint8)
    image = Image.fromarray(levels.repeat(4, 0).repeat(4, 1)[:7, :10])
    for tile in (0, 4, 8):
        assert difference(Translator(Patches(Generator(Levels(), 4, 1)), tile)(image), image) <= 1


@pytest.mark.parametrize(
    ("classes", "expected"),
    [([], [0.15, 0.25, 0.35]), ([1], [0.25] * 3), (["two"], [0.35] * 3), ([0, 2], [0.15, 0.15, 0.35])],
)
def test_each_patch_gets_the_nearest_class(classes, expected):
    x = torch.tensor([0.12, 0.24, 0.38]).repeat_interleave(4).expand(1, 1, 4, 12).contiguous()
    levels = Levels(classes=3)
    levels.encode = lambda x, c: torch.full((len(x), 1), 0.15)
    y = Patches(Generator(levels, 4, 1, ["zero", "one", "two"]), classes)(torch.zeros(1, 0), x)
    assert torch.allclose(y[0, 0, 0, ::4], torch.tensor(expected))


def test_nan_is_not_written():
    levels = Levels()
    levels.encode = lambda x, c: torch.full((len(x), 1), torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        Translator(Patches(Generator(levels, 4, 1)))(scene(8, 8, "L"))
