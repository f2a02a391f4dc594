"""Which machine this is, for the numbers that are measured on it."""

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
