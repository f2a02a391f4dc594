"""Each remedy on a case that is known to fail without it: the same seed and steps, with and without."""

import math
import re
from pathlib import Path

import pytest
import torch
from helpers import assert_same_runs, config, rows_of, start, stop
from torch import Tensor, nn

from gancli.checkpoint import format as checkpoint
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader
from gancli.losses.adversarial import NonSaturating, Relativistic
from gancli.losses.penalties import R1, R1R2, R2
from gancli.objectives import GAN, Unrolled
from gancli.training import Budget, Trainer
from gancli.training.checkpoint_manager import LAST
from gancli.training.run import TrainingRun


class PointGenerator(nn.Module):
    """G of the Dirac-GAN: always the same point, theta."""

    z_dim, classes = 1, 0

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.theta.expand(len(z), 2)[:, :, None, None]


class LinearDiscriminator(nn.Module):
    """D of the Dirac-GAN: psi times the point."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x.flatten(1) @ self.psi


DIRAC = {
    "none": (lambda G, D: GAN(G, D, NonSaturating()), False),
    "r1": (lambda G, D: GAN(G, D, NonSaturating(), R1(1.0)), True),
    "r2": (lambda G, D: GAN(G, D, NonSaturating(), R2(1.0)), True),
    "relativistic": (lambda G, D: GAN(G, D, Relativistic()), False),
    "relativistic, r1 and r2": (lambda G, D: GAN(G, D, Relativistic(), R1R2(1.0)), True),
    "unrolled": (lambda G, D: Unrolled(G, D, NonSaturating(), unroll=5, rate=0.5), True),
}


@pytest.mark.parametrize("name", DIRAC)
@pytest.mark.slow
def test_the_dirac_gan_converges_with_the_remedy_and_circles_without(name):
    """All data is one point, 0. Mescheder et al. 2018, section 2, https://arxiv.org/abs/1801.04406: a GAN without
    penalty circles about it, R1 and R2 arrive. Unrolling does, too: its G sees D's answer."""
    build, converges = DIRAC[name]
    objective, device = build(PointGenerator(), LinearDiscriminator()), torch.device("cpu")
    data = ImageDataset(torch.zeros(8, 2, 1, 1))
    sgd = {network: lambda parameters: torch.optim.SGD(parameters, lr=0.1) for network in ("G", "D")}
    trainer = Trainer(objective, BatchLoader(data, 4, 0, False, 0, device), sgd, Budget(steps=600), device)
    distances = [math.hypot(*objective.G.theta.tolist(), *objective.D.psi.tolist()) for _ in trainer.steps()]
    if converges:
        assert max(distances[-50:]) < 0.05
    else:
        assert min(distances[-50:]) > 0.3


@pytest.mark.parametrize("remedy", ["model/penalty=gp", "model/penalty=clip", "model.norm=spectral"])
@pytest.mark.slow
def test_a_penalty_or_spectral_norm_bounds_the_gradient_of_a_critic(remedy, tmp_path):
    """Arjovsky et al. 2017, section 3: the Wasserstein loss has no bound but D's gradient."""
    words = ["data.kind=ring", "data.size=null", "model.width=16", "model.lr=2e-3", "data.n=512", "data.batch_size=64"]
    words += ["trainer.steps=300", *(f"trainer.{task}_every=300" for task in ("log", "sample", "checkpoint"))]
    words += ["model/loss=wasserstein", "model.optimizers.D.lr=1e-2"]

    def gradient(folder: Path, *overrides: str) -> float:
        """Return that between two corners of the plane after training."""
        run = start(folder, "mlp", *words, *overrides)
        run.train()
        x, c = run.trainer.next_batch()
        D = run.trainer.objective.D
        return float(
            (D(torch.ones_like(x), c).logits - D(-torch.ones_like(x), c).logits).detach().abs().mean()
        ) / math.sqrt(8)

    assert gradient(tmp_path / "unbounded") > 20
    assert gradient(tmp_path / "bounded", remedy) < 3


