"""gan report: write the pages of runs, compare or rank several runs, and animate their samples."""

import errno
from collections.abc import Sequence
from pathlib import Path

from gancli.checkpoint.format import latest_run
from gancli.report.history import FORMATS, write_history
from gancli.report.leaderboard import terminal_text, write_leaderboard
from gancli.report.ranking import Table, rank_runs
from gancli.report.run_folder import Run, read_run
from gancli.report.run_page import write_page
from gancli.report.sweep_folder import absent_jobs, find_runs
from gancli.runtime.checks import check_choice
from gancli.runtime.files import check_writable, remove_partials, typed_path
from gancli.runtime.publish import is_shown, publishing
from gancli.runtime.terminal import say
from gancli.runtime.text import printable, shell_quote

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
ASCENDING = {"auto": None, "true": True, "false": False}


def main(
    runs: Sequence[str],
    sort: str = "auto",
    ascending: str = "auto",
    out: str = "",
    gif: bool = False,
    mp4: bool = False,
    publish_paths: bool = False,
) -> None:
    """Write the page of every run and the animations that were asked for; for several runs, print the leaderboard.

    Runs that may only be read are shown on the terminal, and in the files of out=DIR. Damaged ones are named.
    """
    with publishing(publish_paths or is_shown()):
        report(runs, sort, ascending, out, gif, mp4)


def report(runs: Sequence[str], sort: str, ascending: str, out: str, gif: bool, mp4: bool) -> None:
    """Do what `main` says, with paths in the files or without."""
    check_choice("ascending", ascending, ASCENDING)
    paths = [latest_run() if run == "latest" else typed_path(run) for run in runs] or [Path("outputs")]
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    target = typed_path(out) if out else paths[0]
    if target.suffix.lower() in FORMATS and not target.is_dir():
        if len(folders) > 1:
            raise ValueError(f"out={out} is the animation of one run, but {len(folders)} were given; type gif=true")
        check_writable("out", target)
        print(write_history(read_run(folders[0]), target))
        return
    if out:
        check_writable("out", target)
    found = [*map(read_run, folders), *(job for path in paths for job in absent_jobs(path))]
    for run in found:
        _say_what_is_wrong(run)
    pages = [page for folder in folders if (page := _page(folder))]
    if pages and len(folders) == 1 and folders == paths and not out:
        print(pages[0])
    else:
        _leaderboard(rank_runs(found, sort, ASCENDING[ascending]), target, bool(out))
    wanted = [suffix for suffix, is_wanted in ((".gif", gif), (".mp4", mp4)) if is_wanted]
    for folder in folders:
        for suffix in wanted:
            print(_animation(folder, suffix))


def _say_what_is_wrong(run: Run) -> None:
    """Name a damaged run, and files of a run that were not read or only in part, on standard error."""
    damage = [run.damage] if run.damage else []
    skipped = [f"not read: {'; '.join(run.skipped)}"] if run.skipped else []
    if damage or skipped:
        say(f"gan: {printable(str(run.folder))}: {printable('; '.join([*damage, *skipped]))}")


def _page(folder: Path) -> Path | None:
    """Write the page of a run and return it, or say why a read-only run keeps its old one."""
    try:
        remove_partials(folder)
        return write_page(folder)
    except OSError as error:
        say(f"gan: the page of {printable(str(folder))} is not written again: {error.strerror}")
        return None


def _leaderboard(tables: Sequence[Table], target: Path, typed: bool) -> None:
    """Print the leaderboard and write its files.

    Args:
        typed: the user named the folder; else one that may only be read does not matter.
    """
    print(terminal_text(tables))  # first: whatever comes of the files, the results are shown
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_leaderboard(tables, target)
    except OSError as error:
        if typed or error.errno not in READ_ONLY:
            raise
        say(f"gan: {printable(str(target))} can only be read; type out=DIR for the files of this leaderboard")
    else:
        print(target / "leaderboard.html")


def _animation(folder: Path, suffix: str) -> Path:
    path = folder / "samples" / f"history{suffix}"
    try:
        return write_history(read_run(folder), path)
    except OSError as error:
        raise ValueError(
            f"{printable(str(path))} cannot be written ({error.strerror}); type gan report {shell_quote(str(folder))} "
            f"out=x{suffix}"
        ) from error
