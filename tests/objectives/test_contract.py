"""Every model there is, by itself: a new yaml in configs/model is picked up here and needs no test of its own."""

import copy

import pytest
import torch
from helpers import MODELS, assert_same, config, learned, start, without_clocks

import gancli
from gancli.config import choices
from gancli.training.run import TrainingRun


def parameters(run: TrainingRun) -> dict[str, list[torch.Tensor]]:
    return {player: [p.detach().clone() for p in ps] for player, ps in run.trainer.parameters.items()}


def test_the_name_in_a_yaml_is_the_name_of_its_file():
    for model in MODELS:
        assert config(f"model={model}", tiny=False).model.name == model
    for data in choices("data"):
        assert config(f"data={data}", tiny=False).data.name == data


@pytest.mark.parametrize("model", MODELS)
def test_images_have_the_shape_of_the_data(model, tmp_path):
    run = start(tmp_path / "run", model)
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    given = objective.condition(x, c)
    assert objective.G(objective.noise(c), given).shape == x.shape == (8, 3, 16, 16)
    if "D" in run.trainer.networks:  # a number an image or a map of numbers
        assert len(objective.judge(x, given)) == 8 // objective.packing


WHEN = (0.0, 0.99)  # of the budget: a objective may have an early and a late phase


@pytest.mark.parametrize("loss", choices("model/loss"))
@pytest.mark.parametrize("model", MODELS)
def test_every_term_is_a_finite_scalar(model, loss, tmp_path):
    chosen = [f"model/loss={loss}"] if "loss" in config(f"model={model}").model else []
    run = start(tmp_path / "run", model, *chosen)
    for player, move in [move for progress in WHEN for move in run.trainer.objective.updates(0, progress)]:
        terms = move(*run.trainer.next_batch())
        assert any(term.requires_grad for term in terms.values()), f"{player} has nothing to minimise"
        for name, term in terms.items():
            assert term.shape == () and torch.isfinite(term), name


