"""Pictures enlarged by a super-resolution network: any Pillow mode, any size, tile by tile.

    upscaler = load(style="faithful", scale=4)  # the bundled network; ckpt= takes one of yours
    large = upscaler(Image.open("photo.jpg"))   # exactly 4 times as wide and as high

Such a network G(z, c) has z of width zero and the small pictures as c, float (N, C, h, w) in [-1, 1], and gives
(N, C, scale * h, scale * w). Beside `z_dim` and `classes` it has `scale`, `channels` (3, or 1) and `reach`, the radius
of its receptive field in pixels of c: a tile that is computed with so many pixels around it equals the whole.
"""

import contextlib
import functools
import io
import itertools
import json
import math
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.overrides import TorchFunctionMode

from gancli import checkpoint, images
from gancli.config import choose_device, nearest
from gancli.machine import free_memory
from gancli.networks.sr import SCALES

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom not included

WEIGHTS = Path(__file__).resolve().parent / "weights"
STYLES = ("faithful", "sharp")
FLOOR = 32  # the smallest edge of a tile that is tried when memory runs out
WHOLE = 1 << 30  # the reach of a network whose tiles never equal the whole
# A tile's activations at most. Larger tiles are no faster on a CPU; on a GPU these fill it.
MOST_BYTES = {"cpu": 0.4e9, "cuda": 4e9, "mps": 1e9}
SAFETY = 2.0  # of the bytes measured: convolutions need room of their own, which no tensor shows

ORIENTATION = 0x0112
EXIF_FOLDER = 0x8769  # the part of EXIF that says how the picture was taken
SIZE_TAGS = {0x0100: 0, 0x0101: 1}  # tag: of width or height
EXIF_SIZE_TAGS = {0xA002: 0, 0xA003: 1}
# Tags that say how a TIFF file lays out its own pixels, and are wrong of any other.
LAYOUT_TAGS = {
    *(tag for tag in (*range(254, 270), 273, 274, *range(277, 282), 284) if tag not in SIZE_TAGS),
    *(*range(288, 294), 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675),
}


class Note(UserWarning):
    """Something of a picture that its result does not have."""


