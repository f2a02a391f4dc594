"""Contract of every model in configs/model: a new yaml is tested here and needs no test of its own."""

from collections.abc import Iterator

import pytest
import torch
from helpers import MODELS, assert_same, assert_same_runs, config, learned, rows_of, start, stop
from torch import Tensor, nn

import gancli
from gancli.config import build, choices
from gancli.metrics.terms import find
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.base import Update
from gancli.training.run import TrainingRun

PHASES = (0.0, 0.99)  # fractions of the budget in an early and in a late phase
LOSSES = choices("model/loss")


@pytest.fixture(scope="module", params=MODELS)
def run(request, tmp_path_factory) -> TrainingRun:
    """Return a tiny run of every model, built once, after one step."""
    run = start(tmp_path_factory.mktemp(request.param), request.param)
    run.trainer.train_step(0.0)  # layers behind one that starts at zero have no gradient before
    return run


def updates_of(run: TrainingRun) -> list[list[Update]]:
    return [run.trainer.objective.updates(0, progress) for progress in PHASES]


def terms_of(run: TrainingRun, updates: list[Update]) -> Iterator[tuple[Update, dict[str, Tensor]]]:
    carried = None
    for update in updates:
        terms, carried = update.loss(*run.trainer.next_batch(), carried)
        yield update, terms


def test_the_name_in_a_yaml_is_the_name_of_its_file():
    assert all(config(f"model={model}", tiny=False).model.name == model for model in MODELS)
    assert all(config(f"data={data}", tiny=False).data.name == data for data in choices("data"))


def test_images_have_the_shape_of_the_data_and_updates_are_pure(run):
    objective = run.trainer.objective
    x, c = run.trainer.next_batch()
    condition = objective.condition(x, c)
    z = torch.randn(len(x), objective.G.z_dim)
    assert objective.G(z, condition).shape == x.shape == (8, 3, 16, 16)
    before = dict(vars(objective))
    for progress in PHASES:
        keys = [[update.key for update in objective.updates(0, progress)] for _ in range(2)]
        assert keys[0] == keys[1] and len({hash(key) for key in keys[0]}) <= len(keys[0])
    assert vars(objective) == before


def test_every_term_is_a_finite_scalar_with_every_loss(run):
    objective = run.trainer.objective
    own = getattr(objective, "loss", None)
    for name in LOSSES if own else [""]:
        if own:
            objective.loss = build(config(f"model/loss={name}").model.loss)
        for update, terms in [pair for updates in updates_of(run) for pair in terms_of(run, updates)]:
            assert any(term.requires_grad for term in terms.values()), f"{update.network} has nothing to minimise"
            for key, term in terms.items():
                assert term.shape == () and torch.isfinite(term), (name, key)
                assert find(key), f"gancli/metrics/terms.py has no line on {key}"
    if own:
        objective.loss = own


def test_under_bf16_every_loss_has_outputs_of_d_in_float32(run):
    outputs: list[DiscriminatorOutputs] = []

    def record(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, DiscriminatorOutputs):
            outputs.append(output)

    modules = [m for name in run.trainer.networks for m in getattr(run.trainer.objective, name).modules()]
    hooks = [module.register_forward_hook(record) for module in modules]
    with torch.autocast("cpu", torch.bfloat16):
        terms = [t for updates in updates_of(run) for _, t in terms_of(run, updates)]
    for hook in hooks:
        hook.remove()
    assert {t.dtype for output in outputs for t in output if isinstance(t, torch.Tensor)} <= {torch.float32}
    assert ("D" in run.trainer.networks) == bool(outputs)
    # These are computed from G's outputs alone.
    of_g = ("G/content", "G/reconstruction", "G/kl", "G/prior")
    assert all(t.dtype == torch.float32 for step in terms for key, t in step.items() if key not in of_g)


