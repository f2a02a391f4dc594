"""Tables, curves and rows of `gan bench race`."""

import contextlib
import csv
import io
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from gancli import images
from gancli.bench.charts import Colour, Measurement, captioned, line_chart, side_by_side
from gancli.bench.common import write_report
from gancli.config import UsageError
from gancli.data.decoder import BadImage
from gancli.data.image_files import decode_image
from gancli.evaluation.scores import SWD
from gancli.runtime.files import write_text
from gancli.runtime.text import csv_cell, table, without_nan

COLOURS: tuple[Colour, ...] = (
    *((60, 110, 180), (225, 110, 60), (70, 150, 90), (150, 90, 170)),
    *((120, 120, 120), (200, 60, 90), (90, 180, 190), (190, 160, 50)),
)
MARKS = (0.2, 0.4, 1.0)  # fractions of the minutes whose scores the table shows
GAP = 12  # pixels between grids of samples
TITLES = {True: "with classes", False: "without classes"}


@dataclass
class RaceReport:
    """Everything measured so far, written to race.json, race.csv, race.md, race.png and race-samples.png."""

    folder: Path
    protocol: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def load(self) -> None:
        """Read the runs of an earlier race in this folder; raise UsageError for one whose runs do not compare."""
        file = self.folder / "race.json"
        if not file.is_file():
            return
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            protocol, runs = content["protocol"], content["runs"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file} is no result of a race; type another out=") from error
        own = json.loads(json.dumps(without_nan(self.protocol)))
        if other := [name for name in own if protocol.get(name) != own[name]]:
            raise UsageError(f"out={self.folder} has a race with other {', '.join(other)}; type another out=")
        self.runs = runs

    def has(self, facts: dict[str, Any]) -> bool:
        """Return whether this entry, seed and config have raced."""
        return any(facts.items() <= run.items() for run in self.runs)

    def samples(self, run: dict[str, Any]) -> Path:
        """Return the file of a run's samples."""
        return self.folder / "samples" / f"{run['entry'].replace('/', '-')}-{run['seed']}.png"

    def add(self, facts: dict[str, Any]) -> str:
        """Add a run in place of one of an older config; return its last score in a line."""
        which = (facts["entry"], facts["seed"])
        self.runs = [*(run for run in self.runs if (run["entry"], run["seed"]) != which), facts]
        line, score = self._last(facts), self.protocol["score"]
        if not self.protocol["target"]:
            return line
        seconds = facts["seconds_to_target"]
        best = min(point[score] for point in facts["curve"])
        return f"{line}; target {f'after {seconds:.0f} s' if seconds else f'not reached, at best {best:.2f}'}"

    def fail(self, entry: str, seed: int, message: str) -> str:
        self.failed.append({"entry": entry, "seed": seed, "message": message})
        return f"failed: {message}"

    def write(self, finished: bool) -> None:
        content = {"protocol": self.protocol, "runs": self.runs, "failed": self.failed}
        write_report(self.folder, "race", finished, content, self.markdown(), self.chart() if self.runs else None)
        write_text(self.folder / "race.csv", self.rows())
        if sheet := self.sheet():
            images.write(sheet, self.folder / "race-samples.png")

    def by_entry(self, conditional: bool) -> dict[str, list[dict[str, Any]]]:
        """Return the runs with or without classes by entry, the best last score first."""
        entries: dict[str, list[dict[str, Any]]] = {}
        for run in self.runs:
            if run["conditional"] == conditional:
                entries.setdefault(run["entry"], []).append(run)
        score = self.protocol["score"]
        means = {name: statistics.mean(run["curve"][-1][score] for run in runs) for name, runs in entries.items()}
        return {name: entries[name] for name in sorted(entries, key=means.__getitem__)}

    def tables(self) -> list[tuple[str, str]]:
        """Return a Markdown table for models with classes and one for those without; their scores do not compare."""
        score, minutes = self.protocol["score"], self.protocol["minutes"]
        marks = [f"{score} at {mark * minutes:.3g} min" for mark in MARKS]
        tables = []
        for conditional, title in TITLES.items():
            rows = [[title, "runs", *marks, SWD, *(["as asked"] if conditional else []), "steps", "images", "TFLOP"]]
            if self.protocol["target"]:
                rows[0].append(f"seconds to {self.protocol['target']:g}")
            rows += [self._row(name, runs) for name, runs in self.by_entry(conditional).items()]
            if len(rows) > 1:
                tables.append((title, table(rows, markdown=True)))
        return tables

    def _row(self, entry: str, runs: list[dict[str, Any]]) -> list[str]:
        last = [run["curve"][-1] for run in runs]
        cells = [_spread([_at(run, mark)[self.protocol["score"]] for run in runs], 2) for mark in MARKS]
        cells += [_spread([point[SWD] for point in last], 0)]
        if runs[0]["conditional"]:
            cells += [_spread([100 * point["as_asked"] for point in last if "as_asked" in point], 1) + " %"]
        cells += [_spread([point[name] for point in last], 0) for name in ("steps", "images")]
        cells += [_spread([point["tflop"] for point in last if "tflop" in point], 0)]
        if self.protocol["target"]:
            reached = [run["seconds_to_target"] for run in runs if run["seconds_to_target"]]
            cells += [_spread(reached, 0) + f" ({len(reached)} of {len(runs)})"]
        return [entry, str(len(runs)), *cells]

    def rows(self) -> str:
        """Return CSV with a line for each evaluation and the protocol in every line."""
        constant = {key: self.protocol[key] for key in ("data", "minutes", "evaluation", "machine")}
        constant["torch"] = self.protocol["versions"]["torch"]
        names = list(dict.fromkeys(key for run in self.runs for point in run["curve"] for key in point))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["entry", "seed", *names, *constant])
        for run in self.runs:
            for point in run["curve"]:
                values = [run["entry"], run["seed"], *(point.get(name, "") for name in names)]
                writer.writerow([csv_cell(str(value)) for value in [*values, *constant.values()]])
        return file.getvalue()

    def markdown(self) -> str:
        p = self.protocol
        lines = [f"# Race on {p['data']}, {p['minutes']:g} minutes", ""]
        for title, text in self.tables():
            lines += [f"## {title.capitalize()}", "", text, ""]
        lines += [
            "## Protocol",
            "",
            "- The clock runs from the first batch, and stands still while a run is evaluated.",
            f"- {p['evaluation']}; averaged weights, the same noise at each moment, 8 bits, seed 0.",
            "- ± is the standard deviation over seeds (n - 1). TFLOP: convolutions and matrix products, two for "
            "a multiply-add, of one step after each evaluation times the steps until the next.",
            f"- {p['machine']}; {', '.join(f'{name} {version}' for name, version in p['versions'].items())}.",
            "",
            *(f"    {run['command']}" for run in self.runs),
        ]
        if self.failed:
            lines += ["", "## Failed", "", *(f"- {f['entry']}-{f['seed']}: {f['message']}" for f in self.failed)]
        return "\n".join([*lines, "", "![curves](race.png)", "", "![samples](race-samples.png)", ""])

    def chart(self) -> Image.Image:
        """Return a chart for each table: scores against seconds, of the best entries."""
        charts = []
        for conditional, title in TITLES.items():
            if entries := list(self.by_entry(conditional).items())[: len(COLOURS)]:
                curves = [self._curve(name, runs, COLOURS[i]) for i, (name, runs) in enumerate(entries)]
                name = f"{self.protocol['data']} {title}: {self.protocol['score']} against seconds"
                charts.append(line_chart(name, curves))
        return images.stack(charts, GAP)

    def _curve(self, name: str, runs: list[dict[str, Any]], colour: Colour) -> dict[int, Measurement]:
        """Return the score at each moment, from the lowest to the highest of the seeds."""
        curve = {}
        for k, moments in enumerate(zip(*(run["curve"] for run in runs)), 1):
            values = [moment[self.protocol["score"]] for moment in moments]
            seconds = round(60 * self.protocol["minutes"] * k / len(runs[0]["curve"]))
            curve[seconds] = Measurement(name, statistics.median(values), min(values), max(values), colour)
        return curve

    def sheet(self) -> Image.Image | None:
        """Return the samples of each entry's first seed, the best first, two next to each other."""
        grids = []
        for conditional, title in TITLES.items():
            for name, (run, *_) in self.by_entry(conditional).items():
                # One may be absent or damaged in the folder of a race that goes on.
                with contextlib.suppress(BadImage):
                    grid = decode_image(self.samples(run))[0]
                    grids.append(captioned(f"{name}, {title}", self._last(run), grid))
        if not grids:
            return None
        return images.stack([side_by_side(grids[i : i + 2], GAP) for i in range(0, len(grids), 2)], GAP)

    def _last(self, run: dict[str, Any]) -> str:
        last, score = run["curve"][-1], self.protocol["score"]
        return f"{score} {last[score]:.2f}, {SWD} {last[SWD]:.0f} after {last['steps']:,.0f} steps"


def _at(run: dict[str, Any], mark: float) -> dict[str, float]:
    """Return the moment of a curve after a fraction of the minutes; moments are evenly spaced."""
    curve: list[dict[str, float]] = run["curve"]
    return curve[max(round(mark * len(curve)), 1) - 1]


def _spread(values: list[float], digits: int) -> str:
    """Return mean and deviation."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):,.{digits}f}{deviation}"
