"""Layers that several architectures share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d, interpolate, pad
from torch.nn.utils.parametrizations import spectral_norm

from gancli.runtime.checks import check_choice, check_number


class LabelEmbedding(nn.Module):
    """Linear map of one-hot classes (N, classes) to vectors (N, width); without classes, of (N, 0) to (N, 0).

    Concatenating width zero is a no-op, so no network needs to know whether it is conditional.
    """

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.width = width if classes else 0
        self.project: nn.Module = nn.Identity()  # without classes: nn.Linear(0, k) warns and has no weights
        if classes:
            self.project = linear = nn.Linear(classes, width, bias=False)
            nn.init.normal_(linear.weight)  # as nn.Embedding: unit variance

    def forward(self, c: Tensor) -> Tensor:
        return self.project(c)


def concat_planes(x: Tensor, vectors: Tensor) -> Tensor:
    """Return x (N, C, H, W) and vectors (N, K) as K constant planes: (N, C + K, H, W).

    K = 0 returns x itself, because concatenating nothing would copy it, forwards and backwards.
    """
    if not vectors.shape[1]:
        return x
    return torch.cat([x, vectors[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)


@torch.no_grad()
def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """Initialise convolutions from N(0, std), batch-norm gains from N(1, std), biases with zero.

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
    """Divide the weight of every convolution and linear layer in `module` by its largest singular value; return it.

    The value is estimated by one power iteration per forward pass in training mode. Miyato et al. 2018, section 2 and
    algorithm 1, https://arxiv.org/abs/1802.05957.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(layer)
    return module


class ResizingConv(nn.Conv2d):
    """3x3 convolution next to a change of size by 2, in training on a CPU as one 4x4 convolution of stride 2.

    Both are linear, so their product is one kernel: the sum of the 3x3 kernel at the four positions of a 2x2 block. It
    multiplies 4 times per value of the large map instead of 9. Maps of few pixels do not pay for that sum. Elsewhere,
    exports included, it is computed in two steps.
    """

    FEWEST = 512  # pixels of the small maps of a batch

    def __init__(self, before: int, after: int, bias: bool = True):
        super().__init__(before, after, 3, padding=1, bias=bias)

    def merges(self, small_pixels: int, x: Tensor) -> bool:
        return self.training and x.device.type == "cpu" and len(x) * small_pixels >= self.FEWEST

    def merged(self) -> Tensor:
        """Return the kernel (after, before, 4, 4)."""
        w = pad(self.weight, (1, 1, 1, 1))
        rows = w[:, :, :-1] + w[:, :, 1:]
        return rows[..., :-1] + rows[..., 1:]


class DoublingConv(ResizingConv):
    """Nearest doubling, then a 3x3 convolution: (N, before, H, W) to (N, after, 2H, 2W)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.merges(x.shape[2] * x.shape[3], x):
            return super().forward(interpolate(x, scale_factor=2.0, mode="nearest"))
        return conv_transpose2d(x, self.merged().flip(2, 3).transpose(0, 1), self.bias, stride=2, padding=1)


class HalvingConv(ResizingConv):
    """3x3 convolution, then the mean of 2x2: (N, before, H, W) to (N, after, H // 2, W // 2)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.merges((x.shape[2] // 2) * (x.shape[3] // 2), x):
            return avg_pool2d(super().forward(x), 2)
        return conv2d(x, self.merged() / 4, self.bias, stride=2, padding=1)


class Dropout(nn.Module):
    """Sets each value to 0 with probability p while training, and divides the others by 1 - p."""

    def __init__(self, p: float):
        super().__init__()
        check_number("model.dropout", p, 0, 0.99, example=0.5)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        return x * (torch.rand(x.shape, device=x.device) >= self.p) / (1 - self.p)


class ReflectionPad(nn.Module):
    """Reflection padding by `border` pixels a side: torch's own, but deterministic on CUDA too."""

    def __init__(self, border: int):
        super().__init__()
        self.border = border

    def forward(self, x: Tensor) -> Tensor:
        for dim in (2, 3):
            first, last = x.narrow(dim, 1, self.border), x.narrow(dim, -self.border - 1, self.border)
            x = torch.cat([first.flip(dim), x, last.flip(dim)], dim)
        return x


class NoMinibatch(nn.Module):
    """No batch statistics."""

    extra = 0  # features that the layer appends

    def forward(self, f: Tensor) -> Tensor:
        return f


class MinibatchDiscrimination(NoMinibatch):
    """Layer that appends `kernels` features: how close a sample is to the others of its batch, high after a collapse.

    Features f (N, F) or (N, F, H, W), flattened to `features`, are projected to M = f T, (N, kernels, dims). New
    feature b of sample i is the sum over the other samples j of exp(-|M_ib - M_jb|_1). Salimans et al. 2016, section
    3.2, https://arxiv.org/abs/1606.03498.
    """

    def __init__(self, features: int, kernels: int = 16, dims: int = 5):
        super().__init__()
        self.extra, self.dims = kernels, dims
        self.project = nn.Linear(features, kernels * dims, bias=False)

    def forward(self, f: Tensor) -> Tensor:
        m = self.project(f.flatten(1)).unflatten(1, (-1, self.dims)).permute(2, 1, 0)  # dims, kernels, N
        # Not torch.cdist, which cannot be differentiated twice, as penalties do. One of `dims` at a time,
        # (kernels, N, N): all at once leave a CPU's caches and are several times slower.
        distance = sum((row[:, :, None] - row[:, None]).abs() for row in m)
        # Minus 1, because a sample's distance to itself is zero.
        return append_features(f, torch.exp(-distance).sum(2).T - 1)


class MinibatchStd(NoMinibatch):
    """Layer that appends the standard deviation over the batch, averaged over features and positions.

    Features (N, F) or (N, F, H, W). Karras et al. 2018, section 3, https://arxiv.org/abs/1710.10196.
    """

    extra = 1

    def forward(self, f: Tensor) -> Tensor:
        # The root has no gradient at 0, which a constant feature has.
        std = (f.var(0, correction=0) + 1e-8).sqrt().mean()
        return append_features(f, std.expand(len(f), 1))


def minibatch_layer(name: str, features: int) -> NoMinibatch:
    """Return the layer of this name for `features` values per sample."""
    check_choice("model.minibatch", name, ("none", "discrimination", "std"))
    if name == "discrimination":
        return MinibatchDiscrimination(features)
    return MinibatchStd() if name == "std" else NoMinibatch()


def append_features(f: Tensor, vectors: Tensor) -> Tensor:
    """Return vectors (N, K) as K more features of f (N, F), or as K constant planes of f (N, F, H, W)."""
    return torch.cat([f, vectors], 1) if f.dim() == 2 else concat_planes(f, vectors)
