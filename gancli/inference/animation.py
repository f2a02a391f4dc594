"""Animated GIF, WebP and PNG, read and written frame by frame: any number of frames takes the memory of one.

Pillow writes the stills. The files around them are made here, since Pillow keeps all frames until the last one.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from gancli.data.image_modes import standardize, warn
from gancli.runtime.files import write_atomically
from gancli.runtime.text import one_line

FORMATS = ("gif", "webp", "png")  # whose frames follow each other in time; those of TIFF are pages
OPAQUE = 128  # alpha from which a pixel of GIF, which has no half transparency, is opaque


class Timing(NamedTuple):
    """What is known of an animation before its pixels are computed.

    milliseconds: of every frame.
    plays: how often it runs, 0 for ever.
    alpha: whether some pixels are transparent in some frame.
    """

    milliseconds: list[int]
    plays: int
    alpha: bool


def is_animation(image: Image.Image) -> bool:
    """Return whether an open image has frames that follow each other in time."""
    return str(image.format).lower() in FORMATS and bool(getattr(image, "is_animated", False))


def positions(image: Any) -> range:
    """Return the frames' positions in the file; a PNG may begin with a still for programs without animation."""
    return range(int(getattr(image, "default_image", False)), image.n_frames)


def count(image: Image.Image) -> int:
    """Return the number of frames, 1 unless they follow each other in time; 2 where a damaged file does not tell."""
    if not is_animation(image):
        return 1
    try:
        return len(positions(image))
    except Exception:  # `frames` says why
        return 2


def frames(image: ImageFile.ImageFile) -> Iterator[Image.Image]:
    """Yield every frame, decoded; ValueError names the one that is damaged."""
    try:
        every = positions(image)
    except Exception as error:  # a damaged file can fail in any way inside Pillow
        raise ValueError(f"its frames are damaged: {one_line(error, 200)}") from error
    for n, position in enumerate(every, 1):
        try:
            image.seek(position)
            image.load()
        except Exception as error:  # as above
            raise ValueError(f"frame {n} of {len(every)} is damaged: {one_line(error, 200)}") from error
        yield image


def read_timing(image: ImageFile.ImageFile) -> Timing:
    """Decode all frames once, so that a damaged one is known before the first is computed."""
    milliseconds, alpha = [], False
    for frame in frames(image):
        milliseconds.append(max(0, round(float(frame.info.get("duration", 0)))))
        # Frames of WebP have an alpha channel, whether or not they need it.
        alpha = alpha or has_clear_pixels(frame)
    # GIF counts the repetitions, and without a count it runs once.
    plays = int(image.info.get("loop", -1 if image.format == "GIF" else 0))
    return Timing(milliseconds, plays + 1 if plays and image.format == "GIF" else plays, alpha)


def has_clear_pixels(frame: Image.Image) -> bool:
    """Return whether some pixels are transparent, more or less."""
    return frame.has_transparency_data and int(np.asarray(frame.convert("RGBA"))[..., 3].min()) < 255


def convert(
    image: ImageFile.ImageFile, path: Path, format: str, quality: int, model: Callable[[Image.Image], Image.Image]
) -> None:
    """Run a model on every frame of an open animation and write the result to `path`, which changes at the end alone.

    Args:
        format: gif, webp or png.
        quality: of webp, 1 to 100; 100 is lossless.
    """
    timing = read_timing(image)
    mode = "RGBA" if timing.alpha else "RGB"
    if any(key in image.info for key in ("exif", "xmp", "icc_profile")):
        warn("EXIF, XMP and ICC profile are not copied to an animation")

    def results() -> Iterator[Image.Image]:
        for frame in frames(image):
            result = model(standardize(frame)).convert(mode)
            result.info = {}
            yield result

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            if format == "webp":
                write_webp(file, results(), timing, {"quality": quality, "lossless": quality == 100})
            else:
                (write_gif if format == "gif" else write_png)(file, results(), timing)

    write_atomically(path, write)


