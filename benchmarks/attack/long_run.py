"""Check that a long run stays as it began: memory, open files and speed, the first tenth next to the last.

    python benchmarks/attack/long_run.py [--steps 100000] [--every 500] [key=value ...]

A small MLP learns the digits through `gan train` itself, in this process, with its log, grids, metrics, page and saves
every so many steps. Memory is the resident size (from /proc, so on Linux). Exit code 1 if
memory or open files have grown or the rate has fallen.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import torch

from gancli.cli import main as cli
from gancli.runtime.hardware import describe

MODEL = ["model=mlp", "model.width=32", "data=mnist10k", "data.batch_size=32", "device=cpu", "trainer.sample_rows=2"]
PAUSE = 0.5  # seconds between two measurements
ONE, OTHER = torch.zeros(32, 256), torch.zeros(256, 256)
# Tolerances: of an allocator, and of what other processes cost beyond a unit of work.
GROWN, SLOWED = 1.05, 0.8


class Measurement(NamedTuple):
    """Measurements of this process."""

    step: int  # the last that was logged
    cpu: float  # seconds of processor time so far
    memory: float  # megabytes
    files: int  # open ones
    unit: float  # seconds of processor time of a fixed piece of work, which other processes slow down too


def unit_of_work() -> float:
    begin = time.thread_time()
    for _ in range(200):
        ONE @ OTHER
    return time.thread_time() - begin


class Watch(threading.Thread):
    """Measures this process now and then."""

    def __init__(self, metrics: Path):
        super().__init__(daemon=True)
        self.metrics, self.over, self.measured = metrics, threading.Event(), list[Measurement]()

    def run(self) -> None:
        page, step = os.sysconf("SC_PAGE_SIZE"), 0
        while not self.over.wait(PAUSE):
            if self.metrics.exists():
                with self.metrics.open("rb") as file:
                    file.seek(max(0, self.metrics.stat().st_size - 2000))
                    step = max([step, *(int(logged) for logged in re.findall(rb'{"step": (\d+)', file.read()))])
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            files = len(list(Path("/proc/self/fd").iterdir()))
            self.measured.append(Measurement(step, time.process_time(), pages * page / 1e6, files, unit_of_work()))


def tenth(measured: list[Measurement]) -> tuple[float, float, float]:
    """Return memory, open files, and steps in the time of a thousand units of work."""
    first, last = measured[0], measured[-1]
    rate = (last.step - first.step) / (last.cpu - first.cpu) * 1000 * statistics.median(s.unit for s in measured)
    return statistics.median(s.memory for s in measured), statistics.median(s.files for s in measured), rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=500, help="steps between grids and between saves")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="of gan train, as in model=dcgan")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    every = [f"trainer.{what}_every={options.every}" for what in ("sample", "checkpoint")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = [*MODEL, f"trainer.steps={options.steps}", *every, *options.overrides, f"run.dir={run}"]
        watch = Watch(run / "metrics.jsonl")
        begin = time.perf_counter()
        watch.start()
        code = cli.main(["train", *words])
        minutes = (time.perf_counter() - begin) / 60
        watch.over.set()
        watch.join()
        written = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) / 1e6
    # After a hundredth PyTorch has loaded, and has filled its caches.
    measured = [s for s in watch.measured if s.step >= options.steps // 100]
    count = max(2, len(measured) // 10)
    before, after = tenth(measured[:count]), tenth(measured[-count:])
    print(
        f"{options.steps:,} steps in {minutes:.1f} minutes, {written:.1f} MB written; {describe(torch.device('cpu'))}"
    )
    print(f"{'':<24}{'first tenth':>14}{'last tenth':>14}")
    for what, one, other in zip(("memory, MB", "open files", "steps per 1,000 units"), before, after):
        print(f"{what:<24}{one:>14,.1f}{other:>14,.1f}")
    wrong = [f"gan train ended with {code}"] if code else []
    wrong += ["memory grows"] if after[0] > GROWN * before[0] else []
    wrong += ["files stay open"] if after[1] > before[1] else []
    wrong += ["it slows down"] if after[2] < SLOWED * before[2] else []
    print(f"result: {'; '.join(wrong) or 'as it began'}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
