"""Processes that train one model together: their numbers, and the messages between them.

Without torchrun or srun there is one process, and every function here returns its argument at once.
"""

import io
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from gancli.runtime.serialization import decode, encode

T = TypeVar("T")


def world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _joined() else 0


def is_first() -> bool:
    """Return whether this process writes the run folder and prints."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0) if _joined() else 0


def mean(t: Tensor) -> Tensor:
    """Return the mean of a float tensor over the processes, without a gradient."""
    return _summed(t.detach().clone()) / world_size() if _joined() else t


def largest(value: int) -> int:
    """Return the largest value of any process, on all of them; each waits here for the others."""
    if not _joined():
        return value
    values = torch.zeros(world_size(), dtype=torch.int64)
    values[rank()] = value
    return int(_summed(values).max())


def from_first(value: Any) -> Any:
    """Return the first process's value, nested tensors, numbers and strings, on every process."""
    if not _joined():
        return value
    data = bytearray().join(encode({"value": value})) if is_first() else bytearray()
    size = int(_summed(torch.tensor(len(data))))
    # All others send zeros: the sum is what the first process has.
    sent = _summed(torch.frombuffer(data, dtype=torch.uint8) if is_first() else torch.zeros(size, dtype=torch.uint8))
    return value if is_first() else decode(io.BytesIO(sent.numpy().data))["value"]


def in_turn(load: Callable[[], T]) -> T:
    """Return load(), called by one process of each machine before the others: it may download and decode."""
    result = load() if local_rank() == 0 else None
    largest(0)
    return load() if result is None else result


class Clock:
    """Seconds of the first process's clock, so that all processes end a run after the same step."""

    def __init__(self) -> None:
        self._now = 0.0

    def tick(self) -> float:
        """Set the time that `now` returns on all processes, and return it."""
        if _joined():
            self._now = float(_summed(torch.tensor(time.perf_counter() if is_first() else 0.0, dtype=torch.float64)))
        return self.now()

    def now(self) -> float:
        """Return the time; with several processes, that of the last tick."""
        return self._now if _joined() else time.perf_counter()


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _summed(t: Tensor) -> Tensor:
    """Replace t by its sum over the processes and return it; raise ValueError if one of them has ended."""
    try:
        distributed.all_reduce(t)
    except RuntimeError as error:
        raise ValueError(
            f"one of the {world_size()} processes has ended, and with it all of them; the last checkpoint is good: "
            f"start all of them again with the same run.dir="
        ) from error
    return t
