"""PSNR, SSIM and NIQE of every style of `gan upscale` on damaged images, and how often style=auto sees the damage.

    python benchmarks/upscale_damage.py Set14/ photos/ [--out docs/results/upscale-damage.json]

Set14/ holds x_HR.png and x_LR.png, whose small images are damaged and enlarged 4 times; PSNR is that of `gan evaluate`.
photos/ holds 100 photographs, which are halved: 20 stay clean and 20 each get one of four damages. All are cropped by
(3, 5) pixels, and auto sees their pixels alone.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from gancli import images
from gancli.data.decoder import open_image
from gancli.evaluation.super_resolution import more_scores
from gancli.inference.damage import NO_TRACE, Damage, estimate
from gancli.inference.styles import AutoUpscaler, choose
from gancli.inference.upscaler import STYLES, load_upscaler
from gancli.metrics.psnr_ssim import fidelity

RNG = np.random.default_rng(0)
SHIFT = (1, 0, 0.5, 0, 1, 0.5)  # half a pixel


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return open_image(file).convert("RGB")


def noise(image: Image.Image, sigma: float) -> Image.Image:
    values = np.asarray(image) + RNG.normal(0, sigma, (image.height, image.width, 3))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def shifted(image: Image.Image, scale: int = 1) -> Image.Image:
    data = (1, 0, scale * SHIFT[2], 0, 1, scale * SHIFT[5])
    return image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)


DAMAGES = {
    "clean": lambda image: image,
    "noise 4, JPEG 40": lambda image: jpeg(noise(image, 4), 40),
    "JPEG 60": lambda image: jpeg(image, 60),
    "blur 1.2, noise 6, JPEG 70": lambda image: jpeg(noise(image.filter(ImageFilter.GaussianBlur(1.2)), 6), 70),
    "JPEG 50 and 30, half a pixel apart": lambda image: jpeg(shifted(jpeg(image, 50)), 30),
    "JPEG 40, noise 4": lambda image: noise(jpeg(image, 40), 4),
    **{f"JPEG {quality}": lambda image, quality=quality: jpeg(image, quality) for quality in (30, 80, 90)},
    **{f"noise {sigma}": lambda image, sigma=sigma: noise(image, sigma) for sigma in (2, 4, 12)},
}


def tensor(image: Image.Image) -> Tensor:
    return images.to_float(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])


def measure(result: Tensor, real: Tensor) -> dict[str, float]:
    fidelities = fidelity(result, real, 4)
    return {"psnr": fidelities["psnr"], "ssim": fidelities["ssim"]} | more_scores(["niqe"], result, real, 4)


def scores(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean scores of bicubic, every style and auto, for each damage."""
    upscalers = {style: load_upscaler(style=style) for style in STYLES}
    auto, table = AutoUpscaler(), {}
    pairs = [(path, path.with_name(path.name.replace("_HR", "_LR"))) for path in sorted(folder.glob("*_HR.png"))]
    for name, damage in DAMAGES.items():
        rows = []
        for high, low in pairs:
            small, real = (open_image(path).convert("RGB") for path in (low, high))
            real = shifted(real, 4) if "apart" in name else real
            damaged = damage(small)
            x, y = tensor(damaged), tensor(real)[..., : 4 * small.height, : 4 * small.width]
            results = {"bicubic": images.enlarge(x, 4).clamp(-1, 1)}
            results |= {style: upscaler.enlarge(x) for style, upscaler in upscalers.items()}
            results["auto"] = auto.choose(estimate(damaged))[0].enlarge(x)
            rows.append({style: measure(result, y) for style, result in results.items()})
        table[name] = {
            style: {score: round(float(np.nanmean([row[style][score] for row in rows])), 4) for score in scores}
            for style, scores in rows[0].items()
        }
        for style, means in table[name].items():
            print(
                f"{name:36} {style:16} {means['psnr']:.2f} dB  SSIM {means['ssim']:.4f}  NIQE {means['niqe']:.2f}",
                flush=True,
            )
    return table


def decisions(folder: Path) -> dict[str, str]:
    """Return how many images of each damage auto takes for damaged, for a clean one for clean."""
    table, names = {}, list(DAMAGES)[:5]
    clean = choose(Damage(NO_TRACE, 0))[:2]
    files = sorted(folder.glob("*.jpg"))[:100]
    for k, name in enumerate(names):
        right = 0
        for path in files[k :: len(names)]:
            photo = open_image(path).convert("RGB")
            small = DAMAGES[name](photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BICUBIC))
            chosen = choose(estimate(small.crop((3, 5, *small.size))))[:2]
            right += (chosen == clean) == (name == "clean")
        table[name] = f"{right} of {len(files[k :: len(names)])}"
        print(f"{name:36} decided rightly: {table[name]}", flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    content = {"scores": scores(options.images), "auto": decisions(options.photos)}
    if options.out:
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
