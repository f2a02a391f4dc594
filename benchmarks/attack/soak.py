"""Random commands for an hour, some killed at random: nothing is lost, nothing stays behind, nothing grows.

    python benchmarks/attack/soak.py [--minutes 60] [--seed 0] [--out docs/results/robustness-soak.json]

One process runs commands for the whole time, and its memory and open files are compared between the first and the last
quarter. Other processes are forked for the commands that are killed. A command that was killed is typed again and must
complete; a training must then equal an uninterrupted one to the bit. Exit code 1 if anything failed or has grown.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.data.image_files import walk_images
from gancli.runtime.files import PARTIAL
from gancli.runtime.hardware import describe

MODELS = ("mlp", "dcgan", "cgan_mlp", "vae_mlp", "wgan_gp")
TINY = ["data=folder", "data.path=pictures", "data.size=16", "data.batch_size=8", "model.width=4", "device=cpu"]
TINY += ["trainer.log_every=2", "trainer.sample_every=4", "trainer.checkpoint_every=3", "trainer.sample_rows=1"]
TINY += ["trainer.preflight=false", "trainer.precision=fp32"]
STEPS, MORE = 10, 16  # of a run, and of the same run continued
RUNS = 6  # that lie on the disk at a time
GROWN_MEMORY, GROWN_DISK = 1.1, 60e6  # a factor, and bytes that a handful of runs never takes
CLOCKS = ("seconds", "config", "versions")  # of a checkpoint's content


def call(words: list[str], log: Path) -> int:
    """Run a command in this process, its output in a file; return its exit code."""
    with (
        log.open("w", errors="backslashreplace") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        return cli.main(words)


def serve(commands: Connection) -> None:
    """Run commands until there are no more; answer each with exit code, megabytes of memory and open files."""
    while words := commands.recv():
        code = call(words, Path("session.log"))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        open_files = len(list(Path("/proc/self/fd").iterdir()))
        commands.send((code, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, open_files))


def learned(run: Path) -> dict[str, Any]:
    """Return the last checkpoint of a run without what depends on the clock."""
    content = checkpoint.read(run / "checkpoints" / "last.safetensors")
    return {key: value for key, value in content.items() if key not in CLOCKS}


def equal(a: Any, b: Any) -> bool:
    """Return whether nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


