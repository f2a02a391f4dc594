"""The one way in which image files are opened, turned upright and brought to sRGB.

This module does not import torch.
"""

import functools
import io
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile

from gancli.runtime.text import one_line

# Pillow starts other programs for some formats, such as Ghostscript for PostScript: only these are ever tried.
# The first ones are those that Pillow loads at once.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF", "TGA")
# Damaged metadata are dropped, which results say in one sentence; Pillow's own remarks would name its source lines.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
ORIENTATION = 0x0112  # the EXIF tag
TRANSPOSES = {
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM},
    **{5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270},
    **{7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90},
}
PROFILE_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # colour space of an ICC profile: Pillow's mode
TWELVE_BITS, BITS = 2**12 - 1, "bits"
SAME = 2  # grey levels by which a profile may differ from sRGB and still be taken for it


class BadImage(ValueError):
    """Reason why an image file cannot be used, without its path, such as "is empty"."""


def open_image(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """Open an image of one of FORMATS, or HEIC with pillow-heif, without decoding it. Raises BadImage."""
    # A link to nothing, a closed folder, or a pipe that would block for ever.
    if isinstance(source, Path) and not os.path.isfile(source):  # noqa: PTH113  it raises nothing
        raise BadImage("is not a file that can be opened")
    try:
        return Image.open(source, formats=FORMATS)
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise BadImage(f"has more than the {most:,} pixels that Pillow opens; cut it into parts first") from None
    except Image.UnidentifiedImageError:
        return _open_unidentified(source)
    except OSError as error:
        raise BadImage(error.strerror or one_line(error, 200)) from error
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        raise BadImage(one_line(error, 200)) from error


def _open_unidentified(source: Path | BinaryIO) -> ImageFile.ImageFile:
    """Open a HEIC file with pillow-heif; BadImage says what is missing."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            start = file.read(64)
    else:
        source.seek(0)
        start = source.read(64)
        source.seek(0)
    if not start:
        raise BadImage("is empty")
    if start[4:8] != b"ftyp":
        raise BadImage("is not an image that Pillow knows")
    if b"avif" in start:
        raise BadImage("is a damaged AVIF image, or Pillow is older than 11.3; type pip install -U pillow")
    if not any(brand in start for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1")):
        raise BadImage("is a film or another file, and not an image that Pillow knows")
    try:
        import pillow_heif
    except ImportError:
        raise BadImage("is a HEIC image; to read those type pip install 'gancli[heif]'") from None
    pillow_heif.register_heif_opener()
    try:
        return Image.open(source, formats=("HEIF",))
    except Exception as error:  # as above
        raise BadImage("is a HEIC image that pillow-heif cannot read; it is damaged") from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, and 1 where it is missing or damaged: that must not fail the image."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata can fail in any way inside Pillow
        return 1
    return value if isinstance(value, int) and value in TRANSPOSES else 1


def upright(image: Image.Image) -> Image.Image:
    """Return a decoded image as its EXIF says that it is to be seen."""
    method = TRANSPOSES.get(orientation(image))
    return image if method is None else image.transpose(method)


def lost_in_decoding(image: ImageFile.ImageFile) -> list[str]:
    """Return what Pillow leaves out of an image that is open and not decoded yet."""
    lost = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # MPO: a photo with its preview
        lost.append("has several frames; only the first was used")
    # The raw mode that Pillow decodes. It has no mode for 16 bits in several channels and keeps the upper 8.
    deep = not image.mode.startswith("I") and ";16" in "".join(str(tile[3]) for tile in image.tile)
    bits = 16 if deep else image.info.get("bit_depth", 8)  # of HEIC
    if bits > 8:
        lost.append(f"has {bits} bits per channel and was read with 8; 16 are supported for grey images only")
    return lost


def sixteen_bits(image: Image.Image) -> tuple[Image.Image, str]:
    """Return decoded grey of more than 8 bits as "I;16" with the range 0 to 65,535, and what was done to it.

    Cameras store 12 bits in the lower ones of 16: values up to 4,095 are spread over the range, once, which `info` says
    under BITS. Raises BadImage.
    """
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        problem = f"32-bit values from {low} to {high} have no known range, only 0 to 65535 has"
        raise BadImage(f"{problem}; save the image with 8 or 16 bits")
    note = ""
    if 0 < high <= TWELVE_BITS and BITS not in image.info:
        values = (values.astype(np.uint32) * 65535 + TWELVE_BITS // 2) // TWELVE_BITS
        note = "has 16 bits but no value above 4,095, and was read as 12 bits"
    result = image if image.mode == "I;16" and not note else Image.fromarray(values.astype(np.uint16))
    result.info = {**image.info, **({BITS: 12} if note else {})}
    return result, note


def profile_note(done: str) -> str:
    """Return a sentence about what `to_srgb` did; empty for nothing."""
    return {
        "converted": "was converted to sRGB by its ICC profile",
        "damaged": "its ICC profile is damaged, or not for its colours, and was dropped",
    }.get(done, "")


def to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert an image by its ICC profile to sRGB.

    Returns:
        The image, "RGB" for "CMYK" and otherwise of its mode, and what was done: "" for nothing, "converted", or
        "damaged" where the profile cannot be used.
    """
    profile = image.info.get("icc_profile")
    base = {"1": "L", "LA": "L", "I;16": "L", "RGBA": "RGB"}.get(image.mode, image.mode)
    if not isinstance(profile, bytes) or not profile or base not in ("L", "RGB", "CMYK"):
        return image, ""
    try:
        transform = _transform(profile, base)
    except (ImageCms.PyCMSError, OSError):  # a damaged profile, or one of other colours
        return image, "damaged"
    if transform is None or image.mode == "1":  # black and white stay as they are
        return image, ""
    if isinstance(transform, tuple) and image.mode == "I;16":
        levels = np.interp(np.arange(65536) / 257, np.arange(256), transform)
        result = Image.fromarray((levels * 257).round().astype(np.uint16)[np.asarray(image)])
    elif isinstance(transform, tuple):
        grey = image.getchannel("L") if image.mode == "LA" else image
        result = grey.point(list(transform))
    else:
        colours = image.convert("RGB") if image.mode == "RGBA" else image
        converted = ImageCms.applyTransform(colours, transform)
        assert converted is not None  # None is for inPlace=True
        result = converted
    if image.mode.endswith("A"):
        result.putalpha(image.getchannel("A"))
    return result, "converted"


@functools.lru_cache(16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | tuple[int, ...] | None:
    """Return how a profile's colours become sRGB: a transform, of grey a table; None where they are sRGB already."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = PROFILE_MODES.get(source.profile.xcolor_space.strip(), "")
    if space != mode and (space, mode) != ("RGB", "L"):
        raise ImageCms.PyCMSError(f"a profile of {space or 'other'} colours in an image of mode {mode}")
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), space, "RGB")
    if mode == "L":
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        grey = ImageCms.applyTransform(ramp.convert(space), transform)
        assert grey is not None
        table = np.asarray(grey.convert("L"))[0].astype(int)
        return None if np.abs(table - np.arange(256)).max() <= SAME else tuple(table.tolist())
    if mode == "RGB":
        cube = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), 3).reshape(18 * 18, 18, 3)
        probe = ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(cube)), transform)
        if np.abs(np.asarray(probe).astype(int) - cube).max() <= SAME:
            return None
    return transform
