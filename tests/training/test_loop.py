"""The loop's options, budgets, schedules and precisions."""

import itertools
import math

import pytest
import torch
from helpers import TINY, assert_same, config, learned, start
from PIL import Image

from gancli.runtime import ranks
from gancli.training import Budget, setup
from gancli.training.preview import indices_of
from gancli.training.run import TrainingRun
from gancli.training.schedules import DEFAULT_STEPS, constant, cosine, linear

# --- budgets and schedules


def test_the_first_limit_reached_ends_the_run():
    budget = Budget(steps=10, kimg=1, minutes=2)
    used = [budget.progress(*state) for state in ((0, 0, 0), (5, 0, 0), (5, 900, 0), (5, 900, 120), (5, 5000, 0))]
    assert used == [0, 0.5, 0.9, 1, 1]
    assert Budget().steps == DEFAULT_STEPS and Budget(minutes=1).steps is None
    assert str(budget) == "10 steps or 1 kimg or 2 minutes"


@pytest.mark.parametrize("value", [0, -1, "ten", float("nan"), True])
def test_a_budget_is_positive(value):
    with pytest.raises(ValueError, match=r"trainer\.kimg=.* must be above 0; type trainer\.kimg=10"):
        Budget(kimg=value)


def test_schedules_start_at_one_and_end_at_their_end():
    assert constant(0.7) == 1
    assert [linear(p, start=0.5) for p in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]
    assert linear(1.0, end=0.25) == 0.25
    assert cosine(0) == 1 and cosine(0.5, end=0.2) == pytest.approx(0.6) and cosine(1, end=0.2) == pytest.approx(0.2)


def test_kimg_counts_real_images(tmp_path):
    trainer = start(tmp_path, "dcgan", "trainer.steps=null", "trainer.kimg=0.05").trainer
    assert len(list(trainer.steps())) == math.ceil(50 / 8) and trainer.images == 56


def test_minutes_end_a_run_and_continue_when_it_is_resumed(tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(ranks.Clock, "now", lambda self: float(next(clock)))
    words = ["trainer.steps=null", "trainer.minutes=0.5"]
    run = start(tmp_path, "mlp", *words)
    run.train()
    assert run.trainer.seconds >= 30 and run.trainer.step > 1
    assert start(tmp_path, "mlp", *words).finished


# --- a step


def test_clipping_bounds_the_gradient_norm_of_every_update(tmp_path):
    trainer = start(tmp_path, "dcgan", "trainer.clip=0.001").trainer
    trainer.train_step(0.0)
    for parameters in trainer.parameters.values():
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        assert 0 < norm <= 0.001 * 1.001


def test_the_memory_format_changes_only_roundings(tmp_path):
    losses = {}
    for channels_last in ("true", "false"):
        trainer = start(tmp_path / channels_last, "dcgan", f"trainer.channels_last={channels_last}").trainer
        trainer.train_step(0.0)
        losses[channels_last] = trainer.read_terms()["D/adversarial"]
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)


def test_random_numbers_between_steps_change_nothing(tmp_path):
    undisturbed, disturbed = (start(tmp_path / name, "dcgan").trainer for name in "ab")
    for _ in range(3):
        undisturbed.train_step(0.0)
        disturbed.train_step(0.0)
        torch.randn(1000)
    assert_same(undisturbed.parameters["G"], disturbed.parameters["G"])


def test_optimizer_state_is_keyed_by_parameter_names(tmp_path):
    trainer = start(tmp_path, "dcgan").trainer
    trainer.train_step(0.0)
    for name, network in trainer.networks.items():
        state = trainer.state_dict()["optimizers"][name]
        names = [parameter for parameter, _ in network.named_parameters()]
        assert list(state["state"]) == names == state["param_groups"][0]["params"]
        for parameter, p in network.named_parameters():
            assert state["state"][parameter]["exp_avg"].shape == p.shape


# --- precision

AUTO = [word for word in TINY if not word.startswith("trainer.precision")]


def run_of(folder, *words) -> TrainingRun:
    folder.mkdir(exist_ok=True)
    return TrainingRun(config(*AUTO, *words, tiny=False), folder, [])


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_every_precision_trains_with_weights_and_logits_in_float32(precision, tmp_path):
    trainer = start(tmp_path, "dcgan", f"trainer.precision={precision}").trainer
    inner, outer = set(), set()
    convolution = next(m for m in trainer.objective.D.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda module, inputs, output: inner.add(output.dtype))
    trainer.objective.D.register_forward_hook(lambda module, inputs, output: outer.add(output.logits.dtype))
    trainer.train_step(0.0)
    assert inner == {torch.bfloat16 if precision == "bf16" else torch.float32} and outer == {torch.float32}
    assert all(p.dtype == torch.float32 and p.isfinite().all() for ps in trainer.parameters.values() for p in ps)
    assert all(math.isfinite(value) for value in trainer.read_terms().values())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=mlp"], "bf16"),
        (["model=dcgan", "model/penalty=r1", "model.norm=none"], "fp32"),  # differentiates a gradient
        (["model=vae"], "fp32"),  # model.bf16_safe=false
        (["model=mlp", "trainer.precision=fp32"], "fp32"),
    ],
)
def test_auto_is_bf16_if_processor_and_model_support_it(words, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "multiplies_bf16", lambda: True)
    run = run_of(tmp_path, *words)
    assert run.config["trainer"]["precision"] == expected and run.trainer.autocast._enabled == (expected == "bf16")
    monkeypatch.setattr(setup, "multiplies_bf16", lambda: False)
    assert run_of(tmp_path, *words).config["trainer"]["precision"] == "fp32"


@pytest.mark.slow
def test_a_run_keeps_its_precision_on_another_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "multiplies_bf16", lambda: True)
    run_of(tmp_path / "parts", "model=mlp").train()
    monkeypatch.setattr(setup, "multiplies_bf16", lambda: False)
    run = run_of(tmp_path / "parts", "model=mlp", "trainer.steps=8")
    assert run.changes == []
    run.train()
    run_of(tmp_path / "whole", "model=mlp", "trainer.precision=bf16", "trainer.steps=8").train()
    assert_same(*(learned(tmp_path / name) for name in ("parts", "whole")))


def test_column_k_of_the_real_images_shows_class_k(tmp_path):
    run = start(tmp_path / "run", "cgan")
    run.train()
    labels = torch.arange(len(run.preview.real)) % run.preview.columns
    assert torch.equal(run.data.labels[indices_of(run.data, labels, run.preview.columns)], labels)
    real, grid = (Image.open(tmp_path / "run/samples" / name) for name in ("real.png", "step-0000006.png"))
    assert real.size == grid.size


def test_a_grid_that_shows_real_images_needs_no_others(tmp_path):
    run = start(tmp_path / "run", "vae")
    assert run.preview.parts == ("real", "reconstructed", "generated") and run.preview.real_grid() is None
