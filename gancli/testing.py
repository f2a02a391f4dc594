"""Contract of every model, as tests for your own: a class that names the model inherits them.

    from gancli.testing import ModelContract

    class TestMine(ModelContract):
        model = "mine"

Pytest runs them: shapes, finite terms in float32, updates that change their own network only, the same gradient of a
batch in parts, a checkpoint that alone gives the same samples, the same run for the same seed, and a resume that equals
an uninterrupted run to the bit.
"""

import copy
import functools
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gancli.checkpoint import format as checkpoint
from gancli.config import build, choices, compose, keys
from gancli.inference.generator import load
from gancli.networks.outputs import DiscriminatorOutputs
from gancli.objectives.base import Update
from gancli.training.checkpoint_manager import LAST
from gancli.training.loop import Trainer, check_parts
from gancli.training.run import TrainingRun

# Every model small enough to train a step in milliseconds.
TINY = [
    "data=synthetic", "data.n=64", "data.size=16", "model.width=4", "data.batch_size=8",
    "device=cpu", "trainer.steps=6", "trainer.log_every=2", "trainer.sample_every=3", "trainer.checkpoint_every=2",
    "trainer.precision=fp32",  # auto is another one on another processor
]  # fmt: skip
PHASES = (0.0, 0.99)  # fractions of the budget in an early and in a late phase


def config(*overrides: str, tiny: bool = True) -> DictConfig:
    """Return the composed config of `gan train`, with `tiny` that of TINY."""
    return copy.deepcopy(composed(*(TINY if tiny else []), *overrides))


@functools.cache
def composed(*overrides: str) -> DictConfig:
    """Return a composed config, which takes Hydra longer than a tiny step takes."""
    return compose(list(overrides))


def start(folder: Path, model: str, *overrides: str) -> TrainingRun:
    """Return a tiny run of `model` in `folder`, ready to train."""
    folder.mkdir(parents=True, exist_ok=True)
    narrow = [] if any(key.name == "width" for key in keys(f"model/{model}")) else ["++model.width=4"]
    return TrainingRun(config(f"model={model}", *narrow, *overrides), folder, [])


def at_step(run: TrainingRun, step: int, act: Callable[[], object]) -> TrainingRun:
    """Let a run call `act` after this step, before it logs or saves."""
    train_step = run.trainer.train_step

    def train_and_act(progress: float) -> None:
        train_step(progress)
        if run.trainer.step == step:
            act()

    run.trainer.train_step = train_and_act  # type: ignore[method-assign]
    return run


def stop(run: TrainingRun, step: int) -> None:
    """Train a run that gets SIGTERM in this step, and saves."""
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        at_step(run, step, lambda: signal.raise_signal(signal.SIGTERM)).train()


def assert_same(a: object, b: object, where: str = "") -> None:
    """Assert that nested states are equal to the last bit."""
    if isinstance(a, Tensor):
        assert isinstance(b, Tensor) and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert isinstance(b, dict) and a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where  # type: ignore[arg-type]
        for i, (x, y) in enumerate(zip(a, b)):  # type: ignore[call-overload]
            assert_same(x, y, f"{where}/{i}")
    else:
        assert a == b, f"{where}: {a!r} is not {b!r}"


def learned(run: Path) -> dict[str, Any]:
    """Return the last checkpoint of a run without clocks, versions and the config."""
    content = checkpoint.read(run / "checkpoints" / LAST)
    return {key: value for key, value in content.items() if key not in ("seconds", "config", "versions")}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """Return the events and metrics of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_clocks(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run without those that depend on the clock."""
    clocks = {"minutes", "images_per_second", "evaluate_seconds", "time", "command"}
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows_of(run) if "event" not in row]


def assert_same_runs(a: Path, b: Path) -> None:
    """Assert that two runs learned and logged the same, to the bit, in the same order."""
    assert_same(learned(a), learned(b))
    rows, others = ([list(row.items()) for row in without_clocks(run)] for run in (a, b))
    assert_same(rows, others)


def updates_of(run: TrainingRun) -> list[list[Update]]:
    return [run.trainer.objective.updates(0, progress) for progress in PHASES]


def terms_of(run: TrainingRun, updates: list[Update]) -> Iterator[tuple[Update, dict[str, Tensor]]]:
    """Yield each update with the terms of its loss on a batch of its own."""
    carried = None
    for update in updates:
        terms, carried = update.loss(*run.trainer.next_batch(), carried)
        yield update, terms