def still(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# --- PNG: https://www.w3.org/TR/png-3/#apng-frame-based-animation --------------------------------------------------


def write_png(file: BinaryIO, images: Iterator[Image.Image], timing: Timing) -> None:
    """Write an animated PNG."""

    def write(name: bytes, content: bytes) -> None:
        checksum = zlib.crc32(name + content)
        file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum))

    sequence = 0
    for n, (image, milliseconds) in enumerate(zip(images, timing.milliseconds)):
        data = still(image, "PNG", compress_level=4)
        chunks = list(png_chunks(data))
        if n == 0:
            file.write(data[:8])
            write(b"IHDR", chunks[0][1])
            write(b"acTL", struct.pack(">II", len(timing.milliseconds), timing.plays))
        delay = (milliseconds, 1000) if milliseconds < 2**16 else (min(milliseconds // 10, 2**16 - 1), 100)
        # Each frame replaces the whole one before it.
        write(b"fcTL", struct.pack(">IIIIIHHBB", sequence, *image.size, 0, 0, *delay, 0, 0))
        pixels = b"".join(content for name, content in chunks if name == b"IDAT")
        write(*((b"fdAT", struct.pack(">I", sequence + 1) + pixels) if n else (b"IDAT", pixels)))
        sequence += 2 if n else 1
    write(b"IEND", b"")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a PNG file."""
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


# --- WebP: https://developers.google.com/speed/webp/docs/riff_container --------------------------------------------


def write_webp(file: BinaryIO, images: Iterator[Image.Image], timing: Timing, options: dict[str, Any]) -> None:
    """Write an animated WebP."""

    def write(name: bytes, content: bytes) -> None:
        file.write(name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2))

    def three(number: int) -> bytes:
        return struct.pack("<I", min(number, 2**24 - 1))[:3]

    for n, (image, milliseconds) in enumerate(zip(images, timing.milliseconds)):
        size = three(image.width - 1) + three(image.height - 1)
        if n == 0:
            file.write(b"RIFF\0\0\0\0WEBP")
            write(b"VP8X", struct.pack("<I", 0x02 | 0x10 * timing.alpha) + size)
            write(b"ANIM", struct.pack("<IH", 0, min(timing.plays, 2**16 - 1)))
        data = still(image, "WEBP", **options)
        pixels = b"".join(whole for name, whole in riff_chunks(data) if name in (b"ALPH", b"VP8 ", b"VP8L"))
        # 2: each frame replaces the whole one before it.
        write(b"ANMF", three(0) + three(0) + size + three(milliseconds) + b"\x02" + pixels)
    length = file.tell()
    file.seek(4)
    file.write(struct.pack("<I", length - 8))


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name of each chunk of a WebP file, and the whole chunk."""
    at = 12
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        end = at + 8 + length + length % 2
        yield data[at : at + 4], data[at:end]
        at = end


# --- GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt ----------------------------------------------------------


def write_gif(file: BinaryIO, images: Iterator[Image.Image], timing: Timing) -> None:
    """Write an animated GIF, in which each frame has 256 colours of its own."""
    for n, (image, milliseconds) in enumerate(zip(images, timing.milliseconds)):
        if n == 0:
            file.write(b"GIF89a" + struct.pack("<HH", *image.size) + b"\x70\0\0")
            if timing.plays != 1:
                file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", max(0, timing.plays - 1)) + b"\0")
        colours = to_palette(image)
        # A frame with transparent pixels is removed before the next one is drawn.
        flags = 0b1001 if timing.alpha else 0b0100
        delay = min(round(milliseconds / 10), 2**16 - 1)
        file.write(b"\x21\xf9\x04" + struct.pack("<BHB", flags, delay, 255 if timing.alpha else 0) + b"\0")
        palette = colours.getpalette() or []
        table = bytes(palette) + bytes(768 - len(palette))
        file.write(b"\x2c" + struct.pack("<HHHH", 0, 0, *image.size) + b"\x87" + table + coded_pixels(colours))
    file.write(b";")


def to_palette(image: Image.Image) -> Image.Image:
    """Return an image of 256 colours, or of 255 and 255 for transparent."""
    if image.mode == "L":  # its greys stay exact
        return image.convert("P")
    opaque = image.convert("RGB")
    if image.mode != "RGBA":
        return opaque.quantize(palette=opaque.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    colours = opaque.quantize(palette=opaque.quantize(255), dither=Image.Dither.FLOYDSTEINBERG)
    colours.paste(255, mask=image.getchannel("A").point([255] * OPAQUE + [0] * (256 - OPAQUE)))
    return colours


def coded_pixels(image: Image.Image) -> bytes:
    """Return the compressed pixels of a GIF file that Pillow writes, without its tables and its end."""
    data = still(image, "GIF", optimize=False, interlace=0)
    at = 13 + table_bytes(data[10])
    while data[at] != 0x2C:  # extensions come before the image: two bytes, then blocks up to one of no bytes
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    return data[at + 10 + table_bytes(data[at + 9]) : -1]


def table_bytes(flags: int) -> int:
    """Return the bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
