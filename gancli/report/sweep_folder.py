"""The runs in a folder: one run, the jobs of a sweep, or a folder of both."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gancli.report.run_folder import Run

SWEEP = "sweep.json"  # in the folder of a sweep: the words that started it, and its jobs
RUN_FILES = ("config.yaml", "metrics.jsonl", "checkpoints/last.safetensors")  # any of them makes a folder a run


def find_runs(path: Path) -> list[Path]:
    """Return the run folders at or under a run, a sweep or a folder of both; job 10 comes after job 9."""
    folders = list(_walk(path, depth=3)) if path.is_dir() else []  # outputs/sweeps/<sweep>/<job>
    if not folders:
        problem = "is a file" if path.is_file() else "does not exist"
        if path.is_dir():
            problem = "holds no run (a folder with config.yaml or metrics.jsonl)"
        raise ValueError(f"{str(path)!r} {problem}; give a run folder or a sweep folder, such as outputs/<run>")
    return sorted(folders, key=lambda folder: [natural_key(part) for part in folder.relative_to(path).parts])


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts job 10 after job 9."""
    parts = re.split(r"([0-9]+)", text)
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts) if part]


def _walk(path: Path, depth: int) -> Iterator[Path]:
    try:
        is_run = any((path / name).exists() for name in RUN_FILES)
        children = [] if is_run or not depth else list(path.iterdir())
    except OSError:  # this user may not look into it; who reads it says so
        is_run, children = True, []
    if is_run:
        yield path
    for child in children:
        # Hydra has a config.yaml in .hydra; a link such as `latest` would count a run twice.
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield from _walk(child, depth - 1)


def planned_jobs(sweep: Path) -> dict[str, list[str]]:
    """Return the overrides of a sweep's jobs by the names of their folders, as its sweep.json says."""
    jobs: Any = {}
    with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
        jobs = json.loads((sweep / SWEEP).read_text(encoding="utf-8")).get("jobs")
    items = jobs.items() if isinstance(jobs, dict) else ()
    return {name: list(map(str, words)) for name, words in items if isinstance(words, list) and Path(name).name == name}


def absent_jobs(sweep: Path) -> list[Run]:
    """Return the jobs that a sweep planned and that have no folder."""
    damage = "has not begun, or its folder was removed"
    return [
        Run(sweep / name, {}, [], [{"event": "planned", "overrides": overrides}], [], [], damage=damage)
        for name, overrides in planned_jobs(sweep).items()
        if not (sweep / name).is_dir()
    ]
