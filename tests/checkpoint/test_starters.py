"""Bundled checkpoints by name: ckpt=mnist, with nothing trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY
from play_pages import lively

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.runtime import bundled


@pytest.fixture
def starter(tmp_path_factory: pytest.TempPathFactory, gan: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled checkpoint of the name tiny."""
    folder = tmp_path_factory.mktemp("weights")
    file = folder / "starter-tiny.safetensors"
    ckpt = lively(tmp_path_factory.mktemp("run"), "cgan")
    assert gan("export", f"ckpt={ckpt}", "half=true", f"out={file}")[0] == 0
    monkeypatch.setattr(bundled, "WEIGHTS", folder)
    return file


@pytest.mark.slow
def test_every_command_takes_a_starter_by_its_name(starter: Path, gan: Any) -> None:
    commands = (
        ["sample", "n=4", "out=x.png"],
        ["edit", "image=3", "steps=3", "out=e.png"],
        ["project", "x.png", "fit=crop", "steps=1", "out=p.png"],
        ["export", "out=play.html"],
        ["evaluate", "data=synthetic", "n=32", "metrics=[kd_cifar]"],
        ["info"],
    )
    for command, *words in commands:
        code, out, error = gan(command, *words, "ckpt=tiny")
        assert code == 0, error
    assert str(starter) in out, "gan info says which file it is"
    code, _, error = gan("train", "model=cgan", *TINY, "trainer.start=tiny", "run.dir=next", "trainer.steps=1")
    assert code == 0 and "starter-tiny.safetensors holds no D; only G starts from it" in error


def test_the_list_names_starters_and_what_they_were_trained_on(starter: Path, gan: Any) -> None:
    line = f"  {'tiny':<24}{checkpoint.read(starter)['trained']}"
    assert gan("list", "checkpoints")[1] == f"{line}\n" and "cgan on synthetic" in line
    assert f"ckpt=\n{line}\n" in gan("list")[1]
    assert torch.equal(gancli.load("tiny").sample(2), gancli.load(starter).sample(2))
    code, _, error = gan("list", "checkpoint")
    assert code == 2 and "did you mean checkpoints?" in error


def test_a_file_or_a_run_of_the_same_name_comes_first(starter: Path, gan: Any) -> None:
    Path("tiny").mkdir()
    assert checkpoint.find("tiny") == starter, "a folder without a checkpoint is no run"
    Path("tiny/last.safetensors").write_bytes(starter.read_bytes())
    assert checkpoint.find("tiny") == Path("tiny/last.safetensors")
    Path("tiny/last.safetensors").rename("x")
    Path("tiny").rmdir()
    Path("x").rename("tiny")
    assert checkpoint.find("tiny") == Path("tiny")


def test_a_misspelt_or_missing_starter_is_one_sentence(starter: Path, gan: Any) -> None:
    code, _, error = gan("sample", "ckpt=tinny")
    assert code == 1 and error == "gan: there is no checkpoint tinny; did you mean tiny?\n"
    starter.unlink()
    code, _, error = gan("sample", "ckpt=tiny")
    assert code == 1 and "type ckpt=FILE, ckpt=RUN (a run folder) or ckpt=latest" in error
    assert gan("list", "checkpoints")[1] == "no checkpoint is bundled with this version\n"
    assert "ckpt=" not in gan("list")[1]


def test_a_changed_starter_is_not_opened(starter: Path, gan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "PACKAGE", starter.parent)
    monkeypatch.setitem(bundled.SHA256, starter.name, "0" * 64)
    for words in (["sample", "ckpt=tiny"], ["list", "checkpoints"]):
        code, _, error = gan(*words)
        assert code == 1 and "is not the file that belongs to this version and was not opened" in error


def test_every_starter_is_small_checked_and_has_a_card() -> None:
    files = bundled.starters()
    sizes = [file.stat().st_size for file in files.values()]
    assert all(size <= 10**6 for size in sizes) and sum(sizes) <= 3 * 10**6
    cards = (bundled.WEIGHTS / "README.md").read_text()
    for file in files.values():
        assert file.name in bundled.SHA256 and f"`{file.name}`" in cards
        state = checkpoint.read(file)["networks"]["G"]["state"]
        assert {x.dtype for x in state.values() if x.is_floating_point()} == {torch.half}
