"""gan bench speed: how fast `gan train` is on this machine, beside the loop that everybody copies, in one run.

Every way of training waits in a process of its own and they are played in turn, so that whatever else the machine does
meets all of them. How much of the machine a way uses is told by the work of a round, counted, over its time, as a share
of what square matrix products reach, measured in the same turns.
"""

import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont

from gancli import images
from gancli.bench.baseline_loop import Plain
from gancli.bench.common import choose, place_of
from gancli.bench.timing import Cell, Failed, Products, Trained, Way
from gancli.checkpoint import format as checkpoint
from gancli.config import UsageError, build, choices, compose, keys
from gancli.data.dataset import ImageDataset
from gancli.runtime.device import choose_device
from gancli.runtime.files import write_text
from gancli.runtime.hardware import describe
from gancli.runtime.text import plural, table, without_nan
from gancli.training.preflight import in_bytes

# What each model is told beside its batch and width.
MODELS = {
    "mlp": [],
    "dcgan": [],
    "cgan": [],
    "sngan_proj": [],
    "wgan_gp": [],
    "srgan": ["data=photos", "model.pretrain=0"],  # both players from the first round on
}
PLAIN, SHIPPED = "plain loop", "gan train"
# How else `gan train` may be told to run; a new option is a new line.
TUNED = {
    "fp32": ["trainer.precision=fp32"],
    "tf32": ["trainer.precision=tf32"],
    "bf16": ["trainer.precision=bf16"],
    "compile": ["trainer.compile=true"],
    "bf16_compile": ["trainer.precision=bf16", "trainer.compile=true"],
}
BATCHES, WIDTHS = (32, 64, 128, 256, 512), (16, 32, 64, 128)  # of scaling=true
TURN, PRODUCT = 3.0, 1.0  # seconds of a turn, of training and of matrix products
PHOTOGRAPHS, ACROSS, DOWN = 256, 480, 320  # how many are made, and their pixels


def speed(
    models: Sequence[str],
    data: Sequence[str],
    batch: int,
    width: int,
    tuned: Sequence[str],
    repeats: int,
    rounds: int,
    scaling: bool,
    out: str,
    device: str,
) -> int:
    """Time every model in every way; prints the tables and the files. 1 where a way failed."""
    models = choose("model", "models=", models, MODELS)
    tuned = choose("way to run gan train", "tuned=", tuned, TUNED) if tuned else []
    if len(data) > 1:
        raise UsageError(f"gan bench speed trains on one data set, but data={list(data)} was given; type data=cifar10")
    there = [word for word in choices("data") if "path" not in [key.name for key in keys(f"data/{word}")]]
    (name,) = choose("data set", "data=", data or ["cifar10"], there)
    for key, value, least, usual in (
        *(("batch", batch, 0, 128), ("width", width, 0, 64)),
        *(("repeats", repeats, 1, 5), ("rounds", rounds, 0, 20)),
    ):
        if value < least:
            raise UsageError(f"{key} counts from {least}, but {key}={value} was given; type {key}={usual}")
    where, place = choose_device(device), place_of("speed", out)
    common = [f"data={name}", f"device={where}", "trainer.steps=1000000000"]
    source = build(compose(common).data.source)  # what is not there says so before anything is timed
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as machine:
        photographs = mosaics(source, Path(temporary)) if "srgan" in models else []
        cases = [Case.of(model, batch, width, common, photographs) for model in models]
        base = cases[0]
        if scaling:
            cases += [Case.of(base.model, b, base.width, common, photographs) for b in BATCHES if b != base.batch]
            cases += [Case.of(base.model, base.batch, w, common, photographs) for w in WIDTHS if w != base.width]
        for case in cases:
            if case.batch > len(source):
                raise ValueError(
                    f"a batch of {case.batch} is larger than data={name}, {len(source)} images; "
                    f"type batch={len(source)} or less"
                )
        protocol = {
            "data": f"{name}, {plural(len(source), 'image')} of {source.size}x{source.size}",
            "photographs": f"{PHOTOGRAPHS} mosaics of {ACROSS}x{DOWN} of its images, JPEG" if photographs else None,
            "repeats": repeats,
            "rounds": rounds or f"as many as take {TURN:g} s",
            "tuned": {way: TUNED[way] for way in tuned},
            "machine": describe(where),
            "device": str(where),
            "versions": checkpoint.versions(),
        }
        del source
        print(f"{place}: {plural(len(cases), 'case')}", file=sys.stderr, flush=True)
        report = Report(place, base, protocol)
        products: dict[str, Cell] = {}
        for number, case in enumerate(cases, 1):
            line = measure(case, tuned, repeats, rounds, products, machine, report)
            print(f"{number} of {len(cases)}  {case.title}: {line}", file=sys.stderr, flush=True)
            report.write(finished=number == len(cases))
    print("\n\n".join([*(text for _, text in report.tables()), *report.notes()]))
    for file in ("speed.json", "speed.md", *(["speed.png"] if report.rows else [])):
        print(place / file)
    if report.failed:
        named = ", ".join(f"{f['model']} {f['way']}" for f in report.failed)
        print(f"gan: {len(report.failed)} of the ways failed: {named}; see {place / 'log.txt'}", file=sys.stderr)
    return 1 if report.failed else 0


