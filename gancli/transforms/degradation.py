"""High-resolution images to the low-resolution ones that an upscaler is to undo: c made from x."""

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from gancli.images import to_array, to_float, to_picture, to_uint8
from gancli.metrics.psnr_ssim import fidelity
from gancli.networks.sr import enlarged
from gancli.transforms.tasks import Task, blurred, is_number


@dataclass
class Degradation(Task):
    """c = JPEG((x * Gaussian) made smaller by `scale` + noise): Wang et al. 2021, equation 1, https://arxiv.org/abs/2107.10833.

    x: (N, C, s h, s w) in [-1, 1], on any device, to (N, C, h, w) in [-1, 1] in steps of 8 bits, as people's pictures
    are. The default is bicubic alone, the kernel with a = -1/2 stretched by s against aliasing, as Pillow and MATLAB
    have it and papers measure with. Every image draws for itself, from torch's default generators, which the trainer
    seeds afresh for every round; what is off draws nothing. Only JPEG waits for the device.

    scale: s, 2 to 4. blur: largest standard deviation, in pixels of x; an image's is uniform in [0, blur].
    noise: largest standard deviation, in grey levels of 255; uniform in [0, noise].
    jpeg: lowest quality, 1 to 100; uniform in [jpeg, 95], above 95 it is always jpeg, and 100 is off.
    share: of the images that are blurred, noisy and compressed at all, 0 to 1; the others are made smaller alone.
    """

    scale: int
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 100
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_number(self.scale, 2, 4) or self.scale != int(self.scale):
            raise ValueError(f"an image is 2, 3 or 4 times larger, but model.scale={self.scale}; type model.scale=4")
        for name, what in (("blur", "pixels of the large image"), ("noise", "grey levels of 255")):
            if not is_number(value := getattr(self, name), 0, math.inf):
                raise ValueError(
                    f"{name} is a standard deviation in {what}, but model.degrade.{name}={value}; "
                    f"type model.degrade.{name}=2, or 0 for none"
                )
        if not is_number(self.jpeg, 1, 100) or self.jpeg != int(self.jpeg):
            raise ValueError(
                f"JPEG's quality is a whole number from 1 to 100, but model.degrade.jpeg={self.jpeg}; "
                "type model.degrade.jpeg=30, or 100 for none"
            )
        if not is_number(self.share, 0, 1):
            raise ValueError(
                f"a share of images lies between 0 and 1, but model.degrade.share={self.share}; "
                "type model.degrade.share=1"
            )
        self.scale, self.jpeg = int(self.scale), int(self.jpeg)  # 4.0 is typed for 4

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        for side in x.shape[-2:]:
            if side % self.scale:
                fits = max(side // self.scale, 1) * self.scale
                raise ValueError(f"data.size={side} is no multiple of model.scale={self.scale}; type data.size={fits}")
        blur, noise, jpeg = (self.blur, self.noise, self.jpeg) if self.share else (0, 0, 100)
        disturbed = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
        if self.share < 1 and (blur or noise or jpeg < 100):
            disturbed = uniform(x, 1) < self.share
        y = x.float()
        if blur:
            y = blurred(y, disturbed * uniform(x, blur), blur)
        size = [side // self.scale for side in x.shape[-2:]]
        y = interpolate(y, size, mode="bicubic", antialias=True)
        if noise:
            y = y + disturbed * uniform(x, noise) * torch.randn_like(y) * 2 / 255
        y = to_uint8(y)
        if jpeg < 100:
            quality = torch.randint(jpeg, max(jpeg, 95) + 1, (len(x),), device=x.device)
            y = compressed(y, torch.where(disturbed.flatten(), quality, 100).tolist())
        return to_float(y)

    def naive(self, c: Tensor) -> Tensor:
        """Bicubic."""
        return enlarged(c, self.scale)

    def compare(self, made: Tensor, real: Tensor, c: Tensor) -> dict[str, float]:
        """psnr in dB by the convention of the literature."""
        return {"psnr": fidelity(made, real, self.scale)["psnr"]}


def uniform(x: Tensor, most: float) -> Tensor:
    """U(0, most) for each image of x: (N, 1, 1, 1)."""
    return most * torch.rand(len(x), 1, 1, 1, device=x.device)


def compressed(x: Tensor, qualities: list[int]) -> Tensor:
    """x uint8 (N, C, H, W), each image through JPEG at its quality; 100 leaves it as it is.

    By Pillow, not torchvision, which has deprecated its own and gives the same pixels.
    """

    def through(image: np.ndarray, quality: int) -> np.ndarray:
        if quality == 100:
            return image
        file = io.BytesIO()
        to_picture(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file)).reshape(image.shape)

    images = np.stack([through(image, quality) for image, quality in zip(to_array(x), qualities)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(x.device)
