"""Files made by somebody who means harm: each ends in one sentence, runs nothing, and takes no memory to speak of."""

import collections
import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, TINY, start
from safetensors.torch import save_file

from gancli.checkpoint import archive
from gancli.checkpoint.rebuild import check_output, outline, rebuild
from gancli.cli import main as cli
from gancli.config import choices

FUZZER = ROOT / "benchmarks" / "fuzz.py"
MEMORY = 200 * 2**20  # bytes that a refusal may take


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("good") / "run"
    assert cli.main(["train", *TINY, "model=cgan_mlp", f"run.dir={run}", "trainer.steps=1"]) == 0
    return run / "checkpoints" / "last.safetensors"


class Call:
    """Pickled, a call of the function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as source:
        return {m.filename: source.read(m) for m in source.infolist()}


def with_pickle(good: Path, pickle: bytes, bad: Path) -> None:
    root = next(iter(members(good))).partition("/")[0]
    write(members(good) | {f"{root}/data.pkl": pickle}, bad)


def write(members: dict[str, bytes], bad: Path, **options: Any) -> None:
    with zipfile.ZipFile(bad, "w", **options) as target:
        for name, data in members.items():
            target.writestr(name, data)


def network(content: dict[str, Any], **changes: Any) -> None:
    content["networks"]["G"]["config"] |= changes


def laughs() -> list[Any]:
    """Thirty lists, each ten times the one before: ten to the thirtieth values in a file of a few hundred bytes."""
    value: list[Any] = ["ha"]
    for _ in range(30):
        value = [value] * 10
    return value


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


def deep(depth: int = 300) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    **{
        f"{key}={value!r}": lambda content, key=key, value=value: network(content, **{key: value})
        for key in ("width", "z_dim", "size")
        for value in (10**9, 2**20, 10**18, -1, 0, "wide", 1.5, float("nan"), float("inf"), None, [4], True)
    },
    **{
        f"_target_={target}": lambda content, target=target: network(content, _target_=target)
        for target in (
            *("os.system", "builtins.eval", "gancli.images.os.getcwd", "gancli.networks.dcgan.nn.Module"),
            *("gancli.__main__.main", "gancli.networks.mlp.__builtins__", "gancli.networks.mlp.Generator.forward"),
            *(
                "gancli.networks.mlp.__name__",
                "gancli.networks.layers.beside",
                "gancli.inference.upscaler.SpandrelModel",
                "gancli.é",
            ),
            *("gancli.networks.mlp.Discriminator", "gancli.networks.layers.LabelEmbedding", "gancli.networks..x", "."),
        )
    },
    "depth=10**6": lambda content: network(
        content, _target_="gancli.networks.sr.Compact", depth=10**6, **{"width": 1, "z_dim": 0}
    ),
    "a config in it": lambda content: network(content, width={"_target_": "os.system", "command": "touch pwned"}),
    "configs in configs": lambda content: network(content, width={"_target_": "gancli.networks.mlp.Generator"}),
    "no config": lambda content: content["networks"]["G"].update(config=7),
    "weights of other shapes": lambda content: content["ema"].update({"layers.0.weight": torch.zeros(2**10, 2**10)}),
    "weights that are texts": lambda content: content["ema"].update({"layers.0.weight": "heavy"}),
    "none of the weights": lambda content: content.update(ema={}),
    "seen often": lambda content: content["ema"].update({"layers.0.weight": torch.zeros(1).expand(10**7, 10**7)}),
    "size of images": lambda content: content["output"].update(size=10**6),
    "size is a text": lambda content: content["output"].update(size="large"),
    "channels of images": lambda content: content["output"].update(channels=-3),
    "names are numbers": lambda content: content["output"].update(class_names=[1, 2]),
    "names are a number": lambda content: content["output"].update(class_names=3),
    "lists without end": lambda content: content["config"].update(seed=laughs()),
    "found in itself": lambda content: content["config"]["model"].update(cyclic()),
    "deep": lambda content: content["config"].update(data=deep()),
    "a number of many digits": lambda content: content.update(step=10**4000),
    "another step": lambda content: content.update(step="many"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_checkpoint_of_odd_values(name, good, gan, tmp_path):
    content = torch.load(good, weights_only=True)
    CONFIGS[name](content)
    torch.save(content, tmp_path / "bad.safetensors")
    refused(gan, tmp_path, "sample", "export")
    code, _, error = gan("info", "ckpt=bad.safetensors")
    assert code == 0 or (code == 1 and len(error.strip().splitlines()) == 1 and "Error;" not in error), error


def refused(gan: Any, folder: Path, *commands: str) -> None:
    """Each command ends in a sentence, in little memory, and nothing else is there than before."""
    before, there = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, {*folder.iterdir()}
    for command in commands:
        code, _, error = gan(command, "ckpt=bad.safetensors", *(["out=e.safetensors"] if command == "export" else []))
        assert code == 1 and len(error.strip().splitlines()) == 1, (command, code, error)
        assert "Error;" not in error and len(error) < 1500, "not an expected error"
    assert {*folder.iterdir()} == there
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY


@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "touch pwned"),
        Call(bytearray, 10**12),
        Call(torch.UntypedStorage, 10**11),
        Call(torch.zeros, 10**6, 10**6),
        Call(collections.Counter, "abc"),
        Call(set, [1]),
        Call(torch.device, "cpu"),
        Call(getattr, 1, "real"),
        Call(exec, "import os; os.system('touch pwned')"),
    ],
    ids=lambda call: call.call[0].__name__,
)
def test_nothing_is_called(call, gan, tmp_path):
    torch.save({"format": 1, "x": call}, tmp_path / "bad.safetensors")
    refused(gan, tmp_path, "sample", "info", "export")


def nested(depth: int, twice: bool) -> bytes:
    """A dict whose one key is a tuple in a tuple in ...: to hash it takes a deep stack, or for ever."""
    return b"\x80\x02}K\x01\x85q\x00" + (b"h\x00\x86q\x00" if twice else b"\x85") * depth + b"K\x01s."


def test_lists_of_contents_that_no_torch_wrote(good, gan, tmp_path):
    file = tmp_path / "bad.safetensors"
    pickles = [
        nested(2 * 10**5, twice=False),
        nested(64, twice=True),
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"",
        b".",
        b"\x80\x02" + b"(" * 10**5 + b".",
        b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        b"cgancli.cli\nmain\n(lp0\ntR.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02B\xff\xff\xff\x7f.",
        pickle.dumps({"format": 1}, protocol=5),
    ]
    for data in pickles:
        with_pickle(good, data, file)
        refused(gan, tmp_path, "sample")


@pytest.mark.parametrize(
    "by", [b"J\x00\x00\x00\x10", b"J\xff\xff\xff\xff", b"K\x00", b"\x8a\x08" + b"\x00" * 7 + b"\x10"]
)
@pytest.mark.parametrize("which", ["count", "shape", "stride", "offset"])
def test_tensors_that_are_not_what_is_stored(which, by, tmp_path):
    torch.save({"x": torch.arange(4.0)}, tmp_path / "good.safetensors")
    data = members(tmp_path / "good.safetensors")["good/data.pkl"]
    place = {"count": b"K\x04t", "shape": b"K\x04\x85", "stride": b"K\x01\x85", "offset": b"QK\x00"}[which]
    at = data.index(place) + (which == "offset")
    with_pickle(tmp_path / "good.safetensors", data[:at] + by + data[at + 2 :], tmp_path / "bad.safetensors")
    try:
        x = archive.load(tmp_path / "bad.safetensors")["x"]
    except (archive.Refused, RuntimeError):
        return
    assert x.numel() <= 4 and {*x.tolist()} <= {0.0, 1.0, 2.0, 3.0}


def test_archives_that_are_bombs(good, gan, tmp_path):
    file, parts = tmp_path / "bad.safetensors", members(good)
    largest = max(parts, key=lambda name: len(parts[name]))
    write(parts | {largest: bytes(2**30)}, file, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**21
    refused(gan, tmp_path, "sample", "info")
    write({**{f"a/{i}": b"" for i in range(3000)}, **parts}, file)
    refused(gan, tmp_path, "sample")
    # Members that overlap, and one that is said to be larger than the file.
    write(parts, file)
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    file.write_bytes(data)
    refused(gan, tmp_path, "sample")


def test_what_is_printed_updates_no_cursor(good, gan, tmp_path):
    content = torch.load(good, weights_only=True)
    content["config"]["model"]["name"] = "\x1b[2J\x1b]0;pwned\x07\r\n"
    content["config"]["model"]["note"] = "\ud800\x00" + "x" * 10**6
    content["output"]["class_names"] = ["\x1b[31mred", "../../up"] * 5
    torch.save(content, tmp_path / "odd.safetensors")
    code, out, _ = gan("info", "ckpt=odd.safetensors")
    assert code == 0 and all(c.isprintable() or c == "\n" for c in out) and len(out) < 2 * 10**4
    code, _, _ = gan("sample", "ckpt=odd.safetensors", "out=made/", "n=4")
    assert code == 0 and {p.name for p in tmp_path.iterdir()} == {"odd.safetensors", "made"}


@pytest.mark.parametrize("model", choices("model"))
def test_every_network_can_be_drawn_up_without_memory(model, tmp_path):
    """Or its own checkpoints could not be opened."""
    run = start(tmp_path / "run", model)
    state = run.trainer.objective.G.state_dict()
    built = outline(run.config["model"]["G"], state)
    assert all(p.is_meta for p in built.parameters())
    assert {k: v.shape for k, v in built.state_dict().items()} == {k: v.shape for k, v in state.items()}
    check_output(built, run.output)


def test_safetensors_of_a_stranger(gan, tmp_path):
    from PIL import Image

    Image.new("RGB", (6, 5)).save(tmp_path / "in.png")
    file = tmp_path / "bad.safetensors"
    config = {"_target_": "gancli.networks.sr.Compact", "channels": 3, "width": 4, "depth": 2, "scale": 4}
    state = rebuild(config).state_dict()
    save_file(state, file, {"network": json.dumps(config)})
    assert gan("upscale", "in.png", "ckpt=bad.safetensors", "out=up.png")[0] == 0
    whole = file.read_bytes()
    odd = [
        json.dumps(config | change) for change in ({"width": 10**9}, {"depth": 10**6}, {"depth": 10**18}, {"width": -1})
    ]
    odd += [
        json.dumps(config | {"_target_": target}) for target in ("os.system", "gancli.__main__.x", "gancli.networks.é")
    ]
    odd += ["[" * 10**5, "7", "null", '{"_target_": 3}', "{", "\x00"]
    files = [whole[:-1], whole[:100], b"", b"\xff" * 8 + whole[8:], whole[:8] + b"[" * 5000]
    for metadata in odd:
        made = io.BytesIO()
        save_file(state, file, {"network": metadata})
        made.write(file.read_bytes())
        files.append(made.getvalue())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in files:
        file.write_bytes(data)
        code, _, error = gan("upscale", "in.png", "ckpt=bad.safetensors", "out=again.png")
        assert code == 1 and len(error.strip().splitlines()) == 1 and "Error;" not in error, error
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
    assert {p.name for p in tmp_path.iterdir()} == {"in.png", "up.png", "bad.safetensors"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory, as Linux does")
def test_files_damaged_at_random_open_or_are_refused():
    words = [sys.executable, str(FUZZER), "--checkpoints", "60", "--pictures", "60", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
