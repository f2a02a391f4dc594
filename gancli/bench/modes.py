"""gan bench modes: recipes side by side on a task whose answer is known.

How many modes of the data a generator finds, and how evenly. Metz et al. 2016, https://arxiv.org/abs/1611.02163;
Srivastava et al. 2017, https://arxiv.org/abs/1705.07761; Lin et al. 2018, https://arxiv.org/abs/1712.04086.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gancli import images
from gancli.bench.common import choose, place_of
from gancli.checkpoint import format as checkpoint
from gancli.config import UsageError, compose
from gancli.data.builtin import stacked_mnist
from gancli.data.synthetic import SIGMA, centres, mode_counts, synthetic
from gancli.inference.generator import load as load_generator
from gancli.metrics.mode_coverage import DigitClassifier, coverage, stacked_modes, train_digit_classifier
from gancli.runtime.device import choose_device
from gancli.runtime.files import write_text
from gancli.runtime.hardware import describe
from gancli.runtime.text import one_line, plural, table, without_nan
from gancli.training.run import TrainingRun
from gancli.training.run_log import record_failure

# What makes each recipe differ from the common ones below; a later override replaces an earlier one.
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
    # gamma: the modes of the plane are so narrow that a D which tells them apart is steep
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


class Task(NamedTuple):
    """A data set: how many modes it has, how it is trained on, how many samples are judged."""

    modes: int
    common: list[str]
    recipes: dict[str, list[str]]
    minutes: float
    samples: int


# Samples as in PacGAN, section 4: 2,500 in the plane and 26,000 stacked digits; and its 100,000 training points. The
# rest was chosen so that the best get there in minutes on a CPU: a rate that falls to zero sharpens the modes.
COMMON = ["trainer.sample_every=1000", "model.schedule._target_=gancli.training.schedules.linear"]
POINTS = ["data=synthetic", "data.n=100000", "model=mlp", "model.width=64", "model.z_dim=2", "data.batch_size=256"]
POINTS += ["model.lr=2e-3", "model.betas=[0,0.99]", *COMMON]
DIGITS = ["data=stacked_mnist", "model=dcgan", "model.width=32", "data.batch_size=64", *COMMON]
TASKS = {
    "ring": Task(8, [*POINTS, "data.kind=ring"], PLANE, 3.0, 2500),
    "grid": Task(25, [*POINTS, "data.kind=grid"], PLANE, 5.0, 2500),
    "stacked": Task(1000, DIGITS, STACKED, 4.0, 26_000),
}
FAIR = 5  # a mode is well represented from this part of its fair share, samples / modes, on
SHOWN = 32  # stacked samples in the picture
SIDE, SHEET, GAP = 240, 1500, 12  # pixels: a scatter plot, the picture's width, and between panels
REAL = "(real data)"


def modes(
    data: Sequence[str],
    recipes: Sequence[str],
    seeds: Sequence[int],
    minutes: float,
    steps: int,
    out: str,
    device: str,
) -> int:
    """Train every recipe on every data set with every seed for as long, count modes; prints the table and the files."""
    data = choose("data set", "data=", data or ["ring", "grid"], TASKS)
    recipes = choose("recipe", "recipes=", recipes or list(PLANE), PLANE)
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UsageError(f"seeds are whole numbers from 0 on, but seeds={list(seeds)} was given; type seeds=[0,1,2]")
    if steps < 0 or minutes < 0:
        raise UsageError(
            f"a run takes a positive time, but steps={steps} minutes={minutes:g} was given; type minutes=3, or 0 for "
            f"the benchmark's own"
        )
    where = choose_device(device)
    place = place_of("modes", out)
    judge = Judge(where, "stacked" in data)
    jobs = [Job(name, recipe, seed) for name in data for recipe in recipes for seed in dict.fromkeys(seeds)]
    print(f"{place}: {plural(len(jobs), 'run')}", file=sys.stderr, flush=True)
    report = Report(place, where, judge.accuracy)
    for name in data:
        report.add(Job(name, REAL, 0), {}, *judge(name, judge.real(name)))
    for number, job in enumerate(jobs, 1):
        overrides = job.overrides(minutes, steps, device)
        folder = place / job.data / f"{job.recipe}-{job.seed}"
        try:
            facts, made = play(folder, overrides, where, TASKS[job.data].samples, job.seed)
            line = report.add(job, facts, *judge(job.data, made))
        except Exception as error:
            folder.mkdir(parents=True, exist_ok=True)
            record_failure(folder, error, overrides)
            line = report.fail(job, one_line(error))
        print(f"{number} of {len(jobs)}  {job.data} {job.recipe}-{job.seed}: {line}", file=sys.stderr, flush=True)
        report.write(finished=number == len(jobs))
    print("\n\n".join(text for _, text in report.tables()))
    for name in ("modes.json", "modes.md", "modes.png"):
        print(place / name)
    if report.failed:
        named = ", ".join(f"{f['data']}/{f['recipe']}-{f['seed']}" for f in report.failed)
        print(f"gan: {len(report.failed)} of {plural(len(jobs), 'run')} failed: {named}", file=sys.stderr)
    return 1 if report.failed else 0


# --- one run ------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    data: str
    recipe: str
    seed: int

    def overrides(self, minutes: float, steps: int, device: str) -> list[str]:
        """What `gan train` would be given."""
        task = TASKS[self.data]
        budget = f"trainer.steps={steps}" if steps else f"trainer.minutes={minutes or task.minutes:g}"
        return [*task.common, *task.recipes[self.recipe], f"seed={self.seed}", budget, f"device={device}"]


def play(
    folder: Path, overrides: list[str], device: torch.device, samples: int, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """Train in `folder` whatever is left to train; facts of the run, and samples of its averaged generator.

    Samples are float points (N, 2, 1, 1), or pictures of 8 bits (N, C, H, W), as real ones are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(compose(overrides), folder, overrides, quiet=True)
    if run.trainer.progress < 1:  # otherwise an earlier call has finished it
        run.train()
    G = load_generator(folder / "checkpoints" / "last.safetensors", ema=True, device=device)
    made = torch.cat([x.cpu() if images.is_points(x) else images.to_uint8(x).cpu() for x, _ in G.blocks(samples, seed)])
    config = run.config
    facts = {
        "steps": run.trainer.step,
        "images": run.trainer.images,
        "minutes": run.trainer.seconds / 60,
        "batch": config["data"]["batch_size"],
        "width": config["model"]["width"],
        "ema": config["trainer"]["ema"],
        "folder": str(folder),
        "command": shlex.join(["gan", "train", *overrides, f"run.dir={folder}"]),
    }
    return facts, made


