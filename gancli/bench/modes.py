"""gan bench modes: recipes compared on data whose modes are known.

How many modes of the data a generator finds, and how evenly. Metz et al. 2016, https://arxiv.org/abs/1611.02163;
Srivastava et al. 2017, https://arxiv.org/abs/1705.07761; Lin et al. 2018, https://arxiv.org/abs/1712.04086.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gancli import images
from gancli.bench.common import choose_names, finish, output_folder, usage_errors
from gancli.bench.modes_report import FAIR, REAL, ModesReport
from gancli.config import UsageError, compose
from gancli.data.builtin import DataUnavailable, stacked_mnist
from gancli.data.synthetic import mode_counts, synthetic
from gancli.inference.generator import load
from gancli.metrics.mode_coverage import DigitClassifier, coverage, stacked_modes, train_digit_classifier
from gancli.runtime.checks import check_number
from gancli.runtime.device import choose_device
from gancli.runtime.text import one_line, plural, shell_join
from gancli.training.run import TrainingRun
from gancli.training.run_log import record_failure

# Overrides of each recipe, after the common ones below, which they replace.
PLANE = {
    "gan": [],
    "minibatch": ["model.minibatch=discrimination"],
    "pacgan2": ["model.packing=2"],
    "pacgan4": ["model.packing=4"],
    "unrolled1": ["model=unrolled_mlp", "model.unroll=1"],
    "unrolled5": ["model=unrolled_mlp", "model.unroll=5"],
    "unrolled10": ["model=unrolled_mlp", "model.unroll=10"],
    "wgan_gp": ["model/loss=wasserstein", "model/penalty=gp", "model.n_critic=5", "model.betas=[0,0.9]"],
    "sngan": ["model/loss=hinge", "model.norm=spectral"],
    "r1": ["model/penalty=r1"],
    "hinge_r1": ["model/loss=hinge", "model/penalty=r1"],
    "pacgan2_r1": ["model.packing=2", "model/penalty=r1"],
    # gamma: the modes of the plane are so narrow that a D that separates them has large gradients
    "r3": ["model/loss=relativistic", "model/penalty=r1_r2", "model.penalty.weight=0.02"],
}
STACKED = PLANE | {
    "unrolled1": ["model=unrolled", "model.unroll=1"],
    "unrolled5": ["model=unrolled", "model.unroll=5"],
    "unrolled10": ["model=unrolled", "model.unroll=10"],
    "wgan_gp": [*PLANE["wgan_gp"], "model.norm=none"],
    "r1": [*PLANE["r1"], "model.norm=none"],
    "hinge_r1": [*PLANE["hinge_r1"], "model.norm=none"],
    "pacgan2_r1": [*PLANE["pacgan2_r1"], "model.norm=none"],
    "r3": ["model/loss=relativistic", "model/penalty=r1_r2", "model.norm=none"],
}


class ModeData(NamedTuple):
    """Data with a known number of modes, and how recipes are trained and sampled on it."""

    modes: int
    overrides: list[str]
    recipes: dict[str, list[str]]
    minutes: float
    samples: int


# Numbers of samples and of training points are those of section 4 of PacGAN. The rest was chosen so that the best
# recipes succeed within minutes on a CPU: a learning rate that decays to zero sharpens the modes.
COMMON = ["trainer.sample_every=1000", "model.schedule._target_=gancli.training.schedules.linear"]
POINTS = ["data=synthetic", "data.n=100000", "model=mlp", "model.width=64", "model.z_dim=2", "data.batch_size=256"]
POINTS += ["model.lr=2e-3", "model.betas=[0,0.99]", *COMMON]
DIGITS = ["data=stacked_mnist", "model=dcgan", "model.width=32", "model.lr=2e-4", "data.batch_size=64", *COMMON]
DATA = {
    "ring": ModeData(8, [*POINTS, "data.kind=ring"], PLANE, 3.0, 2500),
    "grid": ModeData(25, [*POINTS, "data.kind=grid"], PLANE, 5.0, 2500),
    "stacked": ModeData(1000, DIGITS, STACKED, 4.0, 26_000),
}
SHOWN = 32  # stacked samples in the report's image
UNSEEN_SEED = 1_000_003  # of the real samples, which no recipe is trained on


class RecipeRun(NamedTuple):
    """One training of the benchmark."""

    data: str
    recipe: str
    seed: int

    def overrides(self, minutes: float, steps: int, device: str) -> list[str]:
        data = DATA[self.data]
        budget = f"trainer.steps={steps}" if steps else f"trainer.minutes={minutes or data.minutes:g}"
        return [*data.overrides, *data.recipes[self.recipe], f"seed={self.seed}", budget, f"device={device}"]


def modes(
    data: Sequence[str], recipes: Sequence[str], seeds: Sequence[int], minutes: float, steps: int, out: str, device: str
) -> int:
    """Train every recipe on every data set with every seed and count modes; return 1 if a run failed, else 0."""
    data = choose_names("data", data or ["ring", "grid"], DATA)
    recipes = choose_names("recipes", recipes or list(PLANE), PLANE)
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UsageError(f"seeds={list(seeds)} are not whole numbers from 0 on; type seeds=[0,1,2]")
    with usage_errors():
        check_number("steps", steps, least=0)
        check_number("minutes", minutes, least=0)
    torch_device, folder = choose_device(device), output_folder("modes", out)
    counter = ModeCounter(torch_device, "stacked" in data)
    runs = [RecipeRun(name, recipe, seed) for name in data for recipe in recipes for seed in dict.fromkeys(seeds)]
    print(f"{folder}: {plural(len(runs), 'run')}", file=sys.stderr, flush=True)
    report = ModesReport(folder, DATA, torch_device, counter.accuracy)
    for name in data:
        report.add((name, REAL, 0), {}, *counter.count(name, counter.real(name)))
    for number, run in enumerate(runs, 1):
        overrides, run_folder = run.overrides(minutes, steps, device), folder / run.data / f"{run.recipe}-{run.seed}"
        try:
            facts, samples = train_and_sample(run_folder, overrides, torch_device, DATA[run.data].samples, run.seed)
            line = report.add(run, facts, *counter.count(run.data, samples))
        except Exception as error:
            run_folder.mkdir(parents=True, exist_ok=True)
            record_failure(run_folder, error, overrides)
            line = report.fail(run, one_line(error))
        label = f"{number} of {len(runs)}  {run.data} {run.recipe}-{run.seed}"
        print(f"{label}: {line}", file=sys.stderr, flush=True)
        report.write(finished=number == len(runs))
    names = ", ".join(f"{f['data']}/{f['recipe']}-{f['seed']}" for f in report.failed)
    failed = f"{len(report.failed)} of {plural(len(runs), 'run')} failed: {names}" if names else ""
    return finish(folder, "modes", [text for _, text in report.tables()], failed)


def train_and_sample(
    folder: Path, overrides: list[str], device: torch.device, samples: int, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """Train what is left to train in a run folder; return facts of the run and samples of the EMA generator.

    Samples are points (N, 2, 1, 1), float, or images (N, C, H, W), uint8 like real ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(compose(overrides), folder, overrides)
    run.train()
    G = load(folder / "checkpoints" / "last.safetensors", ema=True, device=device)
    blocks = (x for x, _ in G.blocks(samples, seed))
    generated = torch.cat([x.cpu() if images.is_points(x) else images.to_uint8(x).cpu() for x in blocks])
    config = run.config
    facts = {
        "steps": run.trainer.step,
        "images": run.trainer.images,
        "minutes": run.trainer.seconds / 60,
        "batch": config["data"]["batch_size"],
        "width": config["model"]["width"],
        "ema": config["trainer"]["ema"],
        "folder": str(folder),
        "command": shell_join(["gan", "train", *overrides, f"run.dir={folder}"]),
    }
    return facts, generated


