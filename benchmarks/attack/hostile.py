"""Randomly damaged checkpoints, images, archives and logs: each opens or is refused in one sentence, and runs no code.

    python benchmarks/attack/hostile.py [--checkpoints 800] [--images 600] [--others 600] [--seed 0] [--only NUMBER]

Case n of a seed always gets the same damage. The commands run in forked batches of this process, with limits on memory
and time. Each case has its own folder, in which nothing but results may appear. Failures are printed with their number,
which --only repeats.
"""

import argparse
import contextlib
import copy
import functools
import io
import json
import operator
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from gancli.cli import main as cli
from gancli.runtime.serialization import CONTENT, PREFIX, STRIDE, TENSOR, ZEROS, decode, encode, seal

T = TypeVar("T")
BATCH = 25  # cases a process
SECONDS = 30  # for a case; more is a hang
MEMORY = 1.5 * 2**30  # bytes that a process may use beyond those of its imports
TINY = ["data=synthetic", "data.n=16", "data.size=8", "data.batch_size=4", "model.width=4", "device=cpu"]
TINY += ["trainer.steps=1", "trainer.sample_rows=1", "trainer.preflight=false"]
MODELS = (
    *(["model=mlp"], ["model=cgan"], ["model=sr_compact", "data.size=16", "model.depth=2"]),
    *(["model=vae_mlp"], ["model=inpainting"], ["model=cyclegan", "model.depth=1"]),
)
IMAGE_COMMANDS = ("upscale", "translate", "inpaint", "reconstruct")
RESULTS = {"case.safetensors", "case", "in.png", "s.png", "e.safetensors", "run"}
RESULTS |= {"case.npz", "case.zip", "case.onnx"}
RESULTS |= {f"{command}.png" for command in IMAGE_COMMANDS}
# Calls that an attacker would like, and values that a program might trust.
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


def pick(draw: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(draw.integers(len(options)))]


