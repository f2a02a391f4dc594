"""Checkpoints and pictures damaged at random: each opens, or is refused in a sentence; nothing crashes, hangs or runs.

    python benchmarks/fuzz.py [--checkpoints 1000] [--pictures 1000] [--seed 0] [--only NUMBER]

Case n of a seed is always the same file. The commands run in this program, in forked batches under a limit on memory
and on time, so that a crash is seen and counted; every case has a folder of its own, in which nothing but the results
may appear. Reported: opened, refused, and anything else with its number, which --only repeats in full.
"""

import argparse
import contextlib
import copy
import io
import itertools
import json
import os
import pickletools
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from gancli.checkpoint import archive
from gancli.checkpoint import format as checkpoint
from gancli.cli import main as cli
from gancli.commands import (  # noqa: F401  imported before the fork
    export,
    info,
    inpaint,
    reconstruct,
    sample,
    train,
    translate,
    upscale,
)

BATCH = 25  # cases a process
SECONDS = 30  # a case, then it hangs
ROOM = 1.5 * 2**30  # bytes that a process may take beside what importing everything took
TINY = ["data=synthetic", "data.n=16", "data.size=8", "data.batch_size=4", "model.width=4", "device=cpu"]
TINY += ["trainer.steps=1", "trainer.sample_rows=1", "trainer.preflight=false"]
MODELS = (
    *(["model=mlp"], ["model=cgan"], ["model=sr_compact", "data.size=16", "model.depth=2"]),
    *(["model=vae_mlp"], ["model=inpainting"], ["model=cyclegan", "model.depth=1"]),
)
# What a stranger would like to have called, and numbers that a program might trust.
NAMES = (
    *("os system", "posix system", "builtins eval", "builtins exec", "builtins bytearray", "subprocess Popen"),
    *("torch.storage UntypedStorage", "torch._utils _rebuild_parameter", "torch load", "gancli.cli.main main"),
    *("torch Tensor", "torch._utils _rebuild_sparse_tensor", "collections Counter", "_codecs encode"),
)
TARGETS = (
    *("os.system", "builtins.eval", "gancli.images.os.getcwd", "gancli.networks.dcgan.nn.Module", "gancli.__main__.x"),
    *("gancli.networks.mlp.__builtins__", "gancli.networks.dcgan.Discriminator", "gancli.networks.layers.Bias"),
    *(
        "gancli.inference.upscaler.SpandrelModel",
        "gancli.networks.mlp.Generator.__init__",
        "gancli.networks..mlp",
        ".",
        "é",
        "",
    ),
)
ODD = (
    *(0, -1, 1, 2, 3, 255, 2**20, 2**31 - 1, 2**31, 2**62, -(2**62), 10**9, True, None, 0.5, -0.0, 1e300),
    *(
        float("nan"),
        float("inf"),
        "",
        "1",
        "x" * 5000,
        "\x1b[2J\n",
        "\ud800",
        [],
        [1],
        {},
        (),
        {"_target_": "os.system"},
    ),
    *([[[[[[[[]]]]]]]], {"a": {"b": {"c": {}}}}),
)


# --- what is changed ----------------------------------------------------------------------------------------------