class NoiseByRow(TorchFunctionMode):
    """Within it, rows of a batch get the same noise, in float64, whether they are computed together or in parts."""

    def __init__(self, objective: Any, batch: int, parts: int):
        super().__init__()
        self.batch, self.parts = batch, parts
        self.calls = self.losses = 0  # of random functions in this loss, and of losses
        self.dtype = torch.float64
        self.objective, self.condition = objective, type(objective).condition
        objective.updates, objective.condition = self.updates, self.narrow_condition

    def updates(self, step: int, progress: float) -> list[Update]:
        updates = type(self.objective).updates(self.objective, step, progress)
        return [update._replace(loss=self.counted(update)) for update in updates]

    def counted(self, update: Update) -> Callable[..., Any]:
        def loss(x: Tensor, c: Tensor, fakes: Any) -> Any:
            self.calls = 0
            result = update.loss(x.double(), c.double(), fakes)
            self.losses += 1
            return result

        return loss

    def narrow_condition(self, x: Tensor, c: Tensor) -> Tensor:
        """Return a condition that is computed in float32, as degradations are."""
        self.dtype = torch.float32
        c = self.condition(self.objective, x.float(), c.float()).double()
        self.dtype = torch.float64
        return c

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") not in ("randn", "rand", "randint", "randn_like", "rand_like"):
            return result
        rows = self.batch // self.parts
        dim = list(result.shape).index(rows) if rows in result.shape else None  # none: one value for all rows
        shape = [self.batch if i == dim else size for i, size in enumerate(result.shape)]
        update, part = divmod(self.losses, self.parts)
        generator = torch.Generator().manual_seed(1000 * update + self.calls)
        self.calls += 1
        if result.is_floating_point():
            new = torch.randn if "randn" in function.__name__ else torch.rand
            values = new(shape, generator=generator).to(self.dtype)
        else:
            *low, high = (a for a in args if isinstance(a, int))
            values = torch.randint(low[0] if low else 0, high, shape, generator=generator)
        return values if dim is None else values.narrow(dim, part * rows, rows)


def without_batch_statistics(trainer: Trainer) -> Trainer:
    """Return a trainer whose weights are float64 and never change, and whose layers treat each image alone."""
    over_batch = nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout
    for part in vars(trainer.objective).values():
        for layer in part.double().modules() if isinstance(part, nn.Module) else ():
            if isinstance(layer, over_batch) or "SpectralNorm" in type(layer).__name__:
                layer.eval()
    trainer.ema.update = lambda network: None  # type: ignore[method-assign]
    for optimizer in trainer.optimizers.values():
        optimizer.step = lambda closure=None: None  # type: ignore[method-assign,assignment]
    return trainer


