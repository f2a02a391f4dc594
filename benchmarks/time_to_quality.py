"""How long `gan train` takes to the score that the loop everybody copies has after five minutes.

    python benchmarks/time_to_quality.py mnist [--minutes 5] [--seeds 0 1 2] [--every 5] [--experiment mnist-dcgan]

The plain loop plays model=dcgan as the paper has it, width 64 and batch 128, for so many minutes. The experiment is
played as it is shipped, and looked at every few seconds. Clocks stand still during a look; neither's start-up counts.
Scores: fd_mnist or fd_cifar of 10,000 images of fixed noise beside the 10,000 test images, 8-bit. Of the plain loop the
better one of two is taken: batch norm by its running statistics, or by the batch, as its tutorials sample. Of the
experiment a score counts as reached where the next look has it, too. Alone on the machine, please.
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

from gancli.bench.baseline_loop import Plain
from gancli.checkpoint.format import versions
from gancli.config import compose
from gancli.evaluation.generative import Comparison, GeneratedImages
from gancli.evaluation.reference import EvaluationSet
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import default_extractor
from gancli.runtime.hardware import describe
from gancli.training.run import TrainingRun

N, SEED = 10_000, 0


class Judge:
    """A score of a generator of noise: the Fréchet distance of what it makes from the test images."""

    def __init__(self, data: Any, name: str, device: torch.device):
        self.data, self.figure = data, f"fd_{default_extractor(data.channels)}"
        self.comparison = Comparison(EvaluationSet(data, name, "test", N, SEED), [self.figure], device, seed=SEED)

    def __call__(self, G: torch.nn.Module, by_batch: bool = False) -> float:
        made = GeneratedImages(Generator(G, self.data.size, self.data.channels, self.data.class_names), N, SEED)
        G.train(by_batch)
        return self.comparison(made, ()).values[self.figure]


def looks(rounds: Iterator[Any], every: float) -> Iterator[tuple[float, int]]:
    """Play, and give the seconds and rounds played after every so many seconds; what is done between does not count."""
    seconds, played, due = 0.0, 0, every
    while True:
        begun = time.perf_counter()
        next(rounds)
        seconds, played = seconds + time.perf_counter() - begun, played + 1
        if seconds >= due:
            yield seconds, played
            due += every


def plain(name: str, seed: int, minutes: float, device: str) -> tuple[Plain, int]:
    way = Plain(["model=dcgan", f"data={name}", f"seed={seed}", f"device={device}"])
    _, played = next(looks(way.rounds(), 60 * minutes))
    return way, played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["mnist", "cifar10"])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--every", type=float, default=5.0, help="seconds of training between looks")
    parser.add_argument("--experiment", default="", help="DATA-dcgan without it")
    parser.add_argument("--target", type=float, default=None, help="this score, and no plain loop")
    parser.add_argument("--device", default="auto")
    parser.add_argument("more", nargs="*", help="overrides of the experiment, after --")
    options = parser.parse_args()
    experiment = options.experiment or f"{options.data}-dcgan"
    words = [f"experiment={experiment}", f"device={options.device}", *options.more]
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = TrainingRun(compose([*words, f"seed={seed}"]), Path(folder), [], quiet=True)
        trainer = run.trainer
        judge = Judge(run.data, options.data, trainer.device)
        line: dict[str, Any] = {"seed": seed, "figure": judge.figure}
        target = options.target
        if target is None:
            way, played = plain(options.data, seed, options.minutes, options.device)
            scores = {"running": judge(way.G), "by_batch": judge(way.G, by_batch=True)}
            line |= {"plain": {"rounds": played, **scores}}
            target = min(scores.values())
            print(json.dumps(line), flush=True)
        curve: list[tuple[float, int, float]] = []
        for seconds, played in looks(trainer.steps(), options.every):
            curve.append((round(seconds, 2), played, judge(trainer.ema.network)))
            print(json.dumps(curve[-1]), flush=True)
            reached = [at for (at, _, score), (_, _, after) in pairwise(curve) if max(score, after) <= target]
            if reached or seconds > 60 * options.minutes:
                break
        line |= {"target": target, "curve": curve, "seconds": next(iter(reached), None)}
        if reached:
            line["times_sooner"] = round(60 * options.minutes / reached[0], 2)
        found.append(line)
        print(json.dumps(line), flush=True)
    times = [line["times_sooner"] for line in found if "times_sooner" in line]
    facts = {"machine": describe(trainer.device), **vars(options), "versions": versions()}
    facts |= {"times_sooner": times, "median": statistics.median(times) if times else None}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
