"""Random file names out of all of Unicode, as folders of runs, data, classes, results and inputs: none is refused.

    python benchmarks/attack/names.py [--names 1000] [--seed 0] [--only NUMBER] [--jobs 2] [--out TABLE.json]

Name n of a seed is always the same. The commands run in forked processes, through the entry of `gan`. The commands that
they print are split by bash as printed, and run too. A refusal is printed with its number, which --only repeats.
"""

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import omegaconf
import torch
import yaml
from PIL import Image

from gancli.cli import main as cli
from gancli.commands.data import suggestions
from gancli.config import quote
from gancli.data.image_files import check_folder
from gancli.report.run_folder import read_run, resume_command
from gancli.report.run_page import commands

PIECES = [*"  \\'\"()[]{}<>=~,:#$%&|*?!+-@.;\n\t\r\x1b\x7f", "${", "$(", "%s", "~/"]
WORDS = [
    "~",
    "-n",
    "--",
    "null",
    "true",
    "no",
    "1e3",
    "007",
    "1.10",
    "2024_01_15",
    "2020-02-01",
    "latest",
    "[x]",
    "[]",
    "a,b",
    "'q'",
    '"',
    "\\",
    "${x}",
    "${oc.env:HOME",
    "$HOME",
    "%(x)s",
    "*.png",
    "train",
    "test",
    "a=b",
    "+a",
    "~root",
    "choice(a)",
    "range(1,3)",
    "glob(*)",
    "@file",
    "#1",
    "<=50K",
    ".hidden",
    "...",
    "a\\",
    "$'a'",
    "`a`",
    ";ls",
]
LENGTHS = [1, 2, 3, 8, 20, 243, 255]  # characters, or bytes of the two longest
TINY = ["model=cgan_mlp", "data=folder", "model.width=4", "model.z_dim=2", "data.size=8", "data.batch_size=2"]
TINY += ["device=cpu", "trainer.steps=1", "trainer.sample_rows=1", "trainer.precision=fp32", "trainer.preflight=false"]
# Imported once, before the processes are forked.
MODULES = ["hydra", "torch._dynamo", *(f"gancli.commands.{name}" for name in ("train", "sample", "upscale", "report"))]
# Words that make printed commands cheap.
CHEAP = {"evaluate": ["n=20", "device=cpu"], "sample": ["n=2"], "train": ["trainer.steps=2"]}


def random_name(number: int, seed: int) -> str:
    """Return name `number`: characters of all planes, special ones, bytes that are no text, up to 255 bytes."""
    rng = random.Random(f"{seed}-{number}")
    if number < len(WORDS):
        return WORDS[number]
    n = rng.choice(LENGTHS)
    drawn = (rng.choice([rng.choice(PIECES), chr(rng.randrange(33, 0x250)), character(rng)]) for _ in range(n))
    name = "".join(drawn).replace("/", "")
    while len(os.fsencode(name)) > max(n, 8):
        name = name[:-1]
    name += "x" * (n - len(os.fsencode(name)) if n > 200 else 0)
    name = os.fsdecode(os.fsencode(name))  # single bytes may join to a character
    return name if name.strip(".") else f"a{name}"


def character(rng: random.Random) -> str:
    """Return a character beyond Latin, or a byte that is no text."""
    planes = [(0x250, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000), (0xDC80, 0xDD00)]
    return chr(rng.randrange(*rng.choice(planes)))


def typed_by_a_shell(line: str) -> list[str]:
    """Return the words that bash makes of a printed command."""
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in printed.split(b"\0")[:-1]]


