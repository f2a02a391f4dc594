"""Metrics against torch-fidelity, scipy, scikit-learn and scikit-image."""

import math

import numpy as np
import pytest
import scipy
import torch
from helpers import normal, soft_images
from scipy.spatial.distance import cdist, pdist
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

from gancli.images import luma, to_float, to_uint8
from gancli.metrics.diversity import class_coverage, diversity
from gancli.metrics.fid import Moments, frechet
from gancli.metrics.inception_score import InceptionScore
from gancli.metrics.kid import kid, mmd
from gancli.metrics.mode_coverage import coverage
from gancli.metrics.precision_recall import density_coverage, precision_recall
from gancli.metrics.psnr_ssim import fidelity, psnr, rgb_psnr, spectrum, ssim, studio_luma
from gancli.metrics.sliced_wasserstein import sliced_wasserstein

FID, KID = "Heusel et al. 2017, eq. 6", "Bińkowski et al. 2018, section 4"
PRC, DC = "Kynkäänniemi et al. 2019, eq. 1 and 2", "Naeem et al. 2020, section 3"


def moments(x: torch.Tensor) -> Moments:
    result = Moments()
    for part in x.split(17):
        result.add(part)
    return result


def test_frechet_distance(oracle):
    a, b = normal(300, 24, seed=1), 1.2 * normal(200, 24, seed=2) @ normal(24, 24, seed=3) + 0.3
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)[metric_fid.KEY_METRIC_FID]
    oracle("Fréchet distance", FID, "torch-fidelity", frechet(moments(a), moments(b)), theirs, 1e-9)
    m, n, p, q = a.mean(0).numpy(), b.mean(0).numpy(), np.cov(a.numpy().T), np.cov(b.numpy().T)
    theirs = ((m - n) ** 2).sum() + np.trace(p + q - 2 * scipy.linalg.sqrtm(p @ q).real)
    oracle("Fréchet distance", FID, "scipy's sqrtm", frechet(moments(a), moments(b)), theirs, 1e-9)
    oracle("Mean and covariance in batches", "Chan et al. 1979", "numpy.cov", moments(a).covariance, p)


@pytest.mark.parametrize("size", [40, 90])
def test_kernel_distance(size, oracle):
    fake, real = normal(130, 16) + 0.2, 1.2 * normal(90, 16, seed=1)
    options = {"kid_subsets": 8, "kid_subset_size": size, "rng_seed": 5, "verbose": False}
    theirs = metric_kid.kid_features_to_metric(fake, real, **options)
    theirs = [theirs[metric_kid.KEY_METRIC_KID_MEAN], theirs[metric_kid.KEY_METRIC_KID_STD]]
    oracle(
        "Kernel distance, mean and deviation over subsets",
        KID,
        "torch-fidelity",
        kid(fake, real, 8, size, 5),
        theirs,
        1e-10,
    )
    xx, yy, xy = (polynomial_kernel(s, t, gamma=1 / 16) for s, t in ((fake, fake), (real, real), (fake, real)))
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    oracle(
        "Kernel distance of all pairs",
        KID,
        "scikit-learn's polynomial kernel",
        mmd(fake, real),
        sum(within) - 2 * xy.mean(),
        1e-10,
    )


@pytest.mark.parametrize("splits", [1, 10])
def test_inception_score(splits, oracle):
    logits = 3 * normal(200, 7)
    ours = InceptionScore(200, splits, seed=4)
    for part in logits.split(33):
        ours.add(part)
    theirs = metric_isc.isc_features_to_metric(logits, splits, shuffle=True, rng_seed=4)
    theirs = [theirs[metric_isc.KEY_METRIC_ISC_MEAN], theirs[metric_isc.KEY_METRIC_ISC_STD]]
    oracle(
        "Inception score, mean and deviation over splits",
        "Salimans et al. 2016",
        "torch-fidelity",
        ours.score(),
        theirs,
        1e-10,
    )
    if splits == 1:
        p = scipy.special.softmax(logits.numpy(), 1)
        theirs = math.exp(scipy.stats.entropy(p, p.mean(0, keepdims=True), axis=1).mean())
        oracle(
            "Inception score of one split", "Salimans et al. 2016", "scipy's entropy", ours.score()[0], theirs, 1e-10
        )


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall(k, oracle):
    fake, real = 0.9 * normal(200, 5) + 0.1, normal(300, 5, seed=1)
    options = {"prc_neighborhood": k, "prc_batch_size": 100, "save_cpu_ram": False, "verbose": False}
    theirs = metric_prc.prc_features_to_metric(fake.float(), real.float(), **options)
    theirs = [theirs[metric_prc.KEY_METRIC_PRECISION], theirs[metric_prc.KEY_METRIC_RECALL]]
    oracle("Precision and recall", PRC, "torch-fidelity", precision_recall(fake, real, k), theirs, 1e-6)
    inside = [
        cdist(x, y) <= NearestNeighbors(n_neighbors=k + 1).fit(y).kneighbors(y)[0][:, -1]
        for x, y in ((fake.numpy(), real.numpy()), (real.numpy(), fake.numpy()))
    ]
    oracle(
        "Precision and recall",
        PRC,
        "scikit-learn's nearest neighbours",
        precision_recall(fake, real, k),
        [i.any(1).mean() for i in inside],
    )
    theirs = [inside[0].sum() / (k * len(fake)), inside[0].any(0).mean()]
    oracle("Density and coverage", DC, "scikit-learn's nearest neighbours", density_coverage(fake, real, k), theirs)


def planes(seed: int) -> torch.Tensor:
    return (
        to_uint8(soft_images(2, 3, 40)).double()[:, 0] if seed == 0 else to_uint8(soft_images(4, 3, 40)).double()[2:, 0]
    )


