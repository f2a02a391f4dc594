"""Sweeps of twelve tiny jobs with each launcher on this machine; the process of one job is killed while it trains.

    python benchmarks/launchers.py [joblib submitit ray]

Prints a Markdown table: how the sweep ends, how many jobs have finished, and what the same command does afterwards.
Each takes a minute or two. Launchers that are not installed are left out.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

JOBS, KILLED = 12, "3"  # the number of the job whose process is killed
LAUNCHERS = {
    "one after the other": ("", []),
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["sweep=joblib"]),
    "submitit": (
        "hydra_plugins.hydra_submitit_launcher",
        ["sweep=submitit", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
    ),
    "ray": ("hydra_plugins.hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
}
TINY = [
    *("model=mlp", "data=synthetic", "data.n=64", "data.size=16", "data.batch_size=8", "device=cpu", "model.width=4"),
    *("trainer.steps=100", "trainer.log_every=100", "trainer.sample_every=100", "trainer.checkpoint_every=10"),
    *("trainer.preflight=false", f"seed=range({JOBS})", "run.dir=sweep"),
]


def sweep(folder: Path, words: list[str]) -> subprocess.Popen[str]:
    """Start the sweep in a folder."""
    command = [sys.executable, "-m", "gancli", "train", "-m", *words, *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def kill_job(folder: Path, process: subprocess.Popen[str]) -> str:
    """Kill the process that trains job KILLED, once it has saved; return an empty string, or why it was not."""
    job = folder / "sweep" / KILLED
    while process.poll() is None:
        time.sleep(0.02)
        if any(job.glob("checkpoints/last*")) and (job / ".lock").exists():
            holder = re.match(r"process (\d+) ", (job / ".lock").read_text())
            if holder:
                os.kill(int(holder[1]), signal.SIGKILL)
                return ""
    return "the sweep ended first"


def outcome(folder: Path, code: int, error: str) -> str:
    """Return the exit code, the number of finished jobs and the last sentence."""
    board = folder / "sweep" / "leaderboard.csv"
    finished = board.read_text().count(",finished,") if board.exists() else 0
    last = ([line for line in error.splitlines() if line.startswith("gan: ")] or [error.strip()[-200:]])[-1]
    return f"exit {code}, {finished} of {JOBS} finished | {last.removeprefix('gan: ')[:160]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("launchers", nargs="*", help=f"of {', '.join(LAUNCHERS)}")
    names = parser.parse_args().launchers or list(LAUNCHERS)
    print("| launcher | a job is killed | it says | the same command again |\n|---|---|---|---|", flush=True)
    for name in names:
        module, words = LAUNCHERS[name]
        if module and not find_spec(module):
            print(f"| {name} | not installed | | |")
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            first = sweep(folder, words)
            missed = kill_job(folder, first)
            _, error = first.communicate()
            killed = missed or outcome(folder, first.returncode, error)
            again = sweep(folder, words)
            _, error = again.communicate()
            print(f"| {name} | {killed} | {outcome(folder, again.returncode, error).split(' | ')[0]} |", flush=True)


if __name__ == "__main__":
    main()
