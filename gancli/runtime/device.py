"""The device a command computes on."""

import torch


def choose_device(name: str) -> torch.device:
    """auto (the fastest there is), cpu, cuda, cuda:1 or mps. ValueError where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = name.split(":")[0]
    if name == "auto":
        return torch.device(next(kind for kind, works in there.items() if works))
    if kind not in there:
        raise ValueError(f"there is no device {name!r}; type device=auto, cpu, cuda or mps")
    beyond = kind == "cuda" and (torch.device(name).index or 0) >= torch.cuda.device_count()
    if not there[kind] or beyond:
        raise ValueError(f"device={name} was asked for but this machine has none; type device=auto or device=cpu")
    return torch.device(name)
