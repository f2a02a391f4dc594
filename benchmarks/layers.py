"""Where the time of a step goes, layer by layer: forward, gradient of the input, gradient of the weights.

    python benchmarks/layers.py [--model dcgan] [--width 64] [--batch 128] [--precision auto]

Each convolution of G and D is timed alone, on maps of the sizes that a step gives it, and its rate is compared with
that of square matrix products in the same precision: the shortest of 0.3 s of calls. The last row sums the layers, each
once. Convolutions that are merged with a change of size are left out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancli.bench.timing import MatrixProducts
from gancli.config import compose
from gancli.networks.layers import DoublingConv, HalvingConv
from gancli.runtime.text import table
from gancli.training.run import TrainingRun

PARTS = {"forward": None, "input": (True, False, False), "weights": (False, True, False)}
Layer = tuple[str, Any, Tensor, Tensor]  # name, convolution, its input, its output


def seconds(compute: Callable[[], object], at_least: float = 0.3) -> float:
    """Return the shortest time of a call: what the machine can do when nothing disturbs it."""
    compute()
    times: list[float] = []
    while sum(times) < at_least:
        begin = time.perf_counter()
        compute()
        times.append(time.perf_counter() - begin)
    return min(times)


def layers_of(words: list[str]) -> tuple[list[Layer], str]:
    """Return the convolutions of G and D with the inputs and outputs of a step, and the precision of training."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(compose(words), Path(folder), [])
    found: dict[str, Layer] = {}

    def record(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found.setdefault(name, (name, module, inputs[0].detach(), output.detach()))

        return hook

    for network in ("G", "D"):
        for name, module in getattr(run.trainer.objective, network).named_modules():
            merged = isinstance(module, DoublingConv | HalvingConv)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not merged:
                module.register_forward_hook(record(f"{network} {name}"))
    run.trainer.train_step(0.0)
    return list(found.values()), run.options.precision


def flops(layer: Any, x: Tensor, y: Tensor) -> float:
    """Return the FLOP of a part, two for a multiply-add: every weight at each place of the smaller map."""
    places = x if layer.transposed else y
    return 2.0 * layer.weight.numel() * places.shape[0] * places.shape[2] * places.shape[3]


def measure(layer: Any, x: Tensor, y: Tensor, dtype: torch.dtype) -> dict[str, float]:
    """Return the seconds of each part."""
    x, gradient, weight = (t.detach().to(dtype) for t in (x, torch.randn_like(y), layer.weight))
    settings = (layer.stride, layer.padding, layer.dilation, layer.transposed, layer.output_padding, layer.groups)

    def compute(part: str) -> object:
        if part == "forward":
            return torch.ops.aten.convolution(x, weight, None, *settings)
        return torch.ops.aten.convolution_backward(gradient, x, weight, None, *settings, PARTS[part])

    return {part: seconds(lambda part=part: compute(part)) for part in PARTS}  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    options = parser.parse_args()
    words = [f"model={options.model}", f"model.width={options.width}", f"data.batch_size={options.batch}", "device=cpu"]
    words += ["data=synthetic", "data.channels=3", f"data.n={options.batch}", f"trainer.precision={options.precision}"]
    layers, precision = layers_of(words)
    products = MatrixProducts("cpu", precision)
    product = products.steps()
    peak = 2 * products.n**3 / seconds(lambda: next(product), 2.0)
    titles = [f"{part}, ms" for part in PARTS] + [f"of products, {part}" for part in PARTS]
    rows = [["layer", "input", "output", *titles]]
    total, work = dict.fromkeys(PARTS, 0.0), 0.0
    for name, layer, x, y in layers:
        took = measure(layer, x, y, torch.bfloat16 if precision == "bf16" else torch.float32)
        flop = flops(layer, x, y)
        work += flop
        total = {part: total[part] + took[part] for part in PARTS}
        shapes = ["x".join(map(str, t.shape[1:])) for t in (x, y)]
        rows.append([name, *shapes, *cells(took, flop, peak)])
    rows.append(["all", "", "", *cells(total, work, peak)])
    print(f"{precision} products {peak / 1e9:,.0f} GFLOP/s\n\n{table(rows, markdown=True)}")


def cells(took: dict[str, float], flop: float, peak: float) -> list[str]:
    return [f"{1000 * s:.2f}" for s in took.values()] + [f"{flop / s / peak:.0%}" for s in took.values()]


if __name__ == "__main__":
    main()
