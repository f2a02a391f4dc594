"""Lower bounds of log p(x) of a variational autoencoder, in nats per image.

G is a VariationalAutoencoder whose likelihood is of pixels; x (N, C, H, H) is what its likelihood observes.
"""

import math
from typing import Any

import torch
from torch import Tensor

from gancli.losses.divergence import gaussian_kl
from gancli.runtime.hardware import in_batches


def elbo(G: Any, x: Tensor, c: Tensor, noise: Tensor) -> Tensor:
    """Return the evidence lower bound (N,) with one latent per image and the closed form of the KL divergence.

    Eq. 7 of Kingma and Welling 2014, https://arxiv.org/abs/1312.6114. noise: standard normal (N, z_dim).
    """
    mean, log_variance = G.posterior(x, c)
    z = mean + (0.5 * log_variance).exp() * noise
    return G.log_likelihood(x, z, c) - gaussian_kl(mean, log_variance)


def importance_weighted(G: Any, x: Tensor, c: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Return log 1/K sum_k p(x, z_k) / q(z_k | x) (N,), z_k ~ q, K = `samples`; it approaches log p(x) as K grows.

    Eq. 8 of Burda et al. 2016, https://arxiv.org/abs/1509.00519. The generator is on the CPU.
    """
    mean, log_variance = G.posterior(x, c)
    total = torch.full((len(x),), -math.inf, dtype=torch.float64)  # on the CPU: not every device has float64
    for _ in range(samples):
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        z = mean + (0.5 * log_variance).exp() * noise
        # The normalising constants of prior and posterior cancel.
        log_ratio = (0.5 * (noise.square() + log_variance - z.square())).sum(1)
        log_likelihood = torch.cat(in_batches(G.log_likelihood, x, z, c))
        total = torch.logaddexp(total, (log_likelihood + log_ratio).cpu().double())
    return total - math.log(samples)