def with_nan(run: TrainingRun, at: int, times: int = 1) -> TrainingRun:
    """Return the run with a NaN loss of G in step `at`, the first `times` times."""
    objective, left = run.trainer.objective, [times]
    generator_terms = objective.generator_terms

    def terms(x: Tensor, c: Tensor, fake: Tensor) -> dict[str, Tensor]:
        terms = generator_terms(x, c, fake)
        if run.trainer.step == at and left[0]:
            left[0] -= 1
            return {name: term * math.nan for name, term in terms.items()}
        return terms

    objective.generator_terms = terms
    return run


def test_a_non_finite_loss_stops_the_run_before_anything_is_saved(tmp_path):
    run = with_nan(start(tmp_path, "mlp"), at=2)
    message = r"at step 3 G/adversarial is not a finite number; the last checkpoint, of step 2"
    with pytest.raises(ValueError, match=message):
        run.train()
    content = checkpoint.read(tmp_path / "checkpoints" / LAST)
    assert content["step"] == 2
    assert all(torch.isfinite(v).all() for v in content["ema"].values())


@pytest.mark.parametrize("at", [0, 2, 5])  # after the save of step 0, between saves, at the end
def test_rollback_continues_from_the_last_checkpoint_at_half_the_rate(at, tmp_path):
    run = with_nan(start(tmp_path, "mlp", "trainer.on_nan=rollback"), at)
    rate = run.trainer.group_options["G"][0]["lr"]
    run.train()
    content = checkpoint.read(tmp_path / "checkpoints" / LAST)
    assert content["step"] == 6 and content["rollbacks"] == 1
    assert content["optimizers"]["G"]["param_groups"][0]["lr"] == rate / 2
    assert all(torch.isfinite(v).all() for v in content["ema"].values())
    log = (tmp_path / "log.txt").read_text()
    assert re.search(r"at step .* [DG]/adversarial is not a finite number.* half the learning rate \(1 of 3\)", log)
    assert [row["step"] for row in rows_of(tmp_path) if "D/adversarial" in row] == [2, 4, 6], "one row for each step"
    assert all(math.isfinite(v) for row in rows_of(tmp_path) for v in row.values() if isinstance(v, float))


def test_rollbacks_end_with_an_error_after_trainer_rollbacks(tmp_path):
    run = with_nan(start(tmp_path, "mlp", "trainer.on_nan=rollback", "trainer.rollbacks=2"), at=2, times=99)
    with pytest.raises(ValueError, match="is not a finite number after 2 rollbacks"):
        run.train()


def test_a_run_resumes_at_the_halved_rate(tmp_path):
    words = ("mlp", "trainer.on_nan=rollback")
    with_nan(start(tmp_path / "whole", *words), at=1).train()
    stop(with_nan(start(tmp_path / "parts", *words), at=1), 5)
    start(tmp_path / "parts", *words).train()
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_a_run_warns_that_d_is_winning_and_the_advice_helps(tmp_path):
    """G hardly learns, so D is soon always right; the advised penalty prevents it."""
    unfair = ["data=synthetic", "model=mlp", "model.width=8", "data.size=8", "data.batch_size=16", "trainer.steps=700"]
    unfair += ["model.optimizers.G.lr=1e-6", "model.optimizers.D.lr=1e-3", "trainer.log_every=50"]
    unfair += ["trainer.sample_every=700", "trainer.checkpoint_every=300"]

    def findings(name: str, *overrides: str) -> list[tuple[str, int, str]]:
        """Train and return the health monitor's events."""
        (tmp_path / name).mkdir(exist_ok=True)
        TrainingRun(config(*unfair, *overrides), tmp_path / name, []).train()
        events = [row for row in rows_of(tmp_path / name) if row.get("event") in ("warning", "recovered")]
        return [(event["event"], event["step"], event["finding"]) for event in events]

    events = findings("unfair")
    assert [(event, finding) for event, _, finding in events] == [("warning", "d_winning")]
    log, page = ((tmp_path / "unfair" / name).read_text() for name in ("log.txt", "index.html"))
    assert "warning: D is winning: almost no mistakes in the last 500 steps" in log
    assert "D is winning" in page and "model/penalty=r1" in page
    assert findings("remedied", "model/penalty=r1", "model.penalty.weight=10") == []
    # A resumed run logs the events of an uninterrupted one, once.
    assert findings("parts", "trainer.steps=400") == []
    assert findings("parts") == findings("parts", "trainer.steps=750") == events
