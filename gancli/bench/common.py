"""Common parts of the benchmarks: checks of arguments, and the files of a report."""

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from gancli import images
from gancli.config import UsageError, choices, keys, stamp
from gancli.runtime.checks import check_choice
from gancli.runtime.files import check_writable, typed_path, write_text
from gancli.runtime.text import without_nan


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turn the ValueError of a check into a UsageError, exit code 2."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from None


def choose_names(key: str, names: Iterable[Any], known: Iterable[str]) -> list[str]:
    """Return the names without repetitions; raise UsageError if there are none, or an unknown one."""
    chosen, known = list(dict.fromkeys(map(str, names))), list(known)
    if not chosen:
        raise UsageError(f"{key}=[] names nothing; type any of {', '.join(known)}")
    with usage_errors():
        for name in chosen:
            check_choice(key, name, known)
    return chosen


def choose_data(benchmark: str, names: Iterable[str] | str, default: str) -> str:
    """Return the one data set to train on; raise UsageError for several or one that is not built in."""
    names = [names] if isinstance(names, str) and names else list(names)
    if len(names) > 1:
        raise UsageError(
            f"gan bench {benchmark} trains on one data set, but data={names} was given; type data={default}"
        )
    built_in = [name for name in choices("data") if "path" not in [key.name for key in keys(f"data/{name}")]]
    return choose_names("data", names or [default], built_in)[0]


def output_folder(benchmark: str, out: str) -> Path:
    """Return the folder to write, `out` or a new one; raise ValueError where it cannot be written."""
    folder = typed_path(out or f"outputs/bench-{benchmark}-{stamp()}")
    check_writable("out", folder)
    return folder


def finish(folder: Path, benchmark: str, texts: Iterable[str], failed: str) -> int:
    """Print the results, the files and the sentence on failures; return the exit code, 1 if something failed."""
    print("\n\n".join(texts))
    for file in (folder / f"{benchmark}.{suffix}" for suffix in ("json", "csv", "md", "png")):
        if file.is_file():
            print(file)
    if failed:
        print(f"gan: {failed}", file=sys.stderr)
    return 1 if failed else 0


def write_report(
    folder: Path, benchmark: str, finished: bool, content: dict[str, Any], markdown: str, image: Image.Image | None
) -> None:
    """Write <benchmark>.json, .md and .png into a folder."""
    facts = {"benchmark": benchmark, "finished": finished, "time": time.strftime("%Y-%m-%dT%H:%M:%S")}
    write_text(folder / f"{benchmark}.json", json.dumps(without_nan(facts | content), indent=1) + "\n")
    write_text(folder / f"{benchmark}.md", markdown)
    if image:
        images.write(image, folder / f"{benchmark}.png")
