"""Where training stops getting faster: images a second by cores, batch size, width and image size, one at a time.

    python benchmarks/scaling.py [--model dcgan] [--seconds 3] [--repeats 3]

Every row differs from the first in one number. The loops are those of `gan bench speed`, in processes of their own and
in turns with square matrix products on as many cores, whose rate is that of "of products". Several processes of one
run: benchmarks/processes.py.
"""

import argparse
import contextlib
import os
import statistics
from functools import partial
from typing import NamedTuple

import torch

from gancli.bench.timing import LoopFailed, LoopProcess, MatrixProducts, TimedLoop, TrainingLoop
from gancli.runtime.text import table
from gancli.training.preflight import in_bytes

CORES, BATCHES, WIDTHS, SIZES = (1, 2), (16, 32, 128, 256, 512), (16, 64, 128), (64, 128)


class Case(NamedTuple):
    """What a loop is timed with."""

    cores: int
    batch: int = 64
    width: int = 32
    size: int = 32

    def words(self, model: str) -> list[str]:
        data = ["data=synthetic", "data.channels=3", f"data.size={self.size}", f"data.n={max(self.batch, 512)}"]
        words = [f"model={model}", f"model.width={self.width}", f"data.batch_size={self.batch}", "device=cpu"]
        return [*words, *data, "trainer.steps=1000000000"]


def training(model: str, case: Case) -> TimedLoop:
    torch.set_num_threads(case.cores)
    return TrainingLoop(case.words(model))


def products(cores: int, precision: str) -> TimedLoop:
    torch.set_num_threads(cores)
    return MatrixProducts("cpu", precision)


def cases() -> list[Case]:
    base = Case(os.cpu_count() or 1)
    others = [base._replace(cores=cores) for cores in CORES if cores < base.cores]
    others += [base._replace(batch=batch) for batch in BATCHES]
    others += [base._replace(width=width) for width in WIDTHS]
    return [base, *others, *(base._replace(size=size) for size in SIZES)]


def measure(model: str, case: Case, seconds: float, repeats: int) -> list[str]:
    """Return the cells of a row after those of the case."""
    with contextlib.ExitStack() as stack:
        loop = LoopProcess(partial(training, model, case), 0, seconds)
        stack.callback(loop.close)
        square = LoopProcess(partial(products, case.cores, loop.facts["precision"]), 0, 1.0)
        stack.callback(square.close)
        turns = [(loop.turn(), square.turn()) for _ in range(repeats)]
    took, took_products = (statistics.median(values) for values in zip(*turns))
    rate = loop.facts["flops"] * loop.facts["steps"] / took
    peak = square.facts["flops"] * square.facts["steps"] / took_products
    images = loop.facts["images"] * loop.facts["steps"] / took
    return [f"{images:,.0f}", f"{rate / 1e9:,.0f}", f"{rate / peak:.0%}", in_bytes(loop.memory)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--seconds", type=float, default=3, help="of a turn")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    rows = [["cores", "batch", "width", "pixels", "images/s", "GFLOP/s", "of products", "memory"]]
    for case in cases():
        try:
            cells = measure(options.model, case, options.seconds, options.repeats)
        except LoopFailed as error:
            cells = [f"failed: {error.message}", "", "", ""]
        rows.append([*map(str, case), *cells])
        print(", ".join(rows[-1]), flush=True)
    print(table(rows, markdown=True))


if __name__ == "__main__":
    main()
