"""Each remedy against a case that is known to break without it: the same seed, the same steps, with and without."""

import json
import math
import re
import signal
from pathlib import Path

import pytest
import torch
from helpers import assert_same, config, learned, start
from torch import Tensor, nn

from gancli.checkpoint import format as checkpoint
from gancli.data.dataset import ImageDataset
from gancli.data.loader import BatchLoader
from gancli.losses.adversarial import NonSaturating, Relativistic
from gancli.losses.penalties import R1, R1R2, R2
from gancli.objectives import GAN, Unrolled
from gancli.training import Budget, Trainer
from gancli.training.run import TrainingRun


class Place(nn.Module):
    """G of the Dirac-GAN: always the same point, theta."""

    z_dim, classes = 1, 0

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.theta.expand(len(z), 2)[:, :, None, None]


class Line(nn.Module):
    """D of the Dirac-GAN: psi times the point."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x.flatten(1) @ self.psi


DIRAC = {
    "plain": (lambda G, D: GAN(G, D, NonSaturating()), False),
    "r1": (lambda G, D: GAN(G, D, NonSaturating(), R1(1.0)), True),
    "r2": (lambda G, D: GAN(G, D, NonSaturating(), R2(1.0)), True),
    "relativistic": (lambda G, D: GAN(G, D, Relativistic()), False),
    "relativistic, r1 and r2": (lambda G, D: GAN(G, D, Relativistic(), R1R2(1.0)), True),
    "unrolled": (lambda G, D: Unrolled(G, D, NonSaturating(), unroll=5, rate=0.5), True),
}


@pytest.mark.parametrize("name", DIRAC)
def test_the_dirac_gan_converges_with_the_remedy_and_circles_without(name):
    """All data is one point, 0. Mescheder et al. 2018, section 2, https://arxiv.org/abs/1801.04406: plain GANs circle
    about it, R1 and R2 arrive. Unrolling does, too: its G sees D's answer."""
    make, converges = DIRAC[name]
    objective = make(Place(), Line())
    data = ImageDataset(torch.zeros(8, 2, 1, 1))
    sgd = {player: lambda ps: torch.optim.SGD(ps, lr=0.1) for player in ("G", "D")}
    trainer = Trainer(
        objective, BatchLoader(data, 4, 0, False, 0, torch.device("cpu")), sgd, Budget(steps=600), torch.device("cpu")
    )
    distances = [math.hypot(*objective.G.theta.tolist(), *objective.D.psi.tolist()) for _ in trainer.steps()]
    if converges:
        assert max(distances[-50:]) < 0.05
    else:
        assert min(distances[-50:]) > 0.3


def trained(folder: Path, *overrides: str) -> TrainingRun:
    folder.mkdir()
    ring = ["data=synthetic", "data.kind=ring", "data.size=null", "model=mlp", "model.width=16", "model.lr=2e-3"]
    quick = ["data.n=512", "data.batch_size=64", "trainer.steps=300"]
    quick += [f"trainer.{what}_every=300" for what in ("log", "sample", "checkpoint")]
    run = TrainingRun(config(*ring, *quick, *overrides), folder, [], quiet=True)
    run.train()
    return run


@pytest.mark.parametrize("remedy", ["model/penalty=gp", "model/penalty=clip", "model.norm=spectral"])
def test_a_critic_runs_away_unless_it_is_held(remedy, tmp_path):
    """Arjovsky et al. 2017, section 3: the Wasserstein loss has no bound but D's slope."""
    free = trained(tmp_path / "free", "model/loss=wasserstein", "model.optimizers.D.lr=1e-2")
    held = trained(tmp_path / "held", "model/loss=wasserstein", "model.optimizers.D.lr=1e-2", remedy)

    def critic(run: TrainingRun) -> float:
        x, c = run.trainer.next_batch()
        D = run.trainer.objective.D
        far = D(torch.ones_like(x), c).logits - D(-torch.ones_like(x), c).logits
        return float(far.detach().abs().mean()) / math.sqrt(8)  # the slope between two corners of the plane

    assert critic(free) > 20
    assert critic(held) < 3


