"""Training one model in several processes: averaged gradients, a common clock, one writer.

Each process takes its rows of every batch, so the order of the data does not depend on how many there are. Gradients
and logged terms are averaged in one message, so all processes keep equal parameters, to the bit. The state of the
first process is sent to the others before the first step.

Differences from one process:

- Noise, dropout and augmentations come from a generator that each process seeds with its rank. N processes do not
  reproduce one process to rounding: they train the same model on the same batches with other noise.
- Statistics over a batch are over the rows of one process: minibatch discrimination and standard deviation, feature
  matching, the sliced Wasserstein term of AEGAN, relativistic means, DRAGAN's standard deviation, the inner steps of an
  unrolled D.
- Batch norm sees the rows of one process, and running statistics are those of the first. On GPUs trainer.sync_bn=true
  uses torch's SyncBatchNorm, unless a gradient is differentiated, which it cannot do.
- CycleGAN's image pool is one per process. A checkpoint holds the first one's, and resuming with another number of
  processes starts it anew.
- The first process computes metrics and writes samples and checkpoints; the others wait.
- CUDA graphs are off.
"""

import contextlib
import importlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gancli.config import stamp
from gancli.runtime import device as devices
from gancli.runtime import ranks

# The others wait while the first process writes samples or reads a data set for the first time.
TIMEOUT = timedelta(minutes=30)


@contextlib.contextmanager
def joined(rank: int, size: int) -> Iterator[str]:
    """Join `size` - 1 other processes within `with`; yield a name for the run that all agree on."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    os.environ.setdefault("MASTER_PORT", "29500")
    # Imported later, by torch's optimizers, the defaults of its functions would hold the group beyond its end: then
    # Gloo's threads outlive the interpreter, and now and then abort the process.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(backend, timeout=TIMEOUT, rank=rank, world_size=size)
    yield ranks.from_first(stamp())
    distributed.destroy_process_group()  # not after an error: with one process gone it might wait for it


def choose_device(name: str) -> torch.device:
    """Return the device called so; with several processes, auto and cuda mean a GPU for each."""
    device = devices.choose_device(name)
    if ranks.world_size() == 1:
        return device
    if device.type == "mps":
        raise ValueError(f"{ranks.world_size()} processes need CPUs or CUDA GPUs to train on; type device=cpu")
    if device.type == "cuda" and device.index is None:
        device = devices.choose_device(f"cuda:{ranks.local_rank()}")
        torch.cuda.set_device(device)
    return device


def average(gradients: list[Tensor], terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Average gradients over the processes in place, and return the averaged terms: one message for both."""
    if ranks.world_size() == 1:
        return terms
    tensors = [*gradients, *terms.values()]
    whole = ranks.mean(torch.cat([t.detach().flatten().float() for t in tensors]))
    means = [part.view(t.shape) for part, t in zip(whole.split([t.numel() for t in tensors]), tensors)]
    torch._foreach_copy_(gradients, means[: len(gradients)])
    return dict(zip(terms, means[len(gradients) :]))


def send_state(trainer: Any) -> None:
    """Give every process's trainer the state of the first one's."""
    if ranks.world_size() > 1:
        state = ranks.from_first(trainer.state_dict())
        if not ranks.is_first():
            trainer.load_state_dict(state)


def synchronise_batch_norm(modules: Iterable[nn.Module]) -> None:
    """Let batch norm on GPUs see the images of all processes, through torch's SyncBatchNorm."""
    for layer in [layer for module in modules for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]:
        # Its class is extended in place: subclasses add to batch norm, and convert_sync_batchnorm would replace them.
        layer.__class__ = type(type(layer).__name__, (type(layer), nn.SyncBatchNorm), {})
        setattr(layer, "process_group", None)  # noqa: B010  all processes
