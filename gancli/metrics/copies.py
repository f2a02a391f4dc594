"""Copies of training images among generated ones: a G that has memorised its data has not learned it.

Two images are compared by the largest correlation of their details over small shifts, of an image and of its mirror
image: it does not depend on brightness or contrast. Only the nearest images in the features of a network and by their
spectra, which a shift leaves as they are, are compared so. Images of the training set that have no partner, each
against all others, tell how much alike two different images are: above the correlation that only FALSE_ALARMS of them
reach, an image counts as a copy.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize, pad

from gancli.images import to_float
from gancli.metrics.feature_extractors import FeatureExtractor
from gancli.runtime.seeding import derive_seed

FALSE_ALARMS = 0.02  # of real images that were not trained on
SHIFT = 4  # pixels each way, at SIDE pixels or less
SIDE = 64  # larger images are compared at this size
NEAREST = 8  # training images that an image is compared with, by features and by spectra each
WAVES = 8  # frequencies of a spectrum along each axis
CALIBRATED = 500  # training images that are compared with the others, for the threshold
BLOCK = 16  # images compared at once
FEWEST = 20  # training images for a threshold
ALIKE = 0.999  # correlation from which two images are one
EULER = 0.5772156649015329  # mean of the standard Gumbel distribution


@dataclass
class Copies:
    """Results of a search, for N images.

    Attributes:
        correlation: with the nearest training image, (N,), at most 1.
        nearest: index of that training image, (N,).
        mirrored: whether its mirror image is nearer, (N,).
        threshold: correlation above which an image counts as a copy.
    """

    correlation: Tensor
    nearest: Tensor
    mirrored: Tensor
    threshold: float

    @property
    def fraction(self) -> float:
        """Fraction of the images that are copies."""
        return float((self.correlation > self.threshold).double().mean())


class CopyDetector:
    """Compares images with a training set.

    Args:
        training: (M, C, H, W) uint8 or float in [-1, 1].
        extractor: network of the features, or None to search by spectra alone.
        seed: of the choice of CALIBRATED training images.
    """

    def __init__(self, training: Tensor, extractor: FeatureExtractor | None = None, seed: int = 0):
        if len(training) < FEWEST:
            raise ValueError(
                f"copies are found by comparing training images with each other, which needs {FEWEST} of them, but "
                f"there are {len(training)}; add images, or leave copies out of metrics="
            )
        self.extractor, self.training = extractor, training
        self.keys = [torch.cat(parts) for parts in zip(self._keys(training), self._keys(training.flip(3)))]
        chosen = torch.randperm(len(training), generator=torch.Generator().manual_seed(derive_seed(seed, "copies")))
        chosen = chosen[:CALIBRATED]
        others = self._search(training[chosen], chosen).correlation.double()
        # Fisher's transformation: where digits are nearly alike the distribution's tail would end beyond 1.
        self.threshold = math.tanh(exceeded_by(FALSE_ALARMS, others.clamp(max=ALIKE).atanh()))

    def __call__(self, images: Tensor) -> Copies:
        """Return the nearest training image of each of `images` (N, C, H, W), of the training images' size."""
        return self._search(images)

    def _keys(self, images: Tensor) -> list[Tensor]:
        """Return vectors of length 1 to search by, (N, D) each: spectra, and features."""
        keys = [torch.cat([spectra(part) for part in images.split(1000)])]
        if self.extractor:
            keys += [torch.cat([self.extractor(part)[0] for part in images.split(1000)])]
        return [normalize(key - key.mean(1, keepdim=True), dim=1) for key in keys]

    def _search(self, images: Tensor, own: Tensor | None = None) -> Copies:
        """Search the nearest training images; own: (N,) indices of training images that do not count."""
        keys, m, found = self._keys(images), len(self.training), []
        for begin in range(0, len(images), BLOCK):
            block = slice(begin, begin + BLOCK)
            near = torch.cat([self._nearest(q[block], k, own, block) for q, k in zip(keys, self.keys)], 1)
            both = self.training[near.flatten() % m]
            both = torch.where((near.flatten() >= m)[:, None, None, None], both.flip(3), both)
            queries = details(images[block]).repeat_interleave(near.shape[1], 0)
            value = correlation(queries, details(both)).view(near.shape)
            best = value.argmax(1, keepdim=True)
            found.append((value.gather(1, best)[:, 0], near.gather(1, best)[:, 0]))
        values, indices = (torch.cat(parts) for parts in zip(*found))
        return Copies(values, indices % m, indices >= m, getattr(self, "threshold", 1.0))

    def _nearest(self, queries: Tensor, keys: Tensor, own: Tensor | None, block: slice) -> Tensor:
        """Return indices (N, NEAREST) of the nearest keys; those from M on are of mirror images."""
        likeness = queries @ keys.T
        if own is not None:
            m = len(self.training)
            likeness.scatter_(1, torch.stack([own[block], own[block] + m], 1), -2)
        return likeness.topk(min(NEAREST, keys.shape[0] - 2), 1).indices


