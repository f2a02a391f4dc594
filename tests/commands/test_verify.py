"""gan verify, and what a checkpoint from somebody else may not choose."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY
from omegaconf import OmegaConf
from PIL import Image

from gancli.checkpoint import format as checkpoint
from gancli.config import build

FOLDER = ["data=folder", "data.size=16", "model=mlp", "model.width=4", "data.batch_size=4", "device=cpu"]
FOLDER += ["trainer.steps=1", "trainer.preflight=false", "run.dir=run"]


@pytest.fixture
def images(tmp_path) -> list[Path]:
    """Two folders of images."""
    draw, folders = np.random.default_rng(0), [tmp_path / "own", tmp_path / "private"]
    for folder in folders:
        folder.mkdir()
        for i in range(24):
            Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folders


def test_a_checkpoint_does_not_choose_the_folder_that_is_read(gan, images):
    assert gan("train", *FOLDER, "data.path=own")[0] == 0
    assert gan("evaluate", "ckpt=run", "n=20", "device=cpu")[0] == 0  # it was named in gan train
    content = checkpoint.read(Path("run/checkpoints/last.safetensors"))
    content["config"]["data"]["path"] = "private"
    checkpoint.write(Path("received.safetensors"), content)
    words = ("evaluate", "ckpt=received.safetensors", "n=20", "device=cpu")
    code, _, error = gan(*words)
    assert code == 1 and "names private as its training data, which was not read" in error
    assert "type data=private to evaluate on it" in error
    code, out, _ = gan("verify", "received.safetensors")
    assert code == 0 and "private (not read unless typed as data=)" in out
    assert gan(*words, "data=private")[0] == 0


@pytest.mark.parametrize("settings", [{"name": "stacked_mnist", "n": 10**9}, {"name": "synthetic", "n": 10**8}])
def test_a_checkpoint_does_not_choose_how_much_memory_is_taken(settings, gan):
    assert gan("train", *TINY, "model=mlp", "trainer.steps=1", "run.dir=run")[0] == 0
    content = checkpoint.read(Path("run/checkpoints/last.safetensors"))
    content["config"]["data"] |= settings
    checkpoint.write(Path("received.safetensors"), content)
    code, _, error = gan("evaluate", "ckpt=received.safetensors", "device=cpu")
    assert code == 1 and "more than the 3 GB that a file may take" in error


def test_verify_says_of_sound_and_of_damaged_things_what_they_are(gan, tmp_path):
    assert gan("train", *TINY, "model=mlp", "trainer.steps=1", "run.dir=runs/a")[0] == 0
    for path in ("runs/a", "runs", "runs/a/checkpoints/last.safetensors", "runs/a/samples/real.png"):
        code, out, _ = gan("verify", path)
        assert code == 0 and out.endswith("sound\n"), out
    damaged = bytearray(Path("runs/a/checkpoints/last.safetensors").read_bytes())
    damaged[-5] ^= 1
    Path("runs/a/checkpoints/last.safetensors").unlink()
    Path("runs/a/checkpoints/last.safetensors").write_bytes(damaged)
    Path("text.bin").write_text("hello")
    (tmp_path / "bomb.npz").write_bytes(b"PK\x03\x04" + bytes(99))
    for path in ("runs/a", "runs", "text.bin", "bomb.npz"):
        code, out, _ = gan("verify", path)
        assert code == 1 and "NOT SOUND" in out and out.endswith("not sound: do not use it\n"), out


def test_no_folder_and_no_variable_of_this_machine_reaches_a_file_that_is_given_away(
    gan, images, tmp_path, monkeypatch
):
    monkeypatch.setenv("SECRET", "sesame")
    code, _, error = gan("train", *FOLDER, f"data.path={images[0]}", "seed=${oc.env:SECRET}")
    assert code != 0 and "variable SECRET" in error and "sesame" not in error
    assert gan("train", *FOLDER, f"data.path={images[0]}")[0] == 0
    assert gan("export", "ckpt=run", "out=g.safetensors")[0] == 0
    assert str(tmp_path).encode() not in Path("g.safetensors").read_bytes()


def test_verify_reads_every_kind_of_file_by_its_name(gan, tmp_path):
    """Texts, graphs and weights of other programs, good and bad."""
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3, 4, dtype=torch.float16)}, tmp_path / "foreign.safetensors")
    texts = {
        "a.csv": ("x,y\n1,-2\n", "x,y\n1,=cmd|x\n", "1 rows"),
        "a.yaml": ("a: {_target_: os.system}\n", "a: &x [1]\nb: *x\n", "named, none of which was built: 1"),
        "a.jsonl": ('{"a": 1}\n{"a": 2}\n', '{"a": 1}\n{"a":\n', "2 lines"),
        "a.json": ('{"a": 1}', "{", "a, "),
        "a.onnx": ("", "\x08\x07\x12\x07pytorch", ""),
    }
    code, out, _ = gan("verify", "foreign.safetensors")
    assert code == 0 and "1 tensor, 12 numbers as F16, not of gan" in out, out
    for name, (good, bad, expected) in texts.items():
        if good:
            Path(name).write_text(good)
            code, out, _ = gan("verify", name)
            assert code == 0 and expected.replace("1 rows", "2 rows of 2 columns") in out, (name, out)
        Path(name).write_text(bad)
        code, out, _ = gan("verify", name)
        assert code == 1 and "NOT SOUND" in out, (name, out)


def test_info_and_verify_count_what_cannot_be_read_of_a_run(gan):
    assert gan("train", *TINY, "model=mlp", "trainer.steps=1", "run.dir=run")[0] == 0
    with Path("run/metrics.jsonl").open("a") as file:
        file.write("[1]\nhello\n")
    code, out, _ = gan("info", "ckpt=run")
    assert code == 0 and "not read    2 lines of metrics.jsonl" in out, out
    code, out, _ = gan("verify", "run")
    assert code == 0 and "2 lines of metrics.jsonl" in out and "numbers as float32" in out, out


def test_a_small_checkpoint_cannot_ask_for_images_that_take_all_memory(gan, tmp_path):
    """Half a megabyte of weights, whose images of 4,096 pixels would take 13 GB."""
    words = [word for word in TINY if not word.startswith("data.size")]
    code, _, error = gan("train", *words, "data.size=8", "model=dcgan", "trainer.steps=1", "run.dir=run")
    assert code == 0, error
    content = checkpoint.read(Path("run/checkpoints/last.safetensors"))
    network = {"_target_": "gancli.networks.dcgan.Generator", "size": 4096, "channels": 3, "z_dim": 2, "width": 1}
    generator = build(OmegaConf.create(network | {"classes": 0}))
    weights = generator.state_dict()
    content["networks"]["G"] = {"config": network | {"classes": 0}, "state": weights}
    content["ema"], content["output"]["size"], content["output"]["channels"] = weights, 4096, 3
    checkpoint.write(Path("large.safetensors"), content)
    for words in (["sample", "n=1", "out=x.png"], ["evaluate", "data=synthetic", "n=20"]):
        code, _, error = gan(words[0], "ckpt=large.safetensors", "device=cpu", *words[1:])
        assert code == 1 and "more than the 1 GB that a file may take" in error, error