def test_an_update_changes_all_parameters_of_its_own_network_and_no_others(run):
    trainer = run.trainer
    objective, updates = trainer.objective, type(trainer.objective).updates
    limit = getattr(getattr(objective, "penalty", None), "limit", None)
    for update in [update for progress in PHASES for update in updates(objective, 1, progress)]:
        before = {name: [p.detach().clone() for p in ps] for name, ps in trainer.parameters.items()}
        objective.updates = lambda step, progress, update=update: [update]
        trainer.train_step(0.0)
        for name, parameters in trainer.parameters.items():
            changed = [not torch.equal(old, new) for old, new in zip(before[name], parameters)]
            # A weight at WGAN's clipping limit may not move, nor D's last bias where its gradient is zero.
            clipped = [limit is not None and bool((p.abs() == limit).all()) for p in parameters]
            idle = [p.shape == (1,) and p.grad is not None and not p.grad.any() for p in parameters]
            moved = all(any(reasons) for reasons in zip(changed, clipped, idle))
            assert moved if name == update.network else not any(changed), (update.network, name, changed)
    del objective.updates


REMEDIES = {
    **{model: [f"model={model}"] for model in MODELS},
    **{name: [f"model/loss={name}"] for name in LOSSES},
    **{name: ["model.norm=none", f"model/penalty={name}"] for name in choices("model/penalty")},
    **{name: [f"model/augment={name}"] for name in choices("model/augment")},
    **{name: [f"model.minibatch={name}"] for name in ("discrimination", "std")},
    **{name: ["model=vae", f"model/likelihood={name}"] for name in ("bernoulli", "gaussian", "logistic")},
    **{name: ["model=pix2pix", f"model/task={name}"] for name in choices("model/task") if name != "given"},
    "packing": ["model=cgan", "model.packing=2", "model/penalty=r1", "model.norm=none"],
    "spectral norm": ["model.norm=spectral"],
    "new fakes": ["model.reuse_fakes=false"],
}


@pytest.mark.parametrize("name", REMEDIES)
def test_no_step_waits_for_the_host(name):
    """On the meta device a value that the host reads, or a tensor of the CPU, is an error."""
    model = config(*REMEDIES[name], "data.classes=4", "data.channels=3").model
    objective = build(model.objective)
    for part in vars(objective).values():
        if isinstance(part, nn.Module):
            part.to("meta")
    x = torch.empty(8, 3, 16, 16, device="meta")
    c = torch.empty_like(x) if "between" in model else torch.empty(8, model.classes, device="meta")
    for progress in PHASES:
        carried = None
        for update in objective.updates(0, progress):
            terms, carried = update.loss(x, c, carried)
            parameters = list(getattr(objective, update.network).parameters())
            sum(terms.values()).backward(inputs=parameters)
            if update.after_step:
                update.after_step()
            assert all(p.grad is not None for p in parameters), update.network


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_alone_gives_the_same_samples_and_a_seed_the_same_run(model, tmp_path):
    runs = [start(tmp_path / name, model, f"seed={seed}") for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for run in runs:
        run.train()
    a, b, other = (learned(run.folder) for run in runs)
    assert_same(a, b)
    assert not torch.equal(next(iter(a["ema"].values())), next(iter(other["ema"].values())))
    assert [key for row in rows_of(tmp_path / "a") if "event" not in row for key in row if not find(key)] == []
    G, run = gancli.load(tmp_path / "a"), runs[0]
    z, c, _ = run.preview.inputs
    with torch.no_grad():
        expected = run.trainer.ema.network(z, c)
        assert torch.allclose(G.network(z, c), expected, atol=1e-6)
    if G.z_dim:
        assert torch.allclose(G.sample(len(z), seed=1), expected.clamp(-1, 1), atol=1e-6)
    live = gancli.load(tmp_path / "a", ema=False).network
    assert_same(dict(live.state_dict()), dict(run.trainer.objective.G.state_dict()))


@pytest.mark.parametrize(("model", "at"), [*((model, 3) for model in MODELS), ("dcgan", 1), ("dcgan", 4)])
def test_interrupted_and_resumed_equals_uninterrupted(model, at, tmp_path):
    """To the bit: networks, average, optimizers, counters, logs. `at` lies between log lines and at one."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    start(whole, model).train()
    stop(start(parts, model), at)
    start(parts, model).train()
    assert_same_runs(whole, parts)
    for grid in sorted((whole / "samples").iterdir()):
        assert grid.read_bytes() == (parts / "samples" / grid.name).read_bytes(), grid.name
