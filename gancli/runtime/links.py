"""Links in run folders, which may come from strangers: none is followed out of the folder."""

from pathlib import Path

from gancli.runtime.text import printable


def links_out(folder: Path) -> list[Path]:
    """Return the links in a run folder, and in its folders of samples and checkpoints, that lead out of it."""
    root = folder.resolve()
    found: list[Path] = []
    for place in (folder, *(p for p in (folder / "samples", folder / "checkpoints") if p.is_dir())):
        if place not in found:
            found += [p for p in place.iterdir() if p.is_symlink() and not p.resolve().is_relative_to(root)]
    return sorted(found)


def refuse_links(folder: Path) -> None:
    """Raise ValueError where a link in a run folder leads out of it: nothing is written through one."""
    for link in links_out(folder):
        raise ValueError(
            f"{printable(str(link))} is a link out of the run, to {printable(str(link.resolve()))}, and a run is "
            f"written in its own folder alone; put the file or folder itself in its place, or remove the link"
        )


def is_inside(path: Path) -> bool:
    """Return whether a file of a run folder is there, and is no link out of it."""
    return path.is_file() and path.resolve().is_relative_to(path.parent.resolve())