def poisoned(run: TrainingRun, at: int, times: int = 1) -> TrainingRun:
    """Return the run with a NaN loss of G in step `at`, the first `times` times."""
    objective, left = run.trainer.objective, [times]
    sound = objective.generator_terms

    def terms(x: Tensor, c: Tensor, fake: Tensor) -> dict[str, Tensor]:
        found = sound(x, c, fake)
        if run.trainer.step == at and left[0]:
            left[0] -= 1
            return {name: term * math.nan for name, term in found.items()}
        return found

    objective.generator_terms = terms
    return run


def test_a_loss_that_is_no_number_stops_the_run_before_anything_is_saved(tmp_path):
    run = poisoned(start(tmp_path / "run", "mlp"), at=2)
    with pytest.raises(
        ValueError, match=r"at step 3 G/adversarial is not a finite number; the last checkpoint, of step 2"
    ):
        run.train()
    content = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert content["step"] == 2
    assert all(torch.isfinite(v).all() for v in content["ema"].values())


@pytest.mark.parametrize("at", [0, 2, 5])  # before the first save but that of the beginning, between saves, at the end
def test_rollback_goes_on_from_the_last_good_checkpoint_at_half_the_rate(at, tmp_path):
    run = poisoned(start(tmp_path / "run", "mlp", "trainer.on_nan=rollback"), at)
    rate = run.trainer.group_options["G"][0]["lr"]
    run.train()
    content = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert content["step"] == 6 and content["rollbacks"] == 1
    assert content["optimizers"]["G"]["param_groups"][0]["lr"] == rate / 2
    assert all(torch.isfinite(v).all() for v in content["ema"].values())
    log = (tmp_path / "run" / "log.txt").read_text()
    assert (
        re.search("at step .* G/adversarial is not a finite number", log) and "half the learning rate (1 of 3)" in log
    )
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "D/adversarial" in row]
    assert steps == [2, 4, 6]  # what was undone is told once
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))


def test_rollback_gives_up_after_so_many_times(tmp_path):
    run = poisoned(start(tmp_path / "run", "mlp", "trainer.on_nan=rollback", "trainer.rollbacks=2"), at=2, times=99)
    with pytest.raises(ValueError, match="is not a finite number after 2 rollbacks"):
        run.train()


def test_a_run_that_was_rolled_back_resumes_to_the_same_end(tmp_path):
    """The rate it was halved to is in the checkpoint."""
    poisoned(start(tmp_path / "whole", "mlp", "trainer.on_nan=rollback"), at=1).train()
    run = poisoned(start(tmp_path / "parts", "mlp", "trainer.on_nan=rollback"), at=1)
    play = run.trainer.train_step

    def interrupted(progress: float) -> None:
        play(progress)
        if run.trainer.step == 5:
            signal.raise_signal(signal.SIGTERM)

    run.trainer.train_step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.train()
    start(tmp_path / "parts", "mlp", "trainer.on_nan=rollback").train()
    assert_same(*(learned(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "parts")))


def told(folder: Path) -> list[tuple[str, int, str]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(r["event"], r["step"], r["finding"]) for r in rows if r.get("event") in ("warning", "recovered")]


@pytest.mark.slow
def test_the_run_says_that_d_has_won_and_what_it_advises_helps(tmp_path):
    """G hardly moves, so D is soon always right; the advised penalty keeps it from being sure."""
    unfair = ["data=synthetic", "model=mlp", "model.width=8", "data.size=8", "data.batch_size=16", "trainer.steps=700"]
    unfair += ["model.optimizers.G.lr=1e-6", "model.optimizers.D.lr=1e-3", "trainer.log_every=50"]
    unfair += ["trainer.sample_every=700", "trainer.checkpoint_every=300"]

    def run(name: str, *overrides: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        TrainingRun(config(*unfair, *overrides), tmp_path / name, [], quiet=True).train()
        return tmp_path / name

    plain = run("plain")
    events = told(plain)
    assert [(kind, finding) for kind, _, finding in events] == [("warning", "d_winning")]
    assert "warning: D is winning: almost no mistakes in the last 500 steps" in (plain / "log.txt").read_text()
    page = (plain / "index.html").read_text()
    assert "D is winning" in page and "model/penalty=r1" in page
    assert told(run("remedied", "model/penalty=r1", "model.penalty.weight=10")) == []
    # A resumed run tells what an uninterrupted one does, once.
    run("parts", "trainer.steps=400")
    assert told(tmp_path / "parts") == []
    assert told(run("parts")) == events
    assert told(run("parts", "trainer.steps=750")) == events
