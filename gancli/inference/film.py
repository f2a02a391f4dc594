"""Films of generated images: a walk from image to image that ends where it began, and the files of frames."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gancli import images
from gancli.checkpoint.rebuild import BLOCK
from gancli.inference.animation import Timing, write_gif, write_webp
from gancli.inference.generator import Generator, Latents, slerp
from gancli.inference.video import check_video, write_video
from gancli.runtime.checks import check_number
from gancli.runtime.files import write_atomically

VIDEOS = (".mp4", ".webm")
FORMATS = (".gif", ".webp", *VIDEOS)
FRAME_MS = 40  # 25 frames a second
SMALLEST, LARGEST = 256, 4096  # pixels of a frame's width: what small ones are enlarged to, and what may be typed


def check_film(path: Path, size: int) -> None:
    """Raise ValueError where a film cannot be written, or not with frames of this width; 0 leaves it to the images."""
    check_number("size", size, 0, LARGEST, example=512)
    if path.suffix.lower() in VIDEOS:
        check_video(path)


def ease(t: float) -> float:
    """Return a time in [0, 1] that begins and ends slowly, as the walk of a play page does."""
    return t * t * (3 - 2 * t)


def walk(G: Generator, stops: Latents, frames: int) -> Iterator[Tensor]:
    """Yield the images (walks, C, H, W) of each frame of some walks that are shown together, uint8; points stay floats.

    Each walk goes along the arc of z from stop to stop and back to the first; `frames` is from each to the next. The
    last frame is the first one itself, so that a film has n * frames + 1.

    Args:
        stops: z (walks, n, z_dim) and c (walks, n, classes).
    """
    z, c = stops
    n = z.shape[1]
    together = max(1, BLOCK // len(z))
    first = None
    for start in range(0, n * frames, together):
        points = [_point(z, c, *divmod(i, frames), frames) for i in range(start, min(start + together, n * frames))]
        x = G.generate(*(torch.cat(part) for part in zip(*points)))
        for frame in (x if images.is_points(x) else images.to_uint8(x)).split(len(z)):
            first = frame if first is None else first
            yield frame
    assert first is not None  # there are two stops or more
    yield first


def _point(z: Tensor, c: Tensor, stop: int, frame: int, frames: int) -> Latents:
    """Return the latents (walks, ...) of a frame after a stop."""
    t, after = ease(frame / frames), (stop + 1) % z.shape[1]
    return slerp(z[:, stop], z[:, after], t), (1 - t) * c[:, stop] + t * c[:, after]


def write_film(path: Path, frames: Iterator[Tensor], n: int, size: int = 0) -> None:
    """Write n frames as a film in the format of the path's suffix, which plays again and again where it can.

    Args:
        frames: images (N, C, H, W) of each frame, arranged near a square.
        size: width of a frame in pixels; 0: that of the images, small ones enlarged.
    """
    grids = (scaled(images.grid(x), size) for x in frames)

    def write(partial: Path) -> None:
        if partial.suffix.lower() in VIDEOS:
            write_video(partial, grids, n, FRAME_MS)
            return
        with partial.open("wb") as file:
            timing = Timing([FRAME_MS] * n, plays=0, alpha=False)
            if partial.suffix.lower() == ".gif":
                write_gif(file, grids, timing)
            else:
                write_webp(file, (grid.convert("RGB") for grid in grids), timing, {"quality": 90})

    write_atomically(path, write)


def scaled(image: Image.Image, size: int) -> Image.Image:
    """Return an image `size` pixels wide; 0: as it is, or enlarged by a whole factor to SMALLEST or more.

    Pixels are enlarged as squares; what is left to a width that is no multiple is scaled smoothly.
    """
    factor = math.ceil((size or SMALLEST) / image.width)
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    if not size or image.width == size:
        return image
    height = max(1, round(image.height * size / image.width))
    return image.resize((size, height), Image.Resampling.LANCZOS)
