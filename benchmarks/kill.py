"""Kill trainings anywhere, resume them, and check that they end like one that was never killed, bit for bit.

    python benchmarks/kill.py [--times 200] [--seed 0] [--model mlp] [--folder DIR]

`gan train` on a tiny model that saves every step is killed (SIGKILL) at random moments and started again by the same
command until it ends; then the next run begins, until there were so many kills. Each last checkpoint is compared with
that of an undisturbed run: networks, average, optimizers, counters. Runs alternate between saving in the training's
thread and in another one. Linux only: processes are forked, because importing torch takes longer than a run.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.config import flatten
from gancli.runtime.files import PARTIAL
from gancli.training import checkpoint_manager as manager
from gancli.training import run as _imported_once  # noqa: F401  for all forked processes

DIFFERENT = ("seconds", "config", "versions")  # of two equal runs: clocks, and the folder's name
WORDS = [
    "data=synthetic", "data.n=64", "data.size=16", "model.width=4", "data.batch_size=8", "device=cpu",
    "trainer.steps=24", "trainer.log_every=8", "trainer.sample_every=1000", "trainer.checkpoint_every=1",
    "trainer.keep_every=3", "trainer.keep_last=2", "trainer.preflight=false",
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--folder", type=Path, help="where the runs are left; else they are removed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # imports the compiler, and --cfg Hydra's parser, once
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["train", *WORDS, "--cfg", "job"])
    with tempfile.TemporaryDirectory() as temporary:
        return compare(options.folder or Path(temporary), options.times, options.seed, options.model)


def compare(folder: Path, times: int, seed: int, model: str) -> int:
    """Return the exit code: 0 if every run ended like the undisturbed one."""
    generator, moments = random.Random(seed), Counter[str]()
    begin = time.perf_counter()
    if code := ended(start(folder / "undisturbed", model)):
        return failed(f"the undisturbed run ended with {code}: see {folder}/undisturbed.txt")
    duration = time.perf_counter() - begin
    expected, runs = learned(folder / "undisturbed"), 0
    while moments.total() < times:
        run = folder / f"run-{runs}"
        manager.MAX_FRACTION = (0.0, float("inf"))[runs % 2]  # 0: save in a thread, except the first time
        code = -1
        while code < 0 and moments.total() < times:
            before, child = partial_files(run), start(run, model)
            time.sleep(generator.uniform(0, duration))
            if (code := ended(child, kill=True)) < 0:
                moments[moment(run, before)] += 1
        if code < 0:
            code = ended(start(run, model))
        if code:
            return failed(f"a killed run did not resume but ended with {code}: see {run}.txt")
        if difference := first_difference(expected, learned(run)):
            return failed(f"{run} ended with another {difference}")
        if left := sorted((run / "checkpoints").glob(".*")):
            return failed(f"{run} is left with {', '.join(file.name for file in left)}")
        runs += 1
    counts = ", ".join(f"{count} {name}" for name, count in moments.most_common())
    print(f"{moments.total()} kills (seed {seed}, a run takes {duration:.2f} s): {counts}")
    print(f"{runs} runs of model={model}, each equal to the undisturbed one in {len(flatten(expected))} values")
    return 0


def failed(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


def start(run: Path, model: str) -> int:
    """Start `gan train` in a forked process; return its id."""
    child = os.fork()
    if child:
        return child
    out = os.open(run.with_name(f"{run.name}.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os._exit(cli.main(["train", *WORDS, f"model={model}", f"run.dir={run}"]))


def ended(child: int, kill: bool = False) -> int:
    """Wait for a process, after killing it with `kill`; return its exit code, negative for a signal."""
    if kill:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def partial_files(run: Path) -> set[tuple[str, int]]:
    """Return the files of unfinished saves, by name and time."""
    return {
        (file.name, file.stat().st_mtime_ns)
        for file in (run / "checkpoints").glob(".*")
        if PARTIAL.fullmatch(file.name)
    }


def moment(run: Path, before: set[tuple[str, int]]) -> str:
    """Return what a kill interrupted; before: partial files that an earlier kill left."""
    if partial_files(run) - before:
        return "in a save, which left a partial file"
    return "elsewhere" if (run / "checkpoints" / manager.LAST).exists() else "before the first save"


def learned(run: Path) -> dict[str, Any]:
    content = checkpoint.read(run / "checkpoints" / manager.LAST)
    return {key: value for key, value in content.items() if key not in DIFFERENT}


def first_difference(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Return the name of a value that differs in any bit, or an empty string."""
    one, other = flatten(a), flatten(b)
    if one.keys() != other.keys():
        return f"set of values: {sorted(one.keys() ^ other.keys())[:3]}"
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        if not same:
            return name
    return ""


if __name__ == "__main__":
    sys.exit(main())
