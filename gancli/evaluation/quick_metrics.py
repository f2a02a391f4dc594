"""Cheap metrics of G during training, computed with every sample grid.

`metrics(G, real, seed)` returns floats by name, nan where a metric is not defined for the data. G is the averaged
generator in eval mode, real a small ImageDataset. Runs are compared by the metric `headline`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from gancli.data.dataset import ImageDataset
from gancli.images import to_float
from gancli.inference.generator import BLOCK, Generator
from gancli.metrics.diversity import class_coverage, diversity
from gancli.metrics.elbo import elbo
from gancli.metrics.psnr_ssim import rgb_psnr
from gancli.metrics.sliced_wasserstein import sliced_wasserstein
from gancli.metrics.task_psnr import task_psnr
from gancli.runtime.hardware import in_batches
from gancli.transforms.tasks import Task

LARGEST_SIZE = 64  # pixels a side: thousands of larger images do not fit in memory
PAIRS = 64  # images for PSNR


class SampleMetrics:
    """Distance of samples from real images, and their diversity; larger images are first averaged to LARGEST_SIZE."""

    headline = "sliced_wasserstein"

    def metrics(self, G: Any, real: ImageDataset, seed: int) -> dict[str, float]:
        generator = Generator.like(G, real)
        return self.compare(generator, real, (images for images, _ in generator.blocks(len(real), seed)))

    def compare(self, generator: Generator, real: ImageDataset, blocks: Iterable[Tensor]) -> dict[str, float]:
        """Return the metrics of as many generated images as real ones, given in blocks (n, C, H, W)."""
        fake = torch.cat([shrink(images).cpu() for images in blocks])
        x = torch.cat([shrink(to_float(images)) for images in real.images.split(BLOCK)])
        labels = real.labels if generator.class_names else torch.zeros_like(real.labels)
        values = {
            "sliced_wasserstein": sliced_wasserstein(fake, x),
            "diversity": diversity(fake, x, generator.labels(len(real)) * bool(generator.class_names), labels),
        }
        if len(real.class_names) > 1:
            values["class_coverage"], _ = class_coverage(fake, x, real.labels, real.classes)
        return values


class AutoencoderMetrics(SampleMetrics):
    """Metrics of samples, and the PSNR of reconstructions in dB."""

    def metrics(self, G: Any, real: ImageDataset, seed: int) -> dict[str, float]:
        x, c = as_batch(G, real)
        with torch.no_grad():
            reconstructed = torch.cat(in_batches(lambda x, c: G(G.encode(x, c), c), x, c))
        return {**super().metrics(G, real, seed), "reconstruction_psnr": float(rgb_psnr(reconstructed, x).mean())}


class VAEMetrics(AutoencoderMetrics):
    """Metrics of an autoencoder, and the evidence lower bound in nats per image, with one latent for each image."""

    headline = "elbo"

    def metrics(self, G: Any, real: ImageDataset, seed: int) -> dict[str, float]:
        x, c = as_batch(G, real)
        torch.manual_seed(seed)  # the same binarised images and the same noise each time
        with torch.no_grad():
            x, noise = G.likelihood.observed(x), torch.randn(len(c), G.z_dim, device=c.device)
            bounds = torch.cat(in_batches(partial(elbo, G), x, c, noise))
        return {"elbo": float(bounds.mean()), **super().metrics(G, real, seed)}


class ImageToImageMetrics:
    """PSNR in dB as the task defines it, and `naive_psnr` of the result without a network, on the same images."""

    headline = "psnr"

    def __init__(self, task: Task):
        self.task = task

    def metrics(self, G: Any, real: ImageDataset, seed: int) -> dict[str, float]:
        device = next(G.parameters()).device
        x, c = (to_float(t[:PAIRS]).to(device) for t in (real.images, real.sources))
        torch.manual_seed(seed)  # the same masks, noise and so on each time
        c = self.task.condition(x, c)
        with torch.no_grad():
            fake = torch.cat(in_batches(lambda c: G(c.new_zeros(len(c), 0), c), c))
            naive = self.task.baseline(c)
        values = task_psnr(self.task, fake, x, c)
        return values | {f"naive_{name}": value for name, value in task_psnr(self.task, naive, x, c).items()}


class CycleGANMetrics(SampleMetrics):
    """SampleMetrics of translated images, and the mean absolute error of images translated there and back."""

    def metrics(self, G: Any, real: ImageDataset, seed: int) -> dict[str, float]:
        c = to_float(real.sources.to(next(G.parameters()).device))
        with torch.no_grad():
            there = torch.cat(in_batches(lambda c: G(c.new_zeros(len(c), 0), c), c))
            cycled = torch.cat(in_batches(lambda c: G.back(c.new_zeros(len(c), 0), c), there))
        generator = Generator.like(G, real)
        values = self.compare(generator, real, there.clamp(-1, 1).cpu().split(BLOCK))
        return values | {"cycle_error": float((cycled - c).abs().mean())}


def shrink(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) averaged to LARGEST_SIZE pixels a side at most."""
    height, width = images.shape[2:]
    if max(height, width) <= LARGEST_SIZE:
        return images
    return adaptive_avg_pool2d(images, (min(height, LARGEST_SIZE), min(width, LARGEST_SIZE)))


def as_batch(G: Any, real: ImageDataset) -> tuple[Tensor, Tensor]:
    """Return all images of a small set and their classes, x and c, on G's device."""
    device = next(G.parameters()).device
    return to_float(real.images.to(device)), real.condition(real.labels.to(device), int(G.classes))
