"""Super-resolution: what a network gains over bicubic on pictures of any size, by the convention of the literature."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli import images as pixels
from gancli.checkpoint.format import versions
from gancli.data.image_files import decode_image, walk_images
from gancli.evaluation.result import EvaluationResult, averaged, sheet
from gancli.inference.upscaler import Upscaler
from gancli.metrics.psnr_ssim import CONVENTION, fidelity
from gancli.runtime.text import printable
from gancli.transforms.degradation import Degradation

DETAIL = 160  # pixels a side of a detail in the picture
BOTH = ("bicubic", "ours")


def measure(upscaler: Upscaler, weights: str, images: str, with_details: bool) -> EvaluationResult:
    """Print a line per picture of the folder `images`, their means and the protocol."""
    rows: list[dict[str, Any]] = []
    failures: list[tuple[str, str]] = []
    details: list[list[Image.Image]] = []
    given = 0
    for name, high, low in pairs(images):
        try:
            real, small = pair(high, low, upscaler.scale)
        except ValueError as error:
            failures.append((name, str(error)))
            print(f"gan: {name}: {error}", file=sys.stderr)
            continue
        made = {"bicubic": pixels.enlarge(small, upscaler.scale).clamp(-1, 1), "ours": upscaler.enlarge(small)}
        figures = {column: fidelity(image, real, upscaler.scale) for column, image in made.items()}
        rows.append({"picture": name, **figures})
        given += low is not None
        print(line(name, figures) if len(rows) > 1 else f"{head()}\n{line(name, figures)}", flush=True)
        if with_details:
            details.append(detail(small, made["bicubic"], made["ours"], real, upscaler.scale))
    if not rows:
        raise ValueError(f"no picture of {images} could be measured: {', '.join(failures[0])}")
    means, counted = averaged(rows, BOTH)
    print(line("mean", means))
    if missing := {key: n for key, n in counted.items() if n < len(rows)}:
        print(f"means of {', '.join(f'{key} over {n}' for key, n in missing.items())} of {len(rows)} pictures, those")
        print("that have it in both columns: one met exactly, flat, or of less than 11 pixels may not")
    protocol = {
        "weights": weights,
        "images": printable(images),
        "convention": CONVENTION.format(scale=upscaler.scale),
        "scale": upscaler.scale,
        "pictures": len(rows),
        "counted in the means": counted,
        "small pictures": f"{given} given, {len(rows) - given} by antialiased bicubic (a = -0.5), 8 bits",
        "real pictures": f"cut to a multiple of {upscaler.scale}",
        "ssim": "Wang et al. 2004",
        "versions": versions(),
    }
    print(
        "\nPSNR in dB; sharp: mean gradient over that of the real picture; high: power of the upper half of frequencies"
    )
    print("beside the real picture's, in dB. Sharp and high say how much detail there is, not that it is right.")
    print(f"{protocol['convention']}; small pictures: {protocol['small pictures']}; {weights}")
    failed = f"{len(failures)} of {len(failures) + len(rows)} pictures could not be measured: see above"
    return EvaluationResult(
        {"mean": means, "pictures": rows},
        protocol,
        sheet(("small", *BOTH, "real"), details, DETAIL) if details else None,
        failed if failures else "",
        ranked=means["ours"],
    )


def pairs(images: str) -> Iterator[tuple[str, Path, Path | None]]:
    """(name, large picture, its small one or None) of a folder, in the order of names."""
    folder = Path(images).expanduser()
    if not images or not folder.is_dir():
        what = f"images={images} is not a folder" if images else "no pictures were given"
        raise ValueError(f"{what}; type images=DIR, a folder of large pictures")
    names, _ = walk_images(folder)
    if not names:
        raise ValueError(f"there is no picture in images={images}; type images=DIR, a folder of large pictures")
    stems = {str(Path(name).with_suffix("")): name for name in names}
    for name in names:  # not of `stems`, where a.jpg beside a.png is one
        stem = str(Path(name).with_suffix(""))
        twin = stems.get(stem.removesuffix("_HR") + "_LR") if stem.endswith("_HR") else None
        if stem.endswith("_LR") and stem.removesuffix("_LR") + "_HR" in stems:
            continue
        yield printable(name), folder / name, folder / twin if twin else None


def pair(high: Path, low: Path | None, scale: int) -> tuple[Tensor, Tensor]:
    """The real picture (1, C, scale h, scale w) and the small one (1, C, h, w), in [-1, 1]."""
    real = read(high)
    h, w = (side // scale for side in real.shape[2:])
    if not h or not w:
        raise ValueError(f"is {real.shape[3]}x{real.shape[2]}, smaller than a pixel of its small picture, {scale}")
    if min(h, w) < 3:
        raise ValueError(f"is {real.shape[3]}x{real.shape[2]}, and nothing is left of it without a border of {scale}")
    real = real[:, :, : h * scale, : w * scale]
    if low is None:
        return real, Degradation(scale)(real)
    small = read(low)
    if small.shape[1] != real.shape[1]:  # one of them was stored as colour
        real, small = real.expand(-1, 3, -1, -1), small.expand(-1, 3, -1, -1)
    if small.shape[2:] != (h, w):
        raise ValueError(
            f"is {real.shape[3]}x{real.shape[2]} and {low.name} {small.shape[3]}x{small.shape[2]}, not {w}x{h}; "
            f"for another scale type scale="
        )
    return real, small


def read(path: Path) -> Tensor:
    """A picture file as (1, C, H, W) in [-1, 1], C 1 or 3."""
    array = np.array(decode_image(path)[0])
    return pixels.to_float(torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None])


# --- how it is shown ----------------------------------------------------------------------------------------------
def head() -> str:
    columns = f"{'PSNR':>8}{'SSIM':>8}{'sharp':>7}{'high':>7}"
    return f"{'':<24}{'bicubic':<30}  ours\n{'':<24}{columns}  {columns}   gain"


def line(name: str, figures: dict[str, dict[str, float]]) -> str:
    """PSNR in dB, SSIM, sharpness and high frequencies in dB beside the real picture's; the gain in PSNR."""
    texts = [
        f"{f['psnr']:8.2f}{f['ssim']:8.4f}{f['sharpness']:7.2f}{f['high_frequency']:7.1f}"
        for f in (figures["bicubic"], figures["ours"])
    ]
    gain = figures["ours"]["psnr"] - figures["bicubic"]["psnr"]
    return f"{name[-23:]:<24}{texts[0]}  {texts[1]}{gain:7.2f}"


def detail(small: Tensor, bicubic: Tensor, ours: Tensor, real: Tensor, scale: int) -> list[Image.Image]:
    """The middle of each, DETAIL pixels a side at most; of the small picture enlarged by nearest neighbour."""
    blocks = small.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    h, w = (min(DETAIL, side) for side in real.shape[2:])
    top, left = (real.shape[2] - h) // 2, (real.shape[3] - w) // 2
    cut = [pixels.to_array(x[:, :, top : top + h, left : left + w])[0] for x in (blocks, bicubic, ours, real)]
    return [pixels.to_pil(array).convert("RGB") for array in cut]
