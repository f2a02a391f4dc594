"""PIL images of every mode: converted to one of five, rotated upright, with their metadata and alpha."""

import contextlib
import math
import re
import warnings
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from gancli import images
from gancli.data.decoder import BITS, TWELVE_BITS, BadImage, profile_note, sixteen_bits, to_srgb, upright
from gancli.runtime.text import one_line

XMP_CHUNK = "XML:com.adobe.xmp"  # key of the text chunk of a PNG
EXIF_IFD = 0x8769  # the block of EXIF with exposure and date
IPTC_BLOCK, IPTC_TAG = 0x0404, 33723
SIZE_TAGS = {0x0100: 0, 0x0101: 1}  # tag: 0 holds the width, 1 the height
EXIF_SIZE_TAGS = {0xA002: 0, 0xA003: 1}
# Tags that describe the pixel layout of one TIFF file, and are wrong in any other.
LAYOUT_TAGS = {
    *(tag for tag in (*range(254, 270), 273, 274, *range(277, 282), 284) if tag not in SIZE_TAGS),
    *(*range(288, 294), 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675),
}
ROWS = 32  # of an image that are converted at a time


class ImageWarning(UserWarning):
    """Something of an input image is missing in the result."""


def warn(text: str) -> None:
    warnings.warn(text, ImageWarning, stacklevel=3)


def standardize(image: Image.Image) -> Image.Image:
    """Return an upright copy of mode "L", "LA", "RGB", "RGBA" or "I;16".

    Its `info` holds icc_profile, exif, dpi, xmp, comment, text and the quantization tables of a JPEG, as far as the
    image has them, and nothing else. An `ImageWarning` says what is lost. Raises ValueError for values without a known
    range (floating point, 32 bits), BadImage for pixels that cannot be read.
    """
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        raise BadImage(one_line(error, 200)) from error
    metadata: dict[str | tuple[int, int], Any] = {}  # the type that Pillow declares
    if isinstance(profile := image.info.get("icc_profile"), bytes) and profile:
        metadata["icc_profile"] = profile
    with contextlib.suppress(TypeError, ValueError):
        across, down = (float(value) for value in image.info.get("dpi", ()))
        if 0 < across < math.inf and 0 < down < math.inf:
            metadata["dpi"] = (across, down)
    if exif := read_exif(image):
        metadata["exif"] = exif
    metadata |= read_texts(image)
    if tables := getattr(image, "quantization", None) or image.info.get("quantization"):
        metadata["quantization"] = tables
    if image.mode.startswith("I") and "transparency" in image.info:
        warn("transparency was dropped: Pillow has no alpha channel for 16-bit grey")
    converted = convert(upright(image))
    if BITS in converted.info:
        metadata[BITS] = converted.info[BITS]
    result, done = to_srgb(converted)
    if done or image.mode in ("CMYK", "LAB"):
        metadata.pop("icc_profile", None)
    if image.mode in ("CMYK", "LAB"):
        warn(f"{image.mode} was converted to sRGB, and its ICC profile dropped")
    elif done:
        warn(profile_note(done))
    if has_iptc(image):
        warn("its IPTC data cannot be written and was dropped")
    if result.mode == "CMYK":
        result = result.convert("RGB")
    if result is image:
        result = image.copy()
    result.info = metadata
    return result


def convert(image: Image.Image) -> Image.Image:
    """Convert any mode to "L", "LA", "RGB", "RGBA" or "I;16"; leave "CMYK", which needs its profile."""
    mode = image.mode
    if mode == "F":
        raise ValueError("floating-point values have no known range; save the image with 8 or 16 bits")
    if mode == "I" or mode.startswith("I;16"):
        result, note = sixteen_bits(image)
        if note:
            warn(note)
        return result
    grey = mode in ("1", "L", "LA", "La")
    wanted = "CMYK" if mode == "CMYK" else ("L" if grey else "RGB") + ("A" if image.has_transparency_data else "")
    return image if mode == wanted else image.convert(wanted)


def read_exif(image: Image.Image, size: tuple[int, int] = (0, 0)) -> bytes:
    """Return an image's EXIF without orientation and layout tags; empty where it is missing or unreadable.

    `size`: width and height to state in it; (0, 0) leaves those as they are.
    """
    with contextlib.suppress(Exception):  # bad metadata must not fail an image
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
        for tag in LAYOUT_TAGS & {*exif}:
            del exif[tag]
        for tags, block in ((SIZE_TAGS, exif), (EXIF_SIZE_TAGS, exif.get_ifd(EXIF_IFD))):
            for tag in tags.keys() & {*block} if all(size) else ():
                block[tag] = size[tags[tag]]
        return exif.tobytes() if len(exif) else b""
    return b""


