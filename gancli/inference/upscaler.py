"""Super-resolution networks applied to images of any mode and size.

upscaler = load_upscaler(style="faithful", scale=4)  # the bundled network; ckpt= takes another one
large = upscaler(Image.open("photo.jpg"))            # exactly 4 times as wide and as high
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops, ImageFilter
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gancli.checkpoint.format import find, is_checkpoint
from gancli.data.image_modes import array_to_tensor, image_to_array, standardize, tensor_to_array
from gancli.images import enlarge, to_pil
from gancli.inference.generator import load
from gancli.inference.tiling import Progress, Tiler
from gancli.networks.sr import SCALES, Attentive
from gancli.networks.unet import WHOLE_IMAGE
from gancli.runtime.bundled import verified
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.hardware import limited_memory, multiplies_bf16
from gancli.runtime.text import one_line

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
STYLES = ("faithful", "sharp", "restore")
ALPHA_REACH = 2  # pixels: farther from an edge alpha stays exactly as it is, such as fully transparent
BUILT, SPARE = 3, 10**9  # memory to build a community model: by the size of its file, and bytes for any
SPANDREL_HALO = 32  # pixels that hide the seams of models whose receptive field is unknown


class Upscaler(Tiler):
    """A super-resolution network that is called with a PIL image; `enlarge` takes tensors.

    A network that is bf16_safe runs in bf16, channels last, where the processor multiplies it.
    """

    def __init__(self, network: nn.Module, tile: int = 0):
        super().__init__(network.merge() if isinstance(network, Attentive) else network, tile)
        self.bf16 = bool(getattr(network, "bf16_safe", False)) and multiplies_bf16(self.device)
        if self.bf16:
            self.network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network; where the number of channels differs, on every channel separately as a grey image."""
        n, c, h, w = x.shape
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            if c == self.channels:
                return super().forward(x)
            planes = x.reshape(n * c, 1, h, w).expand(-1, self.channels, -1, -1).contiguous()
            return super().forward(planes).mean(1).reshape(n, c, self.scale * h, self.scale * w)

    def enlarge(self, x: Tensor) -> Tensor:
        """Enlarge x (N, C, h, w), float in [-1, 1]; returns (N, C, scale * h, scale * w) in [-1, 1] on the CPU."""
        (n, c, h, w), s = x.shape, self.scale
        result = torch.empty(n, c, s * h, s * w)
        for (left, top, right, bottom), y in self.tiles(lambda l, t, r, b: x[:, :, t:b, l:r].clone(), w, h):
            result[:, :, s * top : s * bottom, s * left : s * right] = y
        return result

    def apply_to_alpha(self, alpha: Image.Image) -> Image.Image:
        """Enlarge alpha "L" by the network, as a grey image, where it is not constant within ALPHA_REACH pixels."""
        result, s = super().apply_to_alpha(alpha), self.scale
        low, high = (alpha.filter(rank(2 * ALPHA_REACH + 1)) for rank in (ImageFilter.MinFilter, ImageFilter.MaxFilter))
        varies = ImageChops.difference(low, high).point([0] + [255] * 255)
        box = varies.getbbox()
        if not box:
            return result
        pixels = image_to_array(alpha)
        for (left, top, right, bottom), y in self.tiles(
            lambda l, t, r, b: array_to_tensor(pixels[t:b, l:r]), *alpha.size, box
        ):
            mask = varies.crop((left, top, right, bottom))
            mask = mask.resize((s * mask.width, s * mask.height), Image.Resampling.NEAREST)
            result.paste(to_pil(tensor_to_array(y, "L")), (s * left, s * top), mask)
        return result

    def __call__(self, image: Image.Image, progress: Progress = lambda pixels: None) -> Image.Image:
        """Enlarge an image to exactly `scale` times its width and height."""
        image = standardize(image)
        return self.apply(image, image.mode.removesuffix("A"), progress)


class Downscaled(nn.Module):
    """A network whose results are reduced by antialiased bicubic, from 4 times to 3 or 2.

    The filter adds less than one pixel of c to the receptive field, hence `halo` + 1.
    """

    z_dim, classes = 0, 0

    def __init__(self, network: nn.Module, scale: int):
        super().__init__()
        self.network, self.scale = network, scale
        self.channels, self.halo = int(network.channels), int(network.halo) + 1  # type: ignore[arg-type]
        self.bf16_safe = bool(getattr(network, "bf16_safe", False))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h, w = c.shape[2:]
        size = (self.scale * h, self.scale * w)
        return interpolate(self.network(z, c).clamp(-1, 1), size, mode="bicubic", antialias=True)


class Blended(nn.Module):
    """The weighted mean of two networks' images; without a second network, of one and bicubic.

    weight: of the first network, 0 to 1.
    """

    z_dim, classes = 0, 0

    def __init__(self, network: nn.Module, other: nn.Module | None, weight: float):
        super().__init__()
        self.network, self.other, self.weight = network, other, weight
        self.scale, self.channels = int(network.scale), int(network.channels)  # type: ignore[arg-type]
        networks = [network] if other is None else [network, other]
        self.halo = max(int(n.halo) for n in networks)  # type: ignore[arg-type]
        self.bf16_safe = all(getattr(n, "bf16_safe", False) for n in networks)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        other = enlarge(c, self.scale) if self.other is None else self.other(z, c)
        return self.weight * self.network(z, c) + (1 - self.weight) * other


