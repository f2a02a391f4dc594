"""Images in and out of the file commands: any format that Pillow reads to PNG, JPEG, WebP or TIFF."""

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gancli import images
from gancli.data.decoder import lost_in_decoding, open_image, sixteen_bits
from gancli.data.image_modes import XMP_CHUNK, standardize, warn
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.files import typed_path
from gancli.runtime.hardware import free_memory
from gancli.runtime.text import one_line

# Format: its suffixes, the first of which results get.
FORMATS = {"png": (".png",), "jpg": (".jpg", ".jpeg"), "webp": (".webp",), "tiff": (".tif", ".tiff")}
ALL_FORMATS = {**FORMATS, "gif": (".gif",)}  # that of animations, with 256 colours a frame
LONGEST_SIDE = {"jpg": 65_500, "webp": 16_383}
# Pillow holds a pixel of the result in 4 bytes and its alpha in one more; that of WebP is measured.
BYTES_PER_PIXEL = {"webp": 34}
TILE_MEMORY = 0.8e9  # bytes for the activations of a tile and for torch itself
# On photos level 4 takes a third of the time of zlib's default 6 for files 2 to 5 % larger.
PNG_LEVEL = 4
# Above this many pixels only runs of equal bytes are compressed: on photos half the time again, for files 1 % larger.
PNG_LARGE = 4_000_000


def output_format(out: str, format: str = "", quality: int = 100) -> str:
    """Return the key of ALL_FORMATS that out=FILE and format= ask for; "png" unless they say another."""
    check_number("quality", quality, 1, 100, example=95)
    chosen = {"jpeg": "jpg", "tif": "tiff"}.get(format.lower(), format.lower())
    if chosen:
        check_choice("format", chosen, ALL_FORMATS)
    if not names_file(out):
        return chosen or "png"
    named = format_of(Path(out))
    if not named:
        raise ValueError(f"out={out} is not a known format; type out=x.png, x.jpg, x.webp, x.tiff, or out=DIR/")
    if chosen and chosen != named:
        raise ValueError(f"out={out} contradicts format={format}; leave format= out")
    return named


