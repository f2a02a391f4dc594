"""Pictures of every Pillow mode made plain: five modes, upright, and what goes along with the pixels."""

import contextlib
import io
import math
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gancli import images

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


# --- their pixels -------------------------------------------------------------------------------------------------


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


def array_of(picture: Image.Image) -> np.ndarray:
    """The pixels of a plain picture, uint8 or uint16 (H, W, C)."""
    return np.array(picture).reshape(picture.height, picture.width, -1)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W, C) as what networks see, (1, C, H, W) in [-1, 1]."""
    return images.to_float(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def to_pixels(x: Tensor, mode: str) -> np.ndarray:
    """An image (1, C, H, W) in [-1, 1] as the pixels (H, W, C) of a picture of a mode, whose alpha does not count."""
    stored = images.to_uint16(x) if mode == "I;16" else images.to_uint8(x)
    return stored[0].permute(1, 2, 0).contiguous().numpy()


def inherit(result: Image.Image, picture: Image.Image) -> Image.Image:
    """The result with what goes along with the pixels of the plain picture that it was made of, in its `info`."""
    result.info = dict(picture.info)
    if exif := exif_of(picture, result.size):
        result.info["exif"] = exif
    return result


def is_grey(picture: Image.Image) -> bool:
    """Whether a plain picture shows no colour, however it is stored."""
    if not picture.mode.startswith("RGB"):
        return True
    red, green, blue = (np.asarray(picture.getchannel(name)) for name in "RGB")
    return bool((red == green).all() and (green == blue).all())
