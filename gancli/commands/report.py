"""gan report: a run's page, or several runs ranked."""

from collections.abc import Sequence
from pathlib import Path

from gancli.report.leaderboard import write_leaderboard
from gancli.report.run_folder import find_runs
from gancli.report.run_page import write_page

ASCENDING = {"auto": None, "true": True, "false": False}


def main(runs: Sequence[str], sort: str = "auto", ascending: str = "auto", out: str = "") -> None:
    """Rewrite the page of every run found; of several, write and print the leaderboard."""
    if ascending not in ASCENDING:
        raise ValueError(f"ascending={ascending} is neither auto, true nor false; type ascending=true")
    paths = [Path(run).expanduser() for run in runs] or [Path("outputs")]
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    pages = [write_page(folder) for folder in folders]
    if len(folders) == 1 and folders[0] == paths[0] and not out:
        print(pages[0])
        return
    place = Path(out).expanduser() if out else paths[0]
    place.mkdir(parents=True, exist_ok=True)
    print(write_leaderboard(folders, place, sort, ASCENDING[ascending]))
    print(place / "leaderboard.html")