class ModeCounter:
    """Counts the modes of samples; stacked digits by a classifier that is trained first.

    `accuracy` is the classifier's on MNIST's test split.
    """

    def __init__(self, device: torch.device, stacked: bool):
        self.classifier: DigitClassifier | None = None
        self.accuracy: float | None = None
        if stacked:
            self.root = str(compose(["data=stacked_mnist"]).data.root)
            try:
                self.classifier, self.accuracy = train_digit_classifier(self.root)
            except DataUnavailable as error:
                raise ValueError(
                    f"data=[stacked] needs MNIST, and {error.reason}; put mnist.npz or torchvision's MNIST into "
                    f"{self.root}, set GAN_DATA to a folder that has either, or leave stacked out, as in "
                    "data=[ring,grid]"
                ) from error
            self.classifier.to(device)
            print(f"digit classifier: {self.accuracy:.2%} of MNIST's test split", file=sys.stderr, flush=True)

    def real(self, data: str) -> Tensor:
        """Return as many real samples as are generated: the score of a perfect generator."""
        n = DATA[data].samples
        if data == "stacked":
            return stacked_mnist(self.root, n, seed=UNSEEN_SEED).images
        return synthetic(data, n, seed=UNSEEN_SEED).images

    def count(self, data: str, samples: Tensor) -> tuple[dict[str, float], Tensor]:
        """Return the scores of samples, and the samples to show."""
        total = DATA[data].modes
        if self.classifier and data == "stacked":
            covered, reverse_kl = coverage(stacked_modes(self.classifier, samples), total)
            return {"modes": covered, "reverse_kl": reverse_kl}, samples[:SHOWN].clone()
        counts, near = mode_counts(samples, data)
        covered, reverse_kl = coverage(torch.arange(total).repeat_interleave(counts), total)
        fair = int((counts * total * FAIR >= len(samples)).sum())
        return {"modes": covered, "fair_modes": fair, "near": near, "reverse_kl": reverse_kl}, samples
