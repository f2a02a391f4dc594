"""Tables, protocol and image of `gan bench modes`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gancli import images
from gancli.bench.charts import captioned, side_by_side
from gancli.bench.common import write_report
from gancli.checkpoint.format import versions
from gancli.data.synthetic import SIGMA, centres
from gancli.runtime.hardware import describe
from gancli.runtime.text import table

if TYPE_CHECKING:
    from gancli.bench.modes import ModeData

REAL = "(real data)"
FAIR = 5  # a mode is well represented from 1/5 of its expected samples, samples / modes, on
SIDE, SHEET, GAP = 240, 1500, 12  # pixels: a scatter plot, the image's width, and between plots

COLUMNS: dict[str, Callable[[float], str]] = {
    "modes": "{:,.6g}".format,
    "fair_modes": "{:.4g}".format,
    "near": "{:.1%}".format,
    "reverse_kl": "{:.3f}".format,
    "steps": "{:,.0f}".format,
    "minutes": "{:.2f}".format,
}
TITLES = {"fair_modes": f"with 1/{FAIR} of the expected samples", "near": "within 3 sigma", "reverse_kl": "reverse KL"}
SETTINGS = ("steps", "batch", "width")

Run = tuple[str, str, int]  # data, recipe, seed


@dataclass
class ModesReport:
    """Everything measured so far, written to modes.json, modes.md and modes.png."""

    folder: Path
    data: dict[str, "ModeData"]
    device: torch.device
    accuracy: float | None  # of the digit classifier
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    examples: dict[tuple[str, str], tuple[str, Tensor]] = field(default_factory=dict)

    def add(self, run: Run, facts: dict[str, Any], scores: dict[str, float], samples: Tensor) -> str:
        """Add a run, and the samples of each recipe's first run; return the scores in a line."""
        data, recipe, seed = run
        self.rows.append({"data": data, "recipe": recipe, "seed": seed, **scores, **facts})
        parts = [f"{scores['modes']:,} of {self.data[data].modes:,} modes"]
        if "near" in scores:
            parts += [f"{scores['fair_modes']} with 1/{FAIR} of the expected samples", f"{scores['near']:.1%} within"]
        line = ", ".join([*parts, f"reverse KL {scores['reverse_kl']:.3f}"])
        self.examples.setdefault((data, recipe), (line, samples))
        return line if not facts else f"{line}, {facts['steps']:,} steps in {facts['minutes']:.2f} minutes"

    def fail(self, run: Run, message: str) -> str:
        self.failed.append({"data": run[0], "recipe": run[1], "seed": run[2], "message": message})
        return f"failed: {message}"

    def write(self, finished: bool) -> None:
        content = {"protocol": self.protocol(), "summary": self.summary(), "runs": self.rows, "failed": self.failed}
        write_report(self.folder, "modes", finished, content, self.markdown(), self.image())

    def summary(self) -> list[dict[str, Any]]:
        """Return mean and, for several seeds, standard deviation (n - 1) of every number, by data set and recipe."""
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
        """Return the name and a Markdown table of each data set, one line per recipe."""
        summary, tables = self.summary(), []
        for data in dict.fromkeys(line["data"] for line in summary):
            lines = [line for line in summary if line["data"] == data]
            names = [name for name in COLUMNS if any(name in line for line in lines)]
            titles = {"modes": f"modes of {self.data[data].modes:,}", **TITLES}
            cells = [[data, "runs", *(titles.get(name, name) for name in names)]]
            for line in lines:
                runs = str(line["runs"]) if line["recipe"] != REAL else ""
                cells.append([line["recipe"], runs, *(_cell(name, line.get(name)) for name in names)])
            tables.append((data, table(cells, markdown=True)))
        return tables

    def protocol(self) -> dict[str, Any]:
        runs = [row for row in self.rows if row["recipe"] != REAL]
        sets: dict[str, Any] = {}
        recipes: dict[str, Any] = {}
        for data in dict.fromkeys(row["data"] for row in self.rows):
            facts = self.data[data]
            used = {name: sorted({row[name] for row in runs if row["data"] == data}) for name in SETTINGS}
            sets[data] = {"modes": facts.modes, "samples": facts.samples, **used, "overrides": facts.overrides}
            names = dict.fromkeys(row["recipe"] for row in [*runs, *self.failed] if row["data"] == data)
            recipes[data] = {name: facts.recipes[name] for name in names}
        return {
            "generator": "the average of G's weights (EMA)",
            "ema": runs[0]["ema"] if runs else None,
            "samples_seed": "the run's seed",
            "sigma": SIGMA,
            "mode_covered": f"a sample is classified as it (stacked) or is within {3 * SIGMA:g} of its centre, 3 sigma",
            "fair_mode": f"it has 1/{FAIR} or more of the expected samples, samples / modes (ring, grid)",
            "reverse_kl": "KL(generated || uniform) over the modes, in nats; ring, grid: of samples within 3 sigma",
            "digit_classifier_accuracy": self.accuracy,
            "seeds": sorted({row["seed"] for row in runs}),
            "data": sets,
            "recipes": recipes,
            "machine": describe(self.device),
            "device": str(self.device),
            "versions": versions(),
        }

    def markdown(self) -> str:
        p = self.protocol()
        lines = ["# Mode coverage", ""]
        for data, text in self.tables():
            lines += [f"## {data}", "", text, ""]
        lines += ["## Protocol", ""]
        for data, d in p["data"].items():
            used = "; ".join(f"{what} {', '.join(f'{v:,}' for v in d[what])}" for what in SETTINGS)
            counts = f"{d['modes']:,} modes, {d['samples']:,} samples a run"
            lines += [f"- {data}: {counts}; {used}; `{' '.join(d['overrides'])}`."]
        ema = p["ema"] or {"half_life_kimg": math.nan, "ramp": math.nan}
        lines += [
            f"- Samples come from {p['generator']}, half-life {ema['half_life_kimg']:g} thousand images but at most "
            f"{ema['ramp']:.0%} of the images so far; their noise has the run's seed.",
            f"- Seeds {', '.join(map(str, p['seeds']))}; a ± is the standard deviation over them (n - 1).",
            f"- A mode is covered if {p['mode_covered']}, and fair if {p['fair_mode']}.",
            f"- Reverse KL: {p['reverse_kl']}. Real data show what a perfect generator would have.",
            "- In the plane, points spread evenly over the square find every mode, evenly. Only the fraction within 3 "
            "sigma, then 7.1 % on the grid, and the fair modes separate them from the data.",
            f"- {p['machine']}; {', '.join(f'{name} {version}' for name, version in p['versions'].items())}.",
        ]
        if self.accuracy is not None:
            lines += [f"- The digit classifier is right on {self.accuracy:.2%} of MNIST's test split."]
        lines += ["", "## Recipes", ""]
        for data, recipes in p["recipes"].items():
            lines += [f"- {data} {name}: `{' '.join(words) or 'nothing else'}`" for name, words in recipes.items()]
        if self.failed:
            lines += ["", "## Failed", ""]
            lines += [f"- {f['data']} {f['recipe']}-{f['seed']}: {f['message']}" for f in self.failed]
        return "\n".join([*lines, "", "![samples](modes.png)", ""])

    def image(self) -> Image.Image:
        """Return a plot for each data set and recipe, by its first seed."""
        rows = []
        for data in dict.fromkeys(name for name, _ in self.examples):
            plots = [
                captioned(f"{data}: {recipe}", line, _plot(samples, data))
                for (name, recipe), (line, samples) in self.examples.items()
                if name == data
            ]
            columns = max(1, (SHEET + GAP) // (plots[0].width + GAP))
            rows += [side_by_side(plots[i : i + columns], GAP) for i in range(0, len(plots), columns)]
        return images.stack(rows, GAP)


def _cell(name: str, value: dict[str, Any] | None) -> str:
    """Return a mean, with its deviation if there is one."""
    if not value:
        return ""
    show, deviation = COLUMNS[name], value["standard_deviation"]
    has_deviation = deviation is not None and math.isfinite(deviation) and (deviation or name != "steps")
    return show(value["mean"]) + (f" ± {show(float(f'{deviation:.2g}'))}" if has_deviation else "")


def _plot(samples: Tensor, data: str) -> Image.Image:
    """Return points with a circle of three sigma around every mode, or stacked digits, eight in a row."""
    if data == "stacked":
        return images.grid(samples, 8)
    plot = images.scatter(samples, SIDE).convert("RGB")
    pen, scale = ImageDraw.Draw(plot), (SIDE - 1) / 2
    for x, y in centres(data).tolist():
        pen.circle(((x + 1) * scale, (1 - y) * scale), 3 * SIGMA * scale, outline=(225, 110, 60))
    return plot