class Case(NamedTuple):
    """A model of one size. overrides: what `gan train` is given, and the plain loop takes its settings from."""

    model: str
    batch: int
    width: int
    overrides: list[str]

    @classmethod
    def of(cls, model: str, batch: int, width: int, common: list[str], photographs: list[str]) -> "Case":
        """With a batch or width of 0 the recipe's own."""
        overrides = [f"model={model}", *common, *MODELS[model]]
        overrides += photographs if "data=photos" in overrides else []
        overrides += [f"data.batch_size={batch}"] if batch else []
        overrides += [f"model.width={width}"] if width else []
        cfg = compose(overrides)
        return cls(model, cfg.data.batch_size, cfg.model.width, overrides)

    @property
    def title(self) -> str:
        return f"{self.model}, batch {self.batch}, width {self.width}"

    def ways(self, tuned: Sequence[str]) -> dict[str, Callable[[], Way]]:
        found: dict[str, Callable[[], Way]] = {PLAIN: partial(Plain, self.overrides)}
        found |= {SHIPPED: partial(Trained, self.overrides)}
        return found | {way: partial(Trained, [*self.overrides, *TUNED[way]]) for way in tuned}


def measure(
    case: Case,
    tuned: Sequence[str],
    repeats: int,
    rounds: int,
    products: dict[str, Cell],
    machine: contextlib.ExitStack,
    report: "Report",
) -> str:
    """Play the ways of a case in turn, with products in their precisions; the result into the report and in a line.

    products: the cells there are, which stay open for the next case; a precision that is new gets its own.
    """
    with contextlib.ExitStack() as stack:
        cells: dict[str, Cell] = {}
        for way, make in case.ways(tuned).items():
            with report.failing(case, way):
                cells[way] = Cell(make, rounds, TURN)
                stack.callback(cells[way].close)
        for precision in sorted({cell.facts["precision"] for cell in cells.values()} - products.keys()):
            with report.failing(case, f"products in {precision}"):
                cell = Cell(partial(Products, report.protocol["device"], precision), rounds, PRODUCT)
                machine.callback(cell.close)
                products[precision] = cell
        playing = cells | {f"products in {precision}": cell for precision, cell in products.items()}
        seconds: dict[str, list[float]] = {name: [] for name in playing}
        for repeat in range(repeats):
            order = list(playing)
            first = repeat % len(order) if order else 0
            for name in [*order[first:], *order[:first]]:  # each time another begins
                with report.failing(case, name, lambda name=name: playing.pop(name)):  # type: ignore[misc]
                    seconds[name].append(playing[name].turn())
        rates = {}  # of products, in FLOP/s, turn by turn
        for precision, cell in list(products.items()):
            done = cell.facts["flops"] * cell.facts["rounds"]
            rates[precision] = [done / s for s in seconds[f"products in {precision}"]]
            if f"products in {precision}" not in playing:
                del products[precision]  # the next case tries anew
        for way, cell in cells.items():
            if way in playing:
                report.add(case, way, cell.facts, seconds[way], cell.memory, rates)
    lines = [line for line in report.summary() if case_of(line) == case[:3]]
    told = ", ".join(f"{line['way']} {line['images_per_second']:,.0f}" for line in lines)
    return f"{told} images/s" if told else "failed"