def format_of(path: Path) -> str:
    """Return the key of ALL_FORMATS of a file's suffix, or an empty string."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in ALL_FORMATS.items() if suffix in suffixes), "")


def names_file(out: str) -> bool:
    """Return whether out= names a file and not a folder."""
    return bool(Path(out).suffix) and not out.endswith(("/", "\\")) and not typed_path(out).is_dir()


# --- reading ------------------------------------------------------------------------------------------------------


def read_image(path: Path, scale: int, format: str) -> Image.Image:
    """Read a standardized image; ValueError where a result `scale` times as large cannot be held."""
    with open_image(path) as file:
        check_size(file, scale, format)
        if format == "gif":
            raise ValueError("gif has 256 colours and is for animations in gan upscale or gan translate; type out=DIR/")
        for lost in lost_in_decoding(file):
            warn(lost)
        return standardize(file)


def check_size(image: Image.Image, scale: int, format: str) -> None:
    """Raise ValueError where the result exceeds what the format or the memory holds."""
    w, h = scale * image.width, scale * image.height
    becomes, smaller = ("becomes", "type a smaller scale=, or cut it") if scale > 1 else ("is", "cut it")
    if max(w, h) > LONGEST_SIDE.get(format, sys.maxsize):
        most = f"{format} holds at most {LONGEST_SIDE[format]:,} a side"
        raise ValueError(f"{becomes} {w:,} x {h:,} pixels, and {most}; type format=png")
    # 60 bytes per input pixel: Pillow's copies, the array, and floats of the colours where it is transparent.
    needed = w * h * BYTES_PER_PIXEL.get(format, 5) + image.width * image.height * 60 + TILE_MEMORY
    if needed > (free := free_memory()):
        memory = f"which needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} are free"
        raise ValueError(f"{becomes} {w:,} x {h:,} pixels, {memory}; {smaller} into parts first")


# --- writing ------------------------------------------------------------------------------------------------------


def reduce_to_format(image: Image.Image, format: str) -> Image.Image:
    """Return a standardized image as the format can hold it: JPEG has no alpha, JPEG and WebP have no 16 bits."""
    if format == "jpg" and image.mode in ("LA", "RGBA"):
        warn("transparency was replaced by white, as jpg has none; type format=png to keep it")
        white = Image.new("RGBA", image.size, "white")
        reduced = Image.alpha_composite(white, image.convert("RGBA")).convert(image.mode.removesuffix("A"))
    elif format in ("jpg", "webp") and image.mode == "I;16":
        warn(f"16 bits were reduced to 8, as {format} has no more; type format=png to keep them")
        values = np.asarray(sixteen_bits(image)[0]).astype(np.uint32)
        reduced = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    else:
        return image
    reduced.info = image.info
    return reduced


TEXTS = {"xmp": "XMP", "comment": "its comment", "text": "text chunks"}
LONGEST_TEXT = 65_000  # bytes of XMP or of a comment in a jpg


def texts_for(image: Image.Image, format: str) -> dict[str, Any]:
    """Return the options of Pillow's save for XMP, comment and text chunks; warn of what the format cannot hold."""
    texts = {key: image.info[key] for key in TEXTS if key in image.info}
    options: dict[str, Any] = {}
    if format == "png" and texts:
        chunks = PngInfo()
        for key, value in texts.pop("text", {}).items():
            chunks.add_text(key, value)
        if xmp := texts.pop("xmp", b""):
            chunks.add_itxt(XMP_CHUNK, xmp.decode("utf-8", "replace"))
        if comment := texts.pop("comment", b""):
            chunks.add_text("Comment", comment.decode("utf-8", "replace"))
        return {"pnginfo": chunks}
    for key in {"jpg": ("xmp", "comment"), "webp": ("xmp",)}.get(format, ()):
        if key in texts and (format != "jpg" or len(texts[key]) <= LONGEST_TEXT):
            options[key] = texts.pop(key)
    if texts:
        warn(f"{' and '.join(TEXTS[key] for key in texts)} cannot be written to {format}; type format=png to keep them")
    image.info.pop("comment", None)  # Pillow would write it
    return options


def write_image(image: Image.Image, path: Path, format: str, quality: int) -> None:
    """Write a standardized image and the metadata in its `info`, reduced to what the format can hold.

    Webp of quality 100 is lossless.
    """
    large = image.width * image.height > PNG_LARGE
    options: dict[str, dict[str, Any]] = {
        "png": {"format": "PNG", "compress_level": PNG_LEVEL, **({"compress_type": zlib.Z_RLE} if large else {})},
        "jpg": {"format": "JPEG", "quality": quality},
        "webp": {"format": "WEBP", "quality": quality, "lossless": quality == 100, "exact": quality == 100},
        "tiff": {"format": "TIFF"},  # uncompressed: Pillow cannot write EXIF into compressed files
    }
    image = reduce_to_format(image, format)
    metadata: dict[str, Any] = {key: image.info[key] for key in ("exif", "icc_profile", "dpi") if key in image.info}
    metadata |= texts_for(image, format)
    try:
        images.write(image, path, **options[format], **metadata)
    except (OSError, MemoryError):
        raise
    except Exception:
        if not metadata:
            raise
        # Bad metadata, such as too long for jpg, must not cost the image.
        warn(f"EXIF, ICC profile or dpi cannot be written to {format} and were dropped")
        image.info = {}
        images.write(image, path, **options[format])


def explain(error: Exception) -> str:
    """Return what went wrong with one image, in one line."""
    if isinstance(error, MemoryError):
        return "memory ran out; close other programs, cut the image into parts, or type a smaller scale="
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return one_line(error)