class Judge:
    """Counts modes; for stacked digits by a classifier that is trained here, before anything else is."""

    def __init__(self, device: torch.device, stacked: bool):
        self.classifier: DigitClassifier | None = None
        self.accuracy: float | None = None
        if stacked:
            self.root = str(compose(["data=stacked_mnist"]).data.root)
            try:
                self.classifier, self.accuracy = train_digit_classifier(self.root)
            except ValueError as error:
                what = str(error).rpartition(": ")[0]  # what follows is advice for gan train
                raise ValueError(
                    f"data=[stacked] needs MNIST, and {what}: put mnist.npz or torchvision's MNIST into {self.root}, "
                    "set GAN_DATA to a folder that has either, or leave stacked out, as in data=[ring,grid]"
                ) from error
            self.classifier.to(device)
            print(f"classifier of digits: {self.accuracy:.2%} of MNIST's test split", file=sys.stderr, flush=True)

    def real(self, data: str) -> Tensor:
        """As many real samples, none of them trained on: what a perfect generator would score."""
        n, unseen = TASKS[data].samples, 1_000_003
        if data == "stacked":
            return stacked_mnist(self.root, n, seed=unseen).images
        return synthetic(data, n, seed=unseen).images

    def __call__(self, data: str, made: Tensor) -> tuple[dict[str, float], Tensor]:
        """The scores of samples, and those of them that are shown."""
        total = TASKS[data].modes
        if self.classifier and data == "stacked":
            found, reverse_kl = coverage(stacked_modes(self.classifier, made), total)
            return {"modes": found, "reverse_kl": reverse_kl}, made[:SHOWN].clone()
        counts, share = mode_counts(made, data)
        found, reverse_kl = coverage(torch.arange(total).repeat_interleave(counts), total)
        fair = int((counts * total * FAIR >= len(made)).sum())
        return {"modes": found, "fair_modes": fair, "share": share, "reverse_kl": reverse_kl}, made


# --- what is written ----------------------------------------------------------------------------------------------

COLUMNS: dict[str, Callable[[float], str]] = {
    "modes": "{:,.6g}".format,
    "fair_modes": "{:.4g}".format,
    "share": "{:.1%}".format,
    "reverse_kl": "{:.3f}".format,
    "steps": "{:,.0f}".format,
    "minutes": "{:.2f}".format,
}
SCORES = ("modes", "fair_modes", "share", "reverse_kl")


