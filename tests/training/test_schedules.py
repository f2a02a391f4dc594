"""The loop's options, budgets and schedules."""

import math

import pytest
import torch
from helpers import start

from gancli.metrics.sliced_wasserstein import sliced_wasserstein
from gancli.training import Budget
from gancli.training.schedules import DEFAULT_STEPS, constant, cosine, linear


def test_the_first_limit_reached_ends_the_run():
    budget = Budget(steps=10, kimg=1, minutes=2)
    assert budget.progress(0, 0, 0) == 0
    assert budget.progress(5, 0, 0) == 0.5
    assert budget.progress(5, 900, 0) == 0.9
    assert budget.progress(5, 900, 120) == 1
    assert budget.progress(5, 5000, 0) == 1
    assert Budget().steps == DEFAULT_STEPS and Budget(minutes=1).steps is None
    assert str(budget) == "10 steps or 1 kimg or 2 minutes"


@pytest.mark.parametrize("value", [0, -1, "ten", float("nan"), True])
def test_a_budget_is_positive(value):
    with pytest.raises(ValueError, match="positive budget"):
        Budget(kimg=value)


def test_schedules_begin_at_one_and_end_where_they_say():
    assert constant(0.7) == 1
    assert [linear(p, start=0.5) for p in (0, 0.5, 0.75, 1)] == [1, 1, 0.5, 0]
    assert linear(1.0, end=0.25) == 0.25
    assert cosine(0) == 1 and cosine(0.5, end=0.2) == pytest.approx(0.6) and cosine(1, end=0.2) == pytest.approx(0.2)


def test_the_schedule_scales_both_players_rates_with_the_budget(tmp_path):
    words = ["model.schedule._target_=gancli.training.schedules.linear", "model.optimizers.D.lr=1e-3"]
    trainer = start(tmp_path / "run", "dcgan", *words).trainer
    for _ in zip(range(4), trainer.steps()):
        pass
    rates = {player: o.param_groups[0]["lr"] for player, o in trainer.optimizers.items()}
    assert rates["G"] == pytest.approx(2e-4 * (1 - 3 / 6)) and rates["D"] == pytest.approx(1e-3 * (1 - 3 / 6))


def test_kimg_counts_real_images(tmp_path):
    trainer = start(tmp_path / "run", "dcgan", "trainer.steps=null", "trainer.kimg=0.05").trainer
    assert len(list(trainer.steps())) == math.ceil(50 / 8) and trainer.images == 56


def test_minutes_end_a_run_and_go_on_counting_when_it_is_resumed(tmp_path):
    words = ["trainer.steps=null", "trainer.minutes=0.005"]
    run = start(tmp_path / "run", "mlp", *words)
    run.train()
    assert run.trainer.seconds >= 0.3 and run.trainer.step >= 1
    assert start(tmp_path / "run", "mlp", *words).trainer.progress == 1


def test_clipping_bounds_the_gradient_of_every_move(tmp_path):
    trainer = start(tmp_path / "run", "dcgan", "trainer.clip=0.001").trainer
    trainer.train_step(0.0)
    for parameters in trainer.parameters.values():
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        assert 0 < norm <= 0.001 * 1.001


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precisions_train_and_keep_weights_in_full(precision, tmp_path):
    trainer = start(tmp_path / "run", "dcgan", f"trainer.precision={precision}").trainer
    used = set()
    trainer.objective.D.register_forward_hook(lambda module, inputs, output: used.add(output.dtype))
    trainer.train_step(0.0)
    assert used == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert all(p.dtype == torch.float32 and p.isfinite().all() for ps in trainer.parameters.values() for p in ps)
    assert all(math.isfinite(value) for value in trainer.read_terms().values())


def test_the_memory_layout_changes_no_result(tmp_path):
    first = {}
    for layout in ("true", "false"):
        trainer = start(tmp_path / layout, "dcgan", f"trainer.channels_last={layout}").trainer
        trainer.train_step(0.0)
        first[layout] = trainer.read_terms()["D/adversarial"]
    assert first["true"] == pytest.approx(first["false"], rel=1e-4)


def test_pictures_between_rounds_disturb_nothing(tmp_path):
    plain, disturbed = (start(tmp_path / name, "dcgan").trainer for name in "ab")
    for _ in range(3):
        plain.round(0.0)
        disturbed.round(0.0)
        torch.randn(1000)
    for a, b in zip(plain.parameters["G"], disturbed.parameters["G"]):
        assert torch.equal(a, b)


def test_sliced_wasserstein_of_shifted_and_of_same_sets():
    a = torch.randn(500, 1, 1, 1)
    assert sliced_wasserstein(a, a) == 0
    assert sliced_wasserstein(a, a[torch.randperm(500)]) == pytest.approx(0, abs=1e-6)
    # In one dimension every direction is +-1, and shifted sets are the shift apart.
    assert sliced_wasserstein(a, a + 0.25) == pytest.approx(0.25, rel=1e-5)
    # A shift by s in d dimensions: s times the mean |cosine| to a random direction, about s * sqrt(2 / (pi d)).
    b = torch.randn(2000, 3, 8, 8)
    shift = torch.zeros(1, 3, 8, 8)
    shift[0, 0, 0, 0] = 5.0
    assert sliced_wasserstein(b, b + shift, directions=4096) == pytest.approx(
        5 * math.sqrt(2 / math.pi / 192), rel=0.05
    )
    with pytest.raises(ValueError, match="of the same shape"):
        sliced_wasserstein(a, a[:10])
