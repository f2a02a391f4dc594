"""Divergences of latents from the standard normal distribution."""

import torch
from torch import Tensor


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, I)) in nats for each row of (N, z_dim): (N,).

    Kingma and Welling 2014, appendix B, https://arxiv.org/abs/1312.6114.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def sliced_wasserstein_to_noise(z: Tensor) -> Tensor:
    """Return the squared sliced Wasserstein distance of latents z (N, z_dim) from N samples of N(0, I), a scalar.

    Along N random directions: the mean squared difference of sorted projections. Kolouri et al. 2019, equation 14,
    https://arxiv.org/abs/1804.01947.
    """
    noise, directions = torch.randn_like(z), torch.randn_like(z)
    directions = directions / directions.norm(dim=1, keepdim=True)
    ours, theirs = (t @ directions.T for t in (z, noise))
    return (ours.sort(0).values - theirs.sort(0).values).square().mean()
