"""Hostile files of ten kinds: each opens or is refused in one sentence, starts nothing and touches nothing outside.

    python benchmarks/attack/hostile.py [--cases 2000] [--seed 0] [--jobs 1] [--kind KIND] [--only N] [--out FILE.json]

Case n of a seed always gets the same damage. The commands run in forked batches of this process, under an audit hook
and a limit of memory. Each case has its own folder, in which nothing but results may appear. Failures are printed with
their number, which --only repeats.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from damage import CHANGES, damaged
from PIL import Image
from watch import CALLS, Watch, limit

from gancli.cli import main as cli
from gancli.runtime.hardware import describe

sys.dont_write_bytecode = True  # Python's own compiled files would count as touched
BATCH = 25  # cases a process
SECONDS = 120  # of computing for a case; more is a hang: 16 megapixels are enlarged in 40
ALLOCATED, ALLOWED = 6 * 2**30, 3 * 10**9  # bytes that a process can allocate, and that a case may have in memory
TINY = ["data=synthetic", "data.n=16", "data.size=8", "data.batch_size=4", "model.width=4", "device=cpu"]
TINY += ["trainer.steps=1", "trainer.sample_rows=1", "trainer.preflight=false"]
OWN = ["model=mlp", "model.width=4", "data.size=8", "data.batch_size=2", *TINY[5:]]  # on the case's own images
MODELS = (
    *(["model=mlp"], ["model=cgan"], ["model=sr_compact", "data.size=16", "model.depth=2"]),
    *(["model=vae_mlp"], ["model=inpainting"], ["model=cyclegan", "model.depth=1"]),
)
FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF"}
RESULTS = {"in.png", "s.png", "out.png", "e.safetensors", "run", "new", "images", "sweep"}
SEVERAL_LINES = ("upscale", "translate", "inpaint", "reconstruct", "train", "report", "evaluate", "sample")
Commands = list[list[str]]


class Outcome(NamedTuple):
    """What came of a case: opened, refused, or a sentence on what went wrong."""

    number: int
    text: str
    found: list[str]  # by the audit hook
    memory: int  # bytes, at most


# --- the files that are damaged -----------------------------------------------------------------------------------


def bases(folder: Path) -> dict[str, list[bytes]]:
    """Return good files of each kind."""
    checkpoints = trained(folder)
    run = folder / "0"
    rows = [json.dumps({"step": 2 * i, "kimg": 0.1 * i, "fd_mnist": 9 - i, "D/loss": 0.5}) for i in range(9)]
    score = {"metrics": {"fd_mnist": 3.0}, "protocol": {"data": "mnist", "n": 20}, "step": 1}
    options = {"sweep": True, "config_name": "train", "config_dir": ""}
    sweep = {"words": [*TINY, "model=mlp", "seed=0,1"], "options": options, "jobs": {"0": ["seed=0"]}}
    lines = [(run / "metrics.jsonl").read_text() + "\n".join(rows), json.dumps(score), json.dumps(sweep)]
    np.savez_compressed(folder / "x.npz", images=np.zeros((20, 8, 8, 1), np.uint8))
    np.savez(folder / "y.npz", x_train=np.zeros((20, 8, 8, 3), np.uint8), y_train=np.arange(20) % 2)
    torch.save({"weight": torch.zeros(9, 3, 3, 3), "params": {"bias": torch.zeros(3)}}, folder / "x.zip")
    forked("report", str(folder / "0"), str(folder / "1"), f"out={folder}")
    forked("export", f"ckpt={folder / '0'}", f"out={folder / 'g.onnx'}")
    return {
        "safetensors": checkpoints,
        "npz": [(folder / "x.npz").read_bytes(), (folder / "y.npz").read_bytes()],
        **{kind: images(kind) for kind in FORMATS},
        "zip": [(folder / "x.zip").read_bytes(), (folder / "x.npz").read_bytes()],
        "csv": [(folder / "leaderboard.csv").read_bytes()],
        "yaml": [(folder / str(i) / "config.yaml").read_bytes() for i in range(len(MODELS))],
        "jsonl": [text.encode() for text in lines],
        "onnx": [(folder / "g.onnx").read_bytes()],
    }


def trained(folder: Path) -> list[bytes]:
    """Return a checkpoint of each of MODELS, trained for a step in its own process, and an exported one."""
    for i, model in enumerate(MODELS):
        forked("train", *TINY, *model, f"run.dir={folder / str(i)}")
    files = [folder / str(i) / "checkpoints" / "last.safetensors" for i in range(len(MODELS))]
    forked("export", f"ckpt={files[2]}", f"out={folder / 'g.safetensors'}")
    return [file.read_bytes() for file in (*files, folder / "g.safetensors")]


def images(kind: str) -> list[bytes]:
    """Return small images of a format in several modes; a .png may be any format that is read by content."""
    draw, files = np.random.default_rng(0), []
    colours = Image.fromarray(draw.integers(0, 256, (9, 12, 4), dtype=np.uint8))
    more = ("WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF", "EPS", "ICO") if kind == "png" else ()
    for form in (FORMATS[kind], *more):
        for mode in ("RGB", "L", "RGBA", "P", "I;16", "CMYK", "1"):
            with contextlib.suppress(Exception):  # not every format, or Pillow, has every mode
                deep = mode == "I;16"
                image = Image.fromarray(draw.integers(0, 2**16, (9, 12), np.uint16)) if deep else colours.convert(mode)
                exif, file = Image.Exif(), io.BytesIO()
                exif[0x0112] = 6  # rotated
                image.save(file, form, exif=exif, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
                files.append(file.getvalue())
    return files


def forked(*words: str) -> None:
    """Run a command in a process of its own, so that this one has no threads, which no fork would have."""
    child = os.fork()
    if not child:
        os._exit(cli.main(list(words)))
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"failed: gan {shlex.join(words)}")


# --- a case -------------------------------------------------------------------------------------------------------


def commands_of(kind: str, turn: int, name: str) -> Commands:
    """Return what people do with a file of a kind; `turn` chooses among the longer commands."""
    mask = ["mask=centre"] if turn % 4 == 2 else []
    into = ("upscale", "translate", "inpaint", "reconstruct")[turn % 4]
    ckpt = [f"ckpt={name}", "device=cpu"]
    resume = ["train", "resume=run", "trainer.steps=2", "device=cpu"]
    if kind == "safetensors":
        more = [
            [into, "in.png", "out=out.png", *ckpt, *mask],
            ["evaluate", *ckpt, "data=synthetic", "n=20"],
            ["export", f"ckpt={name}", "out=e.safetensors"],
            ["train", *TINY, *MODELS[turn % len(MODELS)], "trainer.steps=2", "run.dir=run"],
        ]
        return [["info", f"ckpt={name}"], ["sample", *ckpt, "n=1", "out=s.png"], ["verify", name], more[turn % 4]]
    if kind in FORMATS:
        more = [
            ["train", *OWN, "data=folder", "data.path=images", "run.dir=new"],
            ["evaluate", "images=images", "reference=images", "size=8", "channels=3", "device=cpu"],
            ["report", "run", "out=run/board"],
        ]
        return [["verify", name], ["upscale", name, "out=out.png", "device=cpu"], more[turn % 3]]
    if kind == "npz":
        more = [
            ["evaluate", f"images={name}", "data=synthetic", "n=20", "size=8", "channels=3", "device=cpu"],
            ["train", *OWN, "data=npz", f"data.path={name}", "run.dir=new"],
        ]
        return [["verify", name], ["info", f"ckpt={name}"], more[turn % 2]]
    if kind in ("zip", "onnx"):
        more = [["sample", *ckpt, "out=s.png"], ["train", *OWN, "data=npz", f"data.path={name}", "run.dir=new"]]
        return [["verify", name], ["info", f"ckpt={name}"], ["upscale", "in.png", "out=out.png", *ckpt], more[turn % 2]]
    if name == "sweep/sweep.json":
        return [["verify", name], ["train", "resume=sweep", "device=cpu"]]
    if kind == "csv":
        return [["verify", name], ["report", "run", "out=run/board"], ["evaluate", f"images={name}", "data=synthetic"]]
    more = [resume, ["evaluate", "ckpt=run", "data=synthetic", "n=20", "device=cpu"], ["info", "ckpt=run"]]
    return [["verify", "run"], ["report", "run", "out=run/board"], more[turn % 3] if kind == "jsonl" else resume]


def write_case(number: int, seed: int, goods: dict[str, list[bytes]], models: Path, folder: Path) -> Commands:
    """Write the files of a case into the folder and return its commands."""
    kinds = list(CHANGES)
    kind, turn = kinds[number % len(kinds)], number // len(kinds)
    draw = np.random.default_rng((seed, number))
    base = turn % len(goods[kind])
    data = damaged(kind, goods[kind][base], draw, goods[kind])
    Image.new("RGB", (5, 4), "red").save(folder / "in.png")
    name = f"case.{kind}"
    if kind in FORMATS:
        (folder / "images").mkdir()
        for i in range(3):
            Image.new("RGB", (9, 9), (80 * i, 0, 0)).save(folder / "images" / f"{i}.png")
        name = f"images/a.{kind}"
    if kind in ("yaml", "jsonl", "csv", *FORMATS) or (kind == "safetensors" and turn % 4 == 3):
        shutil.copytree(models / str(base if kind == "yaml" else 0), folder / "run")
    if kind == "safetensors" and turn % 4 == 3:
        (folder / "run" / "checkpoints" / "last.safetensors").write_bytes(data)
    elif kind in FORMATS:
        (folder / "run" / "samples" / "step-0000001.png").write_bytes(data)
    elif kind in ("yaml", "jsonl"):
        name = (
            "run/config.yaml" if kind == "yaml" else ("run/metrics.jsonl", "run/scores.jsonl", "sweep/sweep.json")[base]
        )
    elif kind == "csv":
        name = "run/board/leaderboard.csv"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return commands_of(kind, turn, name)


def run_commands(commands: Commands, folder: Path, case: str) -> str:
    """Run a case's commands; return "opened", "refused", or what went wrong."""
    outcome = "refused"
    for words in commands:
        out, error = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                code = cli.main(words)
        except BaseException:
            return f"{shlex.join(words)}: {traceback.format_exc()}"
        lines = error.getvalue().strip().splitlines()
        expected = bool(lines) if words[0] in SEVERAL_LINES else len(lines) == 1
        if words[0] == "verify" and code == 1 and not lines:
            continue
        if code and not (expected and any(line.startswith("gan: ") for line in lines[-2:])):
            return f"{shlex.join(words)} ended with {code}: {' | '.join(lines)[-600:]}"
        if any("GAN_TRACEBACK" in line or "Warning" in line for line in lines):
            return f"{shlex.join(words)} said: {' | '.join(lines)[-600:]}"
        if any(not c.isprintable() for c in out.getvalue() + error.getvalue() if c not in "\r\n"):
            return f"{shlex.join(words)} printed control characters"
        outcome = outcome if code else "opened"
    unexpected = {file.name for file in folder.iterdir()} - RESULTS - {case}
    return f"left {', '.join(sorted(unexpected))}" if unexpected else outcome


