"""A small convolutional network that learns features of images without labels, by filling in what is masked."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gancli.images import Size
from gancli.networks.dcgan import doublings


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder that reconstruct images of which random patches are hidden.

    After He et al. 2022, https://arxiv.org/abs/2111.06377, with convolutions instead of attention: the encoder sees
    zeros and a plane that says where they are. Each stage of the encoder halves the size.

    Args:
        width: channels of the first stage; doubled with each stage.
        patch: side of the hidden squares in pixels.
        masked: fraction of the squares that are hidden; paper: 0.75, which leaves too little of a small image.
    """

    def __init__(self, channels: int, size: Size, width: int = 32, patch: int = 4, masked: float = 0.5):
        super().__init__()
        self.patch, self.masked = patch, masked
        widths = [channels + 1] + [width << i for i in range(doublings(size))]
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2, True)),
                *(nn.Conv2d(after, after, 3, 1, 1), nn.LeakyReLU(0.2, True)),
            )
            for before, after in pairwise(widths)
        )
        layers: list[nn.Module] = []
        for before, after in pairwise([*reversed(widths[1:]), width]):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        self.decoder = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, 1, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the map of every stage, (N, C, h, w), of whole images x (N, channels, H, W) in [-1, 1]."""
        return self.encode(x, torch.zeros_like(x[:, :1]))

    def encode(self, x: Tensor, mask: Tensor) -> list[Tensor]:
        maps = [torch.cat([x * (1 - mask), mask], 1)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean squared error of the hidden pixels, a scalar."""
        height, width = x.shape[2:]
        places = torch.rand(len(x), 1, -(-height // self.patch), -(-width // self.patch), device=x.device)
        mask = (places < self.masked).float()
        mask = interpolate(mask, scale_factor=self.patch, mode="nearest")[..., :height, :width]
        # The stages leave out the last odd row and column of a map, so the decoder's image may be smaller.
        output = interpolate(self.decoder(self.encode(x, mask)[-1]), (height, width))
        return (mask * (output - x).square()).sum() / (mask.sum() * x.shape[1]).clamp_min(1)
