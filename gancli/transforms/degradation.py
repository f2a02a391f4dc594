"""Degradation of large images to the small ones of super-resolution: c computed from x."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.data.decoder import open_image
from gancli.images import enlarge, to_array, to_float, to_pil, to_uint8
from gancli.runtime.checks import check_number
from gancli.transforms.tasks import Task, gaussian_blur


@dataclass
class Degradation(Task):
    """c = JPEG(downsample(x * Gaussian) + noise): Wang et al. 2021, equation 1, https://arxiv.org/abs/2107.10833.

    x: (N, C, s h, s w) in [-1, 1] becomes (N, C, h, w) in [-1, 1] in steps of 8 bits. The default is bicubic
    downsampling alone, antialiased with a = -1/2 as in Pillow and MATLAB, which papers evaluate with. Each image is
    degraded independently, with torch's default generators; what is off uses no random numbers. Only JPEG waits for
    the device.

    scale: s, 2, 3 or 4.
    blur: largest standard deviation in pixels of x; uniform in [0, blur].
    noise: largest standard deviation in grey levels of 255; uniform in [0, noise].
    jpeg: lowest quality, 1 to 100; uniform in [jpeg, 95], or exactly jpeg above 95; 100 is off.
    fraction: of the images that are blurred, noisy and compressed, 0 to 1; the others are only downsampled.
    """

    baseline_name = "bicubic"

    scale: int
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100
    fraction: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("model.scale", self.scale, 2, 4, example=4, whole=True)
        check_number("model.degrade.blur", self.blur, 0, example="2, or 0 for none")
        check_number("model.degrade.noise", self.noise, 0, example="2, or 0 for none")
        check_number("model.degrade.jpeg", self.jpeg, 1, 100, example="30, or 100 for none", whole=True)
        check_number("model.degrade.fraction", self.fraction, 0, 1)
        self.scale, self.jpeg = int(self.scale), int(self.jpeg)  # 4.0 is typed for 4

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        check_sides(x, self.scale)
        blur, noise, jpeg = (self.blur, self.noise, self.jpeg) if self.fraction else (0, 0, 100)
        chosen = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
        if self.fraction < 1 and (blur or noise or jpeg < 100):
            chosen = uniform(x, 1) < self.fraction
        y = x.float()
        if blur:
            y = gaussian_blur(y, chosen * uniform(x, blur), blur)
        size = [side // self.scale for side in x.shape[-2:]]
        y = interpolate(y, size, mode="bicubic", antialias=True)
        if noise:
            y = y + chosen * uniform(x, noise) * torch.randn_like(y) * 2 / 255
        y = to_uint8(y)
        if jpeg < 100:
            quality = torch.randint(jpeg, max(jpeg, 95) + 1, (len(x),), device=x.device)
            y = compress(y, torch.where(chosen.flatten(), quality, 100).tolist())
        return to_float(y)

    def baseline(self, c: Tensor) -> Tensor:
        return enlarge(c, self.scale)


def check_sides(x: Tensor, scale: int) -> None:
    """Raise ValueError unless the sides of x are multiples of scale."""
    for side in x.shape[-2:]:
        if side % scale:
            fits = max(side // scale, 1) * scale
            raise ValueError(f"data.size={side} is not a multiple of model.scale={scale}; type data.size={fits}")


def uniform(x: Tensor, most: float) -> Tensor:
    """Return U(0, most) for each image of x: (N, 1, 1, 1)."""
    return most * torch.rand(len(x), 1, 1, 1, device=x.device)


def compress(x: Tensor, qualities: list[int]) -> Tensor:
    """Compress each image of uint8 (N, C, H, W) by JPEG at its quality; 100 leaves it as it is.

    Pillow gives the same pixels as torchvision's function, which is deprecated.
    """

    def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
        if quality == 100:
            return image
        file = io.BytesIO()
        to_pil(image).save(file, "JPEG", quality=quality)
        return np.asarray(open_image(file)).reshape(image.shape)

    images = np.stack([jpeg(image, quality) for image, quality in zip(to_array(x), qualities)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(x.device)