def test_psnr_and_ssim(oracle):
    a, b = planes(0), planes(1)
    pairs = list(zip(a.numpy(), b.numpy()))
    theirs = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in pairs]
    oracle("PSNR of planes", "10 log10(255^2 / MSE)", "scikit-image", psnr(a, b), theirs, 1e-10)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255, "full": True}
    theirs = [structural_similarity(x, y, **options)[1][5:-5, 5:-5].mean() for x, y in pairs]
    oracle("SSIM", "Wang et al. 2004, eq. 13", "scikit-image", ssim(a, b), theirs, 1e-9)
    x, y = soft_images(2), soft_images(4)[2:]
    images = [to_uint8(t).permute(0, 2, 3, 1).numpy() for t in (x, y)]
    theirs = [peak_signal_noise_ratio(s, t, data_range=255) for s, t in zip(*images)]
    oracle("PSNR of colour images", "10 log10(255^2 / MSE)", "scikit-image", rgb_psnr(x, y), theirs, 1e-10)


def test_luma(oracle):
    from skimage.color import rgb2ycbcr

    x = soft_images(2)
    rgb = to_uint8(x).permute(0, 2, 3, 1).numpy()
    oracle(
        "Luma in studio range", "ITU-R BT.601", "scikit-image's rgb2ycbcr", studio_luma(x), rgb2ycbcr(rgb)[..., 0], 1e-5
    )
    exact = to_uint8(x).double().mul(torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)).sum(1)
    oracle(
        "Luma in full range",
        "ITU-R BT.601",
        "numpy, to half a grey level",
        (luma(x)[:, 0].double() + 1) * 127.5 / 255,
        exact / 255,
        0.003,
    )


def test_spectra(oracle):
    """Parseval: the powers of all frequencies sum to the windowed image's mean square."""
    y = normal(1, 64, 64)
    window = np.outer(np.hanning(64), np.hanning(64))
    window /= np.sqrt((window**2).mean())
    windowed = (y[0].numpy() - y[0].numpy().mean()) * window
    power = np.abs(np.fft.fft2(windowed)) ** 2 / 64**4
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    theirs = [power[(frequency * 64).astype(int) == ring].sum() for ring in range(32)]
    oracle("Power by radial frequency", "|FFT|^2 in rings", "numpy.fft", spectrum(y)[0], theirs, 1e-10)
    x = soft_images(1, 1, 40)
    same = fidelity(x, x, 2)
    oracle(
        "Sharpness and high frequencies of an equal image",
        "ratios",
        "1 and 0 dB",
        [same["sharpness"], same["high_frequency"]],
        [1.0, 0.0],
    )


def test_sliced_wasserstein_distance(oracle):
    a, b = normal(50, 1, 3, 3).float(), normal(50, 1, 3, 3, seed=1).float() * 2
    d = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))
    d = (d / d.norm(dim=0)).numpy()
    theirs = np.mean([scipy.stats.wasserstein_distance(a.flatten(1) @ v, b.flatten(1) @ v) for v in d.T])
    oracle(
        "Sliced Wasserstein distance",
        "Rabin et al. 2012",
        "scipy.stats.wasserstein_distance",
        sliced_wasserstein(a, b, 16),
        theirs,
        1e-6,
    )


def test_modes_and_diversity(oracle):
    modes = torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(0))
    frequency = np.bincount(modes.numpy(), minlength=10) / 500
    found, divergence = coverage(modes, 10)
    oracle(
        "Reverse KL divergence of modes",
        "Srivastava et al. 2017, section 4",
        "scipy.stats.entropy",
        divergence,
        scipy.stats.entropy(frequency, np.full(10, 0.1)),
    )
    oracle("Number of modes", "Metz et al. 2016, section 3.3.1", "numpy.unique", found, len(np.unique(modes)))
    fake, real = 0.6 * normal(40, 1, 2, 2, dtype=torch.float32), normal(50, 1, 2, 2, seed=1, dtype=torch.float32)
    none = [torch.zeros(len(t), dtype=torch.int64) for t in (fake, real)]
    spread = [np.sqrt((pdist(t.flatten(1).double().numpy()) ** 2).mean()) for t in (fake, real)]
    oracle(
        "Diversity",
        "root mean square distance of pairs",
        "scipy's pdist",
        diversity(fake, real, *none),
        spread[0] / spread[1],
        1e-6,
    )
    centres = 10 * torch.eye(4).view(4, 1, 2, 2)
    labels = torch.arange(40) % 4
    images = centres[labels] + 0.1 * normal(40, 1, 2, 2, dtype=torch.float32)
    shown = torch.tensor([0] * 20 + [1] * 10 + [2] * 10)
    covered, entropy = class_coverage(centres[shown] + 0.1, images, labels, 4)
    theirs = scipy.stats.entropy([0.5, 0.25, 0.25], base=4)
    oracle(
        "Class coverage and entropy",
        "nearest neighbours",
        "scipy.stats.entropy",
        [covered, entropy],
        [0.75, theirs],
        1e-6,
    )


def test_rounding_to_8_bits(oracle):
    x = torch.linspace(-1.2, 1.2, 4001).view(1, 1, 1, -1)
    theirs = np.clip(np.rint((x.double().numpy() + 1) * 127.5), 0, 255)
    ours = to_uint8(x).double()
    differs = (ours.numpy() != theirs) & (np.abs((x.double().numpy() + 1) * 127.5 % 1 - 0.5) > 1e-3)
    oracle(
        "Images in [-1, 1] to grey levels",
        "round((x + 1) 255 / 2)",
        "numpy, away from halves",
        float(differs.sum()),
        0.0,
    )
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, -1)
    oracle("Grey levels to [-1, 1] and back", "", "the same levels", to_uint8(to_float(levels)), levels)
