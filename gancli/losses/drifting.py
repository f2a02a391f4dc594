"""Drifting: Deng et al. 2026, https://arxiv.org/abs/2602.04770."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

TEMPERATURES = (0.02, 0.05, 0.2)  # paper; in units of the mean distance
FAR = 1e9  # distance between images that must not see each other


def drifting(fake: Tensor, real: Tensor, c: Tensor) -> Tensor:
    """Return the mean squared distance of fakes from where the drifting field moves them, a scalar.

    The field draws each fake to the nearest real images of its class, and away from the nearest fakes of its class. It
    is zero where both have one distribution. Algorithms 1 and 2 of the paper, with the normalisation of its appendix
    A.6. Paper: distances between features of a pretrained network; here between pixels, which need no such network.

    Args:
        fake, real: images (N, C, H, W) of the same conditions; only `fake` receives a gradient.
        c: one-hot classes (N, classes), or (N, 0) where all images are of one class.
    """
    device_type = fake.device.type if torch.amp.is_autocast_available(fake.device.type) else "cpu"
    with torch.autocast(device_type, enabled=False):
        x, y = fake.flatten(1).float(), real.flatten(1).float()
        with torch.no_grad():
            same = alike(c)
            to_real, to_fake = torch.cdist(x, y), torch.cdist(x, x)
            mean = (to_real * same).sum() / same.sum()
            scale = x.shape[1] ** 0.5 / mean  # makes the mean distance the square root of the number of pixels
            distances = torch.cat([to_real, to_fake.clone().fill_diagonal_(FAR)], 1)
            distances = distances.masked_fill(~same.repeat(1, 2), FAR) / mean
            target = x * scale
            for temperature in TEMPERATURES:
                field = _field(x, y, distances / temperature)
                target = target + field / field.square().mean().sqrt().clamp_min(1e-8)
        return mse_loss(x * scale, target)


ALIKE = 0.2  # difference of two scaled numbers below which they count as one class


def alike(c: Tensor) -> Tensor:
    """Return which pairs of conditions (N, K) are of one class, bool (N, N); numbers among them need not be equal."""
    if not c.shape[1]:
        return c.new_ones(len(c), len(c), dtype=torch.bool)
    return ((c[:, None] - c).abs() < ALIKE).all(2)


def _field(x: Tensor, y: Tensor, distances: Tensor) -> Tensor:
    """Return the drifting field at fakes x (N, pixels); distances: to real images y, then to the fakes, (N, 2 N)."""
    kernel = ((-distances).softmax(0) * (-distances).softmax(1)).sqrt()
    real, fake = kernel.chunk(2, 1)
    attraction, repulsion = real * fake.sum(1, keepdim=True), fake * real.sum(1, keepdim=True)  # of equal sums
    return attraction @ y - repulsion @ x
