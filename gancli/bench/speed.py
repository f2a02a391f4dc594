"""gan bench speed: images per second of `gan train` on this machine, compared with the loop of tutorials.

Every training loop waits in a process of its own and they run in turns, so that other work of the machine slows all
of them. Utilisation is the counted work of a step over its time, relative to square matrix products that are timed
in the same turns.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gancli import images
from gancli.bench.baseline_loop import BaselineLoop
from gancli.bench.common import choose_data, choose_names, finish, output_folder, usage_errors
from gancli.bench.speed_report import BASELINE, SHIPPED, Case, SpeedReport
from gancli.bench.timing import LoopProcess, MatrixProducts, TimedLoop, TrainingLoop
from gancli.checkpoint.format import versions
from gancli.config import build, compose
from gancli.data.dataset import ImageDataset
from gancli.runtime.checks import check_number
from gancli.runtime.device import choose_device
from gancli.runtime.hardware import describe
from gancli.runtime.text import plural

# Overrides of each model, besides batch size and width.
MODELS = {
    "mlp": [],
    "dcgan": [],
    "cgan": [],
    "sngan_proj": [],
    "wgan_gp": [],
    "srgan": ["data=photos", "model.pretrain=0"],  # with D from the first step on
}
# Other options of `gan train`.
TUNED = {
    "fp32": ["trainer.precision=fp32"],
    "tf32": ["trainer.precision=tf32"],
    "bf16": ["trainer.precision=bf16"],
    "compile": ["trainer.compile=true"],
    "bf16_compile": ["trainer.precision=bf16", "trainer.compile=true"],
}
BATCHES, WIDTHS = (32, 64, 128, 256, 512), (16, 32, 64, 128)  # of scaling=true
TURN, PRODUCT_TURN = 3.0, 1.0  # seconds of a turn of training and of matrix products
MOSAICS, MOSAIC_WIDTH, MOSAIC_HEIGHT = 256, 480, 320  # number of mosaics, and their pixels


def speed(
    models: Sequence[str],
    data: Sequence[str],
    batch: int,
    width: int,
    tuned: Sequence[str],
    repeats: int,
    steps: int,
    scaling: bool,
    out: str,
    device: str,
) -> int:
    """Time every model in every variant; return 1 if a variant failed, else 0."""
    models = choose_names("models", models, MODELS)
    tuned = choose_names("tuned", tuned, TUNED) if tuned else []
    name = choose_data("speed", data, "cifar10")
    with usage_errors():
        check_number("batch", batch, least=0, example=128)
        check_number("width", width, least=0, example=64)
        check_number("repeats", repeats, least=1, example=5)
        check_number("steps", steps, least=0, example=20)
    torch_device, folder = choose_device(device), output_folder("speed", out)
    common = [f"data={name}", f"device={torch_device}", "trainer.steps=1000000000"]
    source = build(compose(common).data.source)  # missing data fail before anything is timed
    mosaics = f"{MOSAICS} mosaics of {MOSAIC_WIDTH}x{MOSAIC_HEIGHT} of its images, JPEG"
    protocol = {
        "data": f"{name}, {plural(len(source), 'image')} of {source.size}x{source.size}",
        "photos": mosaics if "srgan" in models else None,
        "repeats": repeats,
        "steps": steps or f"as many as take {TURN:g} s",
        "tuned": {variant: TUNED[variant] for variant in tuned},
        "machine": describe(torch_device),
        "device": str(torch_device),
        "versions": versions(),
    }
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as machine:
        photos = write_mosaics(source, Path(temporary)) if "srgan" in models else []
        cases = choose_cases(models, batch, width, scaling, common, photos)
        for case in cases:
            if case.batch > (n := len(source)):
                raise ValueError(f"batch={case.batch} is larger than data={name}, {n} images; type batch={n} or less")
        del source
        print(f"{folder}: {plural(len(cases), 'case')}", file=sys.stderr, flush=True)
        report = SpeedReport(folder, cases[0], protocol, list(TUNED))
        products: dict[str, LoopProcess] = {}
        for number, case in enumerate(cases, 1):
            measure(case, tuned, repeats, steps, products, machine, report)
            print(f"{number} of {len(cases)}  {case.title}: {report.line(case)}", file=sys.stderr, flush=True)
            report.write(finished=number == len(cases))
    names = ", ".join(f"{f['model']} {f['variant']}" for f in report.failed)
    failed = f"{len(report.failed)} of the loops failed: {names}; see {folder / 'log.txt'}" if names else ""
    return finish(folder, "speed", [*(text for _, text in report.tables()), *report.notes()], failed)


def choose_cases(
    models: Sequence[str], batch: int, width: int, scaling: bool, common: list[str], photos: list[str]
) -> list[Case]:
    """Return a case for each model, and with `scaling` for the first one's other batch sizes and widths."""

    def case(model: str, batch: int, width: int) -> Case:
        """Compose the config; a batch or width of 0 is the recipe's own."""
        overrides = [f"model={model}", *common, *MODELS[model]]
        overrides += photos if "data=photos" in overrides else []
        overrides += [f"data.batch_size={batch}"] if batch else []
        overrides += [f"model.width={width}"] if width else []
        cfg = compose(overrides)
        return Case(model, cfg.data.batch_size, cfg.model.width, overrides)

    cases = [case(model, batch, width) for model in models]
    if scaling:
        base = cases[0]
        cases += [case(base.model, b, base.width) for b in BATCHES if b != base.batch]
        cases += [case(base.model, base.batch, w) for w in WIDTHS if w != base.width]
    return cases


