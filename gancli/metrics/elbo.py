"""Lower bounds of log p(x) of a variational autoencoder, in nats an image.

G: a `networks.autoencoder.VariationalAutoencoder` whose likelihood is of pixels; x (N, C, H, H) as it is observed.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gancli.losses.divergence import gaussian_kl


def elbo(G: Any, x: Tensor, c: Tensor, noise: Tensor) -> Tensor:
    """The evidence lower bound (N,), with one z for each image, of noise (N, z_dim), and the KL by its closed form.

    Kingma and Welling 2014, equation 7, https://arxiv.org/abs/1312.6114.
    """
    mean, log_variance = G.posterior(x, c)
    z = mean + (0.5 * log_variance).exp() * noise
    return G.log_likelihood(x, z, c) - gaussian_kl(mean, log_variance)


def importance_weighted(G: Any, x: Tensor, c: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """log 1/K sum_k p(x, z_k) / q(z_k | x) (N,), K = `samples`, z_k drawn from q: log p(x) itself as K grows.

    Burda et al. 2016, equation 8, https://arxiv.org/abs/1509.00519. generator: on the CPU.
    """
    mean, log_variance = G.posterior(x, c)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)  # on the CPU: not every device has float64
    for _ in range(samples):
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        # The constants of both Gaussians are the same.
        log_ratio = (0.5 * (noise.square() + log_variance - z.square())).sum(1)
        total = torch.logaddexp(total, (G.log_likelihood(x, z, c) + log_ratio).cpu().double())
    return total - math.log(samples)
