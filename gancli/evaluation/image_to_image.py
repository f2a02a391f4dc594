"""Networks from images to images of the same size: how near to the real ones, and CycleGAN's way there and back."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import versions
from gancli.data.pairs import two_classes
from gancli.evaluation.reference import EvaluationSet, blocks, drawing
from gancli.evaluation.result import EXAMPLES, EvaluationResult, averaged, examples, finite
from gancli.images import to_float
from gancli.inference.generator import Generator
from gancli.metrics.task_psnr import task_psnr
from gancli.runtime.text import one_line, printable
from gancli.transforms import tasks
from gancli.transforms.tasks import GivenSources, Task

BOTH = ("naive", "ours")
NAMES = {"psnr": "PSNR in dB", "hole_psnr": "PSNR in dB, hole alone"}
LARGEST_SETTING = 255  # of a task: a file must not ask for a blur that takes all memory


def is_two_way(network: nn.Module) -> bool:
    """Whether it is CycleGAN's."""
    return hasattr(network, "back")


def task_of(config: Any) -> Task:
    """The task that a checkpoint's config describes: {"_target_": class, its settings, all plain values}.

    Configs come from strangers' files: nothing is called that is not a task written in gancli.transforms.tasks, and one
    attribute of that module is looked up, once.
    """
    config = config if isinstance(config, dict) else {}
    module, _, name = str(config.get("_target_")).rpartition(".")
    found: Any = vars(tasks).get(name) if module == tasks.__name__ else None
    own = isinstance(found, type) and issubclass(found, Task) and found is not Task
    if not own or found.__module__ != module:
        asked = str(config.get("_target_"))[:99]
        raise ValueError(f"the checkpoint asks for {asked!r}, which is not a task of gancli; it was not made")
    settings = {key: value for key, value in config.items() if key != "_target_"}
    for key, value in settings.items():
        if not (isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST_SETTING)):
            raise ValueError(f"the checkpoint's {name} was not made: no task has {str(key)[:20]}={str(value)[:20]}")
    try:
        return found(**settings)
    except (TypeError, ValueError) as error:  # another version's settings, or a stranger's
        raise ValueError(f"the checkpoint's {name} cannot be made by this version: {one_line(error, 200)}") from error


@torch.no_grad()
def measure(G: Generator, weights: str, held: EvaluationSet, config: dict[str, Any]) -> EvaluationResult:
    """Print how near to the real images G's are beside those without a network, CycleGAN's cycles, and the protocol.

    config: the checkpoint's, which has the task; CycleGAN has none, and counterparts only where the data are pairs.
    """
    network, two_way, model = G.network, is_two_way(G.network), config["model"]
    # Where it was trained on two sets, which of these classes is what it does not know.
    if two_way and not held.two_sets and "between" in model and "sources" not in config["data"]:
        source, target = model["between"]
        name = printable(f"{held.name}, class {source} to class {target}")
        held = replace(held, data=two_classes(held.data, source, target), name=name)
    task = None if two_way else task_of(model.get("task"))
    if (two_way and not held.two_sets) or (isinstance(task, GivenSources) and not held.pairs):
        what = "goes between two sets of images" if two_way else "was trained on pairs"
        raise ValueError(
            f"this model {what}, but data={held.name} is one set; type data=DIR, a folder of pictures side by side, or "
            f"leave data= out"
        )
    if two_way and held.pairs:
        task = GivenSources(channels=held.data.source_channels, target_channels=held.data.channels)
    figures: dict[str, Any] = {}
    protocol: dict[str, Any] = {"weights": weights, **held.protocol}
    shown: dict[str, Tensor] = {}
    if task:
        rows, shown = compared(network, held, task)
        figures["mean"], counted = averaged(rows, BOTH)
        protocol |= {"task": repr(task), "counted in the means": counted}
    if two_way:
        figures["cycle_error"], cycle = cycles(network, held)
        shown = shown or cycle
        sources = min(held.n, len(held.data.sources))
        protocol |= {"sources": sources, "cycle error": "mean absolute difference in [-1, 1]"}
    protocol["versions"] = versions()
    print_table(figures, protocol, held)
    ours = figures["mean"]["ours"] if task else {f"cycle_error_{key}": x for key, x in figures["cycle_error"].items()}
    return EvaluationResult(figures, protocol, examples(shown), ranked=ours)


