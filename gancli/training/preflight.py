"""Trial of a long run: everything that it will do, once and at full size, so that it fails in the first seconds."""

import contextlib
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gancli.runtime import ranks
from gancli.runtime.hardware import free_memory, is_out_of_memory, peak_memory, within_free_memory
from gancli.runtime.serialization import map_tensors
from gancli.training.loop import Trainer

LONG_STEPS, LONG_MINUTES = 200, 1.0  # a run of as many or more is a long one
POINTS = 100  # of the budget, at which the objective's updates are compared
WARM_UP = 0.3  # seconds: the first step also warms up, and is repeated for the estimate where that costs no more


@dataclass
class Trial:
    """Measured costs of a run."""

    step_seconds: float
    sample_seconds: float  # of a grid with its metrics
    save_seconds: float
    sample_bytes: int
    checkpoint_bytes: int
    memory: int  # largest number of bytes in use so far
    steps: int  # left in the budget
    seconds: float  # of the trial


def is_long(trainer: Trainer) -> bool:
    """Return whether the rest of the budget is worth a trial."""
    return _steps_left(trainer, trainer.batches.batch_size, 60 * LONG_MINUTES / LONG_STEPS) >= LONG_STEPS


def preflight(trainer: Trainer, sample: Callable[[], int], save: Callable[[], int]) -> Trial:
    """Take a step of every phase of the run, then call `sample` and `save`; leave the trainer as it was, to the bit.

    Args:
        sample, save: return the number of bytes that they write.

    Raises:
        ValueError: the memory is too small; the message names what fits.
    """
    start, device = time.perf_counter(), trainer.device
    with _undone(trainer), within_free_memory(device):
        images, step_seconds = _try_phases(trainer)
        # After the steps: only now do the optimizers have their state, and checkpoints their full size.
        sample_seconds, sample_bytes = _timed(sample, device)
        save_seconds, checkpoint_bytes = _timed(save, device)
        memory = peak_memory(device)
    steps, seconds = int(_steps_left(trainer, images, step_seconds)), time.perf_counter() - start
    sizes = (sample_bytes, checkpoint_bytes, memory)
    return Trial(step_seconds, sample_seconds, save_seconds, *sizes, steps, seconds)


@contextlib.contextmanager
def _undone(trainer: Trainer) -> Iterator[None]:
    """Leave the trainer as it was, to the bit, whatever is trained within `with`."""
    state = map_tensors(trainer.state_dict(), lambda t: t.detach().to("cpu", copy=True))
    with torch.random.fork_rng([trainer.device] if trainer.device.type == "cuda" else []):
        yield
    trainer.load_state_dict(state)
    for optimizer in trainer.optimizers.values():
        optimizer.zero_grad()


def forecast(
    trial: Trial, options: DictConfig, minutes_used: float, evaluation_seconds: float, folder: Path
) -> dict[str, Any]:
    """Return minutes, disk, memory and the message of the preflight event; raise ValueError if the disk is too small.

    Args:
        evaluation_seconds: of one evaluation.
    """
    disk = check_disk(trial.steps, options, trial.checkpoint_bytes, trial.sample_bytes, folder)
    samples, saves = trial.steps // options.sample_every, trial.steps // options.checkpoint_every
    seconds = trial.steps * trial.step_seconds + samples * trial.sample_seconds + saves * trial.save_seconds
    if options.evaluate_every:
        seconds += trial.steps // options.evaluate_every * evaluation_seconds
    minutes = min(seconds / 60, options.minutes - minutes_used) if options.minutes else seconds / 60
    duration = f"{minutes:.0f} min" if minutes >= 1 else f"{60 * minutes:.0f} s"
    memory = f", {in_bytes(trial.memory)} of memory" if trial.memory else ""
    message = f"about {duration}, {in_bytes(disk)} of disk{memory} at most; tried in {trial.seconds:.1f} s"
    return {"minutes": minutes, "disk": int(disk), "memory": trial.memory, "message": message}


def check_disk(steps: int, options: DictConfig, checkpoint_bytes: int, sample_bytes: int, folder: Path) -> float:
    """Return the bytes that a run of so many more steps writes; raise ValueError if the disk has fewer."""
    numbered = steps // options.keep_every if options.keep_every else 0
    numbered = min(numbered, options.keep_last) if options.keep_last else numbered
    checkpoints = 3 + numbered + bool(options.evaluate_every)  # last, previous, the next one being written, best
    # A grid is a file and, a third longer, part of the page, whose old version is still there while it is written.
    disk = checkpoints * checkpoint_bytes + steps // options.sample_every * sample_bytes * 7 / 3
    replaced = sum(file.stat().st_size for file in folder.glob("checkpoints/[blp]*.safetensors"))  # of a resumed run
    free = shutil.disk_usage(folder).free
    if disk - replaced > free:
        raise ValueError(
            f"this run needs about {in_bytes(disk)} of disk, for {checkpoints} checkpoints of "
            f"{in_bytes(checkpoint_bytes)}, but {in_bytes(free)} are free in {folder}; free some space, or type "
            f"trainer.keep_last=1 or another run.dir="
        )
    return disk


