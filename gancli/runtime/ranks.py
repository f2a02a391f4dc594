"""The share of a batch that belongs to this process, where several train one model; all of it where it is alone.

Noise and whatever else is drawn for every image of a batch is drawn by each process for the whole batch, of which it
keeps its own rows: how many processes share the work then makes no difference to what is drawn. What is computed of a
batch as a whole is so only where it is made of `total` or `averaged`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Share:
    """rank: which process this is, of `size`. generators: those that all processes have alike, by device."""

    rank: int = 0
    size: int = 1
    seed: int = 0
    generators: dict[torch.device, torch.Generator] = field(default_factory=dict)

    def generator(self, device: torch.device) -> torch.Generator | None:
        """None: torch's default one."""
        if self.size == 1:
            return None
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


_now = Share()


@contextlib.contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Within `with`, batches are shared so."""
    global _now
    before, _now = _now, share
    try:
        yield
    finally:
        _now = before


def processes() -> int:
    """How many share the batch in hand."""
    return _now.size


def drawn(
    draw: Callable[..., Tensor], shape: tuple[int, ...], device: torch.device, dim: int = 0, **kind: Any
) -> Tensor:
    """draw(shape), by torch.rand and the like, for this process's images, which lie along `dim`."""
    if _now.size == 1:
        return draw(shape, device=device, **kind)
    whole = [*shape[:dim], shape[dim] * _now.size, *shape[dim + 1 :]]
    drawn = draw(whole, device=device, generator=_now.generator(device), **kind)
    return drawn.narrow(dim, _now.rank * shape[dim], shape[dim])


def normal_like(x: Tensor) -> Tensor:
    """N(0, 1) in the shape, type and memory layout of x (N, ...), which is this process's part of a batch."""
    if _now.size == 1:
        return torch.randn_like(x)
    # What is drawn first goes where memory begins, so the whole has the layout of x as well.
    whole = torch.empty_like(torch.cat([x] * _now.size)).normal_(generator=_now.generator(x.device))
    return whole.narrow(0, _now.rank * len(x), len(x))


def total(t: Tensor) -> Tensor:
    """The sum of t over the processes, differentiable any number of times; t itself where there is one."""
    return t if _now.size == 1 else Sum.apply(t)


def averaged(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """The means of float tensors over the processes, in one message; differentiable as `total` is."""
    if _now.size == 1:
        return tensors
    whole = total(torch.cat([t.flatten().float() for t in tensors])) / _now.size
    return [part.view(t.shape) for part, t in zip(whole.split([t.numel() for t in tensors]), tensors)]


def gathered(t: Tensor) -> Tensor:
    """The rows of all processes, t (N, ...) being this one's, in their order: differentiable as `total` is."""
    if _now.size == 1:
        return t
    # A place for each: their sum is all of them.
    parts = [t if rank == _now.rank else torch.zeros_like(t) for rank in range(_now.size)]
    return total(torch.cat(parts))


def own(whole: Tensor) -> Tensor:
    """This process's rows of what was `gathered`."""
    return whole.chunk(_now.size)[_now.rank]


class Sum(torch.autograd.Function):
    """The sum over all processes. A part moves the sum and so the losses of all: its slope is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        return summed(t.clone())

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return Sum.apply(slope)


def summed(t: Tensor) -> Tensor:
    """t, now the sum over all processes. ValueError where one of them is gone."""
    try:
        torch.distributed.all_reduce(t)
    except RuntimeError as error:
        raise ValueError(
            f"one of the {torch.distributed.get_world_size()} processes has ended, and with it all of them; the last "
            f"checkpoint is good: start all of them again with the same run.dir="
        ) from error
    return t