def exceeded_by(fraction: float, maxima: Tensor) -> float:
    """Return the value that at most `fraction` of such maxima (N,) exceed.

    The larger of the sample's quantile and of that of a Gumbel distribution, the limit of maxima, with the sample's
    mean and deviation: the upper end of a hundred images alone is a matter of chance.
    """
    spread = maxima.std() * math.sqrt(6) / math.pi
    gumbel = maxima.mean() - spread * (EULER + math.log(-math.log(1 - fraction)))
    return float(torch.maximum(maxima.quantile(1 - fraction), gumbel))


def details(images: Tensor) -> Tensor:
    """Return images (N, C, H, W), of at most SIDE pixels, minus their local means over a quarter of the side."""
    x = to_float(images)
    if x.shape[-1] > SIDE:
        x = adaptive_avg_pool2d(x, SIDE)
    width = x.shape[-1] // 4 | 1
    return x - window_means(pad(x, (width // 2,) * 4, mode="reflect"), width, width)


def window_means(x: Tensor, height: int, width: int) -> Tensor:
    """Return the mean of each window of x (N, C, H, W). As matrix products: pooling with large windows is slow."""
    rows, columns = (
        torch.ones(side, side, device=x.device).triu().tril(k - 1)[: side - k + 1] / k
        for side, k in zip(x.shape[2:], (height, width))
    )
    return rows @ x @ columns.T


def spectra(images: Tensor) -> Tensor:
    """Return the square roots of the amplitudes of the lowest frequencies of images (N, C, H, W): (N, D)."""
    x = details(images).mean(1)
    height, width = (torch.hann_window(side, periodic=False, device=x.device) for side in x.shape[1:])
    amplitudes = torch.fft.rfft2(x * torch.outer(height, width)).abs().sqrt()
    return torch.cat([amplitudes[:, :WAVES, :WAVES], amplitudes[:, 1 - WAVES :, :WAVES]], 1).flatten(1)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest correlation of the middle of a and equally large parts of b, (N, C, H, W) each: (N,)."""
    height, width = a.shape[2:]
    middle = a[:, :, SHIFT : height - SHIFT, SHIFT : width - SHIFT]
    middle = middle - middle.mean((2, 3), keepdim=True)
    # By their spectra: a convolution with so large a kernel takes 30 times as long.
    products = torch.fft.rfft2(b) * torch.fft.rfft2(middle, s=(height, width)).conj()
    product = torch.fft.irfft2(products.sum(1), s=(height, width))[:, : 2 * SHIFT + 1, : 2 * SHIFT + 1]
    means, squares = (window_means(t, *middle.shape[2:]) for t in (b, b * b))
    power = middle[0, 0].numel() * (squares - means.square()).clamp_min(0).sum(1)
    scale = (power * middle.square().sum((1, 2, 3))[:, None, None]).sqrt()
    # A flat image has no details to be copied.
    return torch.where(scale > 1e-4, product / scale.clamp_min(1e-4), 0).flatten(1).amax(1)
