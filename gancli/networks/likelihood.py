"""Likelihoods p(x | z) of images, as layers because some have a learned scale.

raw: the decoder's output (N, C, H, W); the mean image is tanh(raw), in [-1, 1]. x: (N, C, H, W) in [-1, 1].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

LEVEL = 2 / 255  # width of an 8-bit level in [-1, 1]
NARROWEST = math.log(LEVEL / 10)  # lower bound of learned log scales; gradients explode below


class Likelihood(nn.Module):
    """Base class: a call likelihood(raw, x) returns log p(x | z) of every image in nats, (N,), summed over its pixels.

    The base class has none: it is for objectives that compare images otherwise.
    """

    unit = ""  # description of the pixels' distribution; empty without one

    def observed(self, x: Tensor) -> Tensor:
        """Return the observed images: x itself, or binary images sampled from it."""
        return x

    def image(self, raw: Tensor) -> Tensor:
        """Return the mean image (N, C, H, W) in [-1, 1]."""
        return raw.tanh()

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Every pixel black or white, white with probability (tanh(raw) + 1) / 2.

    Grey pixels are such probabilities, and the binary image is sampled anew each time, as in Burda et al. 2016,
    https://arxiv.org/abs/1509.00519.
    """

    unit = "pixels sampled black or white with their grey as the probability of white"

    def observed(self, x: Tensor) -> Tensor:
        u = torch.rand(x.shape, device=x.device)
        return (2 * u - 1 < x).to(x.dtype) * 2 - 1

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        # log sigmoid(2 raw) where white, log sigmoid(-2 raw) where black; between them for grey.
        return -(softplus(2 * raw) - (x + 1) * raw).flatten(1).sum(1)


class Gaussian(Likelihood):
    """N(tanh(raw), sigma^2) for every value, with one learned sigma: Rybkin et al. 2021, https://arxiv.org/abs/2006.13202.

    It is a density in [-1, 1] and can exceed 1; bits per dimension are those of 255 levels.
    """

    unit = "a density; bits per dimension count a level of 8 bits as 2 / 255"

    def __init__(self) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.full((1,), -1.0))

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        log_sigma = self.log_sigma.clamp_min(NARROWEST)
        error = (x - self.image(raw)) / log_sigma.exp()
        return -(0.5 * error.square() + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


class DiscretizedLogistic(Likelihood):
    """Probability mass of a logistic distribution in each pixel's level; the outermost levels have its tails.

    Kingma et al. 2016, section 5.2, https://arxiv.org/abs/1606.04934 (paper: a scale per output; here one learned
    scale). x has 8-bit levels.
    """

    unit = "the mass of each of 256 levels"

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((1,), -1.5))

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        scale = self.log_scale.clamp_min(NARROWEST).exp()
        offset = x - self.image(raw)
        below, above = (offset - LEVEL / 2) / scale, (offset + LEVEL / 2) / scale
        # sigmoid(above) - sigmoid(below), without ever subtracting two numbers that are nearly 1:
        # log of it is logsigmoid(above) + logsigmoid(-below) + log(1 - exp(below - above)).
        inside = logsigmoid(above) + logsigmoid(-below) + (-torch.expm1(below - above)).log()
        mass = torch.where(x < -1 + LEVEL / 2, logsigmoid(above), inside)
        mass = torch.where(x > 1 - LEVEL / 2, logsigmoid(-below), mass)
        return mass.flatten(1).sum(1)
