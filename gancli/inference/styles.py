"""style=auto: the bundled network that an image needs, by the damage that it shows, and the reason in one line.

The threshold of JPEG is that from which a blend of restore and faithful beats faithful on Set14, and that of noise the
least that is told from texture (docs/results/super-resolution.md).
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gancli.data.decoder import BadImage, open_image
from gancli.data.image_modes import standardize
from gancli.images import to_array, to_pil
from gancli.inference.damage import NO_TRACE, Damage, estimate
from gancli.inference.tiling import Progress
from gancli.inference.upscaler import STYLES, Upscaler, load_upscaler
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.device import choose_device
from gancli.runtime.text import printable

AUTO = "auto"
DAMAGED_QUALITY = 92  # of a JPEG, up to which an image is damaged
NOISY = 2.5  # grey levels of noise, from which an image is damaged


class Choice(NamedTuple):
    """What an image is enlarged with, and why, in one line."""

    style: str
    strength: float
    reason: str


def choose(damage: Damage) -> Choice:
    """Return the style and the strength for an image of this damage.

    Strength grows with the damage, and is 1 up to a JPEG of quality 65 or from 10 grey levels of noise. Where there is
    less, a mean of both styles has a higher PSNR than either.
    """
    signs = [f"JPEG of quality {damage.quality}"] if damage.quality < NO_TRACE else []
    signs += [f"noise of {damage.noise:.1f} grey levels"] if damage.noise >= 1 else []
    seen = " and ".join(signs) or "no JPEG blocks and no noise"
    if damage.quality > DAMAGED_QUALITY and damage.noise < NOISY:
        return Choice("faithful", 1, f"style=faithful: {seen}")
    strength = round(min(1, 0.3 + max(0.02 * (NO_TRACE - damage.quality), 0.07 * damage.noise)), 1)
    typed = "style=restore" if strength == 1 else f"style=restore strength={strength:g}"
    return Choice("restore", strength, f"{typed}: {seen}")


class AutoUpscaler:
    """Upscalers of which each image gets the one that it needs; they are loaded when first needed."""

    def __init__(self, scale: int = 4, device: torch.device | str = "cpu", tile: int = 0, strength: float = 1):
        check_number("strength", strength, 0, 1, example=0.5)
        self.scale, self.device, self.tile, self.strength = scale, device, tile, strength
        self.upscalers: dict[tuple[str, float], Upscaler] = {}
        self.choose(Damage(NO_TRACE, 0))  # raises for a scale without weights before any image is read

    def choose(self, damage: Damage) -> tuple[Upscaler, str]:
        """Return the upscaler for an image of this damage, and the reason in one line."""
        style, strength, reason = choose(damage)
        key = (style, strength * self.strength)
        if key not in self.upscalers:
            self.upscalers[key] = load_upscaler("", style, self.scale, self.device, self.tile, key[1])
        return self.upscalers[key], reason

    def __call__(self, image: Image.Image, progress: Progress = lambda pixels: None) -> Image.Image:
        """Enlarge an image to exactly `scale` times its width and height."""
        image = standardize(image)
        return self.choose(estimate(image))[0](image, progress)

    def enlarge(self, x: Tensor) -> Tensor:
        """Enlarge images x (N, C, h, w) in [-1, 1], each by the network that it needs; results are on the CPU."""
        return torch.cat([self.choose(estimate(to_pil(to_array(one[None])[0])))[0].enlarge(one[None]) for one in x])


def load_style(
    style: str = AUTO, scale: int = 4, device: torch.device | str = "cpu", tile: int = 0, strength: float = 1
) -> Upscaler | AutoUpscaler:
    """Load the upscaler of a bundled style, or the one that chooses the style of each image."""
    check_choice("style", style, (AUTO, *STYLES))
    if style == AUTO:
        return AutoUpscaler(scale, device, tile, strength)
    return load_upscaler("", style, scale, device, tile, strength)


def upscale(image: Any, scale: int = 4, style: str = AUTO) -> Any:
    """Enlarge an image exactly 2, 3 or 4 times.

    Args:
        image: PIL image, path of an image file, or array uint8 (H, W) or (H, W, C).
        style: "auto", or one of STYLES, of which "sharp" invents detail.

    Returns:
        A PIL image, or for an array an array.
    """
    upscaler = cached_upscaler(scale, style)
    if isinstance(image, str | Path):
        try:
            with open_image(Path(image)) as opened:
                return upscaler(opened)
        except BadImage as error:
            raise ValueError(f"{printable(str(image))} {error}") from None
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"an array {image.dtype} {image.shape} is no image; give uint8 (H, W) or (H, W, C)")
        grey = image.ndim == 3 and image.shape[2] == 1
        large = np.asarray(upscaler(Image.fromarray(image[..., 0] if grey else image)))
        return large[..., None] if grey else large
    return upscaler(image)


@functools.lru_cache(maxsize=4)
def cached_upscaler(scale: int, style: str) -> Upscaler | AutoUpscaler:
    return load_style(style, scale, choose_device("auto"))
