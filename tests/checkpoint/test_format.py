"""Checkpoints: equal to the bit after reading, equal bytes for equal content, and which file of a run is read."""

import json
import os
from pathlib import Path

import pytest
import torch
from helpers import TINY, assert_same
from safetensors import safe_open

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import rebuild
from gancli.runtime.serialization import TENSOR, decode, encode


def tensors() -> dict[str, torch.Tensor]:
    """Return tensors of every dtype and layout that a run may have."""
    x = torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    dtypes = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    layouts = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "1x1 channels_last": x[..., :1, :1].contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(0, 3),
        "expanded": x[:1].expand(4, -1, -1, -1),
        "with gaps": x[::2, :, 1:],
        "scalar": x.sum(),
        "empty": x[:0],
        "no columns": x.reshape(-1, 5)[:, :0],
        "original": x,
        "view": x.view(-1),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        "needs a gradient": torch.nn.Parameter(x),
    }
    return {**layouts, **{dtype: (100 * x).to(getattr(torch, dtype)) for dtype in dtypes}}


def test_content_survives_to_the_bit_with_dtypes_and_memory_layouts(tmp_path):
    content = {
        "state": tensors(),
        "values": [None, True, -1, 2**62, -(2**62), 1.5, float("inf"), "é\ud800\n", {}, []],
        "window": {"D/real": (torch.ones(2), 3)},
    }
    (tmp_path / "a").write_bytes(b"".join(encode(content)))
    with (tmp_path / "a").open("rb") as file:
        again = decode(file)
    assert again["values"] == content["values"] and again["window"]["D/real"][1] == 3
    for name, x in content["state"].items():
        y = again["state"][name]
        assert (y.dtype, y.shape) == (x.dtype, x.shape), name
        assert y.nan_to_num().equal(x.nan_to_num()) and y.signbit().equal(x.signbit()), name
        dense = x.contiguous() if name in ("expanded", "with gaps", "no columns") else x
        assert y.stride() == dense.stride() or not x.numel(), name
        y.zero_()  # no two tensors have the same memory
    with safe_open(tmp_path / "a", "pt") as file:  # the format that other programs read
        assert file.get_tensor("window/D/real/0").equal(torch.ones(2))
        assert file.get_tensor("bfloat16").equal(tensors()["bfloat16"])


def test_equal_content_gives_equal_bytes(checkpoints, tmp_path):
    content = checkpoint.read(checkpoints["dcgan"])
    content["networks"] = dict(reversed(content["networks"].items()))
    checkpoint.write(tmp_path / "again.safetensors", content)
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoints["dcgan"].read_bytes()


def test_tensors_lie_under_path_names_and_the_rest_is_json(checkpoints):
    with safe_open(checkpoints["dcgan"], "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    names_of_g = {name for name, _ in gancli.load(checkpoints["dcgan"]).network.named_parameters()}
    for prefix in ("networks/G/", "ema/"):
        assert {prefix + name for name in names_of_g} <= names
    assert {f"optimizers/G/{name}/exp_avg" for name in names_of_g} <= names
    content = json.loads(metadata["gancli_content"])
    assert (content["format"], content["step"], content["images"]) == (checkpoint.FORMAT, 2, 16)
    assert content["config"]["model"]["name"] == "dcgan" and set(content["networks"]) == {"G", "D"}
    assert content["versions"].keys() == {"gancli", "torch", "python"}
    assert all(value[TENSOR] in names for value in content["ema"].values())


def test_a_run_folder_and_latest_stand_for_their_checkpoint(checkpoints, tmp_path, monkeypatch):
    assert checkpoint.find(checkpoints["dcgan"].parents[1]) == checkpoints["dcgan"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no run in"):
        checkpoint.find("latest")
    for age, name in ((100, "old"), (0, "sweeps/s/3")):
        file = checkpoint.write(tmp_path / "outputs" / name / "checkpoints/last.safetensors", {})
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    assert checkpoint.find("latest") == Path("outputs/sweeps/s/3/checkpoints/last.safetensors")
    (tmp_path / "outputs/old/checkpoints/best.safetensors").touch()
    assert checkpoint.find("outputs/old").name == "best.safetensors"


def test_a_checkpoint_of_the_old_format_says_to_train_anew(gan):
    old = Path("run/checkpoints/last.pt")
    old.parent.mkdir(parents=True)
    torch.save({"format": 1}, old)
    for words in (("sample", f"ckpt={old}"), ("info", "ckpt=run"), ("train", *TINY, "run.dir=run")):
        code, _, error = gan(*words)
        assert code == 1 and "a checkpoint of the format before safetensors; train it anew" in error


def test_a_newer_format_says_to_upgrade(gan, tmp_path):
    checkpoint.write(tmp_path / "new.safetensors", {"format": 99})
    code, _, error = gan("sample", "ckpt=new.safetensors")
    assert code == 1 and "newer than format" in error and "pip install -U gancli" in error


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "builtins.eval", "torch.nn.Linear", "Generator", "", ".", "gancli.é"),
        *("gancli.images.os.getcwd", "gancli.images.write", "gancli.nothing.There", "gancli.__main__.main"),
        *("gancli.inference.generator.Generator", "gancli.inference.upscaler.SpandrelModel"),
        *("gancli.networks.mlp.nn.Linear", "gancli.networks.mlp.nn", "gancli..networks.mlp.Generator"),
        *("gancli.networks.mlp.__builtins__", "gancli.networks.mlp.__name__", "gancli.networks.mlp.Generator.forward"),
    ],
)
def test_only_networks_of_this_package_are_built(target):
    with pytest.raises(ValueError, match="not a network of gancli"):
        rebuild({"_target_": target, "in_features": 1, "out_features": 1})


