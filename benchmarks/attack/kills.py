"""End trainings anywhere, type the same command again, and check that nothing tells the run from one left alone.

    python benchmarks/attack/kills.py [events random power disk] [--cases N] [--only best sweep] [--seed 0] [--out FILE]

    events   the process dies before each file event from the last step on; a write writes its first half
    random   SIGKILL, now and then SIGTERM or SIGHUP, at random moments until the run ends
    power    the process dies at a random file event, and what was not flushed to the disk is lost at random
    disk     from a random file event on the disk is full; after the error there is room again

Networks, averages, optimizers, counters, samples, logged rows and the names of all files are compared; times are not.
Linux only: a process is forked for each training, because importing torch takes longer than a run.
"""

import argparse
import contextlib
import copy
import csv
import datetime
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from file_events import Counter, FullDisk, PowerCut, Watch
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.cli import train
from gancli.config import flatten
from gancli.report.run_folder import read_run
from gancli.report.run_page import write_page
from gancli.report.sweep_folder import find_runs
from gancli.runtime.hardware import describe
from gancli.runtime.text import shell_join
from gancli.training import checkpoint_manager as manager
from gancli.training import run as _imported_once  # noqa: F401  for all forked processes

CASES = {"random": 200, "power": 30, "disk": 30}  # of all scenarios together
STEPS = 4
TINY = [
    *("train", "data=synthetic", "data.n=24", "data.size=16", "model.width=4", "data.batch_size=8", "device=cpu"),
    *("trainer.precision=fp32", "trainer.preflight=false", "trainer.log_every=3", "trainer.sample_every=3"),
]
SHORT = [*TINY, f"trainer.steps={STEPS}", "trainer.checkpoint_every=2"]
SCORES = ["data.channels=1", "trainer.evaluate_n=24"]
KEEP = ["trainer.keep_every=2", "trainer.keep_last=1"]
SCENARIOS = {
    "numbered": [*SHORT, *SCORES, "model=mlp", "trainer.evaluate_every=4", *KEEP],
    "best": [*SHORT, *SCORES, "model=mlp", "trainer.evaluate_every=1", "trainer.checkpoint_every=3"],
    "srgan": [*SHORT, "model=srgan"],
    "aegan": [*SHORT, "model=aegan"],
    "sweep": [*SHORT, *SCORES, "model=mlp", "trainer.evaluate_every=2", "-m", "seed=0,1"],
}
LONG = [*TINY, "trainer.steps=11", "trainer.checkpoint_every=1", "trainer.keep_every=3", "trainer.keep_last=2"]
MODELS = ("dcgan", "aegan", "srgan", "r3gan")
KILLED = {f"{model} alone": [*LONG, f"model={model}"] for model in MODELS}
KILLED |= {f"{model} in a sweep": [*LONG, f"model={model}", "-m", "seed=0,1"] for model in MODELS}
CLOCKS = ("minutes", "images_per_second", "evaluate_seconds", "seconds")
HIDDEN = (".", "samples/.", "checkpoints/.")  # files of a dead process, which the next start removes
Differences = list[str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", help="default: all of them")
    parser.add_argument("--cases", type=int, help="of each mode; default: every event, and the numbers of the issue")
    parser.add_argument("--only", nargs="+", help="scenarios; default: all of the mode")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the table; rows of other attacks in it stay")
    options = parser.parse_args()
    modes = {"events": events, "random": randomly, "power": power, "disk": full_disk}
    if unknown := set(options.modes) - modes.keys():
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(modes)}")
    import_all()
    benches: dict[str, Bench] = {}
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for mode, name, cases in chosen(options.modes or [*modes], options.only, options.cases):
            begin = time.perf_counter()
            bench = benches[name] = benches.get(name) or Bench(Path(temporary), (SCENARIOS | KILLED)[name])
            bench.rng = random.Random(f"{options.seed} {mode} {name}")
            row = {"mode": mode, "scenario": name, **modes[mode](bench, cases)}
            row["minutes"] = round((time.perf_counter() - begin) / 60, 1)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            words = [mode, "--only", name, *(["--cases", str(cases)] if cases else []), "--seed", str(options.seed)]
            table.append({**row, "command": shell_join(["python", "benchmarks/attack/kills.py", *words])})
            if options.out:
                write(options.out, table)
    failures = sum(row["failures"] for row in table)
    print(f"{sum(row['cases'] for row in table)} cases, {failures} failures")
    return int(failures > 0)


def chosen(modes: list[str], only: list[str] | None, cases: int | None) -> Iterator[tuple[str, str, int]]:
    """Yield mode, scenario and its number of cases, 0 for every event."""
    for mode in modes:
        scenarios = KILLED if mode == "random" else SCENARIOS
        names = [name for name in scenarios if name in (only or scenarios)]
        total = cases or CASES.get(mode, 0)
        for i, name in enumerate(names):
            own = total // len(names) + (i < total % len(names))
            if own or not total:
                yield mode, name, own


