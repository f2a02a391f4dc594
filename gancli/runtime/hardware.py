"""Which machine this is, for the numbers that are measured on it, and the memory it has."""

import contextlib
import math
import os
import platform
from pathlib import Path

import torch


def describe(device: torch.device) -> str:
    """The GPU's name, or the processor's and how many cores of it torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for products of bfloat16; without, they are slower than of float32."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def free_memory(device: torch.device | str = "cpu") -> float:
    """Bytes that may still be taken on a device; infinite where the system does not say."""
    device = torch.device(device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = math.inf
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError, KeyError):  # a container's own limit, where it has one
        group = Path("/sys/fs/cgroup")
        limit, taken = (float((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        free = min(free, limit - taken + float(cache))  # files it has read are given up first
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed; every allocator words it differently."""
    texts = ("DefaultCPUAllocator", "allocate memory", "not enough memory", "out of memory", "bad_alloc")
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(t in str(error) for t in texts))
