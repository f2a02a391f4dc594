"""Image-to-image networks: similarity to the target images, and CycleGAN's cycle consistency."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gancli.checkpoint.format import versions
from gancli.data.pairs import two_classes
from gancli.evaluation.reference import EvaluationSet, batched, fixed_seed
from gancli.evaluation.result import EXAMPLES, EvaluationResult, examples, finite, note_on_means, paired_means
from gancli.images import to_float
from gancli.inference.generator import Generator
from gancli.metrics.task_psnr import task_psnr
from gancli.runtime.hardware import in_batches
from gancli.runtime.text import one_line, printable, table
from gancli.transforms import tasks
from gancli.transforms.tasks import GivenSources, Task

COLUMNS = ("naive", "ours")
NAMES = {"psnr": "PSNR in dB", "hole_psnr": "PSNR in dB, hole alone"}
LARGEST_SETTING = 255  # of a task: an untrusted file must not ask for a blur that takes all memory


def is_cyclegan(network: nn.Module) -> bool:
    return hasattr(network, "back")


def task_of(config: Any) -> Task:
    """Build the task in an untrusted checkpoint's config: {"_target_": class, settings as plain values}.

    Only subclasses of Task defined in gancli.transforms.tasks are called, found by one attribute lookup.
    """
    config = config if isinstance(config, dict) else {}
    module, _, name = str(config.get("_target_")).rpartition(".")
    task: Any = vars(tasks).get(name) if module == tasks.__name__ else None
    known = isinstance(task, type) and issubclass(task, Task) and task is not Task
    if not known or task.__module__ != module:
        target = str(config.get("_target_"))[:99]
        raise ValueError(f"the checkpoint asks for {target!r}, which is not a task of gancli; it was not built")
    settings = {key: value for key, value in config.items() if key != "_target_"}
    for key, value in settings.items():
        if not (isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= LARGEST_SETTING)):
            raise ValueError(f"the checkpoint's {name} was not built: no task has {str(key)[:20]}={str(value)[:20]}")
    try:
        return task(**settings)
    except (TypeError, ValueError) as error:  # settings of another version, or forged
        raise ValueError(f"the checkpoint's {name} cannot be built by this version: {one_line(error, 200)}") from error


@torch.no_grad()
def evaluate(G: Generator, weights: str, reference: EvaluationSet, config: dict[str, Any]) -> EvaluationResult:
    """Return PSNR of translated images next to a baseline without a network, and CycleGAN's cycle errors.

    The checkpoint's `config` has the task. CycleGAN has none; it is compared with targets only on paired data.
    """
    reference, task = _task_and_data(G.network, reference, config)
    results: dict[str, Any] = {}
    protocol: dict[str, Any] = {"weights": weights, **reference.protocol}
    first: dict[str, Tensor] = {}
    headline: dict[str, float] = {}
    if is_cyclegan(G.network):
        results["cycle_error"], first = _cycle_errors(G.network, reference)
        headline = {f"cycle_error_{key}": value for key, value in results["cycle_error"].items()}
        sources = min(reference.n, len(reference.data.sources))
        protocol |= {"sources": sources, "cycle error": "mean absolute difference in [-1, 1]"}
    if task:
        rows, first = _compare(G.network, reference, task)
        means, counts = paired_means(rows, COLUMNS)
        results, headline = {"mean": means} | results, means["ours"]
        protocol |= {"task": repr(task), "images in the means": counts}
    protocol["versions"] = versions()
    return EvaluationResult(results, protocol, headline, _text(results, protocol, reference), examples(first))


def _task_and_data(
    network: nn.Module, reference: EvaluationSet, config: dict[str, Any]
) -> tuple[EvaluationSet, Task | None]:
    """Return the data in the form the network was trained on, and its task if targets are known."""
    cyclegan, model = is_cyclegan(network), config["model"]
    # A model trained on two data sets has no classes that separate source and target.
    if cyclegan and not reference.has_two_domains and "between" in model and "sources" not in config["data"]:
        source, target = model["between"]
        name = printable(f"{reference.name}, class {source} to class {target}")
        reference = replace(reference, data=two_classes(reference.data, source, target), name=name)
    task = None if cyclegan else task_of(model.get("task"))
    if (cyclegan and not reference.has_two_domains) or (isinstance(task, GivenSources) and not reference.has_pairs):
        what = "translates between two sets of images" if cyclegan else "was trained on pairs"
        raise ValueError(
            f"this model {what}, but data={reference.name} is one set; type data=DIR, a folder of images side by side, "
            f"or leave data= out"
        )
    if cyclegan and reference.has_pairs:
        task = GivenSources(channels=reference.data.source_channels, target_channels=reference.data.channels)
    return reference, task


def _compare(
    network: nn.Module, reference: EvaluationSet, task: Task
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return the task's metrics of each image for both COLUMNS, and the first images."""
    rows: list[dict[str, Any]] = []
    first: dict[str, Tensor] = {}
    for k, (x, _, sources) in enumerate(reference.batches()):
        with fixed_seed(reference.seed, "task", k):  # on the CPU, so that every device gets the same
            c = task.condition(x, sources)
        outputs = {"naive": task.baseline(c), "ours": translate(network, c, x.shape[1])}
        for i in range(len(x)):
            one = slice(i, i + 1)
            rows.append({column: task_psnr(task, images[one], x[one], c[one]) for column, images in outputs.items()})
        if not first:
            given = c[:, :-1] if task.masked else c
            first = {name: t[:EXAMPLES] for name, t in (("given", given), ("ours", outputs["ours"]), ("real", x))}
    return rows, first