def write(out: Path, table: list[dict[str, Any]]) -> None:
    """Write the table, with the rows of other attacks that the file holds."""
    new = {(row["mode"], row["scenario"]) for row in table}
    old = json.loads(out.read_text())["results"] if out.is_file() else []
    rows = [row for row in old if (row["mode"], row["scenario"]) not in new] + table
    facts = {"date": f"{datetime.date.today()}", "machine": describe(torch.device("cpu"))}
    counts = {key: sum(row[key] for row in rows) for key in ("cases", "failures")}
    out.write_text(json.dumps({**facts, **counts, "results": rows}, indent=1) + "\n")


def import_all() -> None:
    """Import once what every run imports, without a backward pass: torch cannot train in the fork of one that has."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])
    ConfigLoaderImpl.load_configuration = remembering(ConfigLoaderImpl.load_configuration)


def remembering(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return Hydra's function that composes a config, which takes as long as the run, remembering what it composed."""
    known: dict[tuple[Any, ...], Any] = {}

    def remembered(self: Any, config_name: str, overrides: list[str], run_mode: Any, *more: Any, **options: Any) -> Any:
        key = (config_name, *overrides, run_mode)
        if key not in known:
            known[key] = load(self, config_name, overrides, run_mode, *more, **options)
        return copy.deepcopy(known[key])

    return remembered


