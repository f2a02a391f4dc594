"""Super-resolution networks: gain over bicubic on images of any size, by the convention of the literature."""

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from gancli import images as pixels
from gancli.checkpoint.format import versions
from gancli.data.contents import data_name, describe_files
from gancli.data.image_files import decode_image
from gancli.data.listing import image_notes, list_folder, printable_skipped, skipped_lines
from gancli.evaluation.result import EvaluationResult, contact_sheet, note_on_means, paired_means
from gancli.inference.styles import AutoUpscaler
from gancli.inference.upscaler import Upscaler
from gancli.metrics.niqe import niqe
from gancli.metrics.psnr_ssim import CONVENTION, fidelity, shave, studio_luma
from gancli.runtime.checks import check_choice
from gancli.runtime.files import typed_path
from gancli.runtime.terminal import say
from gancli.runtime.text import printable, table
from gancli.transforms.degradation import Degradation

CROP = 160  # pixels a side of the crops in the contact sheet
COLUMNS = ("bicubic", "ours")
FORMATS = {"psnr": ".2f", "ssim": ".4f", "sharpness": ".2f", "high_frequency": ".1f"}
MORE = {"niqe": ".2f", "flip": ".4f"}  # only where metrics= asks for them


def evaluate(
    upscaler: Upscaler | AutoUpscaler, weights: str, images: str, split: str, with_crops: bool, more: Sequence[str] = ()
) -> EvaluationResult:
    """Return PSNR, SSIM and sharpness of each image of a folder, or of its split, for bicubic and the network.

    Args:
        more: keys of MORE that are computed too.
    """
    for name in more:
        check_choice("metrics", name, MORE)
    if "flip" in more and not importlib.util.find_spec("flip_evaluator"):
        raise ValueError("metrics=[flip] needs a package; type pip install 'gancli[flip]'")
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    crops: list[list[Image.Image]] = []
    given, notes = 0, Counter[str]()
    for name, high, low in tqdm(list(find_pairs(images, split)), "images", leave=False, disable=None):
        try:
            real, small, remarks = read_pair(high, low, upscaler.scale)
        except ValueError as error:
            warnings.append(f"{name}: {error}")
            continue
        notes.update(remarks)
        outputs = {"bicubic": pixels.enlarge(small, upscaler.scale).clamp(-1, 1), "ours": upscaler.enlarge(small)}
        metrics = {
            column: fidelity(image, real, upscaler.scale) | more_scores(more, image, real, upscaler.scale)
            for column, image in outputs.items()
        }
        rows.append({"image": name, **metrics})
        given += low is not None
        if with_crops:
            crops.append(_centre_crops(small, outputs["bicubic"], outputs["ours"], real, upscaler.scale))
    if not rows:
        raise ValueError(f"no image of {images} could be measured: {warnings[0]}")
    means, counts = paired_means(rows, COLUMNS)
    protocol = {
        "weights": weights,
        "images": data_name("folder", images),
        "content": describe_files(typed_path(images))["digest"],
        "convention": CONVENTION.format(scale=upscaler.scale),
        "scale": upscaler.scale,
        "n": len(rows),
        "images in the means": counts,
        "small images": f"{given} given, {len(rows) - given} by antialiased bicubic (a = -0.5), 8 bits",
        "real images": f"cropped to a multiple of {upscaler.scale}",
        "ssim": "Wang et al. 2004",
        "versions": versions(),
    }
    said = image_notes(notes)
    unmeasured = f"{len(warnings)} of {len(warnings) + len(rows)} images could not be measured: see above"
    return EvaluationResult(
        {"mean": means, "images": rows},
        protocol,
        means["ours"],
        _text(rows, means, protocol),
        contact_sheet(("small", *COLUMNS, "real"), crops, CROP) if crops else None,
        [*said, *warnings],
        unmeasured if warnings else "",
    )


def more_scores(names: Sequence[str], image: Tensor, real: Tensor, scale: int) -> dict[str, float]:
    """Return NIQE of the brightness of an image (1, C, H, W), and the mean FLIP of it and the real one."""
    scores = {}
    if "niqe" in names:
        scores["niqe"] = niqe(shave(studio_luma(image), scale)[None].round())
    if "flip" in names:
        import flip_evaluator

        both = (pixels.to_array(x.expand(-1, 3, -1, -1))[0].astype(np.float32) / 255 for x in (real, image))
        scores["flip"] = float(flip_evaluator.evaluate(*both, "LDR", applyMagma=False)[1])
    return scores


