"""Layers that several architectures share."""

import torch
from torch import Tensor, nn


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
