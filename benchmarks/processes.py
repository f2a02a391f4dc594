"""One model trained by one, two and four processes of this machine: images a second, and what the processes cost.

    python benchmarks/processes.py [--steps 300] [--processes 1 2 4] [--models mlp dcgan] [--batch 64] [--repeats 3]

Each is `torchrun --nproc-per-node=N -m gancli train` with one thread a process and the same batch. The speed is that of
the second half of the run; the seconds are the rest of the wall time. Repeats take turns; the table has medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def train(model: str, processes: int, steps: int, batch: int) -> tuple[float, float]:
    """Train one run; return the images a second of its second half, and the seconds before its first step."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *(
                f"model={model}",
                "data=synthetic",
                "data.n=4096",
                "data.size=32",
                f"data.batch_size={batch}",
                "device=cpu",
            ),
            *(f"trainer.steps={steps}", f"trainer.log_every={steps // 2}", f"trainer.sample_every={steps}", "seed=0"),
            *(f"trainer.checkpoint_every={steps}", "trainer.preflight=false", "trainer.precision=fp32", "run.dir=run"),
        ]
        run = ["torch.distributed.run", f"--nproc-per-node={processes}", "--standalone", "-m"] if processes > 1 else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        start = time.perf_counter()
        command = [sys.executable, "-m", *run, "gancli", "train", *words]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        rows = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text("utf-8").splitlines()]
        half, end = (row for row in rows if "images_per_second" in row)
    return 1000 * (end["kimg"] - half["kimg"]) / (60 * (end["minutes"] - half["minutes"])), seconds - 60 * end[
        "minutes"
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--models", nargs="*", default=["mlp", "dcgan"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    typed = parser.parse_args()
    print(f"{os.cpu_count()} cores, batch {typed.batch}, {typed.steps} steps, median of {typed.repeats}\n")
    columns = ("model", "processes", "images a second", "next to one process", "seconds to start and end")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for model in typed.models:
        results: dict[int, list[tuple[float, float]]] = {n: [] for n in typed.processes}
        for _ in range(typed.repeats):
            for n, measured in results.items():
                measured.append(train(model, n, typed.steps, typed.batch))
        first = statistics.median(speed for speed, _ in results[typed.processes[0]])
        for n, measured in results.items():
            speed, rest = (statistics.median(values) for values in zip(*measured))
            print(f"| `{model}` | {n} | {speed:,.0f} | {speed / first:.2f} | {rest:.1f} |", flush=True)


if __name__ == "__main__":
    main()