class SpandrelModel(nn.Module):
    """A model of the `spandrel` package, whose images are in [0, 1], as a network of ours."""

    z_dim, classes = 0, 0

    def __init__(self, descriptor: Any):
        super().__init__()
        self.descriptor = descriptor
        self.model = descriptor.model  # registered as a submodule, so that .to() and parameters() find it
        self.scale, self.channels = int(descriptor.scale), int(descriptor.input_channels)
        self.halo = SPANDREL_HALO if descriptor.tiling.name == "SUPPORTED" else WHOLE_IMAGE

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        # The descriptor pads to sizes that its model takes, crops the result, and takes one image at a time.
        return torch.cat([self.descriptor((x[None] + 1) / 2) for x in c]) * 2 - 1


def load_upscaler(
    ckpt: str | Path = "",
    style: str = "faithful",
    scale: int = 4,
    device: torch.device | str = "cpu",
    tile: int = 0,
    strength: float = 1,
) -> Upscaler:
    """Load an upscaler of a scale of 2, 3 or 4.

    Args:
        ckpt: "" for the bundled network of a style; a gan checkpoint, run folder or "latest"; or a community model,
            .safetensors or .pth.
        strength: 0 to 1, of the style next to faithful, and of faithful next to bicubic.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale} is not one of 2, 3, 4; for more, run gan upscale again on its result")
    if not str(ckpt):
        return Upscaler(blended_network(style, scale, strength).to(device), tile)
    if strength != 1:
        raise ValueError(f"strength={strength} is for the bundled styles; leave it out, or ckpt=")
    path = find(ckpt)
    foreign = path.suffix.lower() == ".pth" or (path.suffix.lower() == ".safetensors" and not is_checkpoint(path))
    network = read_spandrel(path) if foreign else load(path, command="upscale").network
    if network.scale != scale:
        typed = f"type scale={network.scale}" if network.scale in SCALES else "gan upscale enlarges 2, 3 or 4 times"
        raise ValueError(f"{path} enlarges {network.scale} times, but scale={scale}; {typed}")
    return Upscaler(network.to(device), tile)


def bundled_network(style: str, scale: int) -> nn.Module:
    """Return the bundled network of a style and a scale; without one, that of 4 times is scaled down."""
    check_choice("style", style, STYLES)
    for available in (scale, 4):
        for path in weights_of(style, available):
            network = load(verified(path)).network
            return network if available == scale else Downscaled(network, scale)
    raise ValueError(f"the weights of style={style} are missing from this installation; install gancli again")


def weights_of(style: str, scale: int) -> list[Path]:
    """Return the files of bundled weights of a style and a scale."""
    return sorted(WEIGHTS.glob(f"sr_*-x{scale}-{style}.safetensors"))


def blended_network(style: str, scale: int, strength: float) -> nn.Module:
    """Return a bundled network blended with that of faithful, or faithful blended with bicubic."""
    check_number("strength", strength, 0, 1, example=0.5)
    network = bundled_network(style, scale)
    if strength == 1:
        return network
    return Blended(network, None if style == "faithful" else bundled_network("faithful", scale), strength)


def read_spandrel(path: Path) -> nn.Module:
    """Return a community model that the `spandrel` package knows. No code in the file is run."""
    if not path.is_file():
        raise ValueError(f"there is no model {path}; type ckpt=FILE, or leave ckpt= out")
    try:
        import spandrel
    except ImportError:
        advice = "to read models of other programs type pip install 'gancli[spandrel]'"
        raise ValueError(f"{path} was not written by gan; {advice}") from None
    # spandrel reads .pth by its own unpickler; torch's weights_only is stricter.
    try:
        is_pth = path.suffix.lower() == ".pth"
        if is_pth and zipfile.is_zipfile(path):
            check_size(path, sum(entry.file_size for entry in zipfile.ZipFile(path).infolist()))
        with limited_memory(BUILT * path.stat().st_size + SPARE):
            state = torch.load(path, map_location="cpu", weights_only=True) if is_pth else load_file(path)
            check_size(path, sum(x.numel() * x.element_size() for x in tensors_of(state)))
            model = spandrel.ModelLoader().load_from_state_dict(spandrel.canonicalize_state_dict(state))
    except Exception as error:  # an untrusted file can fail in any way
        raise ValueError(f"{path} is not a model that spandrel knows: {one_line(error, 200)}") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != model.output_channels:
        raise ValueError(f"{path} does not turn images into images of the same channels; type another ckpt=")
    return SpandrelModel(model)


def tensors_of(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts; ValueError for a tensor without ordinary memory."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.device.type != "cpu":
            raise ValueError("it holds a tensor that is not stored in full")
        yield value
    elif isinstance(value, dict) and depth < 5:
        for inner in value.values():
            yield from tensors_of(inner, depth + 1)


def check_size(path: Path, needed: int) -> None:
    """Raise ValueError where a file would take more memory than it holds: compressed, or one number repeated."""
    if needed > 1.1 * path.stat().st_size + 10**6:
        raise ValueError(f"it would take {needed / 1e9:.1f} GB of memory, more than the file holds")
