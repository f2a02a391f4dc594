"""Checkpoints: whole or not there, self-contained, safe to open."""

import errno
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from helpers import TINY

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import rebuild
from gancli.cli import main as cli


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    assert cli.main(["train", *TINY, "model=dcgan", f"run.dir={run}", "trainer.steps=2"]) == 0
    return run


def test_it_opens_without_running_code_and_holds_plain_values(trained):
    content = torch.load(trained / "checkpoints" / "last.safetensors", weights_only=True)
    assert content["format"] == checkpoint.FORMAT
    assert content["step"] == 2 and content["images"] == 16
    assert content["config"]["model"]["name"] == "dcgan"
    assert set(content["networks"]) == {"G", "D"} == set(content["optimizers"])
    assert content["versions"].keys() == {"gancli", "torch", "python"}


def test_a_run_folder_and_latest_stand_for_their_checkpoint(trained, tmp_path, monkeypatch):
    assert checkpoint.find(trained) == trained / "checkpoints" / "last.safetensors"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no run in"):
        checkpoint.find("latest")
    for age, name in ((100, "old"), (0, "sweeps/s/3")):
        file = tmp_path / "outputs" / name / "checkpoints" / "last.safetensors"
        checkpoint.write(file, {})
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    assert checkpoint.find("latest") == Path("outputs/sweeps/s/3/checkpoints/last.safetensors")
    (tmp_path / "outputs/old/checkpoints/best.safetensors").touch()
    assert checkpoint.find("outputs/old").name == "best.safetensors"


class Payload:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def write_foreign(path: Path, kind: str, good: Path) -> None:
    data = good.read_bytes()
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flipped bit":
        with zipfile.ZipFile(good) as archive:  # between the entries lies padding, which nobody reads
            tensor = max((archive.read(name) for name in archive.namelist()), key=len)
        at = data.find(tensor) + len(tensor) // 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == "payload":
        torch.save({"format": 1, "x": Payload()}, path)
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello")
    elif kind == "state dict":
        torch.save({"weight": torch.zeros(3)}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "without networks":
        torch.save({"format": 1}, path)


KINDS = ["empty", "text", "truncated", "flipped bit", "pickle", "payload", "other zip"]
KINDS += ["state dict", "list", "without networks"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["sample", "info"])
def test_a_foreign_or_damaged_file_gets_one_sentence_and_runs_nothing(command, kind, trained, gan, tmp_path):
    path = tmp_path / "foreign.safetensors"
    write_foreign(path, kind, trained / "checkpoints" / "last.safetensors")
    code, _, error = gan(command, f"ckpt={path}")
    assert code == 1 and "foreign.safetensors" in error and len(error.strip().splitlines()) == 1, error
    assert "Error;" not in error, "not an expected error"
    assert [p.name for p in tmp_path.iterdir()] == ["foreign.safetensors"]


def test_a_newer_format_says_to_upgrade(trained, gan, tmp_path):
    content = checkpoint.read(trained / "checkpoints" / "last.safetensors")
    torch.save({**content, "format": 99}, tmp_path / "new.safetensors")
    code, _, error = gan("sample", "ckpt=new.safetensors")
    assert code == 1 and "newer than format" in error and "pip install -U gancli" in error


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "gancli.images.os.getcwd",
        "gancli.images.write",
        "gancli.networks.mlp.nn.Linear",
        "gancli.networks.mlp.nn",
        "torch.nn.Linear",
        "gancli.nothing.There",
        "gancli.inference.generator.Generator",
        "gancli..networks.mlp.Generator",
        "builtins.eval",
        "Generator",
        "",
    ],
)
def test_a_network_is_rebuilt_only_from_this_packages_modules(target):
    with pytest.raises(ValueError, match="not a network of gancli"):
        rebuild({"_target_": target, "in_features": 1, "out_features": 1})


