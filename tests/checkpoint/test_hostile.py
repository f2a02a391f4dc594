"""Files made to do harm: each ends in one sentence, runs nothing, and takes little memory."""

import io
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, TINY, start, write_generator

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import check_output, outline, rebuild
from gancli.cli import main as cli
from gancli.config import choices
from gancli.runtime.serialization import CONTENT, STRIDE, TENSOR, ZEROS, decode, encode, seal

FUZZER = ROOT / "benchmarks" / "fuzz.py"
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


def refused(gan: Any, folder: Path, *commands: str, run: str = "bad.safetensors") -> None:
    """Assert that each command ends in a sentence, in little memory, and leaves no file."""
    before, there = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {*folder.iterdir()}
    for command in commands:
        code, _, error = gan(command, f"ckpt={run}", *(["out=e.safetensors"] if command == "export" else []))
        assert code == 1 and len(error.strip().splitlines()) == 1, (command, code, error)
        assert "Error;" not in error and len(error) < 1500, "not an expected error"
    assert {*folder.iterdir()} == there
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


class Payload:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def foreign(good: bytes) -> dict[str, bytes]:
    """Return files that no `gan train` wrote, by name."""
    middle = len(good) // 2
    flip = {f"bit {at} flipped": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in (0, 40, 150, middle)}
    whole = (1).to_bytes(8, "little")
    return {
        **flip,
        **{"empty": b"", "text": b"hello", "cut short": good[:middle], "half a header": good[:100]},
        **{"longer": good + b"\0", "one byte": b"x", "a huge header": b"\xff" * 8 + good[8:], "one": whole + b"{"},
        **{"pickle": pickle.dumps(Payload()), "state dict": b"".join(encode({"weight": torch.zeros(3)}))},
        "plain safetensors": b"\x02\0\0\0\0\0\0\0{}",
    }


def test_foreign_and_damaged_files(good, gan, tmp_path):
    for name, data in foreign(good.read_bytes()).items():
        (tmp_path / "bad.safetensors").write_bytes(data)
        try:
            refused(gan, tmp_path, "sample", "info")
        except AssertionError as error:
            raise AssertionError(name) from error
    with zipfile.ZipFile(tmp_path / "bad.safetensors", "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(gan, tmp_path, "sample")


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


def test_the_files_below_are_refused_for_what_they_change():
    whole = file_of({"x": {TENSOR: "a", STRIDE: [1]}}, {"a": TWO}, bytes(8))
    assert decode(io.BytesIO(whole))["x"].equal(torch.zeros(2))


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_are_not_what_they_say(name, gan, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(file_of(*HOSTILE[name]))
    refused(gan, tmp_path, "sample")


def network(content: dict[str, Any], **changes: Any) -> None:
    content["networks"]["G"]["config"] |= changes


ODD_VALUES: dict[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"{key}={value!r}": lambda content, key=key, value=value: network(content, **{key: value})
        for key in ("width", "z_dim", "size")
        for value in (10**9, 2**20, 10**18, -1, 0, "wide", 1.5, float("nan"), float("inf"), None, [4], True)
    },
    "depth=10**6": lambda content: network(
        content, _target_="gancli.networks.sr.Compact", depth=10**6, **{"width": 1, "z_dim": 0}
    ),
    "another network": lambda content: network(content, _target_="gancli.networks.mlp.Discriminator"),
    "a function": lambda content: network(content, _target_="os.system"),
    "a config in it": lambda content: network(content, width={"_target_": "os.system", "command": "touch pwned"}),
    "configs in configs": lambda content: network(content, width={"_target_": "gancli.networks.mlp.Generator"}),
    "no config": lambda content: content["networks"]["G"].update(config=7),
    "weights of other shapes": lambda content: content["ema"].update({"layers.0.weight": torch.zeros(2**10, 2**10)}),
    "format is a text": lambda content: content.update(format="2"),
    "weights that are texts": lambda content: content["ema"].update({"layers.0.weight": "heavy"}),
    "none of the weights": lambda content: content.update(ema={}),
    "size of images": lambda content: content["output"].update(size=10**6),
    "size is a text": lambda content: content["output"].update(size="large"),
    "channels of images": lambda content: content["output"].update(channels=-3),
    "names are numbers": lambda content: content["output"].update(class_names=[1, 2]),
    "names are a number": lambda content: content["output"].update(class_names=3),
    "another step": lambda content: content.update(step="many"),
}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_a_whole_checkpoint_of_odd_values(name, good, gan, tmp_path):
    content = checkpoint.read(good)
    ODD_VALUES[name](content)
    checkpoint.write(tmp_path / "bad.safetensors", content)
    refused(gan, tmp_path, "sample", "export")
    code, _, error = gan("info", "ckpt=bad.safetensors")
    assert code == 0 or (code == 1 and len(error.strip().splitlines()) == 1 and "Error;" not in error), error


def test_text_of_a_file_moves_no_cursor(good, gan, tmp_path):
    content = checkpoint.read(good)
    content["config"]["model"]["name"] = "\x1b[2J\x1b]0;pwned\x07\r\n"
    content["config"]["model"]["note"] = "\ud800\x00" + "x" * 10**6
    content["output"]["class_names"] = ["\x1b[31mred", "../../up"] * 5
    checkpoint.write(tmp_path / "odd.safetensors", content)
    code, out, _ = gan("info", "ckpt=odd.safetensors")
    assert code == 0 and all(c.isprintable() or c == "\n" for c in out) and len(out) < 2 * 10**4
    code, _, _ = gan("sample", "ckpt=odd.safetensors", "out=made/", "n=4")
    assert code == 0 and {p.name for p in tmp_path.iterdir()} == {"odd.safetensors", "made"}


@pytest.mark.parametrize("model", choices("model"))
def test_every_network_can_be_outlined_without_memory(model, tmp_path):
    """Or its own checkpoints could not be opened."""
    run = start(tmp_path / "run", model)
    state = run.trainer.objective.G.state_dict()
    built = outline(run.config["model"]["G"], state)
    assert all(p.is_meta for p in built.parameters())
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in state.items()}
    check_output(built, run.checkpoint_content()["output"])


def test_hostile_upscalers(gan, tmp_path):
    from PIL import Image

    Image.new("RGB", (6, 5)).save(tmp_path / "in.png")
    file = tmp_path / "bad.safetensors"
    config = {"_target_": "gancli.networks.sr.Compact", "channels": 3, "width": 4, "depth": 2, "scale": 4}
    state = rebuild(config).state_dict()
    write_generator(file, config, state)
    assert gan("upscale", "in.png", "ckpt=bad.safetensors", "out=up.png")[0] == 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for change in ({"width": 10**9}, {"depth": 10**6}, {"depth": 10**18}, {"width": -1}, {"_target_": "os.system"}):
        write_generator(file, config | change, state)
        code, _, error = gan("upscale", "in.png", "ckpt=bad.safetensors", "out=again.png")
        assert code == 1 and len(error.strip().splitlines()) == 1 and "Error;" not in error, error
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    assert {p.name for p in tmp_path.iterdir()} == {"in.png", "up.png", "bad.safetensors"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory, as Linux does")
def test_files_damaged_at_random_open_or_are_refused():
    words = [sys.executable, str(FUZZER), "--checkpoints", "50", "--images", "50", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
