"""Tables, protocol and charts of `gan bench speed`."""

import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from gancli.bench.charts import GAP, WIDTH, Colour, Measurement, bar_chart, line_chart
from gancli.bench.common import write_report
from gancli.bench.timing import LoopFailed
from gancli.runtime.text import plural, table
from gancli.training.preflight import in_bytes

BASELINE, SHIPPED = "baseline", "gan train"
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "images_per_second": ("images/s", "{:,.0f}".format),
    "slowest": ("slowest", "{:,.0f}".format),
    "fastest": ("fastest", "{:,.0f}".format),
    "times_baseline": ("times baseline", "{:.2f}".format),
    "step_ms": ("ms a step", "{:,.4g}".format),
    "gflop": ("GFLOP a step", "{:,.4g}".format),
    "gflop_per_second": ("GFLOP/s", "{:,.4g}".format),
    "of_products": ("of products", "{:.0%}".format),
    "memory": ("memory", in_bytes),
}
COLOURS = [(150, 150, 150), (66, 103, 178), (190, 160, 40), (225, 110, 60), (70, 150, 90), (150, 90, 170)]

Line = dict[str, Any]


class Case(NamedTuple):
    """A model of one size; `overrides` are those of `gan train`, from which the baseline takes its settings."""

    model: str
    batch: int
    width: int
    overrides: list[str]

    @property
    def title(self) -> str:
        return f"{self.model}, batch {self.batch}, width {self.width}"