def flip(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    changed = bytearray(data)
    for at in draw.integers(len(data), size=2 ** int(draw.integers(0, 7))):
        changed[at] ^= 1 << int(draw.integers(8)) if draw.random() < 0.5 else int(draw.integers(1, 256))
    return bytes(changed)


def cut(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    start = 0 if draw.random() < 0.7 else int(draw.integers(len(data)))
    return data[start : int(draw.integers(start, len(data) + 1))] + bytes(int(draw.integers(0, 2)) * 100)


def splice(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    other = pick(draw, others)
    a, b, n = int(draw.integers(len(data))), int(draw.integers(len(other))), 2 ** int(draw.integers(0, 14))
    return data[:a] + other[b : b + n] + data[a + (n if draw.random() < 0.5 else 0) :]


def change_numbers(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Write extreme numbers at the file's beginning or end, where formats store sizes and offsets."""
    changed, near = bytearray(data), min(len(data), 600)
    for _ in range(int(draw.integers(1, 5))):
        at = int(draw.integers(near)) if draw.random() < 0.5 else len(data) - 1 - int(draw.integers(near))
        form = pick(draw, ("<I", ">I", "<H", ">H", "<Q"))
        largest = 256 ** struct.calcsize(form) - 1
        value = pick(draw, (0, 1, largest, largest // 2, largest // 2 + 1, int(draw.integers(largest // 2))))
        changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(changed)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested dicts and lists."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from paths(inner, (*path, key))


def follow(value: Any, path: Sequence[Any]) -> Any:
    return functools.reduce(operator.getitem, path, value)


def split_file(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors' bytes of a checkpoint."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def sealed_file(header: dict[str, Any], body: bytes) -> bytes:
    """Return a checkpoint with a valid checksum."""
    metadata = {**header.pop("__metadata__"), "gancli_sha256": ZEROS.decode()}
    text = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    assert text.startswith(PREFIX)
    return seal(text, [body]) + body


def change_header(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change types, shapes, offsets and names of tensors, or add and remove tensors."""
    header, body = split_file(data)
    for _ in range(int(draw.integers(1, 4))):
        names = [name for name in header if name != "__metadata__"]
        name = pick(draw, names)
        entry, change, odd = header[name], int(draw.integers(7)), copy.deepcopy(pick(draw, ODD))
        if change < 3:
            key = ("dtype", "shape", "data_offsets")[change]
            header[name] = {**entry, key: odd} if isinstance(entry, dict) else odd
        elif change == 3:
            entry["shape"] = [*entry["shape"], odd] if isinstance(entry.get("shape"), list) else [odd]
        elif change == 4:
            del header[name]
        elif change == 5:
            header[name], header[names[0]] = header[names[0]], entry
        else:
            body += bytes(int(draw.integers(1, 100)))
            header[f"{name}/more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(body) - 4, len(body)]}
    return sealed_file(header, body)


def change_text(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change characters of the JSON."""
    header, body = split_file(data)
    metadata = header["__metadata__"]
    text = pick(draw, (flip, cut, splice))(metadata[CONTENT].encode(), draw, others)
    metadata[CONTENT] = text.decode(errors="replace")
    return sealed_file(header, body)


def change_content(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change values of the content."""
    content = decode(io.BytesIO(data))
    for _ in range(int(draw.integers(1, 4))):
        every = list(paths(content))
        # Half of the changes are where G's config or its images are described.
        likely = [p for p in every if p[0] == "output" or (p[:2] == ("networks", "G") and "config" in p)] or every
        *outer, key = pick(draw, likely if draw.random() < 0.5 else every)
        parent = follow(content, outer)
        value = parent[key]
        if key == "_target_":
            parent[key] = str(draw.choice(TARGETS))
        elif isinstance(value, torch.Tensor) and draw.random() < 0.8:
            none, nan = value.reshape(-1)[:0], value * float("nan")
            shapes = [none, value.double(), value.reshape(-1), value[None], value.bool()]
            parent[key] = pick(draw, [*shapes, nan, torch.zeros(3), value + value])
        elif draw.random() < 0.15 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = copy.deepcopy(pick(draw, ODD)) if draw.random() < 0.97 else json.loads("[" * 200 + "]" * 200)
    return b"".join(encode(content))


def change_layout(data: bytes, draw: np.random.Generator, others: list[bytes]) -> bytes:
    """Change how tensors are named and laid out in the JSON."""
    header, body = split_file(data)
    content = json.loads(header["__metadata__"][CONTENT])
    tensors = [follow(content, path[:-1]) for path in paths(content) if path[-1] == TENSOR]
    for _ in range(int(draw.integers(1, 4))):
        chosen, odd = pick(draw, tensors), copy.deepcopy(pick(draw, ODD))
        name = pick(draw, tensors)[TENSOR] if draw.random() < 0.5 else odd
        chosen |= {TENSOR: name} if draw.random() < 0.5 else {STRIDE: [odd] if draw.random() < 0.5 else odd}
    header["__metadata__"][CONTENT] = json.dumps(content)
    return sealed_file(header, body)


def checkpoint_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    """Write the file of a case into the folder and return its commands."""
    draw = np.random.default_rng((seed, 0, number))
    changes = [flip, cut, splice, change_numbers, *[change_header, change_text, change_layout] * 2]
    change, name = pick(draw, [*changes, *[change_content] * 4]), "case.safetensors"
    (folder / name).write_bytes(change(bases[number % len(bases)], draw, bases))
    commands = [["info", f"ckpt={name}"], ["sample", f"ckpt={name}", "n=1", "out=s.png", "device=cpu"]]
    commands.append(["export", f"ckpt={name}", "out=e.safetensors"])
    for command in IMAGE_COMMANDS:
        mask = ["mask=centre"] if command == "inpaint" else []
        commands.append([command, "in.png", f"out={command}.png", f"ckpt={name}", "device=cpu", *mask])
    if number % 5 == 0:  # resume from it
        (folder / "run" / "checkpoints").mkdir(parents=True)
        shutil.copy(folder / name, folder / "run" / "checkpoints" / "last.safetensors")
        commands.append(["train", *TINY, *MODELS[number % len(MODELS)], "trainer.steps=2", "run.dir=run"])
    return commands


def image_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    draw = np.random.default_rng((seed, 1, number))
    (folder / "case").mkdir()
    change = pick(draw, (flip, cut, splice, change_numbers))
    (folder / "case" / "a.png").write_bytes(change(bases[number % len(bases)], draw, bases))
    scale = f"scale={2 + number % 3}"
    return [["data", "check", "case"], ["upscale", "case/a.png", "out=upscale.png", "device=cpu", scale]]


KINDS = ("case.npz", "case.zip", "case.onnx", "run/config.yaml", "run/metrics.jsonl", "run/scores.jsonl")


def other_case(number: int, seed: int, bases: list[bytes], folder: Path) -> list[list[str]]:
    """Write a damaged archive, or a run folder with a damaged file, and return its commands."""
    draw = np.random.default_rng((seed, 2, number))
    name = KINDS[number % len(KINDS)]
    (folder / "run").mkdir()
    (folder / "run" / "metrics.jsonl").write_text("{}\n")
    data = pick(draw, (flip, cut, splice, change_numbers))(bases[number % len(KINDS)], draw, bases)
    (folder / name).write_bytes(data)
    if name.startswith("run"):
        return [["verify", "run"], ["report", "run", "out=run/board"]]
    words = [["evaluate", f"images={name}", "data=mnist10k", "n=20", "device=cpu"]] if name == "case.npz" else []
    return [["verify", name], ["info", f"ckpt={name}"], *words]


def others_to_damage(folder: Path) -> list[bytes]:
    """Return a file of each of KINDS."""
    np.savez_compressed(folder / "x.npz", images=np.zeros((20, 28, 28, 1), np.uint8))
    torch.save({"weight": torch.zeros(9, 3, 3, 3)}, folder / "x.zip")
    run = folder / "0"
    rows = [json.dumps({"step": 2 * i, "kimg": 0.1 * i, "fd_mnist": 9 - i, "D/loss": 0.5}) for i in range(9)]
    score = {"metrics": {"fd_mnist": 3.0}, "protocol": {"data": "mnist", "n": 20}, "step": 1}
    texts = ["\n".join(rows), json.dumps(score) + "\n"]
    files = [(folder / "x.npz").read_bytes(), (folder / "x.zip").read_bytes(), b"\x08\x07\x12\x07pytorch" + bytes(50)]
    return [*files, (run / "config.yaml").read_bytes(), *(text.encode() for text in texts)]


def run_case(commands: list[list[str]], folder: Path) -> str:
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
        lines = error.getvalue().strip().splitlines()
        # Some commands print more lines than the message.
        expected = bool(lines) if words[0] in (*IMAGE_COMMANDS, "train", "report") else len(lines) == 1
        if words[0] == "verify" and code == 1 and not lines:
            continue
        if code and not (expected and lines[-1].startswith("gan: ") and "GAN_TRACEBACK" not in lines[-1]):
            return f"{words[0]} ended with {code}: {' | '.join(lines)[-600:]}"
        if any("Warning" in line for line in lines):
            return f"{words[0]} warned: {' | '.join(lines)[-600:]}"
        outcome = outcome if code else "opened"
    unexpected = {file.name for file in folder.iterdir()} - RESULTS
    return f"left {', '.join(sorted(unexpected))}" if unexpected else outcome


def run_batches(
    count: int, case: Callable[..., list[list[str]]], seed: int, bases: list[bytes], only: int | None
) -> tuple[Counter[str], list[str], int]:
    """Return the number of cases by outcome, the failures, and the largest resident memory of a process in bytes."""
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
        if len(outcomes) < len(batch):  # the process died: the next one runs the rest
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
        signal.alarm(SECONDS)  # ends the process
        with tempfile.TemporaryDirectory() as folder:
            Image.new("RGB", (5, 4), "red").save(Path(folder) / "in.png")
            try:
                outcome = run_case(case(number, seed, bases, Path(folder)), Path(folder))
            except Exception:  # a fault of this program
                outcome = f"could not be written: {traceback.format_exc()}"
            os.chdir("/")
        os.write(write, (json.dumps([number, outcome]) + "\n").encode())
    os._exit(0)


def checkpoints_to_damage(folder: Path) -> list[bytes]:
    """Return a checkpoint of each of MODELS, trained for a step in its own process, and an exported one."""
    files = []
    for i, model in enumerate(MODELS):
        run = folder / str(i)
        child = os.fork()
        if not child:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                os._exit(cli.main(["train", *TINY, *model, f"run.dir={run}"]))
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"training failed: {(run / 'log.txt').read_text()}")
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
            with contextlib.suppress(Exception):  # not every format, or Pillow, has every mode
                deep = mode == "I;16"
                image = Image.fromarray(draw.integers(0, 2**16, (9, 12), np.uint16)) if deep else colours.convert(mode)
                exif = Image.Exif()
                exif[0x0112] = 6  # rotated
                file = io.BytesIO()
                image.save(file, form, exif=exif, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
                files.append(file.getvalue())
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=800)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--others", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        torch.optim.Adam([torch.zeros(1)])  # imports the compiler
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(["train", *TINY, "--cfg", "job"])
        inputs: list[tuple[str, int, Callable[..., Any], list[bytes]]] = [
            ("checkpoints", options.checkpoints, checkpoint_case, checkpoints_to_damage(Path(folder))),
            ("images", options.images, image_case, images_to_damage()),
            ("archives and logs", options.others, other_case, others_to_damage(Path(folder))),
        ]
        for name, count, case, bases in inputs:
            started = time.perf_counter()
            counts, failures, largest = run_batches(count, case, options.seed, bases, options.only)
            print(
                f"{counts.total()} {name} (seed {options.seed}): {counts['opened']} opened, "
                f"{counts['refused']} refused in one sentence, {counts['failed']} failed; "
                f"at most {largest / 2**20:,.0f} MB in a process, imports too; {time.perf_counter() - started:.0f} s"
            )
            for failure in failures:
                print(f"  {failure}")
            failed += counts["failed"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
