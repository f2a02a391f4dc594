"""Other people's GAN packages next to ours: the same data, minutes and cores, evaluated by the same networks.

    python benchmarks/peers/run.py --data mnist --work ~/peers --out docs/results/peers.json
    python benchmarks/peers/run.py --data cifar10 --minutes 5 --seeds 0 1 2 --peers torchgan,vegans --work ~/peers

Everything runs on the CPU, one training at a time. What is measured and how to add a package: README.md in this folder.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environments import PEERS, clean_environment, python_of

from gancli.checkpoint.format import versions
from gancli.data.by_name import load_by_name
from gancli.runtime.hardware import describe
from gancli.runtime.text import table

HERE = Path(__file__).resolve().parent
OURS = "gan"
SIDE = 32  # of the images that a peer trains on; smaller ones get a black border, which is cut off their samples
SPARE = 3600  # seconds for loading, sampling and the last step
PROTOCOL = ("features", "estimators", "generated", "real")  # of an evaluation, which is that of all
ERROR = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b|ERROR: |error: (?!subprocess-exited)|gan: ")
NETWORKS = {"mnist": "mnist", "cifar10": "cifar"}


class Failed(Exception):
    """A training or an evaluation failed, for the reason given."""


class Bench:
    """Trainings on one data set for so many minutes each."""

    def __init__(self, data: str, minutes: float, n: int, work: Path):
        self.data, self.minutes, self.n, self.work = data, minutes, n, work
        self.protocol: dict[str, Any] = {}
        network = NETWORKS[data]
        self.metrics = [*(f"{metric}_{network}" for metric in ("fd", "recall", "coverage")), "swd"]
        train = load_by_name(data, None, None, "train")
        self.size = train.size if isinstance(train.size, int) else train.size[0]
        self.border = (SIDE - self.size) // 2
        border = (self.border, self.border)
        images = np.pad(train.images.permute(0, 2, 3, 1).numpy(), ((0, 0), border, border, (0, 0)))
        self.images = work / f"{data}.npz"
        np.savez(self.images, images=images, labels=train.labels.numpy())

    def train_peer(self, name: str, seed: int) -> dict[str, Any]:
        """Train a peer, evaluate its samples, and return steps, seconds and scores."""
        folder = self._empty_folder(name, seed)
        try:
            python = python_of(name, self.work)
        except subprocess.CalledProcessError as error:
            raise Failed(reason(f"{error.stdout}\n{error.stderr}", error.returncode)) from error
        if modules := PEERS[name].imports:
            self._call([python, "-c", f"import {modules}"], folder, clean_environment(folder))
            raise Failed(f"{modules} can be imported here, but there is no train_{name}.py yet")
        samples = folder / "samples.npy"
        command = [python, HERE / f"train_{name}.py", "--images", self.images, "--minutes", self.minutes]
        command += ["--seed", seed, "--n", self.n, "--out", samples]
        output = self._call(command, folder, clean_environment(folder))
        facts = json.loads(output.splitlines()[-1])
        inside = slice(self.border, SIDE - self.border)
        np.savez(folder / "samples.npz", images=np.load(samples)[:, inside, inside])
        return facts | self._evaluate(f"images={folder / 'samples.npz'}", folder)

    def train_ours(self, seed: int) -> dict[str, Any]:
        """Train experiment=DATA-dcgan, evaluate it, and return steps, seconds and scores."""
        folder = self._empty_folder(OURS, seed)
        run = folder / "run"
        gan = [sys.executable, "-m", "gancli"]
        overrides = [f"experiment={self.data}-dcgan", f"trainer.minutes={self.minutes:g}", f"seed={seed}"]
        self._call([*gan, "train", *overrides, "device=cpu", f"run.dir={run}"], folder)
        events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        end = next(event for event in events if event.get("event") == "finished")
        facts = {"steps": end["step"], "seconds": round(60 * end["minutes"], 1), "torch": str(torch.__version__)}
        return facts | self._evaluate(f"ckpt={run}", folder)

    def _evaluate(self, what: str, folder: Path) -> dict[str, Any]:
        scores = folder / "scores.json"
        options = [f"data={self.data}", f"n={self.n}", f"metrics=[{','.join(self.metrics)}]", "device=cpu"]
        files = [f"json={scores}", f"out={folder / 'samples.png'}"]
        self._call([sys.executable, "-m", "gancli", "evaluate", what, *options, *files], folder)
        results = json.loads(scores.read_text())
        self.protocol = {key: results["protocol"][key] for key in PROTOCOL}
        return {metric: round(results["scores"][metric], 4) for metric in self.metrics}

    def _empty_folder(self, name: str, seed: int) -> Path:
        folder = self.work / f"{self.data}-{name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _call(self, command: list[Any], folder: Path, variables: dict[str, str] | None = None) -> str:
        """Run a command in `folder` with its output in log.txt there; return what it printed."""
        limit = 60 * self.minutes + SPARE
        try:
            done = subprocess.run(
                [str(word) for word in command],
                cwd=folder,
                env=variables,
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"it was stopped after {limit / 60:.0f} minutes") from error
        with (folder / "log.txt").open("a") as log:
            log.write(done.stdout + done.stderr)
        if done.returncode:
            raise Failed(reason(done.stderr, done.returncode))
        return done.stdout


def reason(output: str, code: int) -> str:
    """Return the line of an output that says why a program failed, without the folders of this machine."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    line = (errors or lines or [f"exit status {code}"])[-1]
    return re.sub(r"(?:\w+://\S+|(?<![\w.])(?:/[\w.+-]+)+/)", "", line)[:300]


