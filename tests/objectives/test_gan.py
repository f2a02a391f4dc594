"""GANs: when G generates, packing, the terms of AC-GAN and feature matching, schedules."""

import copy

import pytest
import torch
from helpers import rows_of, start

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.objectives.base import Fakes
from gancli.training.checkpoint_manager import LAST


@pytest.mark.parametrize("reuse", [True, False])
def test_reused_fakes_save_a_forward_pass_of_g(reuse, tmp_path):
    run = start(tmp_path, "mlp", "model.n_critic=3", f"model.reuse_fakes={reuse}")
    objective, calls = run.trainer.objective, []
    objective.G.register_forward_hook(lambda module, inputs, output: calls.append(output.requires_grad))
    assert [update.network for update in objective.updates(0, 0.0)] == ["D", "D", "D", "G"]
    run.trainer.train_step(0.0)
    # Only the fakes of G's update have a graph through G.
    assert calls == ([False, False, True] if reuse else [False, False, False, True])
    assert run.trainer.batch_index == 4 and run.trainer.images == 3 * 8


def test_the_loss_of_reused_fakes_is_that_of_the_same_new_ones(tmp_path):
    run = start(tmp_path, "cgan_mlp")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    torch.manual_seed(0)
    _, fakes = objective.discriminator_loss(x, c, keep_fakes=True)
    assert isinstance(fakes, Fakes) and torch.equal(fakes.x, x) and torch.equal(fakes.c, c)
    reused, carried = objective.generator_loss(x, c, fakes)
    torch.manual_seed(0)
    assert torch.equal(reused["G/adversarial"], objective.generator_loss(x, c)[0]["G/adversarial"]) and carried is None
    assert objective.discriminator_loss(x, c)[1] is None


def test_packing_stacks_neighbours_as_channels_with_the_classes_of_each(tmp_path):
    run = start(tmp_path, "cgan", "model.packing=2")
    objective, given = run.trainer.objective, []
    objective.D.register_forward_hook(lambda module, inputs, output: given.append(inputs))
    x, c = run.trainer.next_batch()
    assert objective.discriminate(x, c).logits.shape == (4,)
    packed, classes = given[0]
    assert packed.shape == (4, 6, 16, 16) and classes.shape == (4, 8)
    assert torch.equal(packed[1, :3], x[2]) and torch.equal(packed[1, 3:], x[3])
    assert torch.equal(classes[1], torch.cat([c[2], c[3]]))


def test_schedules_set_the_rate_the_momentum_and_the_penalty(tmp_path):
    """R3GAN: rate 2e-4 to 5e-5, beta2 0.9 to 0.99, gamma 0.05 to 0.005, over the first 8 % of the budget."""
    trainer = start(tmp_path, "r3gan", "model.lr=2e-4", "model.optimizers.D.lr=1e-3", "model.penalty.every=1").trainer
    G, D = (trainer.optimizers[name].param_groups[0] for name in "GD")
    values = ((0.0, 2e-4, 0.9, 0.05), (0.04, 1.25e-4, 0.945, 0.0275), (0.5, 5e-5, 0.99, 0.005))
    for progress, rate, beta2, gamma in values:
        trainer.train_step(progress)
        assert (G["lr"], D["lr"], D["betas"][1]) == pytest.approx((rate, 5 * rate, beta2))
        key = dict(trainer.objective.updates(7, progress)[0].key[2])
        assert key["penalty_weight"] == pytest.approx(gamma)


@pytest.mark.parametrize("words", [["mlp"], ["vae_mlp", "model/likelihood=gaussian"]])
def test_models_train_on_points(words, tmp_path):
    start(tmp_path, *words, "data.kind=ring", "data.size=null").train()
    assert gancli.load(tmp_path).sample(5).shape == (5, 2, 1, 1)


def test_the_probability_of_adaptive_augmentation_is_logged_saved_and_restored(tmp_path):
    words = ("dcgan", "model/augment=ada", "model.augment.kimg=0.1", "model.augment.target=-0.9")
    run = start(tmp_path, *words)
    run.train()
    p = run.trainer.objective.augment.p
    saved = checkpoint.read(tmp_path / "checkpoints" / LAST)["objective"]["augment"]
    assert 0 < p == saved["p"] and saved.keys() == {"p", "signs", "images", "calls"}
    logged = [row["augment_p"] for row in rows_of(tmp_path) if "augment_p" in row]
    assert logged[0] == 0 < logged[-1] <= 1
    assert start(tmp_path, *words).trainer.objective.augment.p == p


def test_the_average_follows_its_formula(tmp_path):
    """theta <- d theta + (1 - d) live, d = 0.5^(batch / min(half-life, ramp * images)); buffers are copied."""
    trainer = start(tmp_path, "dcgan", "trainer.ema.half_life_kimg=0.02", "trainer.ema.ramp=0.5").trainer
    expected = copy.deepcopy(dict(trainer.objective.G.state_dict()))
    averaged = {name for name, _ in trainer.objective.G.named_parameters()}
    for step in range(1, 5):
        trainer.train_step(0.0)
        decay = 0.5 ** (8 / min(20, 0.5 * 8 * step))
        live = trainer.objective.G.state_dict()
        expected = {k: decay * expected[k] + (1 - decay) * v if k in averaged else v.clone() for k, v in live.items()}
    for name, value in trainer.ema.network.state_dict().items():
        assert torch.allclose(value.float(), expected[name].float(), atol=1e-6), name