def _cycle_errors(network: Any, reference: EvaluationSet) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return the mean |x - back(there(x))| of sources and |y - there(back(y))| of targets, and the first images."""
    data = reference.data
    errors: dict[str, float] = {}
    first: dict[str, Tensor] = {}
    for name, take, total, forward, backward in (
        ("sources", data.take_sources, len(data.sources), network.there, network.back),
        ("targets", data.take, len(data), network.back, network.there),
    ):
        parts = []
        for indices in batched(reference.indices(total), f"{name}, there and back"):
            x = to_float(take(indices))
            translated = translate(forward, x)
            cycled = translate(backward, translated, x.shape[1])
            parts.append((cycled - x).abs().flatten(1).mean(1))
            first = first or {"source": x[:EXAMPLES], "ours": translated[:EXAMPLES], "and back": cycled[:EXAMPLES]}
        errors[name] = float(torch.cat(parts).double().mean())
    return errors, first


def translate(network: nn.Module, c: Tensor, channels: int = 0) -> Tensor:
    """Return the network's output (N, C, H, W) for images c (N, C', H, W), in [-1, 1] on the CPU.

    The data expect C = `channels`; 0 if unknown.
    """
    device = next(network.parameters()).device
    if c.shape[1] != network.source_channels:
        raise ValueError(
            f"this model translates images of {network.source_channels} channels, but those of the data have "
            f"{c.shape[1]}; type data=DIR, a folder, or leave data= out"
        )
    parts = in_batches(lambda c: network(c.new_zeros(len(c), 0, device=device), c.to(device)), c)
    translated = finite(torch.cat(parts))
    if channels and translated.shape[1] != channels:
        raise ValueError(
            f"this model generates images of {translated.shape[1]} channels, but those of the data have {channels}; "
            f"type data=DIR, a folder, or leave data= out"
        )
    return translated


def _text(results: dict[str, Any], protocol: dict[str, Any], reference: EvaluationSet) -> str:
    lines = []
    if "mean" in results:
        rows = [["", *COLUMNS, "gain"]]
        for key, ours in results["mean"]["ours"].items():
            naive = results["mean"]["naive"][key]
            rows.append([NAMES.get(key, key), f"{naive:.2f}", f"{ours:.2f}", f"{ours - naive:.2f}"])
        lines += [table(rows), ""]
    if "cycle_error" in results:
        sources, targets = (f"{results['cycle_error'][key]:.4f}" for key in ("sources", "targets"))
        rows = [["", "mean |difference|"], ["sources, there and back", sources], ["targets, back and there", targets]]
        lines += [table(rows), ""]
    lines.append(str(reference))
    if "task" in protocol:
        lines += [f"naive: without a network; {protocol['task']}; PSNR of 8 bits over all channels"]
        reason = "are exact in a column, or have no hole"
        lines += note_on_means(protocol["images in the means"], protocol["n"], NAMES, reason)
    if "cycle error" in protocol:
        lines += [f"{protocol['sources']:,} sources; differences in [-1, 1]"]
    return "\n".join([*lines, protocol["weights"]])
