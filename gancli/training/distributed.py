"""Several processes that train one model: what they tell each other, and what only the first of them does.

Each process plays its rows of every batch. Averaged gradients make their parameters the same to the last bit, so what
a run is does not depend on how many processes play it.
"""

import contextlib
import importlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from gancli.checkpoint.format import decode, encode
from gancli.config import stamp
from gancli.runtime.device import choose_device
from gancli.runtime.ranks import Share, averaged, processes, sharing, summed, total
from gancli.runtime.seeding import derive_seed

T = TypeVar("T")
# The others wait while the first makes pictures or reads a data set for the first time.
PATIENCE = timedelta(minutes=30)


@contextlib.contextmanager
def joined(rank: int, size: int) -> Iterator[str]:
    """Within `with`, this process and size - 1 others train one model; gives a name for their run."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("MASTER_PORT", "29500")
    # Imported later, by torch's optimizers, the defaults of its functions would hold the group beyond its end: then
    # Gloo's threads outlive the interpreter, and now and then abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(backend, timeout=PATIENCE, rank=rank, world_size=size)
    yield here().of_first(stamp())
    distributed.destroy_process_group()  # where all went well; with one process gone it might wait for it


def here() -> "Alone":
    """This process, among the others or alone."""
    return Ranks() if distributed.is_available() and distributed.is_initialized() else Alone()


class Alone:
    """One process, as usual: nothing is shared, nobody is asked and nobody is waited for."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the run folder and speaks."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """The device called so."""
        return choose_device(name)

    def in_turn(self, make: Callable[[], T]) -> T:
        """make(), by one process of each machine before the others: it may download and decode."""
        return make()

    def of_first(self, value: Any) -> Any:
        """The first process's value, tensors and plain values, on every process."""
        return value

    def begin_alike(self, trainer: Any) -> None:
        """Give every process's trainer the state of the first's."""

    def any(self, flag: int) -> int:
        """The largest flag of any process. Once a round, so that all stop after the same one."""
        return flag

    def tick(self) -> float:
        """The clock, and from then on `now`: all processes have the time of the first."""
        return self.now()

    def now(self) -> float:
        return time.perf_counter()

    @contextlib.contextmanager
    def drawing(self, seed: int) -> Iterator[None]:
        """Within `with`, whatever is random follows from `seed`."""
        torch.manual_seed(seed)
        yield

    def average(self, gradients: list[Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean over all processes, of the gradients in place."""
        return terms

    def synchronise(self, modules: Iterable[nn.Module]) -> None:
        """Let batch norm see the whole batch."""


class Ranks(Alone):
    """Several processes, once `joined`. Every method but `first`, `device` and `now` is a message to all the others.

    So all processes must call them alike and in the same order, between rounds and in them.
    """

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.local = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
        self._now = 0.0

    def device(self, name: str) -> torch.device:
        """auto and cuda are a GPU of each process's own."""
        device = choose_device(name)
        if device.type == "mps":
            raise ValueError(f"{self.size} processes need CPUs or CUDA GPUs to train on; type device=cpu")
        if device.type == "cuda" and device.index is None:
            device = choose_device(f"cuda:{self.local}")
            torch.cuda.set_device(device)
        return device

    def in_turn(self, make: Callable[[], T]) -> T:
        if self.local == 0:
            made = make()
        self.any(0)
        return made if self.local == 0 else make()

    def of_first(self, value: Any) -> Any:
        data = bytearray().join(encode({"value": value})) if self.first else bytearray()
        size = int(summed(torch.tensor(len(data))))
        # Zeros from all the others: the sum is what the first has.
        sent = summed(torch.frombuffer(data, dtype=torch.uint8) if self.first else torch.zeros(size, dtype=torch.uint8))
        return value if self.first else decode(io.BytesIO(sent.numpy().data))["value"]

    def begin_alike(self, trainer: Any) -> None:
        state = self.of_first(trainer.state_dict())
        if not self.first:
            trainer.load_state_dict(state)

    def any(self, flag: int) -> int:
        # A place for each: their sum is all of them.
        flags = torch.zeros(self.size, dtype=torch.int64)
        flags[self.rank] = flag
        return int(summed(flags).max())

    def tick(self) -> float:
        self._now = float(summed(torch.tensor(time.perf_counter() if self.first else 0.0, dtype=torch.float64)))
        return self._now

    def now(self) -> float:
        return self._now

    @contextlib.contextmanager
    def drawing(self, seed: int) -> Iterator[None]:
        # What is not drawn through gancli.runtime.ranks, dropout say, at least differs between the processes.
        torch.manual_seed(derive_seed(seed, "process", self.rank))
        with sharing(Share(self.rank, self.size, seed)):
            yield

    def average(self, gradients: list[Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """One message: the watched terms travel with the gradients."""
        means = list(averaged([*gradients, *(term.detach() for term in terms.values())]))
        torch._foreach_copy_(gradients, means[: len(gradients)])
        return dict(zip(terms, means[len(gradients) :]))

    def synchronise(self, modules: Iterable[nn.Module]) -> None:
        for layer in [layer for module in modules for layer in module.modules()]:
            kind = type(layer)
            if issubclass(kind, nn.BatchNorm2d):
                # Below a class that adds to batch norm, in its place: what it calls as super() is ours.
                bases = (SharedBatchNorm,) if kind is nn.BatchNorm2d else (kind, SharedBatchNorm)
                layer.__class__ = type(kind.__name__, bases, {})


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes, which have as many each.

    Not torch's SyncBatchNorm, which works on GPUs only and cannot be differentiated twice, as gradient penalties are.
    """

    def forward(self, x: Tensor) -> Tensor:
        size, own = processes(), x.float()
        if not self.training or size == 1:
            return super().forward(x)
        parts = own.new_zeros(size, 2, x.shape[1])
        here = torch.stack([own.mean((0, 2, 3)), own.var((0, 2, 3), correction=0)])
        # A place for each process, so that no variance is a difference of large numbers.
        place = torch.arange(size, device=x.device) == distributed.get_rank()
        means, variances = total(torch.where(place[:, None, None], here, parts)).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        assert self.momentum and self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            n = size * x.numel() / x.shape[1]
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        y = (own - mean[:, None, None]) * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)
