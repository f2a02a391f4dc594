"""Videos, MP4 (H.264) and WebM (VP9), written frame by frame by PyAV or else by the ffmpeg program."""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

# The quantizer is fixed, so that equal frames that are keyframes are equal to the byte: a film may end as it began.
CODECS = {
    ".mp4": ("h264", {"qp": "18"}),
    ".webm": ("libvpx-vp9", {"b": "0", "crf": "18", "qmin": "18", "qmax": "18"}),
}
PROGRAM = {".mp4": ["-movflags", "+faststart"], ".webm": ["-c:v", "libvpx-vp9"]}  # options of ffmpeg


def check_video(path: Path) -> None:
    """Raise ValueError where nothing is installed that writes a video."""
    if not find_spec("av") and not shutil.which("ffmpeg"):
        raise ValueError(f"{path.name} needs PyAV or ffmpeg; type pip install 'gancli[video]', or out=x.gif for a GIF")


def write_video(path: Path, frames: Iterable[Image.Image], n: int, milliseconds: int) -> None:
    """Write n frames of one size, each for some milliseconds; the first and the last are keyframes."""
    check_video(path)
    (_write_by_pyav if find_spec("av") else _write_by_ffmpeg)(path, map(_even, frames), n, milliseconds)


def _even(frame: Image.Image) -> Image.Image:
    """Return a frame in colour with even sides, as the codecs need them: with a white column or row more."""
    even = Image.new("RGB", (frame.width + frame.width % 2, frame.height + frame.height % 2), "white")
    even.paste(frame, (0, 0))
    return even


def _write_by_pyav(path: Path, frames: Iterator[Image.Image], n: int, milliseconds: int) -> None:
    import av
    from av.video.frame import PictureType

    codec, options = CODECS[path.suffix.lower()]
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix.lower() == ".mp4" else {}) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(1000, milliseconds), options=options)
        for i, image in enumerate(frames):
            if i == 0:
                stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
            frame = av.VideoFrame.from_image(image)
            frame.pict_type = PictureType.I if i in (0, n - 1) else PictureType.NONE
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _write_by_ffmpeg(path: Path, frames: Iterator[Image.Image], n: int, milliseconds: int) -> None:
    first = next(frames)
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{first.width}x{first.height}", "-r", f"1000/{milliseconds}", "-i", "-", "-pix_fmt", "yuv420p"]
    command += [*PROGRAM[path.suffix.lower()], str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as program:
        assert program.stdin
        program.stdin.write(first.tobytes())
        for image in frames:
            program.stdin.write(image.tobytes())
        program.stdin.close()
    if program.returncode:
        raise ValueError(f"ffmpeg could not write {path.suffix}; type pip install 'gancli[video]'")
