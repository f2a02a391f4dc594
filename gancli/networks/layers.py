"""Layers that several architectures share."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from gancli.config import nearest


class LabelEmbedding(nn.Module):
    """One-hot classes (N, classes) to vectors (N, width); with no classes, (N, 0) to (N, 0).

    Absence is width zero: concatenating the result is then a no-op, and no network asks whether it is
    conditional. `width` is the width that really comes out, 0 or the one asked for.
    """

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.width = width if classes else 0
        # nn.Linear(0, k) warns and has nothing to learn.
        self.project: nn.Module = nn.Identity()
        if classes:
            self.project = linear = nn.Linear(classes, width, bias=False)
            nn.init.normal_(linear.weight)  # as nn.Embedding: unit variance

    def forward(self, c: Tensor) -> Tensor:
        return self.project(c)


def beside(x: Tensor, vectors: Tensor) -> Tensor:
    """x (N, C, H, W) with vectors (N, K) as K constant planes beside its channels: (N, C + K, H, W); x where K is 0.

    Concatenating nothing would still copy x, forwards and backwards.
    """
    if not vectors.shape[1]:
        return x
    return torch.cat([x, vectors[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)


@torch.no_grad()
def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Weights of every convolution from N(0, std), batch-norm gains from N(1, std), biases zero.

    Radford et al. 2016, section 4, https://arxiv.org/abs/1511.06434 (batch-norm gains: the authors' code).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, std)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, std)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def spectral(module: nn.Module) -> nn.Module:
    """Divide the weight of every convolution and linear layer in `module`, in place, by its largest singular value.

    The value is followed by one power iteration a forward in training mode. Miyato et al. 2018, section 2 and
    algorithm 1, https://arxiv.org/abs/1802.05957.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(layer)
    return module


def check_choice(key: str, value: str, known: tuple[str, ...]) -> str:
    """`value`, if it is one of `known`; ValueError otherwise."""
    if value not in known:
        raise ValueError(f"{key}={value} is not one of {', '.join(known)}{nearest(str(value), known)}")
    return value


class Dropout(nn.Module):
    """Sets each value to 0 with probability p while training, and divides the others by 1 - p."""

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a share of values is left out, but model.dropout={p}; type model.dropout=0.5")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        return x * (torch.rand(x.shape, device=x.device) >= self.p) / (1 - self.p)


class ReflectionPad(nn.Module):
    """`border` pixels more on each side, mirrored at the outermost: torch's own, but deterministic on CUDA too."""

    def __init__(self, border: int):
        super().__init__()
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        for dim in (2, 3):
            first, last = x.narrow(dim, 1, self.border), x.narrow(dim, -self.border - 1, self.border)
            x = torch.cat([first.flip(dim), x, last.flip(dim)], dim)
        return x


class NoMinibatch(nn.Module):
    """Every sample by itself. extra: how many features a layer puts beside those that it is given."""

    extra = 0

    def forward(self, f: Tensor) -> Tensor:
        return f


class MinibatchDiscrimination(NoMinibatch):
    """How close each sample is to the others of its batch, as `kernels` more features: a collapse is seen at once.

    Features f (N, F) or (N, F, H, W), flattened to `features`, are projected to M = f T, (N, kernels, dims); feature b
    of sample i is the sum over the other samples j of exp(-|M_ib - M_jb|_1). Salimans et al. 2016, section 3.2,
    https://arxiv.org/abs/1606.03498. The result has the new features beside the old ones.
    """

    def __init__(self, features: int, kernels: int = 16, dims: int = 5):
        super().__init__()
        self.extra, self.dims = kernels, dims
        self.project = nn.Linear(features, kernels * dims, bias=False)

    def forward(self, f: Tensor) -> Tensor:
        m = self.project(f.flatten(1)).unflatten(1, (-1, self.dims)).permute(2, 1, 0)  # dims, kernels, N
        # Not torch.cdist: it cannot be differentiated twice, which penalties do. One dim at a time, (kernels, N, N):
        # all at once are several times slower on a CPU, whose caches they leave.
        distance = sum((one[:, :, None] - one[:, None]).abs() for one in m)
        return append(f, torch.exp(-distance).sum(2).T - 1)  # a sample's distance to itself is zero: exp(0) = 1


class MinibatchStd(NoMinibatch):
    """One more feature for all: the standard deviation over the batch, averaged over the features and places.

    Features (N, F) or (N, F, H, W). Karras et al. 2018, section 3, https://arxiv.org/abs/1710.10196.
    """

    extra = 1

    def forward(self, f: Tensor) -> Tensor:
        # A constant feature would have no slope at a root of 0.
        std = (f.var(0, correction=0) + 1e-8).sqrt().mean()
        return append(f, std.expand(len(f), 1))


MINIBATCH = ("none", "discrimination", "std")


def minibatch_layer(kind: str, features: int) -> NoMinibatch:
    """The layer `kind` for samples of `features` numbers each."""
    check_choice("model.minibatch", kind, MINIBATCH)
    if kind == "discrimination":
        return MinibatchDiscrimination(features)
    return MinibatchStd() if kind == "std" else NoMinibatch()


def append(f: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (N, K) as K more features of f (N, F), or as K constant planes of f (N, F, H, W)."""
    return torch.cat([f, vectors], 1) if f.dim() == 2 else beside(f, vectors)