def measure(
    case: Case,
    tuned: Sequence[str],
    repeats: int,
    steps: int,
    products: dict[str, LoopProcess],
    machine: contextlib.ExitStack,
    report: SpeedReport,
) -> None:
    """Time a case's loops in turns, together with matrix products in their precisions, into the report.

    Args:
        products: processes by precision; they stay open for the next case, and new precisions are added.
        machine: closes them.
    """
    builders: dict[str, Callable[[], TimedLoop]] = {
        BASELINE: partial(BaselineLoop, case.overrides),
        SHIPPED: partial(TrainingLoop, case.overrides),
        **{name: partial(TrainingLoop, [*case.overrides, *TUNED[name]]) for name in tuned},
    }
    with contextlib.ExitStack() as stack:
        loops: dict[str, LoopProcess] = {}
        for name, builder in builders.items():
            with report.failing(case, name):
                loops[name] = LoopProcess(builder, steps, TURN)
                stack.callback(loops[name].close)
        for precision in sorted({loop.facts["precision"] for loop in loops.values()} - products.keys()):
            with report.failing(case, f"products in {precision}"):
                builder = partial(MatrixProducts, report.protocol["device"], precision)
                products[precision] = LoopProcess(builder, steps, PRODUCT_TURN)
                machine.callback(products[precision].close)
        running = loops | {f"products in {precision}": loop for precision, loop in products.items()}
        seconds = time_in_turns(case, running, repeats, report)
        flop_rates = {}  # of products, in FLOP/s, turn by turn
        for precision, loop in list(products.items()):
            flop = loop.facts["flops"] * loop.facts["steps"]
            flop_rates[precision] = [flop / s for s in seconds[f"products in {precision}"]]
            if f"products in {precision}" not in running:
                del products[precision]  # the next case tries again
        for name, loop in loops.items():
            if name in running:
                report.add(case, name, loop.facts, seconds[name], loop.memory, flop_rates)


def time_in_turns(
    case: Case, running: dict[str, LoopProcess], repeats: int, report: SpeedReport
) -> dict[str, list[float]]:
    """Return the seconds of each loop's turns; loops that fail are removed from `running`."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for repeat in range(repeats):
        order = list(running)
        first = repeat % len(order) if order else 0
        for name in [*order[first:], *order[:first]]:  # each time another loop is first
            with report.failing(case, name, lambda name=name: running.pop(name)):  # type: ignore[misc]
                seconds[name].append(running[name].turn())
    return seconds


def write_mosaics(data: ImageDataset, folder: Path) -> list[str]:
    """Write mosaics of the data's images, from which crops are taken, and return the overrides that use them."""
    across, down = MOSAIC_WIDTH // data.size, MOSAIC_HEIGHT // data.size
    chosen = torch.randint(len(data), (MOSAICS, down, across), generator=torch.Generator().manual_seed(0))
    photos = folder / "photos"
    photos.mkdir()
    for i, indices in enumerate(chosen):
        rows = data.images[indices].permute(0, 3, 1, 4, 2)  # down, height, across, width, channels
        sheet: Any = rows.reshape(down * data.size, across * data.size, data.channels)
        images.to_pil(sheet.numpy()).save(photos / f"{i:03}.jpg", quality=95)
    return [f"data.path='{photos}'", f"data.cache='{folder}'", f"data.channels={data.channels}"]
