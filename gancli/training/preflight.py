"""Before a long run, all that it will do, once and at full size: what cannot work fails in the first seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gancli.runtime.hardware import is_out_of_memory, peak_memory
from gancli.runtime.serialization import map_tensors
from gancli.training.loop import Trainer

ROUNDS, MINUTES = 200, 1.0  # a run of as many or more is a long one
LOOKS = 100  # at so many points of the budget a objective is asked for its moves
WARM = 0.3  # seconds: the first round also warms up, and is played again for the estimate where that costs no more


@dataclass
class Trial:
    """What it costs: seconds of a round, of a picture with its metrics, of a save; bytes of the files, of memory."""

    round: float
    picture: float
    save: float
    picture_bytes: int
    checkpoint_bytes: int
    memory: int  # at most, so far
    rounds: int  # that are left to be played
    seconds: float  # that the trial took


def left(trainer: Trainer, images: float, seconds: float) -> float:
    """Rounds left in the budget, where a round shows so many images and takes so long."""
    budget, found = trainer.budget, list[float]()
    found += [budget.steps - trainer.step] if budget.steps else []
    found += [(1000 * budget.kimg - trainer.images) / images] if budget.kimg else []
    found += [(60 * budget.minutes - trainer.seconds) / seconds] if budget.minutes else []
    return min(found)


def is_long(trainer: Trainer) -> bool:
    """Whether what is left is worth trying first."""
    return left(trainer, trainer.batches.batch_size, 60 * MINUTES / ROUNDS) >= ROUNDS


def preflight(trainer: Trainer, picture: Callable[[], int], save: Callable[[], int]) -> Trial:
    """Play a round of every kind that the run will have, then call `picture` and `save`, which give their bytes.

    Afterwards the trainer is as it was, to the last bit. ValueError where memory does not suffice, with what would fit.
    """
    begun, device = time.perf_counter(), trainer.device
    state = map_tensors(trainer.state_dict() | {"window": {}}, lambda x: x.detach().to("cpu", copy=True))
    window = trainer.state_dict()["window"]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        images, seconds = try_rounds(trainer)
        costs = []
        for act in (picture, save):  # a checkpoint has its full size now that the optimizers have played
            since = time.perf_counter()
            try:
                size = act()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                raise ValueError(
                    f"the grid of samples and its metrics do not fit into the memory of {device}; "
                    f"type trainer.sample_rows=2"
                ) from error
            costs.append((time.perf_counter() - since, size))
    memory = peak_memory(device)
    trainer.load_state_dict({**state, "window": window})
    for optimizer in trainer.optimizers.values():
        optimizer.zero_grad()
    (picture_seconds, picture_bytes), (save_seconds, save_bytes) = costs
    rounds = int(left(trainer, images, seconds))
    took = time.perf_counter() - begun
    return Trial(seconds, picture_seconds, save_seconds, picture_bytes, save_bytes, memory, rounds, took)


def kinds(trainer: Trainer) -> dict[float, float]:
    """Where in the budget a new kind of round begins, and the share of what is left of it that is of this kind."""
    objective, now = trainer.objective, trainer.progress
    first: dict[object, float] = {}
    share: dict[float, float] = {}
    for look in range(LOOKS):
        progress = now + (1 - now) * look / LOOKS
        # Of a weight that changes all the time only counts whether it is 0.
        keys = [update.key for update in objective.updates(0, progress)]
        phase = tuple((*key[:2], tuple((name, bool(value)) for name, value in key[2])) for key in keys)
        at = first.setdefault(phase, progress)
        share[at] = share.get(at, 0.0) + 1 / LOOKS
    return share


def try_rounds(trainer: Trainer) -> tuple[float, float]:
    """Images and seconds of an average round. ValueError with the largest batch that fits, found by halving."""
    batches, whole = trainer.batches, trainer.batches.batch_size
    images, seconds = 0.0, 0.0
    for progress, share in kinds(trainer).items():
        while True:
            try:
                shown, took = try_round(trainer, progress)
            except (RuntimeError, MemoryError, ValueError) as error:
                # A smaller batch may be one that packing does not divide, or batch norm does not take.
                if not is_out_of_memory(error) and batches.batch_size == whole:
                    raise
            else:
                images, seconds = images + share * shown, seconds + share * took
                break
            for optimizer in trainer.optimizers.values():
                optimizer.zero_grad()
            batches.batch_size //= 2
            if not batches.batch_size:
                raise ValueError(
                    f"not even one image at a time fits into the memory of {trainer.device}; type a smaller "
                    f"model.width= or data.size="
                )
    if batches.batch_size < whole:
        raise ValueError(
            f"a batch of data.batch_size={whole} does not fit into the memory of {trainer.device}; "
            f"type data.batch_size={batches.batch_size}"
        )
    return images, seconds


def try_round(trainer: Trainer, progress: float) -> tuple[int, float]:
    """Play a round as at this point of the budget; gives its images and its seconds."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < 3 and sum(seconds) < WARM):
        trainer.step = len(seconds)  # in round 0 everything is due that is due only now and then
        begun, before = time.perf_counter(), trainer.images
        trainer.round(progress)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        seconds.append(time.perf_counter() - begun)
    return trainer.images - before, min(seconds)
