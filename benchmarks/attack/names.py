"""Random file names out of all of Unicode, as folders of runs, data, classes, results and inputs: none is refused.

    python benchmarks/attack/names.py [--names 1000] [--seed 0] [--only NUMBER] [--out TABLE.json]

Name n of a seed is always the same. Each command runs in this process. The commands that it prints are split by bash,
as printed, and run too. A refusal is printed with the number of its name, which --only repeats.
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gancli.cli import main as cli
from gancli.commands.data import suggestions
from gancli.config import quote
from gancli.data.image_files import check_folder
from gancli.report.run_folder import read_run, resume_command
from gancli.report.run_page import commands

SPECIAL = "  \\'\"()[]{}<>=~,:#$%&|*?!+-@.;\n\t\r\x1b\x7f"
WORDS = [
    "~",
    "-n",
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
    "a,b",
    "'q'",
]
TINY = ["model=cgan", "data=folder", "model.width=4", "data.size=16", "data.batch_size=2", "device=cpu"]
TINY += ["trainer.steps=1", "trainer.sample_every=1000", "trainer.precision=fp32"]


def random_name(number: int, seed: int) -> str:
    """Return name `number`: characters of all planes, special ones, bytes that are no text, up to 255 bytes."""
    rng = random.Random(f"{seed}-{number}")
    if number < len(WORDS):
        return WORDS[number]
    n = rng.choice([1, 2, 3, 8, 20, 300])
    drawn = (rng.choice([rng.choice(SPECIAL), chr(rng.randrange(33, 0x250)), _character(rng)]) for _ in range(n))
    name = "".join(drawn).replace("/", "")
    while len(os.fsencode(name)) > 255:
        name = name[:-1]
    name = os.fsdecode(os.fsencode(name))  # single bytes may join to a character
    return name if name.strip(".") else f"a{name}"


def _character(rng: random.Random) -> str:
    code = rng.choice([rng.randrange(0x250, 0x10000), rng.randrange(0x10000, 0x110000), rng.randrange(0xDC80, 0xDD00)])
    return chr(code) if not 0xD800 <= code < 0xE000 or 0xDC80 <= code < 0xDD00 else "\udcff"


def typed_by_a_shell(line: str) -> list[str]:
    """Return the words that bash makes of a printed command."""
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    return [os.fsdecode(word) for word in printed.split(b"\0")[:-1]]


def try_name(name: str, refused: list[str]) -> int:
    """Run the commands with one name in this empty folder; append what is refused, return the number of commands."""
    tried = 0

    def gan(*words: str) -> None:
        nonlocal tried
        tried += 1
        error = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
            code = cli.main(list(words))
        if code:
            refused.append(f"{words!a}: {error.getvalue().strip()[-300:]!a}")

    def printed(line: str, *more: str) -> None:
        if not line.isprintable():
            refused.append(f"not printable: {line!a}")
        gan(*typed_by_a_shell(line)[1:], *more)

    folder, image = Path(f"./{name}"), Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    for other in (name, "other class"):
        Path("data", other).mkdir(parents=True)
        for i in range(2):
            image.save(Path("data", other, f"{i}.png"))
    gan("train", *TINY, "data.path=data", "run.dir=run")
    gan("sample", "ckpt=run", "n=2", f"classes=[{quote(name)}]", f"out=./{name}/")
    gan("sample", "ckpt=run", "n=4", "out=by-class/")
    if len(list(Path("by-class").iterdir())) != 2:
        refused.append("two classes share a folder")
    shutil.rmtree(folder, ignore_errors=True)
    Path("data").rename(folder)
    line = suggestions(check_folder(str(folder)))[0]
    printed(line, *TINY, "run.dir=other")
    shutil.rmtree(folder, ignore_errors=True)
    gan("train", *(word for word in TINY if word != "data=folder"), f"run.dir=./{name}")
    printed(resume_command(folder), "trainer.steps=2")
    for label, line in commands(read_run(folder)):
        if label == "sample":
            printed(line, "n=1")
    shutil.rmtree(folder, ignore_errors=True)
    image.save("input.png")
    Path("input.png").rename(folder)
    gan("upscale", f"./{name}", "scale=2")
    return tried


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--names", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    out = options.out.absolute() if options.out else None
    counts = {"names": 0, "impossible": 0, "commands": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as root:
        os.environ["HOME"] = f"{root}/home"  # a name that is taken for a home writes there
        for number in [options.only] if options.only is not None else range(options.names):
            name, place, refused = random_name(number, options.seed), Path(root, str(number)), []
            place.mkdir()
            os.chdir(place)
            try:
                Path(f"./{name}").touch()
            except (OSError, ValueError):  # no name for this file system
                counts["impossible"] += 1
                continue
            Path(f"./{name}").unlink()
            counts["commands"] += try_name(name, refused)
            counts["names"] += 1
            counts["refused"] += len(refused)
            for line in refused:
                print(f"name {number}, {name!a}: {line}", flush=True)
            os.chdir(root)
            shutil.rmtree(place)
    print("  ".join(f"{key} {value:,}" for key, value in counts.items()))
    if out:
        out.write_text(json.dumps({"seed": options.seed, **counts}, indent=1) + "\n")
    return int(counts["refused"] > 0)


if __name__ == "__main__":
    sys.exit(main())
