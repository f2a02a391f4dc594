"""U-Net: an encoder of halvings and a decoder of doublings, with skip connections between equal sizes.

The generator of Isola et al. 2017 (pix2pix), section 6.1.1, https://arxiv.org/abs/1611.07004; without the skips, that
of a context encoder, Pathak et al. 2016, https://arxiv.org/abs/1604.07379.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gancli.images import Size, sides
from gancli.networks.layers import Dropout, init_normal
from gancli.runtime.checks import check_choice

WHOLE_IMAGE = 1 << 30  # halo of a network that needs the whole image: its tiles never equal the whole


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Return the layer of norm "batch", "instance" or "none"."""
    layers = {"batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d, "none": nn.Identity}
    return layers[check_choice("model.norm", norm, layers)](channels)


def padded(x: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Return x (N, C, H, W), padded by its last row and column to multiples of `multiple`, at least `least`."""
    h, w = (max(-(-side // multiple) * multiple, least) - side for side in x.shape[2:])
    return pad(x, (0, w, 0, h), mode="replicate") if h or w else x


def check_source_channels(source_channels: int) -> None:
    """Raise ValueError if there are no source images."""
    if source_channels < 1:
        raise ValueError(
            "this model translates images, but the data have no pairs and no task computes them; "
            "type task=colorize, inpaint, denoise, deblur or edges, or data=pairs data.path=DIR"
        )


class UNet(nn.Module):
    """`depth` 4x4 convolutions of stride 2 down, as many transposed ones up; tanh at the end.

    c (N, source_channels, H, W) to (N, channels, H, W) in [-1, 1]; z has width zero. Widths are 1, 2, 4, 8, 8, ...
    times `width`; LeakyReLU(0.2) down, ReLU up; dropout behind the three innermost steps up (the paper's noise).
    Sizes that are no multiple of 2^depth are padded.

    Departure from the paper: in evaluation there is no dropout and batch norm uses its running statistics, so that an
    image does not depend on its batch or on chance. (Section 3.1: dropout changed the results little.)

    Args:
        depth: Number of halvings, at most down to one pixel of an image of `size`.
        skip: Use skip connections; without them all information passes the innermost layer.
        masked: The last channel of c is a mask, 1 where the image is missing; other pixels are returned unchanged.
    """

    z_dim, classes, scale = 0, 0, 1

    def __init__(
        self,
        channels: int,
        source_channels: int,
        size: Size = 256,
        width: int = 64,
        depth: int = 8,
        norm: str = "batch",
        dropout: float = 0.5,
        skip: bool = True,
        masked: bool = False,
    ):
        super().__init__()
        check_source_channels(source_channels)
        depth = min(depth, min(sides(size)).bit_length() - 1)
        if depth < 1:
            raise ValueError(
                f"a U-Net needs one halving or more, but model.depth={depth} and data.size={size}; type model.depth=4"
            )
        self.channels, self.masked, self.source_channels = channels, masked, source_channels
        self.multiple = 2**depth
        # One pixel of the coarsest grid and its neighbours, down and up.
        self.halo = WHOLE_IMAGE if norm == "instance" else 4 * self.multiple
        widths = [width * min(2**i, 8) for i in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i in range(depth):
            # Neither the first nor the innermost layer is normalised: a norm over a single pixel returns zero.
            layer_norm = norm if 0 < i < depth - 1 else "none"
            before = widths[i - 1] if i else source_channels
            convolution = nn.Conv2d(before, widths[i], 4, 2, 1, bias=layer_norm == "none")
            self.down.append(nn.Sequential(convolution, norm_layer(layer_norm, widths[i]), nn.LeakyReLU(0.2)))
        for i in reversed(range(depth)):
            inputs = 2 if skip and i < depth - 1 else 1
            after = widths[i - 1] if i else channels
            bias = norm == "none" or not i
            layers: list[nn.Module] = [nn.ConvTranspose2d(inputs * widths[i], after, 4, 2, 1, bias=bias)]
            if i:
                innermost = depth - 1 - i < 3
                layers += [norm_layer(norm, after), Dropout(dropout if innermost else 0.0), nn.ReLU()]
            self.up.append(nn.Sequential(*layers))
        self.skip = skip
        init_normal(self)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = padded(c, self.multiple)
        skips = []
        for layer in self.down:
            skips.append(x)
            x = layer(x)
        for layer in self.up[:-1]:
            x = layer(x)
            if self.skip:
                x = torch.cat([x, skips.pop()], 1)
        image = self.up[-1](x)[:, :, : c.shape[2], : c.shape[3]].tanh()
        if not self.masked:
            return image
        hole = c[:, -1:]
        return hole * image + (1 - hole) * c[:, :-1]