# --- many cases ---------------------------------------------------------------------------------------------------


def run_all(numbers: list[int], options: Any, goods: dict[str, list[bytes]], models: Path) -> list[Outcome]:
    """Run cases in forked batches; a case that ends its process is a failure, and a later process runs the rest."""
    end = time.perf_counter() + 60 * options.minutes
    outcomes: list[Outcome] = []
    batches = [numbers[i : i + BATCH] for i in range(0, len(numbers), BATCH)]
    while batches and time.perf_counter() < end:
        running, batches = batches[: options.jobs], batches[options.jobs :]
        children = [(batch, *start_batch(batch, options.seed, goods, models)) for batch in running]
        for batch, child, read in children:
            with os.fdopen(read) as answers:
                done = [Outcome(*json.loads(line)) for line in answers]
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if len(done) < len(batch):
                reason = (models / "traceback").read_text() if code == 1 else ""
                done.append(Outcome(batch[len(done)], f"the process ended with {code} {reason}", [], 0))
                batches += [batch[len(done) :]] if len(done) < len(batch) else []
            outcomes += done
        print(f"{len(outcomes)} cases", file=sys.stderr, flush=True)
    return outcomes


def start_batch(batch: list[int], seed: int, goods: dict[str, list[bytes]], models: Path) -> tuple[int, int]:
    """Return the process that runs a batch, and where its answers are read."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read)
            run_batch(batch, seed, goods, models, write)
        except BaseException:  # must not reach the files of the process that forked
            Path(models, "traceback").write_text(traceback.format_exc())
        finally:
            os._exit(1)
    os.close(write)
    return child, read


def run_batch(batch: list[int], seed: int, goods: dict[str, list[bytes]], models: Path, write: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries written in C complain
    with tempfile.TemporaryDirectory() as place:
        watch = Watch([Path(place), Path.home()])
        for number in batch:
            limit(ALLOCATED, SECONDS)
            folder = Path(place) / str(number)
            folder.mkdir()
            try:
                commands = write_case(number, seed, goods, models, folder)
            except Exception:  # a fault of this program
                text = f"could not be written: {traceback.format_exc()}"
                os.write(write, (json.dumps([number, text, [], 0]) + "\n").encode())
                continue
            os.chdir(folder)
            watch.start()
            text = run_commands(commands, folder, f"case.{list(CHANGES)[number % len(CHANGES)]}")
            found, memory = watch.stop()
            os.chdir("/")
            shutil.rmtree(folder)
            os.write(write, (json.dumps([number, text, found[:5], memory]) + "\n").encode())
    os._exit(0)


def table(outcomes: list[Outcome]) -> dict[str, dict[str, int]]:
    """Return the counts of each kind."""
    rows: dict[str, dict[str, int]] = {}
    for i, kind in enumerate(CHANGES):
        own = [one for one in outcomes if one.number % len(CHANGES) == i]
        counts = Counter(one.text if one.text in ("opened", "refused") else "failed" for one in own)
        found = [line for one in own for line in one.found]
        started = [line for line in found if line.split(" ")[0] not in ("open", *CALLS)]
        rows[kind] = {
            "files": len(own),
            **{name: counts[name] for name in ("opened", "refused", "failed")},
            "code_run": len(started),
            "touched_outside": len(found) - len(started),
            "over_3_GB": sum(one.memory > ALLOWED for one in own),
            "largest_MB": max((one.memory for one in own), default=0) // 10**6,
        }
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--minutes", type=float, default=600, help="after which no more cases are begun")
    parser.add_argument("--kind", choices=list(CHANGES), help="this kind alone")
    parser.add_argument("--only", type=int, help="this case alone")
    parser.add_argument("--out", type=Path, help="file for the table, such as docs/results/robustness-hostile.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    numbers = range(options.cases) if options.only is None else [options.only]
    numbers = [n for n in numbers if not options.kind or list(CHANGES)[n % len(CHANGES)] == options.kind]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = f"{folder}/home"  # of all caches
        os.environ.pop("GAN_DATA", None)
        torch.optim.Adam([torch.zeros(1)])  # imports the compiler
        describe(torch.device("cpu"))  # starts uname once
        models = Path(folder) / "models"
        models.mkdir()
        outcomes = run_all(numbers, options, bases(models), models)
    rows: dict[str, Any] = table(outcomes)
    for kind, row in rows.items():
        print(f"{kind:<12}" + "  ".join(f"{name} {value:,}" for name, value in row.items()))
    bad = [one for one in outcomes if one.text not in ("opened", "refused") or one.found or one.memory > ALLOWED]
    for one in bad:
        print(f"{one.number}: {one.text}; {'; '.join(one.found)}; {one.memory / 1e6:,.0f} MB")
    minutes = (time.perf_counter() - begin) / 60
    print(f"{len(outcomes)} files, seed {options.seed}, {minutes:.1f} minutes, {len(bad)} to look at")
    if options.out:
        facts = {"command": shlex.join(["python", "benchmarks/attack/hostile.py", *sys.argv[1:]])}
        facts |= {"date": time.strftime("%Y-%m-%d"), "machine": describe(torch.device("cpu"))}
        facts |= {"system": platform.system()}
        content = {**facts, "minutes": round(minutes, 1), "seed": options.seed, "kinds": rows, "to_look_at": len(bad)}
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
