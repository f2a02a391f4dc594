"""Cost of images that are read from the cache of decoded images: once, at every start, in every step.

    python benchmarks/stream.py [--images 2000] [--size 256] [--batch 16] [--width 8] [--steps 10] [--device auto]

Writes JPEGs of soft noise, decodes them as data=folder does, and trains model=dcgan on them. "cold": the pages of the
cache have been given back to the system, which needs no root; the disk may have a cache of its own.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gancli.bench.timing import WARM_UP, TrainingLoop, synchronize
from gancli.checkpoint.format import versions
from gancli.data.folder import folder
from gancli.data.loader import BatchLoader
from gancli.runtime.device import choose_device
from gancli.runtime.hardware import describe

DISTINCT = 200  # images; the others are copies, which cost as much to decode


def write_images(count: int, size: int, root: Path) -> None:
    """Write `count` JPEGs of size x size pixels of soft noise."""
    rng, files = np.random.default_rng(0), list[bytes]()
    root.mkdir()
    for k in range(count):
        file = root / f"{k:06d}.jpg"
        if k >= DISTINCT:
            file.write_bytes(files[k % DISTINCT])
            continue
        layers = np.zeros((size, size, 3))
        for side in (4, 16, 64):
            coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
            layers += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), float) / 3
        Image.fromarray(layers.astype(np.uint8)).save(file, quality=90)
        files.append(file.read_bytes())


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def drop_pages(cache: Path) -> None:
    """Give the pages of the decoded images back to the system, which ignores pages that are mapped."""
    gc.collect()  # a finished trainer maps them until it is collected
    for file in cache.rglob("*.pixels"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(batches: BatchLoader) -> None:
    """Keep the images in memory, as data that is not a folder does."""
    data: Any = batches.data
    batches.data, batches.streamed = replace(data, images=data.images.to(batches.device, copy=True)), False


def streamed(batches: BatchLoader) -> None:
    assert batches.streamed, f"all images fit on {batches.device}: type more --images"


def on_demand(batches: BatchLoader) -> None:
    """Read images when a batch needs them, not in the background."""
    streamed(batches)
    batches._read = batches._host_work  # type: ignore[method-assign]


def step_time(overrides: list[str], steps: int, change: Callable[[BatchLoader], None]) -> tuple[float, float]:
    """Return the seconds of a training step, and the fraction of them that it takes to get its batches."""
    trained = TrainingLoop(overrides)
    trainer, waited = trained.run.trainer, [0.0]
    trainer.graphs = None  # a captured step asks for no batch
    change(trainer.batches)

    def clocked(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: int) -> Any:
            begin = time.perf_counter()
            result = method(*arguments)
            waited[0] += time.perf_counter() - begin
            return result

        return call

    for name in ("prefetch", "next_batch"):
        setattr(trainer.batches, name, clocked(getattr(trainer.batches, name)))
    training = trained.steps()
    for _ in range(WARM_UP):
        next(training)
    synchronize(trained.device)
    waited[0], begin = 0.0, time.perf_counter()
    for _ in range(steps):
        next(training)
    synchronize(trained.device)
    duration = time.perf_counter() - begin
    training.close()
    return duration / steps, waited[0] / duration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"images": 2000, "size": 256, "batch": 16, "width": 8, "steps": 10, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device, facts = choose_device(options.device), dict[str, float]()

    def report(name: str, values: list[float], unit: str) -> float:
        median = round(statistics.median(values), 6)
        print(f"{name:<48}{median:>10,.4g} {unit}, from {min(values):,.4g} to {max(values):,.4g}", flush=True)
        return median

    with tempfile.TemporaryDirectory() as work:
        root, cache = Path(work) / "images", Path(work) / "cache"
        write_images(options.images, options.size, root)

        def load() -> object:
            return folder(str(root), options.size, cache=str(cache))

        facts["decoded once"] = report("decoded once", [options.images / seconds(load)], "images/s")
        starts = [seconds(load) for _ in range(options.repeats)]
        facts["a start from the cache"] = report("a start from the cache", starts, "s")
        overrides = ["model=dcgan", f"model.width={options.width}", f"device={device}", "trainer.steps=1000000000"]
        overrides += ["data=folder", f"data.path={root}", f"data.size={options.size}", f"data.cache={cache}"]
        overrides += [f"data.batch_size={options.batch}"]
        modes: dict[str, tuple[Callable[[BatchLoader], None], bool]] = {
            "in memory": (resident, False),
            "from the cache, read in the background": (streamed, False),
            "from the cache, read on demand": (on_demand, False),
        }
        if hasattr(os, "posix_fadvise"):
            modes["cold, read in the background"] = (streamed, True)
            modes["cold, read on demand"] = (on_demand, True)
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in modes}
        for _ in range(options.repeats):
            for name, (change, cold) in modes.items():
                if cold:
                    drop_pages(cache)
                results[name].append(step_time(overrides, options.steps, change))
        for name, measured in results.items():
            durations, fractions = zip(*measured)
            facts[f"a step, {name}"] = report(f"a step, {name}", list(durations), "s")
            percent = [100 * fraction for fraction in fractions]
            facts[f"percent, {name}"] = report("    of it, to get its batches", percent, "%")
    print(json.dumps({"machine": describe(device), **vars(options), "versions": versions(), "facts": facts}))


if __name__ == "__main__":
    main()