def table_of(rows: list[dict[str, Any]], metrics: list[str]) -> str:
    """Return a row for each package, with the mean of its seeds and their deviation; failures are below."""
    done: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "failed" not in row:
            done.setdefault(row["package"], []).append(row)

    def cell(of: list[dict[str, Any]], key: str, digits: int) -> str:
        values = [row[key] for row in of]
        deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):,.{digits}f}{deviation}"

    columns = {"steps": 0, "seconds": 0, metrics[0]: 2, metrics[1]: 3, metrics[2]: 3, metrics[3]: 1}
    ranked = sorted(done, key=lambda package: statistics.mean(row[metrics[0]] for row in done[package]))
    cells = [[package, *(cell(done[package], *column) for column in columns.items())] for package in ranked]
    text = table([["package", *columns], *cells], markdown=True)
    failed = dict.fromkeys(f"- {row['package']}: {row['failed']}" for row in rows if "failed" in row)
    notes = dict.fromkeys(f"- {row['package']}: {row['note']}" for row in rows if row["note"] and "failed" not in row)
    return "\n".join([text, *(["", "Failed:", *failed] if failed else []), *(["", "Notes:", *notes] if notes else [])])


def write(out: Path | None, data: str, content: dict[str, Any]) -> None:
    """Write the results of one data set; those of the others stay in the file."""
    if out:
        others = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps(others | {data: content}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=[*NETWORKS], required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--peers", default=",".join([OURS, *PEERS]), help="names, with commas between them")
    parser.add_argument("--n", type=int, default=10_000, help="samples, a multiple of 500, and test images at most")
    parser.add_argument("--work", type=Path, required=True, help="folder of environments, runs and samples")
    parser.add_argument("--out", type=Path, help="x.json; other data sets in it are kept")
    options = parser.parse_args()
    names = options.peers.split(",")
    if unknown := set(names) - {OURS, *PEERS}:
        parser.error(f"--peers {','.join(sorted(unknown))} are not among {','.join([OURS, *PEERS])}")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: there is no such folder")
    work = options.work.expanduser().resolve()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.data, options.minutes, options.n, work)
    facts = {"data": options.data, "minutes": options.minutes, "seeds": options.seeds, "n": options.n}
    facts |= {"machine": describe(torch.device("cpu")), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
    rows: list[dict[str, Any]] = []
    # Every package with one seed before the next: a machine that becomes slower slows all of them.
    for seed in dict.fromkeys(options.seeds):
        for name in names:
            package = f"gancli {options.data}-dcgan" if name == OURS else PEERS[name].package
            row = {"package": package, "seed": seed, "note": "" if name == OURS else PEERS[name].note}
            try:
                row |= bench.train_ours(seed) if name == OURS else bench.train_peer(name, seed)
            except Failed as error:
                row["failed"] = str(error)
            except Exception as error:  # an adapter's mistake must not stop the others either
                row["failed"] = reason(f"{type(error).__name__}: {error}", 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
            write(options.out, options.data, facts | {"protocol": bench.protocol, "runs": rows})
    print(table_of(rows, bench.metrics))


if __name__ == "__main__":
    main()
