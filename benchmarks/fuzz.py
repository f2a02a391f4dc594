"""Checkpoints and images damaged at random: each opens, or is refused in a sentence; nothing crashes, hangs or runs.

    python benchmarks/fuzz.py [--checkpoints 1000] [--images 1000] [--seed 0] [--only NUMBER]

Case n of a seed is always the same file. The commands run in this program, in forked batches with a limit on memory and
time, so that a crash is counted. Every case has a folder of its own, in which nothing but results may appear. Printed:
opened, refused, and every other outcome with its number, which --only repeats.
"""

import argparse
import contextlib
import copy
import io
import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

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
from gancli.runtime.serialization import CONTENT, PREFIX, STRIDE, TENSOR, ZEROS, decode, encode, seal

BATCH = 25  # cases a process
SECONDS = 30  # of a case, more is a hang
MEMORY = 1.5 * 2**30  # bytes that a process may take, without what importing everything took
TINY = ["data=synthetic", "data.n=16", "data.size=8", "data.batch_size=4", "model.width=4", "device=cpu"]
TINY += ["trainer.steps=1", "trainer.sample_rows=1", "trainer.preflight=false"]
MODELS = (
    *(["model=mlp"], ["model=cgan"], ["model=sr_compact", "data.size=16", "model.depth=2"]),
    *(["model=vae_mlp"], ["model=inpainting"], ["model=cyclegan", "model.depth=1"]),
)
# Calls that an attacker would like, and numbers that a program might trust.
TARGETS = (
    *("os.system", "builtins.eval", "gancli.images.os.getcwd", "gancli.networks.dcgan.nn.Module", "gancli.__main__.x"),
    *("gancli.networks.mlp.__builtins__", "gancli.networks.dcgan.Discriminator", "gancli.networks.layers.Bias"),
    *("gancli.inference.upscaler.SpandrelModel", "gancli.networks.mlp.Generator.__init__", "gancli.networks..mlp"),
    *(".", "é", ""),
)
ODD: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 255, 2**20, 2**31 - 1, 2**31, 2**62, -(2**62), 10**9, 2**64, True, None, 0.5, -0.0, 1e300),
    *(float("nan"), float("inf"), "", "1", "x" * 5000, "\x1b[2J\n", "\ud800", [], [1], {}, [[[[[[[[]]]]]]]]),
    *({"_target_": "os.system"}, {"a": {"b": {"c": {}}}}, {"tensor": "ema"}),
)


# --- changes ----------------------------------------------------------------------------------------------


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


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors' bytes of a checkpoint."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def sealed(header: dict[str, Any], body: bytes) -> bytes:
    """Return a checkpoint whose checksum is right, whatever its header says."""
    metadata = {**header.pop("__metadata__"), "gancli_sha256": ZEROS.decode()}
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    assert text.startswith(PREFIX)
    return seal(text, [body]) + body