@dataclass
class Report:
    """Everything measured so far; `write` makes modes.json, modes.md and modes.png of it."""

    place: Path
    device: torch.device
    accuracy: float | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    shown: dict[tuple[str, str], tuple[str, Tensor]] = field(default_factory=dict)

    def add(self, job: Job, facts: dict[str, Any], scores: dict[str, float], samples: Tensor) -> str:
        """Keep a run's numbers, and the samples of a recipe's first; gives the numbers in a line."""
        self.rows.append({**job._asdict(), **scores, **facts})
        parts = [f"{scores['modes']:,} of {TASKS[job.data].modes:,} modes"]
        if "share" in scores:
            parts += [f"{scores['fair_modes']} with 1/{FAIR} share", f"{scores['share']:.1%} within"]
        line = ", ".join([*parts, f"reverse KL {scores['reverse_kl']:.3f}"])
        self.shown.setdefault((job.data, job.recipe), (line, samples))
        return line if not facts else f"{line}, {facts['steps']:,} steps in {facts['minutes']:.2f} minutes"

    def fail(self, job: Job, message: str) -> str:
        self.failed.append({**job._asdict(), "message": message})
        return f"failed: {message}"

    def summary(self) -> list[dict[str, Any]]:
        """For each data set and recipe the mean of every number and, of several seeds, its deviation (n - 1)."""
        lines = []
        for data, recipe in dict.fromkeys((row["data"], row["recipe"]) for row in self.rows):
            rows = [row for row in self.rows if (row["data"], row["recipe"]) == (data, recipe)]
            line: dict[str, Any] = {"data": data, "recipe": recipe, "runs": len(rows)}
            for name in COLUMNS:
                values = torch.tensor([row[name] for row in rows if name in row], dtype=torch.float64)
                if len(values):
                    deviation = float(values.std()) if len(values) > 1 else None
                    line[name] = {"mean": float(values.mean()), "standard_deviation": deviation}
            lines.append(line)
        return lines

    def tables(self) -> list[tuple[str, str]]:
        """For each data set its name and a Markdown table, a line a recipe."""
        summary, found = self.summary(), []
        for data in dict.fromkeys(line["data"] for line in summary):
            names = [name for name in COLUMNS if any(name in line for line in summary if line["data"] == data)]
            titles = {
                "modes": f"modes of {TASKS[data].modes:,}",
                "fair_modes": f"with 1/{FAIR} of fair share",
                "share": "within 3 sigma",
                "reverse_kl": "reverse KL",
            }
            cells = [[data, "runs", *(titles.get(name, name) for name in names)]]
            for line in summary:
                if line["data"] == data:
                    runs = str(line["runs"]) if line["recipe"] != REAL else ""
                    cells.append([line["recipe"], runs, *(cell(name, line.get(name)) for name in names)])
            found.append((data, table(cells, markdown=True)))
        return found

    def protocol(self) -> dict[str, Any]:
        runs = [row for row in self.rows if row["recipe"] != REAL]
        sets = {}
        for data in dict.fromkeys(row["data"] for row in self.rows):
            ours, task = [row for row in runs if row["data"] == data], TASKS[data]
            used = {name: sorted({row[name] for row in ours}) for name in ("steps", "batch", "width")}
            sets[data] = {"modes": task.modes, "samples": task.samples, **used, "overrides": task.common}
        return {
            "generator": "the average of G's weights (EMA)",
            "ema": runs[0]["ema"] if runs else None,
            "samples_seed": "the run's seed",
            "sigma": SIGMA,
            "mode_covered": "stacked: by a sample classified as it; ring, grid: by one within 3 sigma of its centre",
            "fair_mode": f"ring, grid: by samples / modes / {FAIR} of them or more",
            "reverse_kl": "KL(generated || uniform) over the modes, in nats; ring, grid: of samples within 3 sigma",
            "digit_classifier_accuracy": self.accuracy,
            "seeds": sorted({row["seed"] for row in runs}),
            "data": sets,
            "recipes": {data: {recipe: TASKS[data].recipes[recipe] for recipe in self.recipes(data)} for data in sets},
            "machine": describe(self.device),
            "device": str(self.device),
            "versions": checkpoint.versions(),
        }

    def recipes(self, data: str) -> list[str]:
        every = (row["recipe"] for row in [*self.rows, *self.failed] if row["data"] == data)
        return [recipe for recipe in dict.fromkeys(every) if recipe != REAL]

    def write(self, finished: bool) -> None:
        content = {
            "benchmark": "modes",
            "finished": finished,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "protocol": self.protocol(),
            "summary": self.summary(),
            "runs": self.rows,
            "failed": self.failed,
        }
        write_text(self.place / "modes.json", json.dumps(without_nan(content), indent=1) + "\n")
        write_text(self.place / "modes.md", self.markdown())
        images.write(self.picture(), self.place / "modes.png")

    def markdown(self) -> str:
        """The tables, then how the numbers were made."""
        p = self.protocol()
        lines = ["# Modes found", ""]
        for data, text in self.tables():
            lines += [f"## {data}", "", text, ""]
        lines += ["## Protocol", ""]
        for data, d in p["data"].items():
            used = "; ".join(f"{what} {', '.join(f'{v:,}' for v in d[what])}" for what in ("steps", "batch", "width"))
            counted = f"{d['modes']:,} modes, {d['samples']:,} samples a run"
            lines += [f"- {data}: {counted}; {used}; `{' '.join(d['overrides'])}`."]
        ema = p["ema"] or {"half_life_kimg": math.nan, "ramp": math.nan}
        lines += [
            f"- Samples are of {p['generator']}, half-life {ema['half_life_kimg']:g} thousand images but at most "
            f"{ema['ramp']:.0%} of those seen; their noise is of the run's seed.",
            f"- Seeds {', '.join(map(str, p['seeds']))}; a ± is the standard deviation over them (n - 1).",
            f"- A mode counts where a sample is classified as it (stacked) or lies within 3 sigma = {3 * SIGMA:g} of "
            f"its centre (ring, grid); it has 1/{FAIR} of its fair share from samples / modes / {FAIR} of them on.",
            "- Reverse KL is KL(generated || data) of the modes' frequencies in nats, those of the data being uniform; "
            "in the plane over the samples within 3 sigma. Real data shows what a perfect generator would have.",
            "- In the plane, points strewn evenly over the square find every mode, evenly: only the share within 3 "
            "sigma, 7.1 % on the grid then, and the fair shares tell them from the data.",
            f"- {p['machine']}; {', '.join(f'{name} {version}' for name, version in p['versions'].items())}.",
        ]
        if self.accuracy is not None:
            lines += [f"- The classifier of digits is right on {self.accuracy:.2%} of MNIST's test split."]
        lines += ["", "## Recipes", ""]
        for data, recipes in p["recipes"].items():
            lines += [f"- {data} {recipe}: `{' '.join(given) or 'nothing else'}`" for recipe, given in recipes.items()]
        if self.failed:
            lines += ["", "## Failed", ""]
            lines += [f"- {f['data']} {f['recipe']}-{f['seed']}: {f['message']}" for f in self.failed]
        return "\n".join([*lines, "", "![samples](modes.png)", ""])

    def picture(self) -> Image.Image:
        """A panel for each data set and recipe, of its first seed, as many side by side as there is room for."""
        rows = []
        for data in dict.fromkeys(name for name, _ in self.shown):
            panels = [
                panel(f"{data}: {recipe}", line, drawn(samples, data))
                for (name, recipe), (line, samples) in self.shown.items()
                if name == data
            ]
            columns = max(1, (SHEET + GAP) // (panels[0].width + GAP))
            rows += [beside(panels[i : i + columns]) for i in range(0, len(panels), columns)]
        return images.stack(rows, GAP)


def cell(name: str, value: dict[str, Any] | None) -> str:
    """A number, with its deviation where there is one."""
    if not value:
        return ""
    show, deviation = COLUMNS[name], value["standard_deviation"]
    told = deviation is not None and math.isfinite(deviation) and (deviation or name != "steps")
    return show(value["mean"]) + (f" ± {show(float(f'{deviation:.2g}'))}" if told else "")


def drawn(samples: Tensor, data: str) -> Image.Image:
    """Points with a circle of three sigma around every mode, or the stacked digits, 8 by 4."""
    if data == "stacked":
        return images.grid(samples, 8)
    picture = images.scatter(samples, SIDE).convert("RGB")
    pen, scale = ImageDraw.Draw(picture), (SIDE - 1) / 2
    for x, y in centres(data).tolist():
        pen.circle(((x + 1) * scale, (1 - y) * scale), 3 * SIGMA * scale, outline=(225, 110, 60))
    return picture


def panel(title: str, line: str, picture: Image.Image) -> Image.Image:
    """A picture under its caption: a title and a line, broken where it is too long."""
    large, small = ImageFont.load_default(15), ImageFont.load_default(11)
    words, lines = line.split(", "), [""]
    for word in words:
        longer = f"{lines[-1]}, {word}".removeprefix(", ")
        lines = [*lines[:-1], longer] if small.getlength(longer) <= picture.width else [*lines, word]
    text = "\n".join(lines)
    sheet = Image.new("RGB", (picture.width, picture.height + 52), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((0, 0), title, "black", large)
    pen.multiline_text((0, 20), text, (90, 90, 90), small, spacing=2)
    sheet.paste(picture.convert("RGB"), (0, 52))
    pen.rectangle((0, 52, sheet.width - 1, sheet.height - 1), outline=(205, 205, 205))
    return sheet


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size side by side, on white."""
    w, h = pictures[0].size
    sheet = Image.new("RGB", (len(pictures) * (w + GAP) - GAP, h), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i * (w + GAP), 0))
    return sheet
