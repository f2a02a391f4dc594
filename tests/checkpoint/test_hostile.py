"""Hostile files: each ends in one sentence, runs nothing, and takes little memory."""

import functools
import io
import json
import operator
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import MODELS, ROOT, TINY, start

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import check_output, outline
from gancli.cli import main as cli
from gancli.runtime.serialization import CONTENT, STRIDE, TENSOR, ZEROS, decode, encode, seal

FUZZER = ROOT / "benchmarks" / "attack" / "hostile.py"
MEMORY = 200 * 2**20  # bytes that a refusal may take


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("good") / "run"
    assert cli.main(["train", *TINY, "model=cgan_mlp", f"run.dir={run}", "trainer.steps=1"]) == 0
    return run / "checkpoints/last.safetensors"


def file_of(content: Any, tensors: Any = (), data: bytes = b"") -> bytes:
    """Return a file of this content, text or JSON, with entries for these tensors, its checksum right."""
    text = content if isinstance(content, str) else json.dumps(content)
    header = {"__metadata__": {"gancli_sha256": ZEROS.decode(), CONTENT: text}, **dict(tensors)}
    return seal(json.dumps(header, separators=(",", ":")).encode(), [data]) + data


def assert_refused(gan: Any, folder: Path, *commands: str) -> None:
    """Assert that each command ends in a sentence, in little memory, and leaves no file."""
    before, there = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {*folder.iterdir()}
    for command in commands:
        code, _, error = gan(command, "ckpt=bad.safetensors", *(["out=e.safetensors"] if command == "export" else []))
        assert code == 1 and len(error.strip().splitlines()) == 1, (command, code, error)
        assert "Error;" not in error and len(error) < 1500, "not an expected error"
    assert {*folder.iterdir()} == there
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def foreign_files(good: bytes) -> dict[str, bytes]:
    middle = len(good) // 2
    flip = {f"bit {at} flipped": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (0, 40, 150, middle)}
    return {
        **flip,
        **{"empty": b"", "text": b"hello", "cut short": good[:middle], "half a header": good[:100]},
        **{"longer": good + b"\0", "one byte": b"x", "a huge header": b"\xff" * 8 + good[8:]},
        **{"pickle": pickle.dumps(Payload()), "state dict": b"".join(encode({"weight": torch.zeros(3)}))},
        **{"zip": b"PK\x03\x04" + bytes(99), "a brace": b"\x01" + bytes(7) + b"{"},
        "without metadata": b"\x02\0\0\0\0\0\0\0{}",
    }


def test_foreign_and_damaged_files(good, gan, tmp_path):
    for name, data in foreign_files(good.read_bytes()).items():
        (tmp_path / "bad.safetensors").write_bytes(data)
        try:
            assert_refused(gan, tmp_path, "sample", "info")
        except AssertionError as error:
            raise AssertionError(name) from error


