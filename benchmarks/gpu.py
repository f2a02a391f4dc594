"""The GPU's day: its tests, then one table of what a training step spends, in at most eight minutes.

    python benchmarks/gpu.py [--minutes 8] [--out docs/results/gpu.json]         on a CUDA GPU, as make test-gpu does
    python benchmarks/gpu.py --device cpu --tests false --width 4 --batches 8    a dry run

A step of `gan train` beside the loop of tutorials, and compiled. `busy` is the fraction of the time in which kernels
run; the rest is launches and waiting. `products` is that of convolutions and matrix products, `memory-bound` that of
all others. Whatever the minutes do not suffice for is left out and named; compiled steps come last.
"""

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from gancli.bench.baseline_loop import BaselineLoop
from gancli.checkpoint.format import versions
from gancli.config import compose
from gancli.runtime.hardware import describe
from gancli.runtime.text import one_line, table
from gancli.training.run import TrainingRun

MODELS = ("mlp", "dcgan", "sngan_proj", "r3gan", "fastgan", "sr_compact")
PRODUCTS = ("gemm", "conv", "cudnn", "cutlass", "xmma", "winograd", "grad", "aten::mm", "addmm", "bmm")
PROFILED = 10  # steps
TESTS_SECONDS = 240  # at most


def overrides(model: str, batch: int, typed: argparse.Namespace) -> list[str]:
    """Return the words of a training of a model on random images of 32x32."""
    words = [
        f"model={model}",
        "data=synthetic",
        "data.size=32",
        f"data.n={max(2 * batch, 2048)}",
        f"data.batch_size={batch}",
    ]
    return [
        *words,
        f"device={typed.device}",
        "trainer.steps=1000000000",
        *([f"model.width={typed.width}"] * bool(typed.width)),
    ]


def rate(step: Any, images: int, seconds: float, device: torch.device) -> float:
    """Return the images a second of repeated steps, after some to warm up and to capture a graph."""
    for _ in range(6):
        step()
    synchronize(device)
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < seconds:
        for _ in range(5):
            step()
        synchronize(device)
        steps += 5
    return images * steps / (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fractions(step: Any, device: torch.device) -> dict[str, float]:
    """Return the fractions of the time of some steps in which any kernel runs, one of products, and another one."""
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    synchronize(device)
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        for _ in range(PROFILED):
            step()
        synchronize(device)
        wall = 1e6 * (time.perf_counter() - start)
    used = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    times = {event.key: getattr(event, used) for event in profiler.key_averages()}
    products = sum(t for name, t in times.items() if any(part in name.lower() for part in PRODUCTS))
    busy = min(1.0, sum(times.values()) / wall)
    return {"busy": busy, "products": min(busy, products / wall), "memory-bound": max(0.0, busy - products / wall)}


def trained(words: list[str], seconds: float) -> dict[str, float]:
    """Return the images a second of gan train, the fractions of its time, and its peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = TrainingRun(compose(words), Path(folder), []).trainer
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    step = functools.partial(trainer.train_step, 0.5)
    before = trainer.images
    step()
    result = {"images/s": rate(step, trainer.images - before, seconds, trainer.device)}
    result |= fractions(step, trainer.device)
    if trainer.device.type == "cuda":
        result["GB"] = torch.cuda.max_memory_reserved(trainer.device) / 1e9
    trainer.batches.wait()
    return result


def baseline(words: list[str], seconds: float) -> float:
    """Return the images a second of the loop of tutorials."""
    loop = BaselineLoop(words)
    running = loop.steps()
    with contextlib.closing(running):
        return rate(lambda: next(running), loop.images, seconds, loop.device)


def measure(typed: argparse.Namespace, end: float) -> list[dict[str, Any]]:
    """Return a row for each model and batch."""
    rows: list[dict[str, Any]] = [{"model": model, "batch": batch} for model in typed.models for batch in typed.batches]
    for what in ("images/s", "baseline", "compiled"):
        for row in rows:
            words = overrides(row["model"], row["batch"], typed)
            if time.monotonic() > end:
                row[what] = "no time"
                continue
            try:
                if what == "images/s":
                    row |= trained(words, typed.seconds)
                elif what == "baseline":
                    row[what] = baseline(words, typed.seconds)
                else:
                    row[what] = trained([*words, "trainer.compile=true"], typed.seconds)["images/s"]
            except Exception as error:  # the table is worth more than one of its cells
                # The loop of tutorials has few losses, and no model without D.
                absent = what == "baseline" and isinstance(error, KeyError | AttributeError)
                row[what] = "–" if absent else f"failed: {one_line(error, 60)}"
            print(f"{what}: {row}", file=sys.stderr, flush=True)
    return rows


def text(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    columns = ("model", "batch", "images/s", "baseline", "compiled", "busy", "products", "memory-bound", "GB")

    def cell(name: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return (
            f"{value:.0%}"
            if name in ("busy", "products", "memory-bound")
            else f"{value:,.1f}"
            if name == "GB"
            else f"{value:,.0f}"
        )

    return table([list(columns), *([cell(name, row.get(name, "")) for name in columns] for row in rows)], markdown=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--batches", type=int, nargs="*", default=[128, 512])
    parser.add_argument("--seconds", type=float, default=1.5, help="of a measurement")
    parser.add_argument("--width", type=int, default=0, help="of all models; 0: their own")
    parser.add_argument("--tests", choices=("true", "false"), default="true")
    parser.add_argument("--out", type=Path)
    typed = parser.parse_args()
    end = time.monotonic() + 60 * typed.minutes - 15
    code = 0
    if typed.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            "gpu.py: there is no CUDA GPU here; for a dry run type --device cpu --tests false --width 4 --batches 8"
        )
    if typed.tests == "true":
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-n0",
            "-m",
            "gpu",
            str(Path(__file__).parents[1] / "tests" / "test_gpu.py"),
        ]
        code = subprocess.run(["timeout", str(TESTS_SECONDS), *words]).returncode
    machine = describe(torch.device(typed.device))
    rows = measure(typed, end)
    print(f"{machine}; {', '.join(f'{name} {version}' for name, version in versions().items())}; tests: exit {code}\n")
    print(text(rows))
    if typed.out:
        content = {"machine": machine, "versions": versions(), "tests": code, "rows": rows}
        typed.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(code)


if __name__ == "__main__":
    main()