@dataclass
class SpeedReport:
    """Everything measured so far, written to speed.json, speed.md and speed.png."""

    folder: Path
    base: Case  # the first one, whose model may be timed at several sizes
    protocol: dict[str, Any]
    tuned: list[str]  # names of all variants of gan train, for their colours
    rows: list[Line] = field(default_factory=list)
    failed: list[Line] = field(default_factory=list)

    def add(
        self,
        case: Case,
        variant: str,
        facts: dict[str, Any],
        seconds: list[float],
        memory: int,
        flop_rates: dict[str, list[float]],
    ) -> None:
        """Add the seconds of a loop's turns, and the FLOP/s of matrix products in the turns between them."""
        row = {**case._asdict(), "variant": variant, **facts}
        self.rows.append(row | {"seconds": seconds, "memory": memory, "products": flop_rates})

    @contextlib.contextmanager
    def failing(self, case: Case, variant: str, then: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Record a LoopFailed, call `then` and go on."""
        try:
            yield
        except LoopFailed as error:
            self.failed.append({"model": case.model, "case": case.title, "variant": variant, "message": error.message})
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{case.title}, {variant}: {error.message}\n{error.trace}\n")
            print(f"{case.title}, {variant}: failed: {error.message}", file=sys.stderr, flush=True)
            then()

    def summary(self) -> list[Line]:
        """Return the table's numbers for each case and variant: medians over turns."""
        lines = [self._summary_line(row) for row in self.rows]
        baseline = {_case(line): line["images_per_second"] for line in lines if line["variant"] == BASELINE}
        for line in lines:
            if _case(line) in baseline:
                line["times_baseline"] = line["images_per_second"] / baseline[_case(line)]
        return lines

    def _summary_line(self, row: Line) -> Line:
        rates = [row["images"] * row["steps"] / s for s in row["seconds"]]
        seconds = statistics.median(row["seconds"]) / row["steps"]
        # A compiled step cannot be counted; it does what the eager one does.
        eager = (r["flops"] for r in self.rows if _case(r) == _case(row) and r["variant"] == SHIPPED)
        flops = row["flops"] or next(eager, None)
        line = {key: row[key] for key in ("model", "batch", "width", "variant")} | {
            "images_per_second": statistics.median(rates),
            "slowest": min(rates),
            "fastest": max(rates),
            "step_ms": 1000 * seconds,
            "memory": row["memory"],
        }
        if flops:
            line |= {"gflop": flops / 1e9, "gflop_per_second": flops / seconds / 1e9}
            if products := row["products"].get(row["precision"]):
                line["of_products"] = flops / seconds / statistics.median(products)
        if "compile" in row["variant"] and not row["compiled"]:
            line["note"] = "ran eagerly: a gradient is differentiated"
        return line

    def line(self, case: Case) -> str:
        """Return the rates of a case in a line."""
        lines = [line for line in self.summary() if _case(line) == case[:3]]
        rates = ", ".join(f"{line['variant']} {line['images_per_second']:,.0f}" for line in lines)
        return f"{rates} images/s" if rates else "failed"

    def tables(self) -> list[tuple[str, str]]:
        """Return a title and a Markdown table for each model, then for a model of several sizes one by size."""
        summary, tables = self.summary(), []
        for case in self._own_sizes(summary):
            lines = [line for line in summary if _case(line) == case]
            names = [name for name in COLUMNS if any(name in line for line in lines)]
            title = Case(*case, []).title
            cells = [[title, *(COLUMNS[name][0] for name in names)]]
            cells += [[_label(line), *(COLUMNS[n][1](line[n]) if n in line else "" for n in names)] for line in lines]
            tables.append((title, table(cells, markdown=True)))
        for title, curves in self._scaling(summary):
            sizes = sorted({size for curve in curves.values() for size in curve})
            cells = [[f"{title}: images/s", *map(str, sizes)]]
            for variant, curve in curves.items():
                rates = [f"{curve[size]['images_per_second']:,.0f}" if size in curve else "" for size in sizes]
                cells.append([variant, *rates])
            tables.append((title, table(cells, markdown=True)))
        return tables

    def _own_sizes(self, summary: list[Line]) -> list[tuple[str, int, int]]:
        """Return one case per model, without those that were added for scaling."""
        every = dict.fromkeys(_case(line) for line in summary)
        return [case for case in every if case[0] != self.base.model or case == self.base[:3]]

    def _scaling(self, summary: list[Line]) -> list[tuple[str, dict[str, dict[int, Line]]]]:
        """Return a title and {variant: {size: line}} for batch and for width, if several were timed."""
        charts = []
        model, batch, width = self.base[:3]
        for by, other, fixed, title in (
            ("batch", "width", width, f"{model} of width {width} by batch"),
            ("width", "batch", batch, f"{model} with batch {batch} by width"),
        ):
            curves: dict[str, dict[int, Line]] = {}
            for line in summary:
                if line["model"] == model and line[other] == fixed:
                    curves.setdefault(line["variant"], {})[line[by]] = line
            if len({size for curve in curves.values() for size in curve}) > 1:
                charts.append((title, curves))
        return charts

    def notes(self) -> list[str]:
        """Return the rates of matrix products over all turns, and warnings."""
        rates_of: dict[str, list[float]] = {}
        for row in {_case(row): row for row in self.rows}.values():  # the same for every variant of a case
            for precision, rates in row["products"].items():
                rates_of.setdefault(precision, []).extend(rate / 1e9 for rate in rates)
        products = [
            f"{precision} {statistics.median(rates):,.4g} GFLOP/s ({min(rates):,.4g} to {max(rates):,.4g})"
            for precision, rates in sorted(rates_of.items())
            if rates
        ]
        notes = [f"{line['model']} {line['variant']}: {line['note']}" for line in self.summary() if "note" in line]
        return [*([f"square products: {', '.join(products)}"] if products else []), *dict.fromkeys(notes)]

    def write(self, finished: bool) -> None:
        content = {"protocol": self.protocol, "summary": self.summary(), "rows": self.rows, "failed": self.failed}
        write_report(self.folder, "speed", finished, content, self.markdown(), self.image() if self.rows else None)

    def markdown(self) -> str:
        p = self.protocol
        lines = ["# Training speed", ""]
        for title, text in self.tables():
            lines += [f"## {title}", "", text, ""]
        lines += [*(f"- {note}." for note in self.notes()), "", "## Protocol", ""]
        lines += [
            f"- {p['machine']}; {', '.join(f'{name} {version}' for name, version in p['versions'].items())}.",
            f"- Data: {p['data']}{'; photos: ' + p['photos'] if p['photos'] else ''}.",
            f"- Each loop runs in a process of its own, in turns, {plural(p['repeats'], 'time')}; a turn has "
            f"{p['steps']} steps after a tenth as many untimed ones. Medians, with the slowest and the fastest turn.",
            f"- {BASELINE}: the same networks, batch size, learning rate and flips; DataLoader with two workers, "
            "Pillow, ToTensor, Normalize, workers started anew every epoch; cross-entropy on a sigmoid (or hinge, or "
            "Wasserstein with its penalty), two forward passes of G, D's gradients in G's update discarded, Adam's "
            "defaults, .item() after every update, no EMA.",
            f"- {SHIPPED}: the shipped options, with what its log reads; no samples, no checkpoints.",
            *(f"- {variant}: `{' '.join(overrides)}`." for variant, overrides in p["tuned"].items()),
            "- Images are real ones; a step with n_critic updates of D sees as many batches.",
            "- FLOP: of convolutions and matrix products, two for a multiply-add, counted on an eager step. Their "
            "rate is compared with that of square matrix products in the same precision, timed in the same turns.",
            "- Memory: peak of the whole process, with torch and the data, without a loader's workers; on a GPU what "
            "torch has reserved there.",
        ]
        if self.failed:
            lines += ["", "## Failed", ""]
            lines += [f"- {f['case']}, {f['variant']}: {f['message']}" for f in self.failed]
        return "\n".join([*lines, "", "![speed](speed.png)", ""])

    def image(self) -> Image.Image:
        """Return bars for each model, and curves over batch size and width for a model of several sizes."""
        summary = self.summary()
        charts = [
            bar_chart(Case(*case, []).title, [self._rate(line) for line in summary if _case(line) == case])
            for case in self._own_sizes(summary)
        ]
        for title, curves in self._scaling(summary):
            rates = [{size: self._rate(line) for size, line in curve.items()} for curve in curves.values()]
            charts.append(line_chart(f"{title}: images/s", rates))
        sheet = Image.new("RGB", (WIDTH + 2 * GAP, GAP + sum(chart.height + GAP for chart in charts)), "white")
        top = GAP
        for chart in charts:
            sheet.paste(chart, (GAP, top))
            top += chart.height + GAP
        return sheet

    def _rate(self, line: Line) -> Measurement:
        colour: Colour = COLOURS[[BASELINE, SHIPPED, *self.tuned].index(line["variant"]) % len(COLOURS)]
        times = line["variant"] != BASELINE and "times_baseline" in line
        note = f", {line['times_baseline']:.2f} times the {BASELINE}" if times else ""
        return Measurement(_label(line), line["images_per_second"], line["slowest"], line["fastest"], colour, note)


def _case(line: Line) -> tuple[str, int, int]:
    return line["model"], line["batch"], line["width"]


def _label(line: Line) -> str:
    return f"{line['variant']} (eager)" if "note" in line else line["variant"]
