"""Pictures enlarged by a super-resolution network: any Pillow mode, any size, tile by tile.

    upscaler = load_upscaler(style="faithful", scale=4)  # the bundled network; ckpt= takes one of yours
    large = upscaler(Image.open("photo.jpg"))   # exactly 4 times as wide and as high

Such a network G(z, c) has z of width zero and the small pictures as c, float (N, C, h, w) in [-1, 1], and gives
(N, C, scale * h, scale * w). Beside `z_dim` and `classes` it has `scale`, `channels` (3, or 1) and `halo`, the radius
of its receptive field in pixels of c: a tile that is computed with so many pixels around it equals the whole.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gancli.checkpoint.format import find, is_checkpoint
from gancli.config import nearest
from gancli.data.image_modes import plain
from gancli.inference import generator
from gancli.inference.tiling import Tiler
from gancli.networks.sr import SCALES
from gancli.networks.unet import WHOLE_IMAGE
from gancli.runtime.device import choose_device

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
STYLES = ("faithful", "sharp")


class Upscaler(Tiler):
    """A super-resolution network put to use: `enlarge` for tensors, a call for a PIL picture."""

    def forward(self, x: Tensor) -> Tensor:
        """Where C is not the network's own, every plane is enlarged by itself, as a grey picture."""
        n, c, h, w = x.shape
        if c == self.channels:
            return super().forward(x)
        planes = x.reshape(n * c, 1, h, w).expand(-1, self.channels, -1, -1).contiguous()
        return super().forward(planes).mean(1).reshape(n, c, self.scale * h, self.scale * w)

    def enlarge(self, x: Tensor) -> Tensor:
        """x (N, C, h, w), float in [-1, 1], to (N, C, scale * h, scale * w) in [-1, 1] on the CPU."""
        (n, c, h, w), s = x.shape, self.scale
        result = torch.empty(n, c, s * h, s * w)
        for (left, top, right, bottom), y in self.tiles(lambda l, t, r, b: x[:, :, t:b, l:r], w, h):
            result[:, :, s * top : s * bottom, s * left : s * right] = y
        return result

    def __call__(self, picture: Image.Image, progress: Callable[[int], object] = lambda pixels: None) -> Image.Image:
        """A picture of any mode, enlarged, upright, as "L", "LA", "RGB", "RGBA" or "I;16" (16-bit grey stays so).

        Its ICC profile, EXIF and dpi are in the result's `info`. A `Note` is warned of what was lost. `progress` is
        told of each tile how many pixels of `picture` it has. ValueError where the picture cannot be enlarged.
        """
        picture = plain(picture)
        return self.draw(picture, picture.mode.removesuffix("A"), progress)


# --- which network ------------------------------------------------------------------------------------------------


class Downscaled(nn.Module):
    """A network's pictures made smaller by antialiased bicubic: 4 times to 3 or to 2.

    Tile by tile as well: that filter reaches less than one small pixel, which `halo` adds.
    """

    def __init__(self, network: nn.Module, scale: int):
        super().__init__()
        self.network, self.scale = network, scale
        self.channels, self.halo = int(network.channels), int(network.halo) + 1  # type: ignore[arg-type]
        self.z_dim = self.classes = 0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h, w = c.shape[2:]
        size = (self.scale * h, self.scale * w)
        return interpolate(self.network(z, c).clamp(-1, 1), size, mode="bicubic", antialias=True)


class SpandrelModel(nn.Module):
    """A model of the `spandrel` package, whose pictures are in [0, 1], as a network of ours.

    What its architecture reaches is unknown; 32 pixels hide the seams of those whose tiles may be joined.
    """

    def __init__(self, descriptor: Any):
        super().__init__()
        self.descriptor = descriptor
        self.model = descriptor.model  # known as a part, so that device and parameters are found
        self.scale, self.channels = int(descriptor.scale), int(descriptor.input_channels)
        self.halo = 32 if descriptor.tiling.name == "SUPPORTED" else WHOLE_IMAGE
        self.z_dim = self.classes = 0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        # The descriptor pads to the sizes its model takes, cuts the result, and wants one picture at a time.
        return torch.cat([self.descriptor((x[None] + 1) / 2) for x in c]) * 2 - 1


def load_upscaler(
    ckpt: str | Path = "", style: str = "faithful", scale: int = 4, device: torch.device | str = "cpu", tile: int = 0
) -> Upscaler:
    """An upscaler: with the bundled network, or with that of `ckpt`.

    ckpt: empty; a gan checkpoint, run folder or "latest"; a .safetensors or .pth model of the community.
    style: of the bundled networks, "faithful" invents nothing, "sharp" invents detail.
    """
    if scale not in SCALES:
        raise ValueError(
            f"scale={scale} is not one of 2, 3 and 4; for more run gan upscale twice, its result the second time"
        )
    if not str(ckpt):
        return Upscaler(bundled(style, scale).to(device), tile)
    path = find(ckpt)
    foreign = path.suffix.lower() == ".pth" or (path.suffix.lower() == ".safetensors" and not is_checkpoint(path))
    network = community(path) if foreign else generator.load(path, command="upscale").network
    if network.scale != scale:
        there = f"type scale={network.scale}" if network.scale in SCALES else "gan upscale enlarges 2, 3 or 4 times"
        raise ValueError(f"{path} enlarges {network.scale} times, but scale={scale}; {there}")
    return Upscaler(network.to(device), tile)


def bundled(style: str, scale: int) -> nn.Module:
    """The network that ships for a style and a scale. Without one of its own, that of 4 times is made smaller."""
    if style not in STYLES:
        raise ValueError(f"there is no style {style!r}{nearest(style, STYLES)}; there are: {', '.join(STYLES)}")
    for there in (scale, 4):
        if (path := WEIGHTS / f"sr_compact-x{there}-{style}.safetensors").is_file():
            network = generator.load(path).network
            return network if there == scale else Downscaled(network, scale)
    raise ValueError(f"no weights of style={style} came with this installation; type ckpt=FILE, or another style=")


def community(path: Path) -> nn.Module:
    """A model of the community, by the `spandrel` package. The file is opened without running code from it."""
    if not path.is_file():
        raise ValueError(f"there is no model {path}; type ckpt=FILE, or leave ckpt= out")
    try:
        import spandrel
    except ImportError:
        raise ValueError(
            f"{path} was not written by gan, and to read models of other programs type pip install 'gancli[spandrel]'"
        ) from None
    # spandrel's own reading of .pth rests on an unpickler of its own; torch's weights_only is the stricter one.
    try:
        if path.suffix.lower() == ".pth":
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            from safetensors.torch import load_file

            state = load_file(path)
        model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except Exception as error:  # a stranger's file can fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is not a model that spandrel knows: {reason}") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != model.output_channels:
        raise ValueError(f"{path} does not turn pictures into pictures of the same colours; type another ckpt=")
    if model.input_channels not in (1, 3):
        raise ValueError(f"{path} takes pictures of {model.input_channels} channels, not of 1 or 3; type another ckpt=")
    return SpandrelModel(model)


def upscale(image: Image.Image, scale: int = 4, style: str = "faithful") -> Image.Image:
    """A PIL picture enlarged by the bundled network: exactly `scale` times (2, 3 or 4) as wide and as high."""
    return _kept(scale, style)(image)


@functools.lru_cache(maxsize=4)
def _kept(scale: int, style: str) -> Upscaler:
    return load_upscaler(style=style, scale=scale, device=choose_device("auto"))