def find_pairs(images: str, split: str = "test") -> Iterator[tuple[str, Path, Path | None]]:
    """Yield (name, large image, small image or None) of a folder, sorted; x_LR.png is the small image of x_HR.png."""
    folder = typed_path(images)
    if not images or not folder.is_dir():
        what = f"images={images} is not a folder" if images else "no images were given"
        raise ValueError(f"{what}; type images=DIR, a folder of large images")
    listing = list_folder(images, split, classes=False)
    names = listing.names
    for line in [*listing.notes, *skipped_lines(printable_skipped(listing.skipped))]:
        say(f"gan: images=: {line}")
    if not names:
        raise ValueError(f"there is no image in images={images}; type images=DIR, a folder of large images")
    stems = {str(Path(name).with_suffix("")): name for name in names}
    for name in names:  # not of `stems`, where a.jpg and a.png are one
        stem = str(Path(name).with_suffix(""))
        twin = stems.get(stem.removesuffix("_HR") + "_LR") if stem.endswith("_HR") else None
        if stem.endswith("_LR") and stem.removesuffix("_LR") + "_HR" in stems:
            continue
        yield printable(name), folder / name, folder / twin if twin else None


def read_pair(high: Path, low: Path | None, scale: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return the real image (1, C, scale h, scale w) and the small one (1, C, h, w), in [-1, 1], and notes."""
    real, notes = _read(high)
    h, w = (side // scale for side in real.shape[2:])
    if not h or not w:
        raise ValueError(f"is {real.shape[3]}x{real.shape[2]}, smaller than one pixel of its small image, {scale}")
    if min(h, w) < 3:
        raise ValueError(f"is {real.shape[3]}x{real.shape[2]}, and nothing is left of it without a border of {scale}")
    real = real[:, :, : h * scale, : w * scale]
    if low is None:
        return real, Degradation(scale)(real), notes
    small, notes_on_small = _read(low)
    if small.shape[1] != real.shape[1]:  # one of them was stored as colour
        real, small = real.expand(-1, 3, -1, -1), small.expand(-1, 3, -1, -1)
    if small.shape[2:] != (h, w):
        raise ValueError(
            f"is {real.shape[3]}x{real.shape[2]} and {low.name} {small.shape[3]}x{small.shape[2]}, not {w}x{h}; "
            f"for another scale type scale="
        )
    return real, small, (*notes, *notes_on_small)


def _read(path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Return an image file as (1, C, H, W) in [-1, 1], C 1 or 3, and notes on its decoding."""
    image, info = decode_image(path)
    array = np.array(image)
    return pixels.to_float(torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]), info.notes


def _text(rows: list[dict[str, Any]], means: dict[str, Any], protocol: dict[str, Any]) -> str:
    formats = {key: spec for key, spec in (FORMATS | MORE).items() if key in means["ours"]}
    more = [key for key in MORE if key in formats]

    def cells(name: str, metrics: dict[str, Any]) -> list[str]:
        numbers = [format(metrics[column][key], spec) for column in COLUMNS for key, spec in formats.items()]
        return [name[-23:], *numbers, f"{metrics['ours']['psnr'] - metrics['bicubic']['psnr']:.2f}"]

    header = ["", *(x for column in COLUMNS for x in (f"{column} PSNR", "SSIM", "sharp", "high", *more)), "gain"]
    lines = [table([header, *(cells(row["image"], row) for row in rows), cells("mean", means)])]
    small = "two blocks of 96 pixels, which NIQE needs" if "niqe" in more else "11 pixels"
    reason = f"are exact in a column, flat, or smaller than {small}"
    lines += note_on_means(protocol["images in the means"], protocol["n"], {}, reason)
    return "\n".join(
        [
            *lines,
            "",
            "PSNR in dB; sharp: mean gradient relative to the real image; high: power of the upper half of frequencies",
            "relative to the real image, in dB. Sharp and high say how much detail there is, not that it is right.",
            *(
                ["niqe: of Y, without the real image; flip: mean difference to it as seen on a screen; lower is better"]
                * bool(more)
            ),
            f"{protocol['convention']}; small images: {protocol['small images']}; {protocol['weights']}",
        ]
    )


def _centre_crops(small: Tensor, bicubic: Tensor, ours: Tensor, real: Tensor, scale: int) -> list[Image.Image]:
    """Return the centre of each, at most CROP pixels a side; the small image is enlarged by nearest neighbour."""
    nearest = small.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    h, w = (min(CROP, side) for side in real.shape[2:])
    top, left = (real.shape[2] - h) // 2, (real.shape[3] - w) // 2
    crops = [pixels.to_array(x[:, :, top : top + h, left : left + w])[0] for x in (nearest, bicubic, ours, real)]
    return [pixels.to_pil(array).convert("RGB") for array in crops]
