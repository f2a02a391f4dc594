"""PSNR of image-to-image networks, by the convention of each task."""

from torch import Tensor

from gancli.metrics.psnr_ssim import fidelity, rgb_psnr
from gancli.transforms.degradation import Degradation
from gancli.transforms.tasks import Task


def task_psnr(task: Task, fake: Tensor, real: Tensor, c: Tensor) -> dict[str, float]:
    """Return the mean PSNR in dB of generated images (N, C, H, W) in [-1, 1]; infinite where one equals the real image.

    psnr: of 8 bits and all channels; of super-resolution by the convention of its literature.
    hole_psnr: of the pixels in the hole alone, where the last channel of c is a mask.
    """
    if isinstance(task, Degradation):
        return {"psnr": fidelity(fake, real, task.scale)["psnr"]}
    values = {"psnr": float(rgb_psnr(fake, real).mean())}
    if task.masked:
        values["hole_psnr"] = float(rgb_psnr(fake, real, c[:, -1:]).mean())
    return values