def has_iptc(image: Image.Image) -> bool:
    """Return whether a file has IPTC data: captions and rights, as news agencies write them."""
    blocks = image.info.get("photoshop")  # of a JPEG
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    return (isinstance(blocks, dict) and IPTC_BLOCK in blocks) or IPTC_TAG in tags


def read_texts(image: Image.Image) -> dict[str | tuple[int, int], Any]:
    """Return what an image has of xmp (bytes), comment (bytes) and text (a dict: the text chunks of a PNG)."""
    texts: dict[str | tuple[int, int], Any] = {}
    xmp = image.info.get("xmp") or image.info.get(XMP_CHUNK)
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "replace")
    if isinstance(xmp, bytes) and xmp:
        texts["xmp"] = re.sub(rb"(tiff:Orientation(?:=[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)  # the result is upright
    if isinstance(comment := image.info.get("comment"), bytes) and comment:
        texts["comment"] = comment
    chunks = getattr(image, "text", None) or image.info.get("text")  # of a file, or of a standardized image
    if isinstance(chunks, dict) and (chunks := {key: chunks[key] for key in chunks if key != XMP_CHUNK}):
        texts["text"] = chunks
    return texts


def copy_metadata(source: Image.Image, result: Image.Image) -> Image.Image:
    """Put the metadata of a standardized image into its result, with the result's size in the EXIF.

    Values that were spread from 12 to 16 bits become 12 bits again.
    """
    if BITS in source.info and result.mode == "I;16":
        values = (np.asarray(result).astype(np.uint32) * TWELVE_BITS + 32767) // 65535
        result = Image.fromarray(values.astype(np.uint16))
    of_pixels = (BITS, "quantization")  # of the source alone
    result.info = {key: value for key, value in source.info.items() if key not in of_pixels}
    if exif := read_exif(source, result.size):
        result.info["exif"] = exif
    return result


def is_grey(image: Image.Image) -> bool:
    """Return whether all pixels of a standardized image are grey, in whichever mode they are stored."""
    if not image.mode.startswith("RGB"):
        return True
    red, green, blue = (np.asarray(image.getchannel(name)) for name in "RGB")
    return bool((red == green).all() and (green == blue).all())


def image_to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of a standardized image, uint8 or uint16 (H, W, C)."""
    return np.array(image).reshape(image.height, image.width, -1)


def array_to_tensor(array: np.ndarray) -> Tensor:
    """Return pixels (H, W, C), uint8 or uint16, as float (1, C, H, W) in [-1, 1]."""
    return images.to_float(torch.from_numpy(array).permute(2, 0, 1)[None])


def tensor_to_array(x: Tensor, mode: str) -> np.ndarray:
    """Return an image (1, C, H, W) in [-1, 1] as pixels (H, W, C): uint16 for mode "I;16", else uint8."""
    convert, dtype = (images.to_uint16, np.uint16) if mode == "I;16" else (images.to_uint8, np.uint8)
    rows = x[0].permute(1, 2, 0)
    array = np.empty(rows.shape, dtype)
    for top in range(0, len(rows), ROWS):  # the floats between stay in the processor's cache
        array[top : top + ROWS] = convert(rows[top : top + ROWS]).numpy()
    return array


def fill_transparent(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replace the colours, uint8 (H, W, C), of pixels with alpha 0, uint8 (H, W), by those around them.

    Files hold any colour under alpha 0, often black. A network would spread it into visible pixels: a dark fringe.
    """
    if alpha.min() > 0 or alpha.max() == 0:
        return np.ascontiguousarray(colours)
    x = array_to_tensor(colours.copy())
    weight = torch.from_numpy(alpha.astype(np.float32))[None, None]
    return images.to_array(pull_push(x, weight))[0]


def pull_push(x: Tensor, weight: Tensor) -> Tensor:
    """Fill x (1, C, H, W) where weight (1, 1, H, W) is zero, from weighted means at half the size, recursively.

    Gortler et al. 1996, "The Lumigraph", https://doi.org/10.1145/237170.237200, section 3.4.
    """
    known = weight > 0
    if known.all():
        return x
    coarse_weight = avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
    coarse = avg_pool2d(x * weight, 2, ceil_mode=True, count_include_pad=False) / coarse_weight.clamp_min(1e-30)
    return torch.where(known, x, interpolate(pull_push(coarse, coarse_weight), x.shape[2:], mode="bilinear"))