def test_arguments_of_another_version_are_named():
    with pytest.raises(ValueError, match="cannot be built by this version"):
        rebuild({"_target_": "gancli.networks.mlp.Generator", "no_such_argument": 1})


@pytest.mark.parametrize("broken", ["replace", "fsync", "write"])
def test_a_save_that_fails_leaves_the_one_before(broken, tmp_path, monkeypatch):
    path = checkpoint.write(tmp_path / "a.safetensors", {"step": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = {"replace": (Path, "replace"), "fsync": (os, "fsync"), "write": (torch, "save")}[broken]
    monkeypatch.setattr(*target, full)
    with pytest.raises(ValueError, match=r"No space left on device; .* MB are free there"):
        checkpoint.write(path, {"step": 2})
    monkeypatch.undo()
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_python_loads_in_one_line(trained):
    G = gancli.load(trained)
    x = G.sample(n=3, seed=0)
    assert x.shape == (3, 3, 16, 16) and x.dtype == torch.float32 and x.abs().max() <= 1


def damage(file: Path) -> None:
    """A bit of its largest tensor."""
    bad = file.with_name("bad")
    write_foreign(bad, "flipped bit", file)
    bad.replace(file)  # not in place: the file may have another name, step-N.safetensors say


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(gan):
    words = ["train", *TINY, "model=mlp", "trainer.keep_every=2"]
    assert gan(*words, "run.dir=whole")[0] == 0 == gan(*words, "run.dir=run", "trainer.steps=5")[0]
    damage(Path("run/checkpoints/last.safetensors"))
    code, _, error = gan("sample", "ckpt=run")
    assert code == 1 and "run/checkpoints/last.safetensors is damaged: the checksum does not match of" in error
    assert "type ckpt=run/checkpoints/previous.safetensors, the one before" in error
    assert gan("sample", "ckpt=run/checkpoints/previous.safetensors")[0] == 0
    assert gan(*words, "run.dir=run")[0] == 0
    log = Path("run/log.txt").read_text()
    assert log.count("went on from previous.safetensors, of step 4") == 1
    assert " saved in " in log and "% of the time since the one before" in log
    whole, run = (torch.load(f"{name}/checkpoints/last.safetensors", weights_only=True) for name in ("whole", "run"))
    assert all(torch.equal(x, whole["ema"][name]) for name, x in run["ema"].items())
    assert {p.name for p in Path("run/checkpoints").iterdir()} == {
        *(
            "last.safetensors",
            "previous.safetensors",
            "damaged.safetensors",
            "step-0000002.safetensors",
            "step-0000004.safetensors",
            "step-0000006.safetensors",
        )
    }


def test_a_run_of_nothing_but_damaged_checkpoints_is_a_sentence(gan):
    words = ["train", *TINY, "model=mlp", "run.dir=run"]
    assert gan(*words, "trainer.steps=3")[0] == 0
    for name in ("last.safetensors", "previous.safetensors"):
        damage(Path("run/checkpoints") / name)
    before = {p.name: p.read_bytes() for p in Path("run/checkpoints").iterdir()}
    code, _, error = gan(*words)
    assert code == 1 and "no checkpoint of this run can be read" in error and "type another run.dir=" in error
    assert {p.name: p.read_bytes() for p in Path("run/checkpoints").iterdir()} == before


def test_how_often_is_saved_and_what_is_kept_may_change_from_session_to_session(gan):
    words = ["train", *TINY, "model=mlp", "run.dir=run"]
    assert gan(*words, "trainer.steps=3")[0] == 0
    assert gan(*words, "trainer.checkpoint_minutes=1", "trainer.keep_every=1", "trainer.keep_last=2")[0] == 0
    kept = sorted(p.name for p in Path("run/checkpoints").glob("step-*"))
    assert kept == ["step-0000004.safetensors", "step-0000006.safetensors"]
    code, _, error = gan(*words, "run.dir=other", "trainer.keep_last=-1")
    assert code == 1 and "trainer.keep_last=-1" in error and "type 0" in error
