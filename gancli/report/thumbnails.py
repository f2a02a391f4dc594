"""Images as data URIs, small enough to embed many of them in one page."""

import base64
import io
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gancli.data.decoder import BadImage
from gancli.data.image_files import decode_image

LARGEST_PNG = 32_000  # bytes; a larger one is stored as WebP


class Thumbnail(NamedTuple):
    uri: str
    width: int
    height: int


def thumbnail(path: Path, width: int) -> Thumbnail | None:
    """Return an image at most `width` pixels wide, a small one enlarged by a whole factor; None if it is unreadable."""
    try:
        return _encode(path, width, path.stat().st_mtime_ns)
    except (OSError, BadImage):
        return None


@lru_cache(maxsize=80)
def _encode(path: Path, width: int, changed: int) -> Thumbnail:
    # A run rewrites its page after every grid. With the cache, only the new grid is encoded.
    image, info = decode_image(path)
    size = image.size
    if size[0] > width:
        size = (width, max(1, round(size[1] * width / size[0])))
        image = image.resize(size, Image.Resampling.LANCZOS)
    elif (factor := width // size[0]) > 1:
        size = (factor * size[0], factor * size[1])
        image = image.resize(size, Image.Resampling.NEAREST)
    elif info.format == "PNG" and path.stat().st_size <= LARGEST_PNG:
        return Thumbnail(_data_uri(path.read_bytes(), "png"), *size)
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=85, method=3)
    return Thumbnail(_data_uri(buffer.getvalue(), "webp"), *size)


def _data_uri(data: bytes, format_name: str) -> str:
    return f"data:image/{format_name};base64,{base64.b64encode(data).decode()}"
