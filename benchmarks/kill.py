"""Kill a training anywhere, resume it, and see that it ends as one that nobody killed, bit for bit.

    python benchmarks/kill.py [--times 200] [--seed 0] [--model mlp] [--folder DIR]

`gan train` on a tiny model that saves every round is killed (SIGKILL) at moments drawn uniformly from the time
it takes, and started again by the same command until it ends; then the next run begins, until there were so many kills.
Every run's last checkpoint is compared with that of a run left alone: networks, average, optimizers, counters. Runs
save in turn on the step and beside it. Linux: processes are forked, because importing torch takes longer than a run.
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
from gancli.runtime.files import PARTIAL
from gancli.training import checkpoint_manager as keeper
from gancli.training import run as train  # noqa: F401  what takes longest to import, once for all processes

CLOCKS = ("seconds", "config", "versions")  # what two equal runs differ in: time, and the folder's name
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
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # which imports the compiler, and Hydra its parser
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["train", *WORDS, "--cfg", "job"])
    with tempfile.TemporaryDirectory() as temporary:
        return compare(given.folder or Path(temporary), given.times, given.seed, given.model)


def compare(folder: Path, times: int, seed: int, model: str) -> int:
    """The exit code: 0 where every run ended as the one that was left alone."""
    draw, fell = random.Random(seed), Counter()
    begun = time.perf_counter()
    if code := ended(start(folder / "alone", model)):
        print(f"the run that was left alone ended with {code}: see {folder}/alone.txt", file=sys.stderr)
        return 1
    lasts = time.perf_counter() - begun
    expected, runs = learned(folder / "alone"), 0
    while fell.total() < times:
        run = folder / f"run-{runs}"
        # 0: all but the first are written beside the training. Infinity: all on the step.
        keeper.SHARE = (0.0, float("inf"))[runs % 2]
        while fell.total() < times:
            before = partial(run)
            child = start(run, model)
            time.sleep(draw.uniform(0, lasts))
            if (code := ended(child, kill=True)) >= 0:
                break
            fell[where(run, before)] += 1
        else:
            code = ended(start(run, model))
        if code:
            print(f"a run that was killed did not go on, but ended with {code}: see {run}.txt", file=sys.stderr)
            return 1
        if differ := different(expected, learned(run)):
            print(f"{run} ended with another {differ}", file=sys.stderr)
            return 1
        if left := [*(run / "checkpoints").glob(".*")]:
            print(f"{run} is left with {', '.join(file.name for file in left)}", file=sys.stderr)
            return 1
        runs += 1
    told = ", ".join(f"{count} {what}" for what, count in fell.most_common())
    print(f"{fell.total()} kills (seed {seed}, a run takes {lasts:.2f} s): {told}")
    print(f"{runs} runs of model={model}, each equal to the one that was left alone in {len(leaves(expected))} values")
    return 0


def start(run: Path, model: str) -> int:
    """`gan train` in a process of its own; its id."""
    child = os.fork()
    if child:
        return child
    out = os.open(run.with_name(f"{run.name}.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os._exit(cli.main(["train", *WORDS, f"model={model}", f"run.dir={run}"]))


def ended(child: int, kill: bool = False) -> int:
    """The exit code of a process, by itself; or below 0, by the signal that is sent to it now."""
    if kill:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def partial(run: Path) -> set[tuple[str, int]]:
    """The files that a save has begun and not ended, by name and time."""
    return {(file.name, file.stat().st_mtime_ns) for file in (run / "checkpoints").glob(PARTIAL)}


def where(run: Path, before: set[tuple[str, int]]) -> str:
    """What a kill fell into. before: partial files that an earlier kill had left."""
    if partial(run) - before:
        return "in a save, which left a partial file"
    return "elsewhere" if (run / "checkpoints" / "last.safetensors").exists() else "before the first save"


def learned(run: Path) -> dict[str, Any]:
    content = checkpoint.read(run / "checkpoints" / "last.safetensors")
    return {key: value for key, value in content.items() if key not in CLOCKS}


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by their dotted names."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in items for k, v in leaves(inner, f"{name}.{key}").items()}
    return {name: value}


def different(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The name of a value that is not the same to the last bit, or nothing."""
    one, other = leaves(a), leaves(b)
    if one.keys() != other.keys():
        return f"set of values: {sorted(one.keys() ^ other.keys())[:3]}"
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        if not same:
            return name
    return ""


if __name__ == "__main__":
    sys.exit(main())