class Bench:
    """A command, what it leaves when nothing disturbs it, and the folder in which it is disturbed, always the same.

    Attributes:
        events, first: number of file events of the whole run, and of the one after the last step.
    """

    def __init__(self, folder: Path, words: list[str]):
        self.words, self.rng = words, random.Random(0)
        self.root, self.run, self.text = folder / "case", folder / "case" / "run", folder / "output.txt"
        self.clear()
        self.compose()
        begin = time.perf_counter()
        if code := self.ended(self.start(Counter(self.root, folder / "count.json", STEPS))):
            raise SystemExit(f"the undisturbed run ended with {code}: {self.text.read_text()}")
        self.seconds = time.perf_counter() - begin
        self.events, self.first, modules = json.loads((folder / "count.json").read_text())
        for name in modules:  # once, instead of in every forked process
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        self.expected = state(self.run)
        for run in find_runs(self.run):
            write_page(run)  # reads templates that every forked process needs

    def compose(self) -> None:
        """Compose the configs of the command, as every forked process does, but train nothing."""
        training = train.training
        train.training = lambda quiet: lambda *_: 0.0
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cli.main([*self.words, f"run.dir={self.run}"])
        train.training = training
        self.clear()

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self.text.write_text("")

    def start(self, watch: "Watch | None" = None) -> int:
        """Start the command in a forked process; return its id."""
        child = os.fork()
        if child:
            return child
        out = os.open(self.text, os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if watch:
            watch.begin()
        code = cli.main([*self.words, f"run.dir={self.run}"])
        if watch:
            watch.end()
        os._exit(code)

    @staticmethod
    def ended(child: int) -> int:
        """Wait for a process; return its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def again(self) -> Differences:
        """Run the command undisturbed; return how what it leaves differs from what is expected."""
        if code := self.ended(self.start()):
            return [f"exit code {code}: {self.text.read_text()[-300:]}"]
        left = [f"{path} is left" for path in self.root.rglob(".*")]
        return left + differences(self.expected, state(self.run))

    def claims(self) -> Differences:
        """Return how runs that are called finished differ from what is expected."""
        found = []
        for file in self.run.rglob("config.yaml"):
            run, name = file.parent, "" if file.parent == self.run else f"{file.parent.name}/"
            if read_run(run).status == "finished":
                own = {key[len(name) :]: value for key, value in self.expected.items() if key.startswith(name)}
                found += [
                    f"called finished: {one}" for one in differences(own, state(run)) if not one.startswith(HIDDEN)
                ]
        return found

    def report(self, cases: int, wrong: dict[str, Differences]) -> dict[str, Any]:
        """Print the failures; return the entries of the table."""
        for case, found in wrong.items():
            print(f"FAILED {case}: {found[:4]}", file=sys.stderr)
        return {"cases": cases, "failures": len(wrong)}


# --- the four attacks


def events(bench: Bench, cases: int) -> dict[str, Any]:
    """Die before each file event from the last step on, or before so many of them."""
    places = list(range(bench.first, bench.events + 1))
    places = sorted(bench.rng.sample(places, min(cases, len(places)))) if cases else places
    wrong = {}
    for at in places:
        bench.clear()
        code = bench.ended(bench.start(Watch(bench.root, at)))
        found = [] if code == Watch.CODE else [f"it did not die but ended with {code}"]
        if found := [*found, *bench.claims(), *bench.again()]:
            wrong[f"event {at} of {bench.events}"] = found
    return {"events of the run": bench.events, **bench.report(len(places), wrong)}


def randomly(bench: Bench, cases: int) -> dict[str, Any]:
    """Kill at random moments and start again until the run ends; then the next run, until there were so many kills."""
    kills, runs, asked, wrong = 0, 0, 0, {}
    while kills < cases:
        bench.clear()
        manager.MAX_FRACTION = (0.0, float("inf"))[runs % 2]  # 0: save in a thread, except the first time
        code, longest = -1, bench.seconds
        while code and kills < cases:
            child, signum = bench.start(), bench.rng.choice([signal.SIGKILL] * 8 + [signal.SIGTERM, signal.SIGHUP])
            time.sleep(bench.rng.uniform(0, longest))
            longest *= 1.1  # on a machine that has become slower a run would never end
            os.kill(child, signum)
            code = bench.ended(child)
            kills += code != 0
            asked += code == 128 + signum
            if code not in (0, -signum, 128 + signum):
                wrong[f"run {runs}"] = [f"{signum.name} ended it with {code}"]
        found = [one for one in bench.again() if "previous" not in one or not asked]  # a request saves one time more
        if found:
            wrong[f"run {runs}"] = found
        runs += 1
    return {"runs": runs, "saved on request": asked, **bench.report(kills, wrong)}


def power(bench: Bench, cases: int) -> dict[str, Any]:
    """Die at a random event, and now and then at another one when the run is resumed; lose what was not flushed."""
    wrong = {}
    for case in range(cases):
        bench.clear()
        places = [bench.rng.randint(1, bench.events) for _ in range(bench.rng.choice([1, 1, 2]))]
        codes = [bench.ended(bench.start(PowerCut(bench.root, at, bench.rng.random()))) for at in places]
        found = [f"it ended with {code}" for code in codes if code not in (0, Watch.CODE)]
        if found := [*found, *bench.claims(), *bench.again()]:
            wrong[f"case {case}, events {places} of {bench.events}"] = found
    return bench.report(cases, wrong)


def full_disk(bench: Bench, cases: int) -> dict[str, Any]:
    """Let a disk be full from a random event on: one sentence says what to do, and with room the run completes."""
    wrong = {}
    for case in range(cases):
        bench.clear()
        at = bench.rng.randint(1, bench.events)
        code = bench.ended(bench.start(FullDisk(bench.root, at)))
        text, found = bench.text.read_text(), []
        if code not in (0, 1) or "Traceback" in text:
            found = [f"exit code {code}: {text[-300:]}"]
        elif code and not ("No space left" in text and "make room" in text):
            found = [f"no advice: {text[-300:]}"]
        found += [f"{file} is left" for file in bench.root.rglob(".*")]
        if found := [*found, *bench.claims(), *bench.again()]:
            wrong[f"case {case}, event {at} of {bench.events}"] = found
    return bench.report(cases, wrong)


# --- what a run leaves


def state(folder: Path) -> dict[str, Any]:
    """Return what every file of a run or a sweep holds, without clocks, by file and entry."""
    found: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, read = str(file.relative_to(folder)), READERS.get(file.name, READERS.get(file.suffix))
        try:
            found |= {f"{name}/{key}": value for key, value in flatten(read(file)).items()} if read else {name: ""}
        except (OSError, ValueError, KeyError, IndexError) as error:
            found[name] = f"{error}"
    return found


def read_rows(file: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    told = [row for row in rows if "event" not in row or "finding" in row]
    kept = [[(key, value) for key, value in row.items() if key not in CLOCKS] for row in told]
    return {"rows": repr(kept), "last": rows[-1].get("event"), "message": rows[-1].get("message")}


def read_table(file: Path) -> dict[str, Any]:
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    return {str(i): repr([(k, v) for k, v in row.items() if k not in CLOCKS]) for i, row in enumerate(rows)}


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".safetensors": lambda file: {k: v for k, v in checkpoint.read(file).items() if k not in CLOCKS},
    "metrics.jsonl": read_rows,
    "leaderboard.csv": read_table,
    "log.txt": lambda file: {"end": file.read_text().splitlines()[-1].partition("  ")[2]},
    "index.html": lambda file: {"reloads": 'http-equiv="refresh"' in file.read_text()},
    **dict.fromkeys((".png", ".gif", ".yaml", ".json"), lambda file: {"md5": hashlib.md5(file.read_bytes()).digest()}),
}


def differences(a: dict[str, Any], b: dict[str, Any]) -> Differences:
    """Return the names of what differs in any bit."""
    found = [f"{name} {'is missing' if name in a else 'is new'}" for name in sorted(a.keys() ^ b.keys())]
    for name in a.keys() & b.keys():
        one, other = a[name], b[name]
        if not (torch.equal(one, other) if isinstance(one, torch.Tensor) else repr(one) == repr(other)):
            found.append(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