def mosaics(data: ImageDataset, folder: Path) -> list[str]:
    """ImageCrops for models that are trained on crops of them, as there are none at hand: images of the data in rows.

    Gives what `gan train` is told of them.
    """
    across, down = ACROSS // data.size, DOWN // data.size
    chosen = torch.randint(len(data), (PHOTOGRAPHS, down, across), generator=torch.Generator().manual_seed(0))
    (folder / "photographs").mkdir()
    for i, entries in enumerate(chosen):
        rows = data.images[entries].permute(0, 3, 1, 4, 2)  # down, height, across, width, channels
        sheet = rows.reshape(down * data.size, across * data.size, data.channels)
        images.to_pil(sheet.numpy()).save(folder / "photographs" / f"{i:03}.jpg", quality=95)
    return [f"data.path='{folder / 'photographs'}'", f"data.cache='{folder}'", f"data.channels={data.channels}"]


# --- what is written ----------------------------------------------------------------------------------------------

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "images_per_second": ("images/s", "{:,.0f}".format),
    "slowest": ("slowest", "{:,.0f}".format),
    "fastest": ("fastest", "{:,.0f}".format),
    "times_plain": ("times plain", "{:.2f}".format),
    "round_ms": ("ms a round", "{:,.4g}".format),
    "gflop": ("GFLOP a round", "{:,.4g}".format),
    "gflop_per_second": ("GFLOP/s", "{:,.4g}".format),
    "share": ("of products", "{:.0%}".format),
    "memory": ("memory", in_bytes),
}
SHEET, LEFT, RIGHT, GAP = 900, 140, 260, 16  # pixels: a panel's width, the margins in it, and between panels
BAR, CHART = 24, 260  # from bar to bar, and the height of a panel of curves
COLOURS = [(150, 150, 150), (66, 103, 178), (190, 160, 40), (225, 110, 60), (70, 150, 90), (150, 90, 170)]