def compared(network: nn.Module, held: EvaluationSet, task: Task) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """For each image how near `naive` and `ours` are to the real one, as the task has it; and the first images."""
    rows: list[dict[str, Any]] = []
    shown: dict[str, Tensor] = {}
    for k, (x, _, sources) in enumerate(held.images()):
        with drawing(held.seed, "task", k):  # on the CPU, so that any device sees the same
            c = task.condition(x, sources)
        made = {"naive": task.baseline(c), "ours": translated(network, c, x.shape[1])}
        for i in range(len(x)):
            one = slice(i, i + 1)
            rows.append({column: task_psnr(task, images[one], x[one], c[one]) for column, images in made.items()})
        if not shown:
            given = c[:, :-1] if task.masked else c
            shown = {name: t[:EXAMPLES] for name, t in (("given", given), ("ours", made["ours"]), ("real", x))}
    return rows, shown


def cycles(network: Any, held: EvaluationSet) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Mean |difference| of sources from themselves, there and back, and of targets, back and there; first images."""
    data, there, back = held.data, network.there, network.back
    errors: dict[str, float] = {}
    shown: dict[str, Tensor] = {}
    for name, take, total, ways in (
        ("sources", data.take_sources, len(data.sources), (there, back)),
        ("targets", data.take, len(data), (back, there)),
    ):
        found = []
        for indices in blocks(held.indices(total), f"{name}, there and back"):
            x = to_float(take(indices))
            made = translated(ways[0], x)
            again = translated(ways[1], made, x.shape[1])
            found.append((again - x).abs().flatten(1).mean(1))
            shown = shown or {"source": x[:EXAMPLES], "ours": made[:EXAMPLES], "and back": again[:EXAMPLES]}
        errors[name] = float(torch.cat(found).double().mean())
    return errors, shown


def translated(network: nn.Module, c: Tensor, channels: int = 0) -> Tensor:
    """What a network makes of images c (N, C', H, W): (N, C, H, W) in [-1, 1] on the CPU. channels: C, where known."""
    device = next(network.parameters()).device
    if c.shape[1] != network.source_channels:
        raise ValueError(
            f"this model makes images of images of {network.source_channels} channels, but those of the data have "
            f"{c.shape[1]}; type data=DIR, a folder, or leave data= out"
        )
    made = finite(network(c.new_zeros(len(c), 0, device=device), c.to(device)))
    if channels and made.shape[1] != channels:
        raise ValueError(
            f"this model makes images of {made.shape[1]} channels, but those of the data have {channels}; "
            f"type data=DIR, a folder, or leave data= out"
        )
    return made


def print_table(figures: dict[str, Any], protocol: dict[str, Any], held: EvaluationSet) -> None:
    if "mean" in figures:
        naive, ours = (figures["mean"][column] for column in BOTH)
        print(f"{'':<28}{'naive':>10}{'ours':>10}{'gain':>8}")
        for key in ours:
            print(f"{NAMES.get(key, key):<28}{naive[key]:10.2f}{ours[key]:10.2f}{ours[key] - naive[key]:8.2f}")
        print()
    if "cycle_error" in figures:
        print(f"{'':<28}{'mean |difference|':>20}")
        print(f"{'sources, there and back':<28}{figures['cycle_error']['sources']:20.4f}")
        print(f"{'targets, back and there':<28}{figures['cycle_error']['targets']:20.4f}\n")
    print(held)
    if "task" in protocol:
        print(f"naive: what there is without a network; {protocol['task']}; PSNR of 8 bits and all channels")
        n = protocol["n"]
        if missing := {key: count for key, count in protocol["counted in the means"].items() if count < n}:
            told = ", ".join(f"{NAMES.get(key, key)} over {count:,}" for key, count in missing.items())
            print(f"means of {told} of {n:,} images: the others are met exactly in a column, or have no hole")
    if "cycle error" in protocol:
        print(f"{protocol['sources']:,} sources; differences in [-1, 1]")
    print(protocol["weights"])
