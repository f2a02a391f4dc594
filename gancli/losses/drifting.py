"""Drifting: Deng et al. 2026, https://arxiv.org/abs/2602.04770. Fakes are drawn to real images and apart."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, mse_loss

TEMPERATURES = (0.02, 0.05, 0.2)  # paper; in units of the mean distance
FAR = 1e9  # distance between images that must not see each other


def drifting(fake: Tensor, real: Tensor, c: Tensor) -> Tensor:
    """Return the mean squared distance of fakes from where the drifting field moves them, a scalar.

    Paper: distances between features of a pretrained network; here between pixels, which need no such network.

    Args:
        fake, real: images (N, C, H, W) of the same conditions; only `fake` receives a gradient.
        c: one-hot classes (N, classes), or (N, 0) where all images are of one class.
    """
    return feature_drifting(fake.flatten(1)[None], real.flatten(1)[None], c)


def feature_drifting(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    """Return the mean squared distance of fakes from where the field moves them, each place by itself, a scalar.

    The field draws each fake to the nearest real images of its class, and away from the nearest fakes of its class. It
    is zero where both have one distribution. Algorithms 1 and 2 of the paper, with the normalisation of its appendix
    A.6.

    Args:
        x, y: features (P, N, D) at P places of N fakes and of N real images; only x receives a gradient.
        c: as for `drifting`.
    """
    device_type = x.device.type if torch.amp.is_autocast_available(x.device.type) else "cpu"
    with torch.autocast(device_type, enabled=False):
        x, y = x.float(), y.float()
        with torch.no_grad():
            same = alike(c)
            to_real, to_fake = torch.cdist(x, y), torch.cdist(x, x)
            mean = (to_real * same).sum((1, 2), keepdim=True) / same.sum()
            scale = x.shape[2] ** 0.5 / mean  # makes the mean distance the square root of the number of features
            to_fake.diagonal(dim1=1, dim2=2).fill_(FAR)
            distances = torch.cat([to_real, to_fake], 2).masked_fill(~same.repeat(1, 2), FAR) / mean
            target = x * scale
            for temperature in TEMPERATURES:
                field = _field(x, y, distances / temperature)
                target = target + field / field.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-8)
        return mse_loss(x * scale, target)


ALIKE = 0.2  # difference of two scaled numbers below which they count as one class


def alike(c: Tensor) -> Tensor:
    """Return which pairs of conditions (N, K) are of one class, bool (N, N); numbers among them need not be equal."""
    if not c.shape[1]:
        return c.new_ones(len(c), len(c), dtype=torch.bool)
    return ((c[:, None] - c).abs() < ALIKE).all(2)


def _field(x: Tensor, y: Tensor, distances: Tensor) -> Tensor:
    """Return the field at fakes x (P, N, D); distances: to real images y, then to the fakes, (P, N, 2 N)."""
    kernel = ((-distances).softmax(1) * (-distances).softmax(2)).sqrt()
    real, fake = kernel.chunk(2, 2)
    attraction, repulsion = real * fake.sum(2, keepdim=True), fake * real.sum(2, keepdim=True)  # of equal sums
    return attraction @ y - repulsion @ x


def patch_features(x: Tensor) -> list[Tensor]:
    """Return features of images (N, C, H, W) that no network has to learn, each (P, N, D).

    Overlapping 8x8 patches; 8x8 patches of half the size; the whole image averaged to 8x8; and how strong edges are
    across and along at 16 places.
    """
    half = avg_pool2d(x, 2)
    edges = [(x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()]
    edges = [adaptive_avg_pool2d(edge, 4).flatten(1) for edge in edges]
    whole = adaptive_avg_pool2d(x, 8).flatten(1)
    return [_patches(x), _patches(half), whole[None], torch.cat(edges, 1)[None]]


def map_features(maps: list[Tensor]) -> list[Tensor]:
    """Return features of a network's maps (N, C, h, w), each (P, N, D).

    Means over the whole map, over its quarters and over 16 places, and its standard deviation: after the paper's
    appendix, with fewer places.
    """
    features = []
    for one in maps:
        places = [adaptive_avg_pool2d(one, side).flatten(2).permute(2, 0, 1) for side in (1, 2, 4)]
        deviation = (one.flatten(2).var(2, correction=0) + 1e-6).sqrt()
        features += [*places, deviation[None]]
    return features


def _patches(x: Tensor, side: int = 8, most: int = 8) -> Tensor:
    """Return patches of images (N, C, H, W) that cover them and overlap by half, at most 8x8 of them: (P, N, D)."""
    side = min(side, *x.shape[2:])
    rows, columns = (
        torch.linspace(0, length - side, min(most, -(-2 * (length - side) // side) + 1)).long()
        for length in x.shape[2:]
    )
    places = x.unfold(2, side, 1)[:, :, rows.to(x.device)].unfold(3, side, 1)[:, :, :, columns.to(x.device)]
    return places.permute(2, 3, 0, 1, 4, 5).flatten(0, 1).flatten(2)