@pytest.mark.parametrize("model", MODELS)
def test_a_move_changes_all_of_its_players_parameters_and_no_others(model, tmp_path):
    run = start(tmp_path / "run", model)
    trainer = run.trainer
    trainer.train_step(0.0)  # behind a layer that begins as zero nothing moves in the first round
    for player, move in [move for progress in WHEN for move in trainer.objective.updates(1, progress)]:
        before = parameters(run)
        trainer.objective.updates = lambda step, progress, player=player, move=move: [(player, move)]
        trainer.train_step(0.0)
        objective = trainer.objective
        # A weight that WGAN's clipping holds cannot move, and D's last bias has no say where only differences of
        # outputs count, or where none is beyond the hinge.
        limit = getattr(getattr(objective, "penalty", None), "limit", None)
        for name, after in parameters(run).items():
            changed = [not torch.equal(old, new) for old, new in zip(before[name], after)]
            held = [limit is not None and bool((new.abs() == limit).all()) for new in after]
            idle = [p.shape == (1,) and p.grad is not None and not p.grad.any() for p in trainer.parameters[name]]
            moved = all(any(reasons) for reasons in zip(changed, held, idle))
            assert moved if name == player else not any(changed), (player, name, changed)


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_alone_gives_the_same_samples(model, tmp_path):
    run = start(tmp_path / "run", model)
    run.train()
    G = gancli.load(tmp_path / "run")
    z, c, _ = run.preview.inputs
    with torch.no_grad():
        expected = run.trainer.ema.network(z, c)
        made = G.network(z, c)
    assert torch.allclose(made, expected, atol=1e-6)
    if G.z_dim:
        sampled = G.sample(len(z), seed=0)
        assert torch.allclose(sampled, expected.clamp(-1, 1), atol=1e-6)
        assert sampled.min() >= -1 and sampled.max() <= 1
    raw = gancli.load(tmp_path / "run", ema=False).network
    assert_same(dict(raw.state_dict()), dict(run.trainer.objective.G.state_dict()))


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(model, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        start(tmp_path / name, model, f"seed={seed}").train()
    a, b, c = (learned(tmp_path / name / "checkpoints" / "last.safetensors") for name in "abc")
    assert_same(a, b)
    assert not torch.equal(next(iter(a["ema"].values())), next(iter(c["ema"].values())))


@pytest.mark.parametrize(("model", "at"), [*((model, 3) for model in MODELS), ("dcgan", 1), ("dcgan", 4)])
def test_interrupted_and_resumed_equals_uninterrupted(model, at, tmp_path):
    """Bit for bit: networks, average, optimizers, counters, logs. `at` lies between log lines and at one."""
    import signal

    start(tmp_path / "whole", model).train()
    run = start(tmp_path / "parts", model)
    play = run.trainer.train_step

    def interrupted(progress: float) -> None:
        play(progress)
        if run.trainer.step == at:
            signal.raise_signal(signal.SIGTERM)

    run.trainer.train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        run.train()
    start(tmp_path / "parts", model).train()
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    assert_same(*(learned(folder / "checkpoints" / "last.safetensors") for folder in (whole, parts)))
    assert without_clocks(whole / "metrics.jsonl") == without_clocks(parts / "metrics.jsonl")
    for grid in sorted((whole / "samples").iterdir()):
        assert grid.read_bytes() == (parts / "samples" / grid.name).read_bytes(), grid.name


@pytest.mark.parametrize("share", [True, False])
def test_a_shared_forward_runs_g_once_a_round_and_changes_no_gradient(share, tmp_path):
    run = start(tmp_path / "run", "cgan_mlp", f"model.reuse_fakes={share}")
    objective, calls = run.trainer.objective, []
    objective.G.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    run.trainer.train_step(0.0)
    assert calls == [8] * (1 if share else 2)
    # G's loss on images that D has judged before is the loss on the same images made anew.
    torch.manual_seed(0)
    x, c = run.trainer.next_batch()
    objective.discriminator_loss(x, c, keep=share)
    torch.manual_seed(0)
    anew = objective.loss.generator(objective.D(objective.G(objective.noise(c), c), c))
    if share:
        assert torch.equal(objective.generator_loss(x, c)["G/adversarial"], anew)
    assert objective.judged is None


def test_a_model_trains_on_points_too(tmp_path):
    run = start(tmp_path / "run", "mlp", "data.kind=ring", "data.size=null")
    run.train()
    assert gancli.load(tmp_path / "run").sample(5).shape == (5, 2, 1, 1)


def test_the_average_is_the_formula(tmp_path):
    """theta <- d theta + (1 - d) live, d = 0.5^(batch / min(half-life, ramp * images)); buffers are copied."""
    run = start(tmp_path / "run", "dcgan", "trainer.ema.half_life_kimg=0.02", "trainer.ema.ramp=0.5")
    trainer = run.trainer
    expected = copy.deepcopy(dict(trainer.objective.G.state_dict()))
    for step in range(1, 5):
        trainer.train_step(0.0)
        decay = 0.5 ** (8 / min(20, 0.5 * 8 * step))
        live = trainer.objective.G.state_dict()
        learned = {name for name, _ in trainer.objective.G.named_parameters()}
        expected = {k: decay * expected[k] + (1 - decay) * v if k in learned else v.clone() for k, v in live.items()}
    for name, value in trainer.ema.network.state_dict().items():
        assert torch.allclose(value.float(), expected[name].float(), atol=1e-6), name


@pytest.mark.parametrize("share", [True, False])
def test_a_critic_updates_n_times_a_round_and_g_runs_no_more_often_than_it_must(share, tmp_path):
    run = start(tmp_path / "run", "mlp", "model.n_critic=3", f"model.reuse_fakes={share}")
    objective, calls = run.trainer.objective, []
    objective.G.register_forward_hook(lambda module, inputs, output: calls.append(output.requires_grad))
    assert [player for player, _ in objective.updates(0, 0.0)] == ["D", "D", "D", "G"]
    run.trainer.train_step(0.0)
    # A graph through G is built for the images that G's move takes, and for no others.
    assert calls == ([False, False, True] if share else [False, False, False, True])
    assert run.trainer.batch_index == 4 and run.trainer.images == 3 * 8


def test_packing_puts_neighbours_side_by_side(tmp_path):
    """And their classes: D of m packed images has m times the channels and m times the classes."""
    run = start(tmp_path / "run", "cgan", "model.packing=2")
    objective, seen = run.trainer.objective, []
    objective.D.register_forward_hook(lambda module, inputs, output: seen.append(inputs))
    x, c = run.trainer.next_batch()
    assert objective.judge(x, c).shape == (4,)
    packed, classes = seen[0]
    assert packed.shape == (4, 6, 16, 16) and classes.shape == (4, 8)
    assert torch.equal(packed[1, :3], x[2]) and torch.equal(packed[1, 3:], x[3])
    assert torch.equal(classes[1], torch.cat([c[2], c[3]]))


def test_schedules_set_the_rate_the_momentum_and_the_penalty(tmp_path):
    """R3GAN's: rate 2e-4 to 5e-5, beta2 0.9 to 0.99, gamma 0.05 to 0.005, over the first 8 % of the budget."""
    run = start(tmp_path / "run", "r3gan")
    trainer, group = run.trainer, run.trainer.optimizers["D"].param_groups[0]
    for progress, rate, beta2, gamma in (
        (0.0, 2e-4, 0.9, 0.05),
        (0.04, 1.25e-4, 0.945, 0.0275),
        (0.5, 5e-5, 0.99, 0.005),
    ):
        trainer.set_rates(progress)
        assert (group["lr"], group["betas"][1]) == (pytest.approx(rate), pytest.approx(beta2))
        assert trainer.objective.penalty.due(7, progress) == pytest.approx(gamma)


def test_what_d_cannot_tell_from_the_data_is_what_acgan_is_asked_for(tmp_path):
    """Both players minimise the cross-entropy of the class: by hand, on the same images."""
    run = start(tmp_path / "run", "acgan")
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    objective.D.eval()  # spectral norm's iteration stands still
    torch.manual_seed(0)
    terms = objective.discriminator_loss(x, c, keep=True)
    made = objective.judged[2]

    def surprise(images: torch.Tensor) -> torch.Tensor:
        return -(objective.D.classify(objective.D.features(images, c)).log_softmax(1) * c).sum(1).mean()

    assert torch.allclose(terms["D/class"], surprise(x) + surprise(made))
    assert torch.allclose(objective.generator_loss(x, c)["G/class"], surprise(made))
