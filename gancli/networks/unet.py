"""A U-Net: an image is halved down to a few numbers and doubled again, each size seeing its own from the way down.

The generator of Isola et al. 2017 (pix2pix), section 6.1.1, https://arxiv.org/abs/1611.07004; without the skips that
of a context encoder, Pathak et al. 2016, https://arxiv.org/abs/1604.07379.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gancli.networks.layers import Dropout, init_normal
from gancli.runtime.checks import check_choice, check_number

WHOLE_IMAGE = 1 << 30  # halo of a network that needs the whole image: its tiles never equal the whole
NORMS = ("batch", "instance", "none")


def norm_layer(kind: str, channels: int) -> nn.Module:
    """Batch norm, instance norm or nothing."""
    check_choice("model.norm", kind, NORMS)
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if kind == "instance" else nn.Identity()


def padded(x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """x (N, C, H, W) with its last row and column repeated until its sides are multiples, of `least` or more."""
    h, w = (max(-(-side // multiple) * multiple, least) - side for side in x.shape[2:])
    return pad(x, (0, w, 0, h), mode="replicate") if h or w else x


def need_sources(source_channels: int) -> None:
    """ValueError where a network that begins with an image is given none."""
    if source_channels < 1:
        raise ValueError(
            "this model makes images of images, but neither do the data bring pairs nor is there a task that makes "
            "them; type task=colorize, inpaint, denoise, deblur or edges, or data=pairs data.path=DIR"
        )


class UNet(nn.Module):
    """`depth` 4x4 convolutions of stride 2 down, as many transposed ones up; tanh at the end.

    c (N, source_channels, H, W) to (N, channels, H, W) in [-1, 1]; z is of width zero. Widths are width, 2, 4, 8, 8
    times it; LeakyReLU(0.2) down, ReLU up; dropout behind the three innermost steps up, which is the paper's noise.
    depth is at most what leaves a pixel of an image of `size`; the size itself is free, and what is no multiple of
    2^depth is padded. skip: false leaves out the connections across, so that all goes through the innermost layer.

    masked: the last channel of c is a mask, 1 where the image is missing; elsewhere it is given back as it was.
    """

    z_dim, classes, scale = 0, 0, 1

    def __init__(
        self,
        channels: int,
        source_channels: int,
        size: int = 256,
        width: int = 64,
        depth: int = 8,
        norm: str = "batch",
        dropout: float = 0.5,
        skip: bool = True,
        masked: bool = False,
    ):
        super().__init__()
        need_sources(source_channels)
        depth = min(depth, size.bit_length() - 1)
        if depth < 1:
            raise ValueError(
                f"a U-Net halves an image, but model.depth={depth} and data.size={size}; type model.depth=4"
            )
        self.channels, self.masked, self.source_channels = channels, masked, source_channels
        self.multiple = 2**depth
        # On the grid of the coarsest pixels: one of them and its neighbours, down and up.
        self.halo = WHOLE_IMAGE if norm == "instance" else 4 * self.multiple
        widths = [width * min(2**i, 8) for i in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i in range(depth):
            # The first and the innermost are not normalised; of a single pixel nothing would be left.
            kind = norm if 0 < i < depth - 1 else "none"
            before = widths[i - 1] if i else source_channels
            convolution = nn.Conv2d(before, widths[i], 4, 2, 1, bias=kind == "none")
            self.down.append(nn.Sequential(convolution, norm_layer(kind, widths[i]), nn.LeakyReLU(0.2)))
        for i in reversed(range(depth)):
            crossing = 2 if skip and i < depth - 1 else 1
            after = widths[i - 1] if i else channels
            bias = norm == "none" or not i
            layers: list[nn.Module] = [nn.ConvTranspose2d(crossing * widths[i], after, 4, 2, 1, bias=bias)]
            if i:
                innermost = depth - 1 - i < 3
                layers += [norm_layer(norm, after), Dropout(dropout if innermost else 0.0), nn.ReLU()]
            self.up.append(nn.Sequential(*layers))
        self.skip = skip
        init_normal(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = padded(c, self.multiple)
        across = []
        for layer in self.down:
            x = layer(x)
            across.append(x)
        across.pop()
        for layer in self.up[:-1]:
            x = layer(x)
            y = across.pop()
            x = torch.cat([x, y], 1) if self.skip else x
        made = self.up[-1](x)[:, :, : c.shape[2], : c.shape[3]].tanh()
        if not self.masked:
            return made
        hole = c[:, -1:]
        return hole * made + (1 - hole) * c[:, :-1]