def check_untried(trainer: Trainer, options: DictConfig, grid: tuple[int, ...], folder: Path) -> None:
    """Raise ValueError where a run that is too short for a trial cannot work, as far as that is known without one.

    Args:
        grid: shape of a grid of samples.
    """
    weights = sum(p.numel() * p.element_size() for parameters in trainer.parameters.values() for p in parameters)
    average = sum(t.numel() * t.element_size() for t in trainer.ema.network.state_dict().values())
    steps = int(_steps_left(trainer, trainer.batches.batch_size, 60 * LONG_MINUTES / LONG_STEPS))
    check_disk(max(steps, 0), options, 3 * weights + average, math.prod(grid) // 2, folder)  # two momenta each
    needed, free = weights * 3, free_memory(trainer.device)
    if needed > free and not any(optimizer.state for optimizer in trainer.optimizers.values()):
        raise ValueError(
            f"gradients and momenta of the weights take {in_bytes(needed)} of memory, and {in_bytes(free)} are free; "
            f"type a smaller model.width="
        )
    if _sees_single_images(trainer) and ranks.world_size() == 1:
        with _undone(trainer):
            trainer.train_step(trainer.progress)


def refuse_single_values(networks: Iterable[nn.Module]) -> None:
    """Let batch norm refuse, by one sentence, a channel of a single value; for batches of one image."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.register_forward_pre_hook(_refuse_single_value)


def _refuse_single_value(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    if module.training and inputs[0].numel() == inputs[0].shape[1]:
        raise ValueError(
            "batch norm, which this model has, needs more than one image at a time, and data.batch_size gives it one; "
            "type data.batch_size=2 or more"
        )


def _sees_single_images(trainer: Trainer) -> bool:
    modules = (module for network in trainer.networks.values() for module in network.modules())
    return any(_refuse_single_value in module._forward_pre_hooks.values() for module in modules)


def phases(trainer: Trainer) -> dict[float, float]:
    """Return {progress at which a new list of updates begins: fraction of the rest of the budget that it lasts}."""
    now = trainer.progress
    first: dict[object, float] = {}
    fractions: dict[float, float] = {}
    for point in range(POINTS):
        progress = now + (1 - now) * point / POINTS
        # A weight that changes all the time begins another phase only as it becomes zero or non-zero.
        keys = [update.key for update in trainer.objective.updates(0, progress)]
        phase = tuple((network, loss, tuple((k, bool(v)) for k, v in settings)) for network, loss, settings in keys)
        start = first.setdefault(phase, progress)
        fractions[start] = fractions.get(start, 0.0) + 1 / POINTS
    return fractions


def in_bytes(n: float) -> str:
    """Format bytes as 85 MB or 1.2 GB."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.0f} MB" if n >= 1e7 else f"{n / 1e6:.1f} MB"


def _steps_left(trainer: Trainer, images: float, seconds: float) -> float:
    """Return the steps left in the budget, each of so many images and seconds."""
    budget = trainer.budget
    left: list[float] = [budget.steps - trainer.step] if budget.steps else []
    left += [(1000 * budget.kimg - trainer.images) / images] if budget.kimg else []
    left += [(60 * budget.minutes - trainer.seconds) / seconds] if budget.minutes else []
    return min(left)


def _timed(act: Callable[[], int], device: torch.device) -> tuple[float, int]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    try:
        size = act()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"the grid of samples and its metrics do not fit into the memory of {device}; type trainer.sample_rows=2"
        ) from error
    return time.perf_counter() - start, size


def _try_phases(trainer: Trainer) -> tuple[float, float]:
    """Return images and seconds of an average step. Raise ValueError with what fits into memory, found by halving."""
    batches, typed = trainer.batches, (trainer.batches.batch_size, trainer.accumulate)
    images, seconds = 0.0, 0.0
    for progress, fraction in phases(trainer).items():
        while not (costs := _try_step(trainer, progress, typed)):
            for optimizer in trainer.optimizers.values():
                optimizer.zero_grad()
            if not _take_fewer_at_once(trainer):
                raise ValueError(
                    f"not even one image at a time fits into the memory of {trainer.device}; type a smaller "
                    f"model.width= or data.size="
                )
        images, seconds = images + fraction * costs[0], seconds + fraction * costs[1]
    if typed != (batches.batch_size, trainer.accumulate):
        parts = trainer.accumulate
        fits = f"data.batch_size={batches.batch_size * typed[1] // parts}"
        fits += f", or trainer.accumulate={parts} to compute the same batch in parts" if parts > typed[1] else ""
        raise ValueError(
            f"a batch of data.batch_size={typed[0]} does not fit into the memory of {trainer.device}; type {fits}"
        )
    return images, seconds


def _take_fewer_at_once(trainer: Trainer) -> bool:
    """Halve the images that are computed at once: by more parts of each batch, else by a smaller batch."""
    if parts := more_parts(trainer):
        trainer.accumulate = parts
    else:
        trainer.batches.batch_size //= 2
    return trainer.batches.batch_size >= trainer.accumulate


def more_parts(trainer: Trainer) -> int:
    """Return the next trainer.accumulate that halves the memory of a step, or 0 where there is none."""
    rows, now = trainer.batches.batch_size // trainer.batches.world_size, trainer.accumulate
    return 0 if trainer.objective.whole_batch else next((n for n in range(2 * now, rows + 1) if rows % n == 0), 0)


def _try_step(trainer: Trainer, progress: float, typed: tuple[int, int]) -> tuple[int, float] | None:
    """Train a step as at this point of the budget; return its images and its seconds, or None if memory is too small.

    Fewer images at once than `typed` may also be some that packing does not divide, or that batch norm refuses.
    """
    seconds: list[float] = []
    while not seconds or (len(seconds) < 3 and sum(seconds) < WARM_UP):
        trainer.step = len(seconds)  # in step 0 everything is due that is due only now and then
        start, before = time.perf_counter(), trainer.images
        try:
            trainer.train_step(progress)
            if trainer.device.type == "cuda":
                torch.cuda.synchronize(trainer.device)
        except (RuntimeError, MemoryError, ValueError) as error:
            if not is_out_of_memory(error) and (trainer.batches.batch_size, trainer.accumulate) == typed:
                raise
            return None
        seconds.append(time.perf_counter() - start)
    return trainer.images - before, min(seconds)
