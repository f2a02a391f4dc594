"""gan report: write the pages of runs and rank several runs."""

from collections.abc import Sequence
from pathlib import Path

from gancli.report.leaderboard import write_leaderboard
from gancli.report.run_folder import find_runs
from gancli.report.run_page import write_page
from gancli.runtime.checks import check_choice

ASCENDING = {"auto": None, "true": True, "false": False}


def main(runs: Sequence[str], sort: str = "auto", ascending: str = "auto", out: str = "") -> None:
    """Write the page of every run; for several runs, write and print the leaderboard."""
    check_choice("ascending", ascending, ASCENDING)
    paths = [Path(run).expanduser() for run in runs] or [Path("outputs")]
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    pages = [write_page(folder) for folder in folders]
    if len(folders) == 1 and folders[0] == paths[0] and not out:
        print(pages[0])
        return
    target = Path(out).expanduser() if out else paths[0]
    target.mkdir(parents=True, exist_ok=True)
    print(write_leaderboard(folders, target, sort, ASCENDING[ascending]))
    print(target / "leaderboard.html")
