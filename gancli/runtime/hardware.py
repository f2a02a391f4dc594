"""The machine: its name, its bf16 instructions, and its memory."""

import contextlib
import math
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def describe(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU with the number of cores that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def multiplies_bf16(device: torch.device | str = "cpu") -> bool:
    """Return whether a device has instructions for bf16 products; without them bf16 is slower than fp32."""
    device = torch.device(device)
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def free_memory(device: torch.device | str = "cpu") -> float:
    """Return the bytes that are free on a device, or infinity if they are unknown."""
    device = torch.device(device)
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = math.inf
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    with contextlib.suppress(OSError, ValueError, KeyError):  # the limit of a container
        group = Path("/sys/fs/cgroup")
        limit, used = (float((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())["inactive_file"]
        free = min(free, limit - used + float(cache))  # the page cache is freed first
    with contextlib.suppress(ImportError, OSError, ValueError):  # the limit of a process, as by ulimit -v
        import resource

        limit, pages = resource.getrlimit(resource.RLIMIT_AS)[0], int(Path("/proc/self/statm").read_text().split()[0])
        if limit != resource.RLIM_INFINITY:
            free = min(free, float(limit - pages * resource.getpagesize()))
    return free


@contextlib.contextmanager
def limited_memory(size: float) -> Iterator[None]:
    """Let allocations fail within `with` that take more than `size` bytes beyond what this process has; on Linux."""
    status = Path("/proc/self/status")
    if size == math.inf or not status.is_file():
        yield
        return
    import resource

    used = next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData:"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(used + size)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def within_free_memory(device: torch.device | str = "cpu") -> contextlib.AbstractContextManager[None]:
    """Let allocations fail within `with` that memory cannot hold, where Linux would end the process without a word."""
    return limited_memory(free_memory() if torch.device(device).type == "cpu" else math.inf)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes ever in use, of the GPU or else of this process; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that an allocation failed; every allocator words it differently."""
    texts = ("DefaultCPUAllocator", "allocate memory", "not enough memory", "out of memory", "bad_alloc")
    if error.__cause__ and is_out_of_memory(error.__cause__):  # Hydra wraps what a constructor raises
        return True
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(t in str(error) for t in texts))


def in_batches(compute: Callable[..., T], *tensors: Tensor, size: int = 0) -> list[T]:
    """Return compute(*rows) of `size` rows of the tensors at a time, in order; where memory ends, of half as many.

    Args:
        size: 0: all rows at once.
    """
    results: list[T] = []
    start, total = 0, len(tensors[0])
    size = size or max(total, 1)
    while start < total or not results:
        try:
            results.append(compute(*(t[start : start + size] for t in tensors)))
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        else:
            start += size
            continue
        # Outside the except block, where the error no longer holds the network's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = -(-min(size, total - start) // 2)
    return results