def test_arguments_of_another_version_are_named():
    with pytest.raises(ValueError, match="cannot be built by this version"):
        rebuild({"_target_": "gancli.networks.mlp.Generator", "no_such_argument": 1})


def damage(file: Path) -> None:
    """Flip a bit of the last tensor."""
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.unlink()  # not in place: the file may have a second name
    file.write_bytes(data)


@pytest.mark.slow
def test_a_run_continues_from_the_previous_checkpoint_if_the_last_is_damaged(gan):
    words = ["train", *TINY, "model=mlp", "trainer.keep_every=2"]
    assert gan(*words, "run.dir=whole")[0] == 0 == gan(*words, "run.dir=run", "trainer.steps=5")[0]
    damage(Path("run/checkpoints/last.safetensors"))
    code, _, error = gan("sample", "ckpt=run")
    assert code == 1 and "run/checkpoints/last.safetensors cannot be read: its checksum does not match" in error
    assert "type ckpt=run/checkpoints/previous.safetensors, the one before" in error
    assert gan("sample", "ckpt=run/checkpoints/previous.safetensors")[0] == 0
    # Options of saving may change between sessions.
    assert gan(*words, "run.dir=run", "trainer.checkpoint_minutes=1", "trainer.keep_last=2")[0] == 0
    log = Path("run/log.txt").read_text()
    assert log.count("went on from previous.safetensors, of step 4") == 1
    assert " saved in " in log and "% of the time since the one before" in log
    whole, run = (checkpoint.read(Path(name, "checkpoints/last.safetensors")) for name in ("whole", "run"))
    assert_same(whole["ema"], run["ema"])
    names = {"last", "previous", "damaged", "step-0000004", "step-0000006"}
    assert {file.stem for file in Path("run/checkpoints").iterdir()} == names


def test_a_checkpoint_with_another_form_of_data_counts_as_damaged(gan):
    words = ["train", *TINY, "model=mlp", "run.dir=run"]
    assert gan(*words, "trainer.steps=5")[0] == 0
    last = Path("run/checkpoints/last.safetensors")
    content = checkpoint.read(last)
    checkpoint.write(last, content | {"data": {"images": 64, "class_names": {"circle": 0}}})
    code, _, error = gan(*words)
    assert code == 0 and "it holds no data.class_names" in error and "went on from previous" in error, error


def test_a_run_with_only_damaged_checkpoints_is_left_as_it_is(gan):
    words = ["train", *TINY, "model=mlp", "run.dir=run"]
    assert gan(*words, "trainer.steps=3")[0] == 0
    for name in ("last", "previous"):
        damage(Path(f"run/checkpoints/{name}.safetensors"))
    before = {p.name: p.read_bytes() for p in Path("run/checkpoints").iterdir()}
    code, _, error = gan(*words)
    assert code == 1 and "no checkpoint of this run can be read" in error and "type another run.dir=" in error
    assert {p.name: p.read_bytes() for p in Path("run/checkpoints").iterdir()} == before
