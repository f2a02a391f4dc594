"""Time that `gan train` takes to the score that the loop of tutorials reaches in five minutes.

    python benchmarks/time_to_quality.py mnist [--minutes 5] [--seeds 0 1 2] [--every 5] [--experiment mnist-dcgan]

The baseline trains model=dcgan as in the paper, width 64 and batch size 128, for so many minutes. The experiment runs
as shipped and is evaluated every few seconds. Evaluations and start-up are not timed. Scores: fd_mnist or fd_cifar of
10,000 images of fixed noise against the 10,000 test images, 8-bit. The baseline has the better of two scores: batch
norm with running statistics, or with those of the batch, as its tutorials sample. A score of the experiment counts as
reached if the next evaluation confirms it. Run it alone on the machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from gancli.bench.baseline_loop import BaselineLoop
from gancli.checkpoint.format import versions
from gancli.config import compose
from gancli.evaluation.generative import Comparison, GeneratedImages
from gancli.evaluation.reference import EvaluationSet
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import default_extractor
from gancli.runtime.hardware import describe
from gancli.training.run import TrainingRun

N, SEED = 10_000, 0


class Score:
    """Fréchet distance of a generator's images to the test images."""

    def __init__(self, data: Any, name: str, device: torch.device):
        self.data, self.name = data, f"fd_{default_extractor(data.channels)}"
        self.comparison = Comparison(EvaluationSet(data, name, "test", N, SEED), [self.name], device, seed=SEED)

    def __call__(self, G: torch.nn.Module, batch_statistics: bool = False) -> float:
        fake = GeneratedImages(Generator(G, self.data.size, self.data.channels, self.data.class_names), N, SEED)
        G.train(batch_statistics)
        return self.comparison(fake, ()).values[self.name]


def pauses(steps: Iterator[Any], every: float) -> Iterator[tuple[float, int]]:
    """Train, and yield seconds and steps so far after every so many seconds; the time between is not counted."""
    seconds, count, due = 0.0, 0, every
    while True:
        begin = time.perf_counter()
        next(steps)
        seconds, count = seconds + time.perf_counter() - begin, count + 1
        if seconds >= due:
            yield seconds, count
            due += every


def train_baseline(name: str, seed: int, minutes: float, device: str) -> tuple[BaselineLoop, int]:
    paper = ["model=dcgan", "model.width=64", "model.lr=2e-4", "data.batch_size=128"]
    loop = BaselineLoop([*paper, f"data={name}", f"seed={seed}", f"device={device}"])
    _, steps = next(pauses(loop.steps(), 60 * minutes))
    return loop, steps


def compare(options: argparse.Namespace, overrides: list[str], seed: int) -> tuple[dict[str, Any], torch.device]:
    """Return the baseline's scores, and the experiment's curve and seconds to the better of them."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(compose([*overrides, f"seed={seed}"]), Path(folder), [])
    trainer = run.trainer
    score = Score(run.data, options.data, trainer.device)
    line: dict[str, Any] = {"seed": seed, "metric": score.name}
    target = options.target
    if target is None:
        loop, steps = train_baseline(options.data, seed, options.minutes, options.device)
        scores = {"running": score(loop.G), "by_batch": score(loop.G, batch_statistics=True)}
        line |= {"baseline": {"steps": steps, **scores}}
        target = min(scores.values())
        print(json.dumps(line), flush=True)
    curve: list[tuple[float, int, float]] = []
    reached: list[float] = []
    for seconds, steps in pauses(trainer.steps(), options.every):
        curve.append((round(seconds, 2), steps, score(trainer.ema.network)))
        print(json.dumps(curve[-1]), flush=True)
        reached = [at for (at, _, value), (_, _, after) in pairwise(curve) if max(value, after) <= target]
        if reached or seconds > 60 * options.minutes:
            break
    line |= {"target": target, "curve": curve, "seconds": next(iter(reached), None)}
    if reached:
        line["times_sooner"] = round(60 * options.minutes / reached[0], 2)
    print(json.dumps(line), flush=True)
    return line, trainer.device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["mnist", "cifar10"])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=float, default=5.0, help="seconds of training between evaluations")
    parser.add_argument("--experiment", default="", help="default: DATA-dcgan")
    parser.add_argument("--target", type=float, default=None, help="score to reach, instead of a baseline's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("more", nargs="*", help="overrides of the experiment, after --")
    options = parser.parse_args()
    experiment = options.experiment or f"{options.data}-dcgan"
    overrides = [f"experiment={experiment}", f"device={options.device}", *options.more]
    results = [compare(options, overrides, seed) for seed in options.seeds]
    times = [line["times_sooner"] for line, _ in results if "times_sooner" in line]
    facts = {"machine": describe(results[0][1]), **vars(options), "versions": versions()}
    print(json.dumps(facts | {"times_sooner": times, "median": statistics.median(times) if times else None}))


if __name__ == "__main__":
    main()