def reheaded(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change types, shapes, places and names of tensors, or add and remove tensors."""
    header, body = parts(data)
    for _ in range(int(draw.integers(1, 4))):
        names = [name for name in header if name != "__metadata__"]
        name = names[int(draw.integers(len(names)))]
        entry, change, odd = header[name], int(draw.integers(7)), copy.deepcopy(ODD[int(draw.integers(len(ODD)))])
        if change < 3:
            header[name] = (
                {**entry, ("dtype", "shape", "data_offsets")[change]: odd} if isinstance(entry, dict) else odd
            )
        elif change == 3:
            entry["shape"] = [*entry["shape"], odd] if isinstance(entry.get("shape"), list) else [odd]
        elif change == 4:
            del header[name]
        elif change == 5:
            header[name], header[names[0]] = header[names[0]], entry
        else:
            body += bytes(int(draw.integers(1, 100)))
            header[f"{name}/more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body) - 4, len(body)]}
    return sealed(header, body)


def retexted(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change characters of the JSON."""
    header, body = parts(data)
    metadata = header["__metadata__"]
    text = (flipped, cut, spliced)[int(draw.integers(3))](metadata[CONTENT].encode(), draw, others)
    metadata[CONTENT] = text.decode(errors="replace")
    return sealed(header, body)


def retreed(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change values of the content."""
    content = decode(io.BytesIO(data))
    for _ in range(int(draw.integers(1, 4))):
        every = list(places(content))
        likely = [p for p in every if p[0] in ("config", "output") or "config" in p]
        # Half of them where a network's config, its images or its weights are described.
        likely = [p for p in likely if p[:2] == ("networks", "G") or p[0] in ("output", "ema")] or every
        chosen = likely if draw.random() < 0.5 else every
        *outer, key = chosen[int(draw.integers(len(chosen)))]
        parent = follow(content, tuple(outer))
        value = parent[key]
        if key == "_target_":
            parent[key] = str(draw.choice(TARGETS))
        elif isinstance(value, torch.Tensor) and draw.random() < 0.8:
            parent[key] = other_tensor(value, int(draw.integers(8)))
        elif draw.random() < 0.15 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(ODD[int(draw.integers(len(ODD)))]) if draw.random() < 0.97 else deep(200)
    return b"".join(encode(content))


def relaid(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change how tensors are named and laid out in the JSON."""
    header, body = parts(data)
    content = json.loads(header["__metadata__"][CONTENT])
    tensors = [parent for path in places(content) if path[-1] == TENSOR for parent in [follow(content, path[:-1])]]
    for _ in range(int(draw.integers(1, 4))):
        chosen = tensors[int(draw.integers(len(tensors)))]
        odd = copy.deepcopy(ODD[int(draw.integers(len(ODD)))])
        name = tensors[int(draw.integers(len(tensors)))][TENSOR] if draw.random() < 0.5 else odd
        chosen |= {TENSOR: name} if draw.random() < 0.5 else {STRIDE: [odd] if draw.random() < 0.5 else odd}
    header["__metadata__"][CONTENT] = json.dumps(content)
    return sealed(header, body)


def follow(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def other_tensor(x: torch.Tensor, kind: int) -> torch.Tensor:
    none = x.reshape(-1)[:0]
    return [none, x.double(), x.reshape(-1), x[None], x.bool(), x * float("nan"), torch.zeros(3), x + x][kind]


def deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


# --- cases --------------------------------------------------------------------------------------------------------


def checkpoint_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    """Write the file of a case into the folder and return its commands."""
    draw = np.random.default_rng((seed, 0, number))
    changes = [flipped, cut, spliced, headed, *[reheaded, retexted, relaid] * 2, *[retreed] * 4]
    change, name = changes[int(draw.integers(len(changes)))], "case.safetensors"
    (folder / name).write_bytes(change(bases[number % len(bases)], draw, bases))
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


def image_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    draw = np.random.default_rng((seed, 1, number))
    (folder / "case").mkdir()
    data = (flipped, cut, spliced, headed)[int(draw.integers(4))](bases[number % len(bases)], draw, bases)
    (folder / "case" / "a.png").write_bytes(data)
    scale = f"scale={2 + number % 3}"
    return [["data", "check", "case"], ["upscale", "case/a.png", "out=upscale.png", "device=cpu", scale]]


IMAGE_COMMANDS = ("upscale", "translate", "inpaint", "reconstruct")
RESULTS = {"case.safetensors", "case", "in.png", "s.png", "e.safetensors", "run"}
RESULTS |= {f"{command}.png" for command in IMAGE_COMMANDS}


def play(commands: list[list[str]], folder: Path) -> str:
    """Run a case's commands; return "opened", "refused", or what went wrong."""
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
        logs = words[0] in (*IMAGE_COMMANDS, "train")  # these print more than the sentence
        one = (len(said) == 1 or (logs and said)) and said[-1].startswith("gan: ") and "GAN_TRACEBACK" not in said[-1]
        if code and not one:
            return f"{words[0]} ended with {code}: {' | '.join(said)[-600:]}"
        if any("Warning" in line for line in said):
            return f"{words[0]} warned: {' | '.join(said)[-600:]}"
        outcome = outcome if code else "opened"
    strange = {file.name for file in folder.iterdir()} - RESULTS
    return f"left {', '.join(sorted(strange))}" if strange else outcome


def batches(
    count: int, case: Callable[..., list[list[str]]], seed: int, bases: list[bytes], only: int | None
) -> tuple[Counter[str], list[str], int]:
    """Return the outcomes, the failures and the largest resident memory of a batch in bytes."""
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
            outcomes = [json.loads(line) for line in answers]
        _, status, used = os.wait4(child, 0)
        largest = max(largest, used.ru_maxrss * 1024)
        for number, outcome in outcomes:
            counts[outcome if outcome in ("opened", "refused") else "failed"] += 1
            if outcome not in ("opened", "refused"):
                failures.append(f"{case.__name__} {number}: {outcome}")
        if len(outcomes) < len(batch):  # the process is gone: the others are for the next one
            failures.append(
                f"{case.__name__} {batch[len(outcomes)]}: the process ended with {os.waitstatus_to_exitcode(status)}"
            )
            counts["failed"] += 1
            numbers = batch[len(outcomes) + 1 :] + numbers
    return counts, failures, largest


def run_batch(
    batch: list[int], case: Callable[..., list[list[str]]], seed: int, bases: list[bytes], write: int
) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (int(size + MEMORY),) * 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where libraries written in C complain
    for number in batch:
        signal.alarm(SECONDS)  # whose default is to end the process
        with tempfile.TemporaryDirectory() as folder:
            Image.new("RGB", (5, 4), "red").save(Path(folder) / "in.png")
            try:
                outcome = play(case(number, seed, bases, Path(folder)), Path(folder))
            except Exception:  # a fault of this program
                outcome = f"could not be written: {traceback.format_exc()}"
            os.chdir("/")
        os.write(write, (json.dumps([number, outcome]) + "\n").encode())
    os._exit(0)


def checkpoints_to_damage(folder: Path) -> list[bytes]:
    """Return a checkpoint of every kind of generator, trained for a step in its own process, and an exported one."""
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
    exported = folder / "g.safetensors"
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(["export", f"ckpt={files[2]}", f"out={exported}"])
    return [file.read_bytes() for file in (*files, exported)]


def images_to_damage() -> list[bytes]:
    """Return a small image in every format and several modes."""
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
    parser.add_argument("--images", type=int, default=1000)
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
            ("images", given.images, image_case, images_to_damage()),
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
