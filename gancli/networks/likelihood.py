"""What a decoder's numbers say of pixels: p(x | z) as layers, since some have a width of their own to learn.

raw: (N, C, H, W), what the decoder gives; its mean image is tanh(raw), in [-1, 1]. x: (N, C, H, W) in [-1, 1].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

# Of 8-bit pixels a level is so wide in [-1, 1].
LEVEL = 2 / 255
NARROWEST = math.log(LEVEL / 10)  # of what is learned: below a level nothing is gained, and slopes grow without end


class Likelihood(nn.Module):
    """Called as likelihood(raw, x), log p(x | z) of every image in nats, (N,), over all its pixels.

    This one says nothing of pixels: it is for objectives that compare images by something else.
    """

    unit = ""  # what the pixels are taken for; empty where nothing is said of them

    def observed(self, x: Tensor) -> Tensor:
        """The images that the likelihood is of: x, or drawn from it."""
        return x

    def image(self, raw: Tensor) -> Tensor:
        """The mean image, (N, C, H, W) in [-1, 1]."""
        return raw.tanh()

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Every pixel black or white, white with probability (tanh(raw) + 1) / 2.

    Grey pixels are taken for such probabilities, and the black and white image is drawn anew each time, as in Burda
    et al. 2016, https://arxiv.org/abs/1509.00519.
    """

    unit = "pixels drawn black or white with their grey as the probability of white"

    def observed(self, x: Tensor) -> Tensor:
        chance = torch.rand(x.shape, device=x.device)
        return (2 * chance - 1 < x).to(x.dtype) * 2 - 1

    def forward(self, raw: Tensor, x: Tensor) -> Tensor:
        # log sigmoid(2 raw) where white, log sigmoid(-2 raw) where black; between them for grey.
        return -(softplus(2 * raw) - (x + 1) * raw).flatten(1).sum(1)


class Gaussian(Likelihood):
    """N(tanh(raw), sigma^2) for every value, one sigma for all of them, learned (Rybkin et al. 2021, arXiv 2006.13202).

    A density in [-1, 1], so that it can be above 1: bits per dimension are those of 255 levels.
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
    """The mass of a logistic distribution within each pixel's level; the outermost levels have its tails.

    Kingma et al. 2016, section 5.2, https://arxiv.org/abs/1606.04934 (paper: a scale for each output; here one,
    learned). x in steps of 8 bits.
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
