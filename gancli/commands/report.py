"""gan report: write the pages of runs, compare or rank several runs, and animate their samples."""

import sys
from collections.abc import Sequence
from pathlib import Path

from gancli.checkpoint.format import latest_run
from gancli.report.history import FORMATS, write_history
from gancli.report.leaderboard import write_leaderboard
from gancli.report.run_folder import find_runs, read_run
from gancli.report.run_page import write_page
from gancli.runtime.checks import check_choice
from gancli.runtime.files import check_writable, remove_partials, typed_path
from gancli.runtime.terminal import say
from gancli.runtime.text import printable

ASCENDING = {"auto": None, "true": True, "false": False}


def main(
    runs: Sequence[str],
    sort: str = "auto",
    ascending: str = "auto",
    out: str = "",
    gif: bool = False,
    mp4: bool = False,
) -> None:
    """Write the page of every run and the animations that were asked for; for several runs, print the leaderboard."""
    check_choice("ascending", ascending, ASCENDING)
    paths = [latest_run() if run == "latest" else typed_path(run) for run in runs] or [Path("outputs")]
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    target = typed_path(out) if out else paths[0]
    if target.suffix.lower() in FORMATS and not target.is_dir():
        if len(folders) > 1:
            raise ValueError(f"out={out} is the animation of one run, but {len(folders)} were given; type gif=true")
        print(write_history(read_run(folders[0]), target))
        return
    for folder in folders:
        if skipped := read_run(folder).skipped:
            print(f"gan: {printable(str(folder))}: not read: {printable('; '.join(skipped))}", file=sys.stderr)
    pages = [page for folder in folders if (page := _page(folder))]
    if len(folders) == 1 and folders[0] == paths[0] and not out:
        if not pages:
            raise ValueError(f"{folders[0]} cannot be written; type out=DIR for a table with its images")
        print(pages[0])
    else:
        check_writable("out", target / "leaderboard.html")
        target.mkdir(parents=True, exist_ok=True)
        print(write_leaderboard(folders, target, sort, ASCENDING[ascending]))
        print(target / "leaderboard.html")
    wanted = [suffix for suffix, is_wanted in zip(FORMATS, (gif, mp4)) if is_wanted]
    for folder in folders:
        for suffix in wanted:
            print(write_history(read_run(folder), folder / "samples" / f"history{suffix}"))


def _page(folder: Path) -> Path | None:
    """Write the page of a run and return it, or say why a read-only run keeps its old one."""
    try:
        remove_partials(folder)
        return write_page(folder)
    except OSError as error:
        say(f"gan: the page of {folder} is not written again: {error.strerror}")
        return None