class Upscaler:
    """A super-resolution network put to use: `enlarge` for tensors, a call for a PIL picture.

    tile: the edge of a tile in pixels of the small picture; 0 chooses it from the memory there is.
    """

    def __init__(self, network: nn.Module, tile: int = 0):
        if tile < 0:
            raise ValueError(f"tile is the edge of a tile in pixels, but tile={tile}; type tile=256, or leave it out")
        self.network = network.eval().requires_grad_(False)
        self.tile = tile
        self.scale, self.channels, self.reach = int(network.scale), int(network.channels), int(network.reach)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.empty(0)).device

    def enlarge(self, x: Tensor) -> Tensor:
        """x (N, C, h, w), float in [-1, 1], to (N, C, scale * h, scale * w) in [-1, 1] on the CPU.

        Where C is not the network's own, every plane is enlarged by itself, as a grey picture.
        """
        (n, c, h, w), s = x.shape, self.scale
        result = torch.empty(n, c, s * h, s * w)
        for (left, top, right, bottom), y in self._tiles(lambda l, t, r, b: x[:, :, t:b, l:r], w, h):
            result[:, :, s * top : s * bottom, s * left : s * right] = y
        return result

    def __call__(self, picture: Image.Image, progress: Callable[[int], object] = lambda pixels: None) -> Image.Image:
        """A picture of any mode, enlarged, upright, as "L", "LA", "RGB", "RGBA" or "I;16" (16-bit grey stays so).

        Its ICC profile, EXIF and dpi are in the result's `info`. A `Note` is warned of what was lost. `progress` is
        told of each tile how many pixels of `picture` it has. ValueError where the picture cannot be enlarged.
        """
        picture, s = plain(picture), self.scale
        alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
        pixels = np.array(picture).reshape(picture.height, picture.width, -1)
        if alpha:
            pixels = bled(pixels[..., :-1], pixels[..., -1])

        def read(left: int, top: int, right: int, bottom: int) -> Tensor:
            return images.to_float(torch.from_numpy(pixels[top:bottom, left:right]).permute(2, 0, 1)[None])

        stored = images.to_uint16 if picture.mode == "I;16" else images.to_uint8
        # Each tile goes straight into the result: of 200 megapixels there is memory for one copy, not for three.
        result = Image.new(picture.mode.removesuffix("A"), (s * picture.width, s * picture.height))
        for box, y in self._tiles(read, picture.width, picture.height):
            left, top, right, bottom = box
            tile = images.to_picture(stored(y)[0].permute(1, 2, 0).contiguous().numpy())
            result.paste(tile, (s * left, s * top))
            progress((right - left) * (bottom - top))
        if alpha:
            result.putalpha(enlarged_alpha(alpha, result.size))
        result.info = dict(picture.info)
        if exif := exif_of(picture, result.size):
            result.info["exif"] = exif
        return result

    def edge(self, width: int, height: int) -> int:
        """The edge of a tile for a picture of this size."""
        if self.reach >= max(width, height):  # a tile would need all of the picture around it
            return max(width, height)
        if self.tile:
            return self.tile
        # A tile shorter than some four times its margin would mostly compute margin.
        most = max(MOST_BYTES.get(self.device.type, 1e9), self.bytes_per_pixel * (6 * self.reach) ** 2)
        most = min(most, free_memory(self.device) / 2)
        return max(FLOOR, int(math.sqrt(most / self.bytes_per_pixel)) - 2 * self.reach)

    @functools.cached_property
    def bytes_per_pixel(self) -> float:
        """What the network holds at most at a time for each pixel of c, measured on a small picture, with a margin.

        Infinite where there is not even memory for that; the smallest tiles are then tried.
        """
        side = 64
        try:
            x = torch.zeros(1, self.channels, side, side, device=self.device)
            with LiveBytes() as live, torch.no_grad():
                self.network(x.new_zeros(1, 0), x)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf
        return SAFETY * live.most / side**2

    def _tiles(
        self, read: Callable[[int, int, int, int], Tensor], width: int, height: int
    ) -> Iterator[tuple[Box, Tensor]]:
        """Every tile's box of the small picture and its pixels, (N, C, ...) in [-1, 1] on the CPU.

        read(left, top, right, bottom): that part of the small picture, (N, C, bottom - top, right - left) in [-1, 1].
        Where memory runs out the tile is halved and made anew, and those after it are as small.
        """
        edge = self.edge(width, height)
        waiting: list[Box] = [(0, 0, width, height)]
        while waiting:
            box = waiting.pop()
            longest = max(box[2] - box[0], box[3] - box[1])
            if longest > edge:
                waiting += reversed(parts(box, edge))
                continue
            try:
                y = self._tile(read, box, width, height)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                yield box, y
                continue
            # Only here is the error gone, and with it what the network still held.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            edge = longest // 2
            if edge < FLOOR:
                raise ValueError(
                    f"memory ran out on a tile of {longest} pixels, and smaller ones are not tried; "
                    f"close other programs, or type device=cpu"
                )
            waiting.append(box)

    @torch.no_grad()
    def _tile(self, read: Callable[[int, int, int, int], Tensor], box: Box, width: int, height: int) -> Tensor:
        """One tile, computed with `reach` pixels around it, but for those beyond the picture's border."""
        (left, top, right, bottom), s = box, self.scale
        l, t = max(0, left - self.reach), max(0, top - self.reach)
        x = read(l, t, min(width, right + self.reach), min(height, bottom + self.reach)).contiguous().to(self.device)
        n, c, h, w = x.shape
        if c != self.channels:
            x = x.reshape(n * c, 1, h, w).expand(-1, self.channels, -1, -1).contiguous()
        y = self.network(x.new_zeros(len(x), 0), x)
        if c != self.channels:
            y = y.mean(1).reshape(n, c, s * h, s * w)
        y = y[..., s * (top - t) : s * (bottom - t), s * (left - l) : s * (right - l)]
        if not y.isfinite().all():
            raise ValueError("the network gave values that are no numbers, so nothing is written; type another ckpt=")
        return y.clamp(-1, 1).cpu()