class Soak:
    """A folder of runs and samples on which random commands are run.

    Attributes:
        counts: of commands by their name, and of kills.
        failures: sentences.
        measured: memory and open files of the session after each of its commands.
    """

    def __init__(self, seed: int):
        self.rng, self.counts, self.failures = random.Random(seed), Counter[str](), list[str]()
        self.measured: list[tuple[float, float]] = []
        self.largest_disk = 0
        self.references: dict[tuple[str, int, int], dict[str, Any]] = {}
        self.session, there = multiprocessing.Pipe()
        # Not a Process of multiprocessing, in which gan would take itself for a worker of a sweep.
        if not os.fork():
            self.session.close()  # so that it ends with the process that soaks
            try:
                serve(there)
            finally:
                os._exit(0)
        there.close()
        for i in range(24):
            folder = Path("pictures", "ab"[i % 2])  # its classes
            folder.mkdir(parents=True, exist_ok=True)
            tile = torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(i))
            Image.fromarray((255 * tile).byte().numpy()).save(folder / f"{i}.png")

    def gan(self, *words: str) -> bool:
        """Run a command in the session; note a failure. Return whether it succeeded."""
        self.counts[words[0]] += 1
        self.session.send(list(words))
        code, memory, open_files = self.session.recv()
        self.measured.append((memory, open_files))
        if code:
            self.fail(f"gan {' '.join(words)} ended with {code}: {Path('session.log').read_text()[-300:]}")
        return code == 0

    def killed(self, *words: str) -> None:
        """Run a command in a process that is killed after a random time, which may be after its end."""
        pid = os.fork()
        if not pid:
            os.setpgid(0, 0)
            code = 99
            with contextlib.suppress(BaseException):
                code = call(list(words), Path("killed.log"))
            os._exit(code)
        with contextlib.suppress(OSError):  # the child has done it
            os.setpgid(pid, pid)
        signum, end = self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]), 0
        wait = self.rng.uniform(0.05, 2.0 if words[0] == "train" else 0.7)
        deadline = time.monotonic() + wait
        while not end and time.monotonic() < deadline:
            end = os.waitpid(pid, os.WNOHANG)[0]
            time.sleep(0.005)
        if not end:
            os.killpg(pid, signum)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.counts[f"killed by {signum.name}"] += 1
            if code not in (0, -signum, 128 + signum, 130):
                said = Path("killed.log").read_text()[-300:]
                self.fail(f"gan {' '.join(words)} ended with {code} after {signum.name}: {said}")

    def fail(self, sentence: str) -> None:
        self.failures.append(sentence)
        print(sentence, flush=True)

    # --- what is done

    def train(self) -> None:
        """Train a run that is killed up to three times, then compare it with an uninterrupted one."""
        model, seed, steps = self.rng.choice(MODELS), self.rng.randrange(2), STEPS
        run = Path("runs", f"{model}-{time.monotonic_ns()}")
        words = ["train", *TINY, f"model={model}", f"seed={seed}", f"run.dir={run}"]
        for _ in range(self.rng.randrange(4)):
            self.killed(*words, f"trainer.steps={STEPS}")
        done = self.gan(*words, f"trainer.steps={STEPS}")
        if done and self.rng.random() < 0.4:
            steps, longer = MORE, ["train", f"resume={run}", f"trainer.steps={MORE}"]
            if self.rng.random() < 0.5:
                self.killed(*longer)
            done = self.gan(*longer)
        if done:
            self.compare(model, seed, steps, run)

    def compare(self, model: str, seed: int, steps: int, run: Path) -> None:
        """Note a run that is not equal to the uninterrupted one."""
        key = (model, seed, steps)
        if key not in self.references:
            reference = Path("references", "-".join(map(str, key)))
            words = ["train", *TINY, f"model={model}", f"seed={seed}", f"run.dir={reference}"]
            self.gan(*words, f"trainer.steps={STEPS}")
            if steps != STEPS:
                self.gan("train", f"resume={reference}", f"trainer.steps={steps}")
            self.references[key] = learned(reference)
            shutil.rmtree(reference)
        if not equal(learned(run), self.references[key]):
            self.fail(f"{run}, of {steps} steps, differs from an uninterrupted run")
        self.counts["compared to the bit"] += 1

    def sweep(self) -> None:
        name = f"runs/sweep-{time.monotonic_ns()}"
        words = ["train", "-m", *TINY, "model=mlp", "seed=0,1", "trainer.steps=4", f"run.dir={name}"]
        for _ in range(self.rng.randrange(3)):
            self.killed(*words)
        self.gan(*words)
        if len(list(Path(name).glob("*/checkpoints/last.safetensors"))) != 2:
            self.fail(f"{name} has not its two jobs")

    def sample(self) -> None:
        """Replace samples, killed now and then: the folder holds one generation, or is not read."""
        if not (run := self.any_run()):
            return
        n = self.rng.randrange(20, 30)
        words = ["sample", f"ckpt={run}", f"n={n}", "out=fake/", "overwrite=true"]
        before = len(walk_images(Path("fake"))[0]) if Path("fake").is_dir() else 0
        if self.rng.random() < 0.6:
            self.killed(*words)
            with contextlib.suppress(ValueError):  # half way between two generations
                found = len(walk_images(Path("fake"))[0]) if Path("fake").is_dir() else 0
                if found not in (before, n):
                    self.fail(f"fake/ had {before} samples, {n} were to replace them, and it has {found}")
        if self.gan(*words) and len(walk_images(Path("fake"))[0]) != n:
            self.fail(f"fake/ should hold {n} samples")

    def evaluate(self) -> None:
        if Path("fake").is_dir():
            words = ["evaluate", "images=fake", "reference=pictures", "size=16", "n=20", "metrics=[kd_cifar]"]
            if self.rng.random() < 0.3:
                self.killed(*words, "json=scores.json")
            if self.gan(*words, "json=scores.json"):
                json.loads(Path("scores.json").read_text())

    def report(self) -> None:
        if self.any_run():
            if self.rng.random() < 0.4:
                self.killed("report", "runs")
            self.gan("report", "runs")

    def any_run(self) -> Path | None:
        runs = sorted(Path("runs").glob("*/checkpoints/last.safetensors"))
        return self.rng.choice(runs).parents[1] if runs else None

    def step(self) -> None:
        """Do one thing, then look at the disk."""
        acts = [self.train, self.train, self.sweep, self.sample, self.sample, self.evaluate, self.report]
        self.rng.choice(acts)()
        files = [path for path in Path().rglob("*") if path.is_file()]
        used = sum(path.stat().st_size for path in files)
        self.largest_disk = max(self.largest_disk, used)
        if used > GROWN_DISK:
            self.fail(f"{used / 1e6:.0f} MB are on the disk")
        folders = [path for path in Path("runs").glob("*") if path.is_dir()]
        for folder in sorted(folders, key=lambda path: path.stat().st_mtime)[:-RUNS]:
            left = [path for path in folder.rglob("*") if PARTIAL.fullmatch(path.name) or path.name == ".lock"]
            if left:
                self.fail(f"temporary files stay: {', '.join(map(str, left))}")
            shutil.rmtree(folder)

    def growth(self) -> dict[str, list[float]]:
        """Return memory and open files of the session in its second and last quarter; note what has grown."""
        quarter = max(1, len(self.measured) // 4)
        found = {}
        # In the first quarter PyTorch and Pillow load, and caches fill.
        parts = (self.measured[quarter : 2 * quarter] or self.measured, self.measured[-quarter:])
        for i, (name, allowed) in enumerate((("memory, MB", GROWN_MEMORY), ("open files", 1.0))):
            before, after = (round(statistics.median(values[i] for values in part), 1) for part in parts)
            found[name] = [before, after]
            if len(self.measured) >= 40 and after > allowed * before:
                self.fail(f"{name} grow: {before:g} to {after:g}")
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out, start = options.out and options.out.absolute(), time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        os.environ["HOME"] = root
        soak = Soak(options.seed)
        while not soak.counts["train"] or time.monotonic() < start + 60 * options.minutes:
            soak.step()
        growth = soak.growth()
        soak.session.send([])
        os.wait()
        os.chdir("/")
    minutes = (time.monotonic() - start) / 60
    facts = {
        "command": f"python benchmarks/attack/soak.py --minutes {options.minutes:g} --seed {options.seed}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe(torch.device("cpu")),
        "minutes": round(minutes, 1),
        "counts": dict(sorted(soak.counts.items())),
        "second and last quarter": growth,
        "largest disk, MB": round(soak.largest_disk / 1e6, 1),
        "failures": [re.sub(r"\s+", " ", sentence) for sentence in soak.failures],
    }
    for name, value in facts.items():
        print(f"{name:<26}{json.dumps(value) if not isinstance(value, str) else value}")
    if out:
        out.write_text(json.dumps(facts, indent=1) + "\n")
    return int(bool(soak.failures))


if __name__ == "__main__":
    sys.exit(main())
