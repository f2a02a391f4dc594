"""trainer.precision=auto: which it is, and that a run keeps what it began with."""

import pytest
import torch
from helpers import TINY, assert_same, config, learned

from gancli.checkpoint import format as checkpoint
from gancli.training import run as train
from gancli.training.run import Run

AUTO = [word for word in TINY if not word.startswith("trainer.precision")]


def begin(folder, *words) -> Run:
    folder.mkdir(exist_ok=True)
    return Run(config(*AUTO, *words, tiny=False), folder, [], quiet=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=mlp"], "bf16"),
        (["model=dcgan", "model/penalty=r1", "model.norm=none"], "fp32"),  # differentiates a gradient
        (["model=wgan_gp"], "fp32"),
        (["model=vae"], "fp32"),  # was not seen to learn as well
        (["model=mlp", "trainer.precision=fp32"], "fp32"),
    ],
)
def test_auto_is_bf16_where_processor_and_model_gain(words, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "multiplies_bf16", lambda: True)
    run = begin(tmp_path, *words)
    assert run.options.precision == run.config["trainer"]["precision"] == expected
    assert run.trainer.autocast._enabled == (expected == "bf16")
    monkeypatch.setattr(train, "multiplies_bf16", lambda: False)
    assert begin(tmp_path, *words).options.precision == "fp32"


def test_a_run_goes_on_as_it_began_on_another_processor_too(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "multiplies_bf16", lambda: True)
    begin(tmp_path, "model=mlp").train()
    assert ", bf16; run folder" in (tmp_path / "log.txt").read_text()
    monkeypatch.setattr(train, "multiplies_bf16", lambda: False)
    run = begin(tmp_path, "model=mlp", "trainer.steps=8")
    assert run.options.precision == "bf16" and run.allowed == []
    run.train()
    found = checkpoint.newest(tmp_path / "checkpoints", torch.device("cpu"))
    assert found and found[0]["step"] == 8 and found[0]["config"]["trainer"]["precision"] == "bf16"


def test_a_run_of_bf16_goes_on_to_the_bit(tmp_path):
    words = ["model=dcgan", "trainer.precision=bf16"]
    begin(tmp_path / "one", *words).train()
    for steps in (2, 6):
        begin(tmp_path / "two", *words, f"trainer.steps={steps}").train()
    one, two = (learned(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("one", "two"))
    assert_same(one, two)


def test_losses_are_float32_whatever_the_products_are(tmp_path):
    run = begin(tmp_path, "model=dcgan", "trainer.precision=bf16")
    objective, trainer = run.trainer.objective, run.trainer
    seen = []
    loss = objective.loss.discriminator
    objective.loss.discriminator = lambda real, fake: (seen.extend([real.dtype, fake.dtype]), loss(real, fake))[1]
    trainer.round(0.0)
    assert seen == [torch.float32] * 2