class Case:
    """The commands with one name, run in an empty folder."""

    def __init__(self, number: int, name: str):
        self.number, self.name, self.path = number, name, Path(f"./{name}")
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []

    def gan(self, *words: str) -> None:
        self.counts["commands"] += 1
        error = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
            code = cli.main(list(words))
        if code:
            self.refused.append(f"{words!a}: {error.getvalue().strip()[-300:]!a}")

    def printed(self, line: str, *more: str) -> None:
        """Run a command as it was printed, with more words behind it."""
        if not line.isprintable():
            self.refused.append(f"not printable: {line!a}")
        words = typed_by_a_shell(line)[1:]
        self.gan(*words, *CHEAP.get(words[0], []), *more)
        self.counts["printed"] += 1

    def expect(self, what: str, *paths: Path) -> None:
        self.refused += [f"{what} is not at {str(path)!a}" for path in paths if not os.path.lexists(path)]

    def run(self) -> None:
        """Use the name as a folder of data, a class in it, a run, a folder of samples, and as an image."""
        image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
        of_class = f"_{self.name[1:]}" if self.name.startswith(".") else self.name  # hidden folders are no classes
        for folder in (of_class, "other class"):
            Path("in", self.name, folder).mkdir(parents=True)
            for i in range(10):  # evaluation needs 20
                image.save(Path("in", self.name, folder, f"{i}.png"))
        with inside("in"):
            self.printed(suggestions(check_folder(self.name))[0], "--cfg", "job")
        self.printed(suggestions(check_folder(f"in/{self.name}"))[0], *TINY, f"run.dir=./{self.name}")
        self.expect("the run", self.path / "index.html")
        self.gan("sample", f"ckpt=./{self.name}", "n=4", "out=by-class/")
        if len(list(Path("by-class").iterdir())) != 2:
            self.refused.append("two classes share a folder")
        with inside("out"):
            self.gan("sample", f"ckpt=../{self.name}", f"classes=[{quote(of_class)}]", "n=2", f"out=./{self.name}/")
            if len(list(self.path.glob("*/*.png"))) != 2:
                self.refused.append("samples of one class are not in the folder")
        self.printed(resume_command(self.path))
        lines = [line for _, line in commands(read_run(self.path)) if "trainer." not in line]
        for line in lines if self.number % 16 == 0 else lines[:1]:  # sample, then the costlier ones
            self.printed(line)
        shutil.rmtree(self.path, ignore_errors=True)
        image.save("input.png")
        Path("input.png").rename(self.path)
        self.gan("upscale", f"./{self.name}", "scale=2", "out=enlarged/")
        if len(list(Path("enlarged").iterdir())) != 1:
            self.refused.append("no enlarged image")


@contextlib.contextmanager
def inside(folder: str) -> Iterator[None]:
    """Work in a folder within `with`."""
    Path(folder).mkdir(exist_ok=True)
    os.chdir(folder)
    yield
    os.chdir("..")


def possible(name: str) -> bool:
    """Return whether the file system of this folder takes a name."""
    try:
        Path(f"./{name}").touch()
        Path(f"./{name}").unlink()
    except (OSError, ValueError):
        return False
    return True


def run_case(root: str, seed: int, number: int) -> tuple[int, Counter[str], list[str]]:
    """Run the case of a number in a folder of its own; return it with its counts and refusals."""
    torch.set_num_threads(1)
    os.environ["HOME"] = f"{root}/home"  # a name that is taken for a home writes there
    place, case = Path(root, str(number)), Case(number, random_name(number, seed))
    place.mkdir()
    os.chdir(place)
    if possible(case.name):
        try:
            case.run()
        except Exception as error:
            case.refused.append(f"{type(error).__name__}: {error}")
        case.counts["names"] += 1
    else:
        case.counts["impossible"] += 1
    if strays := list(Path(root, "home").glob("[!.]*")):
        case.refused.append(f"written into the home: {strays!a}")
    os.chdir(root)
    shutil.rmtree(place)
    return number, case.counts, case.refused


def run_all(
    numbers: list[int], jobs: int, work: Callable[[int], tuple[int, Counter[str], list[str]]]
) -> tuple[Counter[str], int]:
    """Run cases in several processes; return the sum of their counts and the number of names with a refusal."""
    counts, failed = Counter({"names": 0, "impossible": 0, "commands": 0, "printed": 0}), 0
    for module in MODULES:
        importlib.import_module(module)
    # Most of the time goes into the same configs: they are read by C, and each expression in them is parsed once.
    yaml.SafeLoader = yaml.CSafeLoader
    omegaconf.base.parse = omegaconf._utils.parse = cache(omegaconf.grammar_parser.parse)
    with multiprocessing.get_context("fork").Pool(min(jobs, len(numbers)), maxtasksperchild=200) as pool:
        for number, of_case, refused in pool.imap_unordered(work, numbers):
            counts += of_case
            failed += bool(refused)
            for line in refused:
                print(f"name {number}: {line}", flush=True)
    return counts, failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    numbers = list(range(options.names)) if options.only is None else [options.only]
    out, start = options.out and options.out.absolute(), time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        counts, failed = run_all(numbers, options.jobs, partial(run_case, root, options.seed))
    result = {"seed": options.seed, **counts, "refused": failed, "minutes": round((time.monotonic() - start) / 60, 1)}
    print("  ".join(f"{key} {value:,}" for key, value in result.items()))
    if out:
        command = f"python benchmarks/attack/names.py --names {options.names} --seed {options.seed}"
        machine = (
            f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"
        )
        about = {"command": command, "machine": machine, "date": time.strftime("%Y-%m-%d")}
        out.write_text(json.dumps({**about, **result}, indent=1) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
