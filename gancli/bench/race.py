"""gan bench race: which experiment has which score after how many minutes of training. The rules are docs/race.md."""

import contextlib
import hashlib
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from gancli import config, images
from gancli.bench.common import choose_data, choose_names, finish, output_folder, usage_errors
from gancli.bench.race_report import RaceReport
from gancli.bench.timing import WARM_UP, FlopCounter
from gancli.checkpoint.format import versions
from gancli.config import UsageError, choices, compose, own_configs
from gancli.data.by_name import load_by_name
from gancli.evaluation.generative import Comparison, GeneratedImages
from gancli.evaluation.reference import EvaluationSet
from gancli.evaluation.scores import SWD
from gancli.inference.generator import Generator
from gancli.metrics.feature_extractors import default_extractor
from gancli.metrics.term import score_name
from gancli.runtime.checks import check_number
from gancli.runtime.device import choose_device
from gancli.runtime.hardware import describe
from gancli.runtime.text import one_line, plural, shell_join, shell_quote
from gancli.training.run import TrainingRun
from gancli.training.run_log import record_failure

POINTS, POINTS_TO_TARGET = 5, 20  # of the curve; with a target it is looked for more often
N = 10_000  # generated images, and real ones at most
SHOWN = 40  # images of a grid of samples: each of ten classes four times
Scores = dict[str, float]


def race(
    data: Sequence[str],
    entries: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    target: float,
    config_dir: str,
    out: str,
    device: str,
) -> int:
    """Train every entry with every seed, evaluated as it trains; return 1 if one failed, else 0.

    A race into a folder that has one with the same protocol goes on with it: what it has is not trained again.
    """
    name = choose_data("race", data, "mnist")
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UsageError(f"seeds={list(seeds)} are not whole numbers from 0 on; type seeds=[0,1,2]")
    with usage_errors():
        check_number("minutes", minutes, least=0, example=5)
        check_number("target", target, least=0)
    minutes = minutes or 5.0
    with own_configs(*config.entries(config_dir)):
        experiments = choose_entries(name, entries)
        torch_device, folder = choose_device(device), output_folder("race", out)
        evaluate = Evaluator(name, torch_device)
        print(f"{folder}: {plural(len(experiments) * len(seeds), 'run')}; {evaluate}", file=sys.stderr, flush=True)
        protocol = {
            "data": name,
            "minutes": minutes,
            "target": target or None,
            "score": evaluate.score,
            "evaluation": str(evaluate),
            "machine": describe(torch_device),
            "device": str(torch_device),
            "versions": versions(),
        }
        report = RaceReport(folder, protocol)
        report.load()
        # Every entry with one seed before the next: a machine that becomes slower slows all of them.
        runs = [(experiment, seed) for seed in dict.fromkeys(seeds) for experiment in experiments]
        for number, (experiment, seed) in enumerate(runs, 1):
            overrides = [f"experiment={experiment}", f"seed={seed}", f"trainer.minutes={minutes:g}", f"device={device}"]
            cfg = compose(overrides)
            facts = {"entry": experiment, "seed": seed, "config": digest(cfg)}
            label = f"{number} of {len(runs)}  {experiment}-{seed}"
            if report.has(facts):
                print(f"{label}: raced before", file=sys.stderr, flush=True)
                continue
            try:
                facts |= run_entry(cfg, minutes, target, evaluate, report.samples(facts))
                own = [f"--config-dir={config_dir}"] if config_dir else []
                facts["command"] = shell_join(["gan", "train", *own, *overrides])
                line = report.add(facts)
            except KeyboardInterrupt:
                where = shell_quote(config.typed("out", str(folder)))
                print(f"type the same with {where} to go on with this race", file=sys.stderr, flush=True)
                raise
            except Exception as error:
                record_failure(folder, error, overrides)
                line = report.fail(experiment, seed, one_line(error))
            print(f"{label}: {line}", file=sys.stderr, flush=True)
            report.write(finished=number == len(runs))
    names = ", ".join(f"{f['entry']}-{f['seed']}" for f in report.failed)
    failed = f"{len(report.failed)} of {plural(len(runs), 'run')} failed: {names}" if names else ""
    return finish(folder, "race", [text for _, text in report.tables()], failed)


