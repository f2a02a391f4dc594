"""The grids of a run over time as one animation: a small GIF, an MP4 or a WebM."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gancli.data.decoder import BadImage
from gancli.data.image_files import decode_image
from gancli.images import label_font
from gancli.inference.film import scaled
from gancli.inference.video import write_video
from gancli.report.run_folder import Run
from gancli.report.run_page import spread
from gancli.runtime.files import write_atomically

FORMATS = (".gif", ".mp4", ".webm")
FRAMES, FEWEST = 40, 12  # at most, and before frames of a GIF are made smaller instead
LARGEST_GIF = 1_300_000  # bytes, about
WIDTH = 640  # pixels at most
SHADES, COLOURS = 32, 96  # in a GIF of grey and of coloured images: fewer make it smaller
SECONDS, FRAME_MS, LAST_MS = 5.0, (80, 500), 2500  # of all frames, of each, and pause on the last one
LABEL, INK = 22, "#1c1e21"  # pixels below the grid for the step


def write_history(run: Run, path: Path | None = None, size: int = 0) -> Path:
    """Write the grids of a run as an animation, in the one of FORMATS that the suffix of `path` names.

    Args:
        path: by default samples/history.gif in the run folder.
        size: width of a frame in pixels; 0: that of the grids, WIDTH at most.
    """
    path = path or run.folder / "samples" / "history.gif"
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} is no animation; type out=x.gif, out=x.mp4 or out=x.webm")
    write = _write_gif if path.suffix.lower() == ".gif" else _write_video
    frames = [scaled(frame, size) if size else frame for frame in _frames(run)]
    if not frames:
        raise ValueError(f"{str(run.folder)!r} has no grid in samples/ to animate; train it for at least one step")
    return write_atomically(path, lambda partial: write(partial, frames), durable=True)


def _frames(run: Run) -> list[Image.Image]:
    """Return grids of one size, oldest first, each with its step below it. No time: equal runs have equal files."""
    grids = [(step, grid) for step, path in spread(run.samples, FRAMES) if (grid := _read(path))]
    if not grids:
        return []
    size, mode = grids[-1][1].size, "L" if all(grid.mode == "L" for _, grid in grids) else "RGB"
    frames = []
    for step, grid in grids:
        sheet = Image.new(mode, (size[0], size[1] + LABEL), "white")
        sheet.paste(grid.convert(mode), (0, 0))
        _label(sheet, f"step {step:,}", step / max(grids[-1][0], 1))
        frames.append(sheet)
    return frames


def _read(path: Path) -> Image.Image | None:
    """Return a grid at most WIDTH pixels wide; None when it cannot be read."""
    try:
        grid = decode_image(path)[0]
    except BadImage:
        return None
    # Whole factors keep the squares of enlarged pixels; what is left is scaled smoothly.
    grid = grid.reduce(max(1, grid.width // WIDTH))
    grid.thumbnail((WIDTH, WIDTH * 2), Image.Resampling.LANCZOS)
    return grid


def _label(sheet: Image.Image, step: str, progress: float) -> None:
    """Write the step below a grid, under a bar of the progress."""
    pen, top = ImageDraw.Draw(sheet), sheet.height - LABEL
    pen.rectangle((0, top + 1, max(0, round(progress * sheet.width) - 1), top + 2), "#808080")
    pen.text((2, top + 4), step, INK, label_font(13))


def _milliseconds(frames: Sequence[Image.Image]) -> int:
    return int(min(max(SECONDS * 1000 / len(frames), FRAME_MS[0]), FRAME_MS[1])) // 10 * 10  # GIF has 1/100 s


def _write_gif(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write a GIF that loops, of fewer frames and then of half the size where LARGEST_GIF asks for it."""
    first = frames[0]
    if len(frames) * first.width * first.height * len(first.getbands()) <= LARGEST_GIF:  # even without compression
        path.write_bytes(_gif(frames))
        return
    size = _bytes_of_a_frame(frames)
    if size * min(FEWEST, len(frames)) > LARGEST_GIF:
        frames = [frame.reduce(2) for frame in frames]
        size = _bytes_of_a_frame(frames)
    path.write_bytes(_gif(spread(frames, max(2, int(LARGEST_GIF / size)))))


def _bytes_of_a_frame(frames: Sequence[Image.Image]) -> float:
    tried = spread(frames, 4)
    return len(_gif(tried)) / len(tried)


def _gif(frames: Sequence[Image.Image]) -> bytes:
    times = [_milliseconds(frames)] * (len(frames) - 1) + [LAST_MS]
    first, *others = _indexed(frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return buffer.getvalue()


def _indexed(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Return frames with one palette, without dithering: its dots would move from frame to frame."""
    if frames[0].mode == "L":
        table = (np.arange(256) * (SHADES - 1) / 255).round().astype(np.uint8)
        palette = [round(i * 255 / (SHADES - 1)) for i in range(SHADES) for _ in range(3)]
        indexed = [Image.fromarray(table[np.asarray(frame)], "P") for frame in frames]
    else:
        palette, table = _colours(spread(frames, 6))
        indexed = [Image.fromarray(table[tuple(np.moveaxis(np.asarray(f) >> 3, 2, 0))], "P") for f in frames]
    for frame in indexed:
        frame.putpalette(palette)
    return indexed


def _colours(frames: Sequence[Image.Image]) -> tuple[list[int], np.ndarray]:
    """Return a palette for frames, and the index of its nearest colour for each red, green and blue of five bits."""
    small = [np.asarray(frame.reduce(max(1, frame.width // 200))).reshape(-1, 3) for frame in frames]
    chosen = Image.fromarray(np.concatenate(small)[None])
    chosen = chosen.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    cube = np.moveaxis(np.indices((32, 32, 32), np.uint8), 0, 3) * 8 + 4
    table = Image.fromarray(cube.reshape(256, 128, 3)).quantize(palette=chosen, dither=Image.Dither.NONE)
    return list(chosen.getpalette() or []), np.asarray(table).reshape(32, 32, 32)


def _write_video(path: Path, frames: Sequence[Image.Image]) -> None:
    """Write an MP4 or a WebM that rests on the last grid."""
    milliseconds = _milliseconds(frames)
    rested = [*frames, *[frames[-1]] * (LAST_MS // milliseconds)]
    write_video(path, rested, len(rested), milliseconds)