def flipped(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for at in draw.integers(len(data), size=2 ** int(draw.integers(0, 7))):
        changed[at] ^= 1 << int(draw.integers(8)) if draw.random() < 0.5 else int(draw.integers(1, 256))
    return bytes(changed)


def cut(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    start = 0 if draw.random() < 0.7 else int(draw.integers(len(data)))
    return data[start : int(draw.integers(start, len(data) + 1))] + bytes(int(draw.integers(0, 2)) * 100)


def spliced(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    other = others[int(draw.integers(len(others)))]
    a, b, n = int(draw.integers(len(data))), int(draw.integers(len(other))), 2 ** int(draw.integers(0, 14))
    return data[:a] + other[b : b + n] + data[a + (n if draw.random() < 0.5 else 0) :]


def headed(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Numbers at the file's beginning or end, where formats keep sizes and places, become extreme."""
    changed, near = bytearray(data), min(len(data), 600)
    for _ in range(int(draw.integers(1, 5))):
        at = int(draw.integers(near)) if draw.random() < 0.5 else len(data) - 1 - int(draw.integers(near))
        form = ("<I", ">I", "<H", ">H", "<Q")[int(draw.integers(5))]
        largest = 256 ** struct.calcsize(form) - 1
        value = (0, 1, largest, largest // 2, largest // 2 + 1, int(draw.integers(largest // 2)))[int(draw.integers(6))]
        changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed)


def rezipped(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Another archive, itself whole: members renamed, left out, doubled, exchanged, added, or compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = [(m.filename, source.read(m)) for m in source.infolist()]
    kind, at = int(draw.integers(8)), int(draw.integers(len(members)))
    name, content = members[at]
    compression = zipfile.ZIP_DEFLATED if kind in (5, 6) else zipfile.ZIP_STORED
    if kind == 0:
        members[at] = (("../" + name, "/etc/x", name.upper(), name + "\0x", "data.pkl")[int(draw.integers(5))], content)
    elif kind == 1:
        del members[at]
    elif kind == 2:
        members.append((name, content[::-1]))
    elif kind == 3:
        members[at] = (name, members[int(draw.integers(len(members)))][1])
    elif kind == 4:
        members[at] = (name, flipped(content or b"x", draw, others))
    elif kind == 6:
        members[at] = (name, bytes(2**28))
    elif kind == 7:
        members += [(f"{name}-{i}", b"") for i in range(3000)]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as target, contextlib.suppress(UserWarning):
        for name, content in members:
            target.writestr(name, content)
    return made.getvalue()


def repickled(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Opcodes of the list of contents exchanged, left out, doubled, or given another argument."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {m.filename: source.read(m) for m in source.infolist()}
    name = next(n for n in members if n.endswith("data.pkl"))
    places = [at for _, _, at in pickletools.genops(members[name])] + [len(members[name])]
    opcodes = [members[name][a:b] for a, b in itertools.pairwise(places)]
    for _ in range(int(draw.integers(1, 4))):
        at, kind = int(draw.integers(1, len(opcodes) - 1)), int(draw.integers(6))
        if kind == 0:
            del opcodes[at : at + int(draw.integers(1, 4))]
        elif kind == 1:
            opcodes[at:at] = opcodes[at : at + 5] * int(draw.integers(1, 4))
        elif kind == 2:
            opcodes[at] = opcodes[int(draw.integers(1, len(opcodes) - 1))]
        elif kind == 3:  # a call in the place of whatever is there
            call = b"c" + str(draw.choice(NAMES)).replace(" ", "\n").encode() + b"\n"
            opcodes[at:at] = [call, b"X\x0b\x00\x00\x00touch pwned", b"\x85", b"R"]
        elif kind == 4:
            calls = [i for i, opcode in enumerate(opcodes) if opcode[:1] == b"c"]
            chosen = calls[int(draw.integers(len(calls)))] if calls else at
            opcodes[chosen] = b"c" + str(draw.choice(NAMES)).replace(" ", "\n").encode() + b"\n"
        else:  # a size, a place or a number
            numbers = [i for i, opcode in enumerate(opcodes) if opcode[:1] in (b"K", b"M", b"J")] or [at]
            value = (0, 1, -1, 255, 2**30, 2**31 - 1, -(2**31))[int(draw.integers(7))]
            opcodes[numbers[int(draw.integers(len(numbers)))]] = b"J" + struct.pack("<i", value)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for member, content in (members | {name: b"".join(opcodes)}).items():
            target.writestr(member, content)
    return made.getvalue()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there are values in a tree of dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def retreed(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """A checkpoint that torch wrote and that is whole, of values nobody should trust."""
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        Path(file.name).write_bytes(data)
        content = copy.deepcopy(archive.load(Path(file.name)))
    for _ in range(int(draw.integers(1, 4))):
        every = list(places(content))
        likely = [p for p in every if p[0] in ("config", "output") or "config" in p]
        # Half of them where a network's config, its images or its weights are described.
        likely = [p for p in likely if p[:2] == ("networks", "G") or p[0] in ("output", "ema")] or every
        chosen = likely if draw.random() < 0.5 else every
        *outer, key = chosen[int(draw.integers(len(chosen)))]
        parent = content
        for step in outer:
            parent = parent[step]
        value = parent[key]
        if key == "_target_":
            parent[key] = str(draw.choice(TARGETS))
        elif isinstance(value, torch.Tensor) and draw.random() < 0.8:
            parent[key] = other_tensor(value, int(draw.integers(9)))
        elif draw.random() < 0.15 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(ODD[int(draw.integers(len(ODD)))])
            if draw.random() < 0.03:
                parent[key] = content if draw.random() < 0.5 else deep(2000)
                break
    made = io.BytesIO()
    try:
        torch.save(content, made)
    except RecursionError:
        return data[:-1]
    return made.getvalue()


def other_tensor(x: torch.Tensor, kind: int) -> torch.Tensor:
    one, none = x.reshape(-1)[:1], x.reshape(-1)[:0]
    huge = one.expand(2**20, 2**20) if x.numel() > 1 else x
    return [huge, none, x.double(), x.reshape(-1), x[None], x.bool(), x * float("nan"), torch.zeros(3), x + x][kind]


def deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


# --- cases --------------------------------------------------------------------------------------------------------


def checkpoint_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    """The commands of a case, whose file is written into the folder."""
    draw = np.random.default_rng((seed, 0, number))
    data, others = bases[number % len(bases)], bases
    ways = [flipped, cut, spliced, headed]
    if data[:2] == b"PK":
        ways += [rezipped, rezipped, repickled, repickled, repickled, retreed, retreed, retreed, retreed]
    name = "case.safetensors" if data[:2] == b"PK" else "case.safetensors"
    (folder / name).write_bytes(ways[int(draw.integers(len(ways)))](data, draw, others))
    if name != "case.safetensors":
        return [["upscale", "in.png", "out=upscale.png", f"ckpt={name}", "device=cpu"]]
    commands = [["info", f"ckpt={name}"], ["sample", f"ckpt={name}", "n=1", "out=s.png", "device=cpu"]]
    commands.append(["export", f"ckpt={name}", "out=e.safetensors"])
    for command, *more in (["upscale"], ["translate"], ["inpaint", "mask=centre"], ["reconstruct"]):
        commands.append([command, "in.png", f"out={command}.png", f"ckpt={name}", "device=cpu", *more])
    if number % 5 == 0:  # resumed
        (folder / "run" / "checkpoints").mkdir(parents=True)
        shutil.copy(folder / name, folder / "run" / "checkpoints" / "last.safetensors")
        model = MODELS[number % len(MODELS)]
        commands.append(["train", *TINY, *model, "trainer.steps=2", "run.dir=run"])
    return commands


def picture_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    draw = np.random.default_rng((seed, 1, number))
    (folder / "case").mkdir()
    data = (flipped, cut, spliced, headed)[int(draw.integers(4))](bases[number % len(bases)], draw, bases)
    (folder / "case" / "a.png").write_bytes(data)
    scale = f"scale={2 + number % 3}"
    return [["data", "check", "case"], ["upscale", "case/a.png", "out=upscale.png", "device=cpu", scale]]


OF_PICTURES = ("upscale", "translate", "inpaint", "reconstruct")
RESULTS = {"case.safetensors", "case", "in.png", "s.png", "e.safetensors", "run"}
RESULTS |= {f"{command}.png" for command in OF_PICTURES}


def play(commands: list[list[str]], folder: Path) -> str:
    """Run a case's commands: "opened", "refused", or what went wrong."""
    os.chdir(folder)
    outcome = "refused"
    for words in commands:
        out, error = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
                code = cli.main(words)
        except BaseException:
            return f"{words[0]}: {traceback.format_exc()}"
        said = error.getvalue().strip().splitlines()
        alone = len(said) == 1 or (
            words[0] in (*OF_PICTURES, "train") and all(s.startswith("gan: ") for s in said[-1:])
        )
        if code and not (alone and said[-1].startswith("gan: ") and "GAN_TRACEBACK" not in said[-1]):
            return f"{words[0]} ended with {code}: {' | '.join(said)[-600:]}"
        if any("Warning" in line for line in said):
            return f"{words[0]} warned: {' | '.join(said)[-600:]}"
        outcome = outcome if code else "opened"
    strange = {file.name for file in folder.iterdir()} - RESULTS
    return f"left {', '.join(sorted(strange))}" if strange else outcome


def batches(
    count: int, case: Callable[..., list[list[str]]], seed: int, bases: list[bytes], only: int | None
) -> tuple[Counter[str], list[str], int]:
    """The outcomes, the failures and the largest resident memory of a batch in bytes."""
    counts: Counter[str] = Counter()
    failures, largest = [], 0
    numbers = [only] if count and only is not None else list(range(count))
    while numbers:
        batch, numbers = numbers[:BATCH], numbers[BATCH:]
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            run_batch(batch, case, seed, bases, write)
        os.close(write)
        with os.fdopen(read) as answers:
            told = [json.loads(line) for line in answers]
        _, status, used = os.wait4(child, 0)
        largest = max(largest, used.ru_maxrss * 1024)
        for number, outcome in told:
            counts[outcome if outcome in ("opened", "refused") else "failed"] += 1
            if outcome not in ("opened", "refused"):
                failures.append(f"{case.__name__} {number}: {outcome}")
        if len(told) < len(batch):  # the process is gone: the others are for the next one
            failures.append(
                f"{case.__name__} {batch[len(told)]}: the process ended with {os.waitstatus_to_exitcode(status)}"
            )
            counts["failed"] += 1
            numbers = batch[len(told) + 1 :] + numbers
    return counts, failures, largest


def run_batch(
    batch: list[int], case: Callable[..., list[list[str]]], seed: int, bases: list[bytes], write: int
) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (int(size + ROOM),) * 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries written in C complain
    for number in batch:
        signal.alarm(SECONDS)  # whose default is to end the process
        with tempfile.TemporaryDirectory() as folder:
            Image.new("RGB", (5, 4), "red").save(Path(folder) / "in.png")
            try:
                outcome = play(case(number, seed, bases, Path(folder)), Path(folder))
            except Exception:  # ours, not theirs
                outcome = f"was not made: {traceback.format_exc()}"
            os.chdir("/")
        os.write(write, (json.dumps([number, outcome]) + "\n").encode())
    os._exit(0)


def checkpoints_to_damage(folder: Path) -> list[bytes]:
    """Of a GAN, a conditional one, and one for super-resolution, each trained for a round in a process of its own."""
    files = []
    for i, model in enumerate(MODELS):
        run = folder / str(i)
        child = os.fork()
        if not child:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                os._exit(cli.main(["train", *TINY, *model, f"run.dir={run}"]))
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"a training to begin with failed: {(run / 'log.txt').read_text()}")
        files.append(run / "checkpoints" / "last.safetensors")
    content = checkpoint.read(files[-1])
    made, config = folder / "g.safetensors", content["networks"]["G"]["config"]
    save_file({k: v.contiguous() for k, v in content["ema"].items()}, made, {"network": json.dumps(config)})
    return [file.read_bytes() for file in (*files, *files, made)]


def pictures_to_damage() -> list[bytes]:
    """A small picture in every form and several modes."""
    draw, files = np.random.default_rng(0), []
    colours = Image.fromarray(draw.integers(0, 256, (9, 12, 4), dtype=np.uint8))
    for form in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF"):
        for mode in ("RGB", "L", "RGBA", "P", "I;16", "CMYK", "1"):
            with contextlib.suppress(Exception):  # what this form, or this Pillow, does not have
                one = (
                    colours.convert(mode)
                    if mode != "I;16"
                    else Image.fromarray(draw.integers(0, 2**16, (9, 12), np.uint16))
                )
                file = io.BytesIO()
                exif = Image.Exif()
                exif[0x0112] = 6
                one.save(file, form, exif=exif, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
                files.append(file.getvalue())
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone, of either kind that is not --...=0")
    given = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        torch.optim.Adam([torch.zeros(1)])  # which imports the compiler
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(["train", *TINY, "--cfg", "job"])
        kinds: list[tuple[str, int, Callable[..., Any], list[bytes]]] = [
            ("checkpoints", given.checkpoints, checkpoint_case, checkpoints_to_damage(Path(folder))),
            ("pictures", given.pictures, picture_case, pictures_to_damage()),
        ]
        for what, count, case, bases in kinds:
            begun = time.perf_counter()
            counts, failures, largest = batches(count, case, given.seed, bases, given.only)
            print(
                f"{counts.total()} {what} (seed {given.seed}): {counts['opened']} opened, {counts['refused']} refused "
                f"in a sentence, {counts['failed']} failed; a process took {largest / 2**20:,.0f} MB at most, with all "
                f"that it imported; {time.perf_counter() - begun:.0f} s"
            )
            for failure in failures:
                print(f"  {failure}")
            failed += counts["failed"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