def choose_entries(data: str, names: Sequence[str]) -> list[str]:
    """Return experiments that train a generator of images from noise on `data`; by default those called after it."""
    every = choices("experiment")
    good = []
    for name in choose_names("entries", names, every) if names else every:
        if not names and not name.startswith(f"{data}-"):
            continue
        if reason := unfit(compose([f"experiment={name}"]), data):
            if names:
                raise UsageError(f"entries={name} cannot race: {reason}")
            continue
        good.append(name)
    if not good:
        raise UsageError(f"no experiment is called after data={data}; type entries=[NAME], one of gan list experiments")
    return good


def unfit(composed: Any, data: str) -> str:
    """Return why an experiment cannot race on `data`, or nothing."""
    if composed.data.name != data:
        return f"it trains on data={composed.data.name}; type data={composed.data.name}"
    if "z_dim" not in composed.model or "task" in composed.model:
        return "it generates nothing from noise"
    return "it is a sweep" if "zoo" in composed else ""


class Evaluator:
    """Scores of a generator against the test images, by a bundled network and by patches."""

    def __init__(self, data: str, device: torch.device):
        test = load_by_name(data, None, None, "test")
        network = default_extractor(test.channels)
        self.score, self.data = score_name("fd", network), test
        metrics = [self.score, SWD, score_name("accuracy", network)]
        self.comparison = Comparison(EvaluationSet(test, data, "test", N, 0), metrics, device)
        self.n = min(N, len(test))

    def __call__(self, G: nn.Module) -> Scores:
        """Return the scores of images of the same noise each time."""
        fake = GeneratedImages(self.generator(G), self.n, 0)
        scores = self.comparison(fake, self.data.class_names if G.classes else ()).values
        names = {self.score: self.score, SWD: SWD}
        names |= {name: "as_asked" for name in scores if name.startswith("accuracy_")}
        return {names[name]: value for name, value in scores.items() if name in names}

    def generator(self, G: nn.Module) -> Generator:
        return Generator(G.eval(), self.data.size, self.data.channels, self.data.class_names)

    def __str__(self) -> str:
        return f"{self.score} and {SWD} of {self.n:,} images against {plural(len(self.data), 'test image')}"


def digest(cfg: Any) -> str:
    """Return a hash of a config: a race that goes on trains an entry again whose recipe has changed."""
    return hashlib.blake2b(OmegaConf.to_yaml(cfg, sort_keys=True).encode(), digest_size=8).hexdigest()


def run_entry(cfg: Any, minutes: float, target: float, evaluate: Evaluator, samples: Path) -> dict[str, Any]:
    """Train one entry for so many minutes and return its curve; evaluating it does not use them up.

    Args:
        samples: file for a grid of its last images.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(cfg, Path(folder), [])
    trainer, steps = run.trainer, run.trainer.steps()
    points = POINTS_TO_TARGET if target else POINTS
    curve: list[dict[str, float]] = []
    # One step after each evaluation is counted, as those until the next, since a model of two phases has two kinds.
    counted, flop, flop_of_step, before = WARM_UP, 0.0, math.nan, 0
    while True:
        counts = trainer.step == counted and not trainer.compiled
        with FlopCounter() if counts else contextlib.nullcontext() as counter:
            done = next(steps, None) is None
        if counter:
            flop_of_step = counter.total
        due = 60 * minutes * (len(curve) + 1) / points
        if done or (len(curve) < points - 1 and trainer.seconds >= due):
            begin = time.perf_counter()
            flop += (trainer.step - before) * flop_of_step
            counted = before = trainer.step
            facts = {"seconds": trainer.seconds, "steps": trainer.step, "images": trainer.images}
            facts |= {"tflop": flop / 1e12} if math.isfinite(flop) else {}
            curve.append(facts | evaluate(trainer.ema.network))
            trainer.leave_out(time.perf_counter() - begin)
        if done:
            break
    x, _ = next(evaluate.generator(trainer.ema.network).blocks(SHOWN, 0))
    images.write(images.grid(x, columns=SHOWN // 4), samples)
    return {
        "curve": curve,
        "conditional": bool(trainer.objective.G.classes),
        "seconds_to_target": first_confirmed(curve, evaluate.score, target) if target else None,
    }


def first_confirmed(curve: list[dict[str, float]], score: str, target: float) -> float | None:
    """Return the seconds of the first score that is at most `target` and so is the next: one alone may be luck."""
    return next((a["seconds"] for a, b in pairwise(curve) if max(a[score], b[score]) <= target), None)
