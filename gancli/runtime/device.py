"""The device a command computes on."""

import contextlib
from typing import Any

import torch


def choose_device(name: Any) -> torch.device:
    """Return the device of a name: auto (the fastest available), cpu, cuda, cuda:1 or mps.

    A bare number, as Hydra reads device=0, is that of a GPU.
    """
    given = "null" if name is None else str(name)
    name = f"cuda:{given}" if given.isdecimal() else given
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device_type, colon, index = name.partition(":")
    if name == "auto":
        return torch.device(next(device_type for device_type, works in available.items() if works))
    if device_type not in available or (colon and not index.isdecimal()):
        raise ValueError(f"device={given} is unknown; type device=auto, cpu, cuda or mps")
    missing = device_type == "cuda" and int(index or 0) >= torch.cuda.device_count()
    if missing or not available[device_type]:
        raise ValueError(f"device={given} is not on this machine; type device=auto or device=cpu")
    return torch.device(name)


def full_precision(x: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast on the device of x; the meta device has none."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