class ModelContract:
    """Tests of one model.

    Attributes:
        model: name of its yaml.
        overrides: more overrides of `gan train`, such as values of keys without a default.
    """

    model = ""
    overrides: Sequence[str] = ()

    def explains(self, key: str) -> bool:
        """Return whether something says what a logged key means."""
        return True

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
        """Return a tiny run after one step; layers behind one that starts at zero have no gradient before."""
        run = start(tmp_path_factory.mktemp(cls.model), cls.model, *cls.overrides)
        run.trainer.train_step(0.0)
        return run

    def test_images_have_the_shape_of_the_data_and_updates_are_pure(self, run: TrainingRun) -> None:
        objective = run.trainer.objective
        x, c = run.trainer.next_batch()
        condition = objective.condition(x, c)
        z = torch.randn(len(x), objective.G.z_dim)
        assert objective.G(z, condition).shape == x.shape == (8, 3, 16, 16)
        before = dict(vars(objective))
        for progress in PHASES:
            keys = [[update.key for update in objective.updates(0, progress)] for _ in range(2)]
            assert keys[0] == keys[1], "updates() gives others when it is asked again"
        assert vars(objective) == before, "updates() changes the objective"

    def test_every_term_is_a_finite_scalar_with_every_loss(self, run: TrainingRun) -> None:
        objective: Any = run.trainer.objective
        own = getattr(objective, "loss", None)
        has_choice = own is not None and not callable(getattr(type(objective), "loss", None))
        for name in choices("model/loss") if has_choice else [""]:
            if has_choice:
                objective.loss = build(config(f"model/loss={name}").model.loss)
            for update, terms in [pair for updates in updates_of(run) for pair in terms_of(run, updates)]:
                assert any(term.requires_grad for term in terms.values()), f"{update.network} has nothing to minimise"
                for key, term in terms.items():
                    assert term.shape == () and torch.isfinite(term), f"{key} with {name or 'its loss'}: {term}"
                    assert self.explains(key), key
        if has_choice:
            objective.loss = own

    def test_under_bf16_every_loss_has_outputs_of_d_in_float32(self, run: TrainingRun) -> None:
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
        assert {t.dtype for output in outputs for t in output if isinstance(t, Tensor)} <= {torch.float32}
        assert ("D" in run.trainer.networks) == bool(outputs)
        narrow = {key for step in terms for key, t in step.items() if t.dtype != torch.float32}
        # Terms that are computed from G's outputs alone may be narrower.
        assert not {key for key in narrow if key.startswith("D/") or key == "G/adversarial"}, narrow

    def test_an_update_changes_all_parameters_of_its_own_network_and_no_others(self, run: TrainingRun) -> None:
        trainer = run.trainer
        objective: Any = trainer.objective
        updates = type(objective).updates
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

    def test_a_batch_in_parts_has_the_gradient_of_the_whole_up_to_statistics_of_the_batch(self, tmp_path: Path) -> None:
        """An objective that compares the images of a batch says so in `whole_batch`, and is refused."""
        own = config(f"model={self.model}", *self.overrides).model
        words = ["model.reuse_fakes=false"] if "reuse_fakes" in own else []
        trainer = without_batch_statistics(start(tmp_path, self.model, *words, *self.overrides).trainer)
        if trainer.objective.whole_batch:
            with pytest.raises(ValueError, match=r"accumulate=2 computes a batch in parts, but .*accumulate=1"):
                check_parts(2, trainer.objective, trainer.batches)
            return
        gradients = []
        for trainer.accumulate in (1, 2):
            trainer.step = trainer.batch_index = 0
            for progress in PHASES:
                for p in [p for parameters in trainer.parameters.values() for p in parameters]:
                    p.grad = None
                with NoiseByRow(trainer.objective, 8, trainer.accumulate):
                    trainer.train_step(progress)
                gradients += [[p.grad.clone() for ps in trainer.parameters.values() for p in ps if p.grad is not None]]
        for whole, parts in zip(gradients[:2], gradients[2:], strict=True):
            for a, b in zip(whole, parts, strict=True):
                assert (a - b).abs().max() <= 1e-6 * max(1.0, float(a.abs().max()))

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
        """Return a tiny run after its last step."""
        run = start(tmp_path_factory.mktemp(cls.model), cls.model, *cls.overrides)
        run.train()
        return run

    def test_a_checkpoint_alone_gives_the_same_samples_and_another_seed_another_run(
        self, whole: TrainingRun, tmp_path: Path
    ) -> None:
        runs = [start(tmp_path / seed, self.model, f"seed={seed}", *self.overrides) for seed in "01"]
        a, b = (run.trainer.ema.network.state_dict() for run in runs)
        assert any(not torch.equal(a[key], b[key]) for key in a)
        logged = {key for row in rows_of(whole.folder) if "event" not in row for key in row}
        assert not [key for key in logged if not self.explains(key)]
        G = load(whole.folder)
        z, c, _ = whole.preview.inputs
        with torch.no_grad():
            expected = whole.trainer.ema.network(z, c)
            assert torch.allclose(G.network(z, c), expected, atol=1e-6)
        if G.z_dim:
            assert torch.allclose(G.sample(len(z), seed=whole.config["seed"]), expected.clamp(-1, 1), atol=1e-6)
        live = load(whole.folder, ema=False).network
        assert_same(dict(live.state_dict()), dict(whole.trainer.objective.G.state_dict()))

    def test_interrupted_and_resumed_equals_uninterrupted_with_the_same_seed(
        self, whole: TrainingRun, tmp_path: Path
    ) -> None:
        assert_resumes_as(whole.folder, tmp_path / "parts", self.model, 3, *self.overrides)


def assert_resumes(folder: Path, model: str, at: int, *overrides: str) -> None:
    """Assert that a run stopped in step `at` and resumed equals one that was not: weights, logs and grids."""
    start(folder / "whole", model, *overrides).train()
    assert_resumes_as(folder / "whole", folder / "parts", model, at, *overrides)


def assert_resumes_as(whole: Path, parts: Path, model: str, at: int, *overrides: str) -> None:
    """Assert that a run in the folder `parts`, stopped in step `at` and resumed, equals the run `whole`."""
    stop(start(parts, model, *overrides), at)
    start(parts, model, *overrides).train()
    assert_same_runs(whole, parts)
    for grid in sorted((whole / "samples").iterdir()):
        assert grid.read_bytes() == (parts / "samples" / grid.name).read_bytes(), grid.name
