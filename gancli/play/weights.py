"""Weights of a play page: bytes in base64, most of them 16-bit or 8-bit."""

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor

BITS = (16, 8)
LARGEST_HALF = 65504.0


def pack(tensors: dict[str, Tensor], bits: int) -> tuple[list[dict[str, Any]], str, dict[str, Tensor]]:
    """Return how each tensor is stored, all bytes in base64, and the tensors as the page reads them.

    Vectors, such as biases, stay 32-bit: they are few, and a scale of batch norm may exceed 16 bits. With 8 bits each
    row of a matrix has its own factor.
    """
    entries, chunks, size, stored = [], [], 0, {}

    def append(array: np.ndarray) -> int:
        nonlocal size
        chunks.append(array.tobytes())
        chunks.append(bytes(-len(chunks[-1]) % 4))
        start, size = size, size + len(chunks[-2]) + len(chunks[-1])
        return start

    for name, x in tensors.items():
        x = x.float().contiguous()
        entry: dict[str, Any] = {"shape": list(x.shape), "type": "f4"}
        if x.dim() < 2 or (bits == 16 and x.abs().max() > LARGEST_HALF):
            entry["at"] = append(x.numpy().astype("<f4"))
        elif bits == 16:
            entry |= {"type": "f2", "at": append(x.half().numpy().astype("<f2"))}
            x = x.half().float()
        else:
            factors = x.flatten(1).abs().amax(1).clamp_min(1e-30) / 127
            rows = factors.view(-1, *[1] * (x.dim() - 1))
            whole = (x / rows).round()
            entry |= {"type": "i1", "at": append(whole.numpy().astype("i1"))}
            entry["factors"] = append(factors.numpy().astype("<f4"))
            x = whole * rows
        entries.append(entry)
        stored[name] = x
    return entries, base64.b64encode(b"".join(chunks)).decode("ascii"), stored


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference of two batches of images in [-1, 1], in levels of 8 bits."""
    return float((a - b).abs().max()) * 127.5 if torch.isfinite(a).all() and torch.isfinite(b).all() else float("inf")