TWO = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NINE = {"dtype": "F32", "shape": [3, 3], "data_offsets": [0, 36]}
HOSTILE: dict[str, tuple[Any, Any, bytes]] = {
    "overlapping tensors": ({}, {"a": TWO, "b": TWO}, bytes(8)),
    "a gap": ({}, {"a": TWO, "b": TWO | {"data_offsets": [9, 17]}}, bytes(17)),
    "beyond the end": ({}, {"a": TWO | {"shape": [2**40], "data_offsets": [0, 2**42]}}, bytes(8)),
    "bytes that belong to no tensor": ({}, {"a": TWO}, bytes(16)),
    "a negative side": ({}, {"a": TWO | {"shape": [-2]}}, bytes(8)),
    "negative sides": ({}, {"a": TWO | {"shape": [-2, -1]}}, bytes(8)),
    "a side that overflows": ({}, {"a": TWO | {"shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}}, b""),
    "many sides": ({}, {"a": TWO | {"shape": [1] * 9 + [2]}}, bytes(8)),
    "a side that is a text": ({}, {"a": TWO | {"shape": "2"}}, bytes(8)),
    "unknown numbers": ({}, {"a": TWO | {"dtype": "C64", "shape": [1]}}, bytes(8)),
    "no offsets": ({}, {"a": {"dtype": "F32", "shape": [2]}}, bytes(8)),
    "an entry that is no object": ({}, {"a": 7}, bytes(8)),
    "a tensor of no content": ({}, {"a": TWO}, bytes(8)),
    "content of no tensor": ({"x": {TENSOR: "a"}}, {}, b""),
    "a tensor twice": ({"x": {TENSOR: "a"}, "y": {TENSOR: "a"}}, {"a": TWO}, bytes(8)),
    "a tensor called by a number": ({"x": {TENSOR: 3}}, {"a": TWO}, bytes(8)),
    "a tensor called by a list": ({"x": {TENSOR: []}}, {"a": TWO}, bytes(8)),
    "a layout larger than the tensor": ({"x": {TENSOR: "a", STRIDE: [2**40]}}, {"a": TWO}, bytes(8)),
    "a layout that overlaps": ({"x": {TENSOR: "a", STRIDE: [2, 2]}}, {"a": NINE}, bytes(36)),
    "a negative layout": ({"x": {TENSOR: "a", STRIDE: [-1]}}, {"a": TWO}, bytes(8)),
    "a layout of other sides": ({"x": {TENSOR: "a", STRIDE: [1, 1]}}, {"a": TWO}, bytes(8)),
    "content that is a list": ("[]", {}, b""),
    "no JSON": ("{", {}, b""),
    "nested deeply": ("[" * 10**5 + "]" * 10**5, {}, b""),
    "nested": ({"x": json.loads("[" * 60 + "]" * 60)}, {}, b""),
    "many values": ("[" + "0," * 2**20 + "0]", {}, b""),
    "many objects": ("[" + "{}" * 2**19 + "]", {}, b""),
    "many tensors": ({}, {str(i): TWO for i in range(2**16)}, b""),
    "a number of many digits": ('{"x": ' + "1" * 4000 + "}", {}, b""),
    "a number of 65 bits": ({"x": 2**64}, {}, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused(name, gan, tmp_path):
    unchanged = file_of({"x": {TENSOR: "a", STRIDE: [1]}}, {"a": TWO}, bytes(8))
    assert decode(io.BytesIO(unchanged))["x"].equal(torch.zeros(2))
    (tmp_path / "bad.safetensors").write_bytes(file_of(*HOSTILE[name]))
    assert_refused(gan, tmp_path, "sample")


CONFIG, WEIGHT = "networks/G/config", "ema/layers.0.weight"
ODD_VALUES: list[tuple[str, Any]] = [
    *(
        (f"{CONFIG}/{key}", value)
        for key in ("width", "z_dim", "size")
        for value in (10**9, 2**20, 10**18, -1, 0, "wide", 1.5, float("nan"), float("inf"), None, [4], True)
    ),
    *((CONFIG, {"_target_": "gancli.networks.sr.Compact", "width": 1, "depth": depth}) for depth in (10**6, 10**18)),
    (f"{CONFIG}/_target_", "gancli.networks.mlp.Discriminator"),
    (f"{CONFIG}/_target_", "os.system"),
    (f"{CONFIG}/width", {"_target_": "os.system", "command": "touch pwned"}),
    (f"{CONFIG}/width", {"_target_": "gancli.networks.mlp.Generator"}),
    *((CONFIG, 7), (WEIGHT, torch.zeros(2**10, 2**10)), (WEIGHT, "heavy"), ("ema", {}), ("format", "2")),
    *(("output/size", 10**6), ("output/size", "large"), ("output/channels", -3), ("step", "many")),
    *(("output/class_names", [1, 2]), ("output/class_names", 3)),
]


@pytest.mark.parametrize(("path", "value"), ODD_VALUES)
def test_odd_values_are_refused(path, value, good, gan, tmp_path):
    content = checkpoint.read(good)
    *outer, key = path.split("/")
    functools.reduce(operator.getitem, outer, content)[key] = value
    checkpoint.write(tmp_path / "bad.safetensors", content)
    assert_refused(gan, tmp_path, "sample", "export")
    code, _, error = gan("info", "ckpt=bad.safetensors")
    assert code == 0 or (code == 1 and len(error.strip().splitlines()) == 1 and "Error;" not in error), error


def test_text_of_a_file_is_printed_without_control_characters(good, gan, tmp_path):
    content = checkpoint.read(good)
    content["config"]["model"]["name"] = "\x1b[2J\x1b]0;pwned\x07\r\n"
    content["config"]["model"]["note"] = "\ud800\x00" + "x" * 10**6
    content["output"]["class_names"] = ["\x1b[31mred", "../../up"] * 5
    checkpoint.write(tmp_path / "odd.safetensors", content)
    code, out, _ = gan("info", "ckpt=odd.safetensors")
    assert code == 0 and all(c.isprintable() or c == "\n" for c in out) and len(out) < 2 * 10**4
    code, _, _ = gan("sample", "ckpt=odd.safetensors", "out=samples/", "n=4")
    assert code == 0 and {p.name for p in tmp_path.iterdir()} == {"odd.safetensors", "samples"}


@pytest.mark.parametrize("model", MODELS)
def test_every_network_can_be_outlined_without_memory(model, tmp_path):
    run = start(tmp_path / "run", model)
    outlined = outline(run.config["model"]["G"], run.trainer.objective.G.state_dict())
    assert all(p.is_meta for p in outlined.parameters())
    check_output(outlined, run.checkpoint_content()["output"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory, as Linux does")
def test_randomly_damaged_files_open_or_are_refused():
    words = [sys.executable, str(FUZZER), "--cases", "25", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