def parts(box: Box, edge: int) -> list[Box]:
    """The box in rows and columns of boxes as equal as can be, none longer than `edge`."""
    left, top, right, bottom = box

    def cuts(start: int, end: int) -> list[tuple[int, int]]:
        n = -(-(end - start) // edge)
        at = [start + (end - start) * i // n for i in range(n + 1)]
        return list(itertools.pairwise(at))

    return [(l, t, r, b) for t, b in cuts(top, bottom) for l, r in cuts(left, right)]


def is_out_of_memory(error: Exception) -> bool:
    """On the CPU, and on a Mac's GPU, torch says so with a plain RuntimeError."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator" in said or "out of memory" in said
    )


class LiveBytes(TorchFunctionMode):
    """Within it, `most` is the largest sum of bytes of the tensors that were alive at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[weakref.ref[Tensor]] = []
        self.most = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        several = given if isinstance(given, tuple | list) else [given]
        self.made += [weakref.ref(x) for x in several if isinstance(x, Tensor)]
        alive = [x for ref in self.made if (x := ref()) is not None]
        storages = [x.untyped_storage() for x in alive]
        self.made = [weakref.ref(x) for x in alive]
        # By address: a view shares the storage of what it is a view of.
        self.most = max(self.most, sum({s.data_ptr(): s.nbytes() for s in storages}.values()))
        return given


# --- pictures: every mode to five, and what goes with the pixels -------------------------------------------------


def plain(picture: Image.Image) -> Image.Image:
    """A picture as "L", "LA", "RGB", "RGBA" or "I;16", turned upright; in its `info` icc_profile, exif and dpi alone.

    A `Note` is warned of what it loses. ValueError for values without a known range.
    """
    picture.load()  # what is wrong with the pixels is an error; what is wrong with metadata is not
    kept: dict[str | tuple[int, int], Any] = {}  # as Pillow types it
    if isinstance(profile := picture.info.get("icc_profile"), bytes) and profile:
        kept["icc_profile"] = profile
    with contextlib.suppress(TypeError, ValueError):
        across, down = (float(side) for side in picture.info.get("dpi", ()))
        if 0 < across < math.inf and 0 < down < math.inf:
            kept["dpi"] = (across, down)
    if exif := exif_of(picture):
        kept["exif"] = exif
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # damaged metadata can fail in any way inside Pillow
        note("its EXIF could not be read and was left out")
        upright = picture
    if picture.mode.startswith("I") and "transparency" in picture.info:
        note("one of its grey values was transparent and is not any more: Pillow has no alpha beside 16 bits")
    upright = standard(upright)
    if picture.mode in ("CMYK", "LAB"):
        kept.pop("icc_profile", None)
        note(f"was {picture.mode} and is sRGB now, without its ICC profile if it had one")
    if upright is picture:
        upright = picture.copy()
    upright.info = kept
    return upright


def standard(picture: Image.Image) -> Image.Image:
    """Any mode to "L", "LA", "RGB", "RGBA" or "I;16"."""
    mode = picture.mode
    if mode == "F":
        raise ValueError("has floating-point values, which have no known range; save it with 8 or 16 bits")
    if mode == "I" or mode.startswith("I;16"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(
                f"has 32-bit values from {values.min()} to {values.max()}, and only those from 0 to 65535 have a known "
                f"range; save it with 16 bits"
            )
        return picture if mode == "I;16" else Image.fromarray(values.astype(np.uint16))
    if mode == "CMYK" and (profile := picture.info.get("icc_profile")):
        with contextlib.suppress(ImageCms.PyCMSError, OSError, TypeError):  # a profile that is damaged, or of RGB
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None  # it is not done in place
            return converted
    grey = mode in ("1", "L", "LA", "La")
    wanted = ("L" if grey else "RGB") + ("A" if picture.has_transparency_data else "")
    return picture if mode == wanted else picture.convert(wanted)


def exif_of(picture: Image.Image, size: tuple[int, int] = (0, 0)) -> bytes:
    """A picture's EXIF without its orientation, of a picture of `size`, where that is given; empty without any.

    Nothing that is wrong with metadata fails a picture: b"" where it cannot be read.
    """
    with contextlib.suppress(Exception):
        exif = picture.getexif()
        copy = Image.Exif()
        copy.load(exif.tobytes())
        for tag in LAYOUT_TAGS & {*copy}:
            del copy[tag]
        for tags, found in ((SIZE_TAGS, copy), (EXIF_SIZE_TAGS, copy.get_ifd(EXIF_FOLDER))):
            for tag in tags.keys() & {*found} if all(size) else ():
                found[tag] = size[tags[tag]]
        return copy.tobytes() if len(copy) else b""
    return b""


def note(text: str) -> None:
    warnings.warn(text, Note, stacklevel=3)


def enlarged_alpha(alpha: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An alpha channel by bicubic, which Pillow clips where it overshoots; one that is the same everywhere stays so."""
    low, high = alpha.getextrema()
    if low == high:
        return Image.new("L", size, low)
    return alpha.resize(size, Image.Resampling.BICUBIC)


def bled(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours uint8 (H, W, C) with those around in the place of what is wholly transparent, by alpha uint8 (H, W).

    Under alpha 0 a file holds any colour, often black, which a network would spread into what is seen: a dark fringe.
    """
    if alpha.min() > 0 or alpha.max() == 0:
        return np.ascontiguousarray(colours)
    x = images.to_float(torch.from_numpy(colours.copy()).permute(2, 0, 1)[None])
    weight = torch.from_numpy(alpha.astype(np.float32))[None, None]
    return images.to_array(_filled(x, weight))[0]


def _filled(x: Tensor, weight: Tensor) -> Tensor:
    """x (1, C, H, W) where weight (1, 1, H, W) is above zero, elsewhere from half the size: pull, then push."""
    known = weight > 0
    if known.all():
        return x
    share = avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    coarse = avg_pool2d(x * weight, 2, ceil_mode=True, count_include_pad=False) / share.clamp_min(1e-30)
    return torch.where(known, x, interpolate(_filled(coarse, share), x.shape[2:], mode="bilinear"))


# --- which network ------------------------------------------------------------------------------------------------


class Shrunk(nn.Module):
    """A network's pictures made smaller by antialiased bicubic: 4 times to 3 or to 2.

    Tile by tile as well: that filter reaches less than one small pixel, which `reach` adds.
    """

    def __init__(self, network: nn.Module, scale: int):
        super().__init__()
        self.network, self.scale = network, scale
        self.channels, self.reach = int(network.channels), int(network.reach) + 1  # type: ignore[arg-type]
        self.z_dim = self.classes = 0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        h, w = c.shape[2:]
        size = (self.scale * h, self.scale * w)
        return interpolate(self.network(z, c).clamp(-1, 1), size, mode="bicubic", antialias=True)


class Community(nn.Module):
    """A model of the `spandrel` package, whose pictures are in [0, 1], as a network of ours.

    What its architecture reaches is unknown; 32 pixels hide the seams of those whose tiles may be joined.
    """

    def __init__(self, descriptor: Any):
        super().__init__()
        self.descriptor = descriptor
        self.model = descriptor.model  # known as a part, so that device and parameters are found
        self.scale, self.channels = int(descriptor.scale), int(descriptor.input_channels)
        self.reach = 32 if descriptor.tiling.name == "SUPPORTED" else WHOLE
        self.z_dim = self.classes = 0

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        # The descriptor pads to the sizes its model takes, cuts the result, and wants one picture at a time.
        return torch.cat([self.descriptor((x[None] + 1) / 2) for x in c]) * 2 - 1


def load(
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
    path = checkpoint.find(ckpt)
    network = stored(path) if path.suffix.lower() in (".safetensors", ".pth") else trained(path)
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
            network = stored(path)
            return network if there == scale else Shrunk(network, scale)
    raise ValueError(f"no weights of style={style} came with this installation; type ckpt=FILE, or another style=")


def trained(path: Path) -> nn.Module:
    """The network of a gan checkpoint. ValueError where it is not one that enlarges."""
    network = checkpoint.load(path).network
    if not hasattr(network, "scale"):
        config = checkpoint.read(path)["config"]
        name = config.get("model", {}).get("name", "model") if isinstance(config, dict) else "model"
        raise ValueError(
            f"{path} is a {name}, which turns noise into images; gan upscale needs a super-resolution model: "
            f"leave ckpt= out, or train model=sr_compact"
        )
    return network


def stored(path: Path) -> nn.Module:
    """The network of a .safetensors file that says how it is built, else of a model of the community."""
    if not path.is_file():
        raise ValueError(f"there is no model {path}; type ckpt=FILE, or leave ckpt= out")
    if path.suffix.lower() == ".pth":
        return community(path)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            config = (file.metadata() or {}).get("network", "")
            state = {name: file.get_tensor(name).float() for name in file.keys()} if config else {}  # noqa: SIM118
        if not config:
            return community(path)
        return checkpoint.restore(json.loads(config), state)
    except (SafetensorError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged, or not a model: {str(error).splitlines()[0]}") from error


def community(path: Path) -> nn.Module:
    """A model of the community, by the `spandrel` package. The file is opened without running code from it."""
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
    return Community(model)


def upscale(image: Image.Image, scale: int = 4, style: str = "faithful") -> Image.Image:
    """A PIL picture enlarged by the bundled network: exactly `scale` times (2, 3 or 4) as wide and as high."""
    return _kept(scale, style)(image)


@functools.lru_cache(maxsize=4)
def _kept(scale: int, style: str) -> Upscaler:
    return load(style=style, scale=scale, device=choose_device("auto"))