@dataclass
class Report:
    """Everything measured so far; `write` makes speed.json, speed.md and speed.png of it. base: the first case."""

    place: Path
    base: Case
    protocol: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        case: Case,
        way: str,
        facts: dict[str, Any],
        seconds: list[float],
        memory: int,
        rates: dict[str, list[float]],
    ) -> None:
        """Keep what a way took, turn by turn, and what products reached in turns between them, in FLOP/s."""
        took = {"seconds": seconds, "memory": memory, "products": rates}
        self.rows.append({**case._asdict(), "way": way, **facts, **took})

    @contextlib.contextmanager
    def failing(self, case: Case, way: str, then: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Within `with`, a way may fail: that is kept, and the others go on after `then`."""
        try:
            yield
        except Failed as error:
            self.failed.append({"model": case.model, "case": case.title, "way": way, "message": error.sentence})
            self.place.mkdir(parents=True, exist_ok=True)
            with (self.place / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{case.title}, {way}: {error.sentence}\n{error.trace}\n")
            print(f"{case.title}, {way}: failed: {error.sentence}", file=sys.stderr, flush=True)
            then()

    def summary(self) -> list[dict[str, Any]]:
        """For each case and way the figures of the table: medians over the turns."""
        lines: list[dict[str, Any]] = []
        for row in self.rows:
            case = {name: row[name] for name in ("model", "batch", "width")}
            alike = [other for other in self.rows if all(other[name] == case[name] for name in case)]
            rates = [row["images"] * row["rounds"] / s for s in row["seconds"]]
            seconds = statistics.median(row["seconds"]) / row["rounds"]
            # A compiled round does what the eager one does.
            flops = row["flops"] or next((other["flops"] for other in alike if other["way"] == SHIPPED), None)
            line = {
                **case,
                "way": row["way"],
                "images_per_second": statistics.median(rates),
                "slowest": min(rates),
                "fastest": max(rates),
                "round_ms": 1000 * seconds,
                "memory": row["memory"],
            }
            if flops:
                line |= {"gflop": flops / 1e9, "gflop_per_second": flops / seconds / 1e9}
                if most := row["products"].get(row["precision"]):
                    line["share"] = flops / seconds / statistics.median(most)
            if "trainer.compile=true" in TUNED.get(row["way"], []) and not row["compiled"]:
                line["remark"] = "ran eagerly: a gradient is differentiated"
            lines.append(line)
        plain = {case_of(line): line["images_per_second"] for line in lines if line["way"] == PLAIN}
        for line in lines:
            if case_of(line) in plain:
                line["times_plain"] = line["images_per_second"] / plain[case_of(line)]
        return lines

    def tables(self) -> list[tuple[str, str]]:
        """A title and a Markdown table for each model, a line a way; then for a model of several sizes, by size."""
        summary, found = self.summary(), []
        for case in self.own_cases(summary):
            lines = [line for line in summary if case_of(line) == case]
            names = [name for name in COLUMNS if any(name in line for line in lines)]
            title = Case(*case, []).title
            cells = [[title, *(COLUMNS[name][0] for name in names)]]
            cells += [[named(line), *(COLUMNS[n][1](line[n]) if n in line else "" for n in names)] for line in lines]
            found.append((title, table(cells, markdown=True)))
        for title, curves in self.scaling(summary):
            sizes = sorted({at for points in curves.values() for at in points})
            cells = [[f"{title}: images/s", *map(str, sizes)]]
            for way, points in curves.items():
                rates = [points[at]["images_per_second"] if at in points else None for at in sizes]
                cells.append([way, *("" if rate is None else f"{rate:,.0f}" for rate in rates)])
            found.append((title, table(cells, markdown=True)))
        return found

    def own_cases(self, summary: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
        """One for each model: not those that were added to see how it scales."""
        every = dict.fromkeys(case_of(line) for line in summary)
        return [case for case in every if case[0] != self.base.model or case == self.base[:3]]

    def scaling(self, summary: list[dict[str, Any]]) -> list[tuple[str, dict[str, dict[int, dict[str, Any]]]]]:
        """For batch and for width, where several were timed: a title, and for each way its figures by size."""
        found = []
        model, batch, width = self.base[:3]
        for by, fixed, title in (
            ("batch", {"width": width}, f"{model} of width {width} by batch"),
            ("width", {"batch": batch}, f"{model} with batch {batch} by width"),
        ):
            ours = [line for line in summary if all(line[k] == v for k, v in {"model": model, **fixed}.items())]
            if len({line[by] for line in ours}) > 1:
                ways = dict.fromkeys(line["way"] for line in ours)
                curves = {way: {line[by]: line for line in ours if line["way"] == way} for way in ways}
                found.append((title, curves))
        return found

    def notes(self) -> list[str]:
        """What products reached, over all turns, and what is to be known of the figures above."""
        reached: dict[str, list[float]] = {}
        for row in {case_of(row): row for row in self.rows}.values():  # the same for every way of a case
            for precision, rates in row["products"].items():
                reached[precision] = reached.get(precision, []) + rates
        told = [
            f"{precision} {statistics.median(rates) / 1e9:,.4g} GFLOP/s ({min(rates) / 1e9:,.4g} to "
            f"{max(rates) / 1e9:,.4g})"
            for precision, rates in sorted(reached.items())
            if rates
        ]
        warnings = dict.fromkeys(
            f"{line['model']} {line['way']}: {line['remark']}" for line in self.summary() if "remark" in line
        )
        return [f"square products: {', '.join(told)}", *warnings] if told else list(warnings)

    def write(self, finished: bool) -> None:
        content = {
            "benchmark": "speed",
            "finished": finished,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "protocol": self.protocol,
            "summary": self.summary(),
            "rows": self.rows,
            "failed": self.failed,
        }
        write_text(self.place / "speed.json", json.dumps(without_nan(content), indent=1) + "\n")
        write_text(self.place / "speed.md", self.markdown())
        if self.rows:
            images.write(self.picture(), self.place / "speed.png")

    def markdown(self) -> str:
        """The tables, then how the numbers were made."""
        p = self.protocol
        lines = ["# Training speed", ""]
        for title, text in self.tables():
            lines += [f"## {title}", "", text, ""]
        lines += [*(line for note in self.notes() for line in (f"- {note}.",)), "", "## Protocol", ""]
        lines += [
            f"- {p['machine']}; {', '.join(f'{name} {version}' for name, version in p['versions'].items())}.",
            f"- Data: {p['data']}{'; photographs: ' + p['photographs'] if p['photographs'] else ''}.",
            f"- Each way in a process of its own, played in turn, {plural(p['repeats'], 'time')}; a turn has "
            f"{p['rounds']} rounds, and a tenth as many go before. Medians, with the slowest and the fastest turn.",
            f"- {PLAIN}: the same networks, batch, rates and flips; DataLoader with two workers, Pillow, ToTensor, "
            "Normalize, the workers started anew every epoch; cross-entropy on a sigmoid (or hinge, or Wasserstein "
            "with its penalty), two forwards of G, D's gradients in G's move thrown away, Adam as it comes, .item() "
            "after every move, no average.",
            f"- {SHIPPED}: as it comes, with what its log reads; no pictures, no checkpoints.",
            *(f"- {way}: `{' '.join(overrides)}`." for way, overrides in p["tuned"].items()),
            "- Images are real ones; a round of n_critic moves of D shows as many batches.",
            "- FLOP: of convolutions and matrix products, two for a multiply-add, counted on an eager round. Their "
            "rate is compared with that of square matrix products in the same precision, timed in the same turns.",
            "- Memory: the largest so far of the whole process, torch and the data included, a loader's workers not; "
            "on a GPU what torch has reserved there.",
        ]
        if self.failed:
            lines += ["", "## Failed", ""]
            lines += [f"- {f['case']}, {f['way']}: {f['message']}" for f in self.failed]
        return "\n".join([*lines, "", "![speed](speed.png)", ""])

    def picture(self) -> Image.Image:
        """Bars for each model, a way each; below, for a model of several sizes, curves over batch and over width."""
        summary = self.summary()
        panels = [
            bars(Case(*case, []).title, [line for line in summary if case_of(line) == case])
            for case in self.own_cases(summary)
        ]
        panels += [chart(title, curves) for title, curves in self.scaling(summary)]
        sheet = Image.new("RGB", (SHEET + 2 * GAP, GAP + sum(panel.height + GAP for panel in panels)), "white")
        top = GAP
        for panel in panels:
            sheet.paste(panel, (GAP, top))
            top += panel.height + GAP
        return sheet


def case_of(line: dict[str, Any]) -> tuple[str, int, int]:
    return line["model"], line["batch"], line["width"]


def named(line: dict[str, Any]) -> str:
    """A way as the table has it."""
    return f"{line['way']} (eager)" if "remark" in line else line["way"]


def colour(way: str) -> tuple[int, int, int]:
    return COLOURS[[PLAIN, SHIPPED, *TUNED].index(way) % len(COLOURS)]


def bars(title: str, lines: list[dict[str, Any]]) -> Image.Image:
    """A bar a way, as long as its images per second; on it a line from the slowest turn to the fastest."""
    sheet = Image.new("RGB", (SHEET, 26 + BAR * len(lines)), "white")
    pen, small = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((0, 0), title, "black", ImageFont.load_default(15))
    scale = (SHEET - LEFT - RIGHT) / max(line["fastest"] for line in lines)
    for i, line in enumerate(lines):
        top, end = 26 + i * BAR, LEFT + line["fastest"] * scale
        middle = top + (BAR - 8) / 2
        pen.text((0, top), named(line), "black", small)
        pen.rectangle((LEFT, top, LEFT + line["images_per_second"] * scale, top + BAR - 8), colour(line["way"]))
        pen.line((LEFT + line["slowest"] * scale, middle, end, middle), "black")
        told = f"{line['images_per_second']:,.0f} images/s"
        if line["way"] != PLAIN and "times_plain" in line:
            told += f", {line['times_plain']:.2f} times the {PLAIN}"
        pen.text((end + 8, top), told, (90, 90, 90), small)
    return sheet


def chart(title: str, curves: dict[str, dict[int, dict[str, Any]]]) -> Image.Image:
    """Images per second over sizes, a line a way; upright on it from the slowest turn to the fastest."""
    sheet = Image.new("RGB", (SHEET, CHART), "white")
    pen, small = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((0, 0), f"{title}: images/s", "black", ImageFont.load_default(15))
    sizes = sorted({at for points in curves.values() for at in points})
    most = max(line["fastest"] for points in curves.values() for line in points.values())
    left, right, top, bottom = LEFT, SHEET - RIGHT, 30, CHART - 22

    def x(at: int) -> float:
        return left + (right - left) * sizes.index(at) / (len(sizes) - 1)

    def y(rate: float) -> float:
        return bottom - (bottom - top) * rate / most

    for part in range(5):
        pen.line((left, y(most * part / 4), right, y(most * part / 4)), (225, 225, 225))
        pen.text((left - 8, y(most * part / 4)), f"{most * part / 4:,.0f}", (90, 90, 90), small, anchor="rm")
    for at in sizes:
        pen.text((x(at), bottom + 4), str(at), (90, 90, 90), small, anchor="ma")
    for i, (way, points) in enumerate(curves.items()):
        at_sizes = sorted(points)
        pen.line([(x(at), y(points[at]["images_per_second"])) for at in at_sizes], colour(way), 2)
        for at in at_sizes:
            pen.line((x(at), y(points[at]["slowest"]), x(at), y(points[at]["fastest"])), colour(way))
        pen.rectangle((right + 16, top + i * 20, right + 28, top + i * 20 + 12), colour(way))
        pen.text((right + 34, top + i * 20), way, "black", small)
    return sheet
