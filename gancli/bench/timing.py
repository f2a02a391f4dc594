"""Ways of training whose rounds are timed in turn, each in a process of its own."""

import contextlib
import multiprocessing
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gancli.config import compose
from gancli.runtime.device import choose_device
from gancli.runtime.hardware import peak_memory
from gancli.runtime.text import one_line
from gancli.training.run import TrainingRun

WARM = 2  # rounds before any is timed: compilers run, kernels are chosen, memory is taken
LARGEST, LONG = 8192, 0.05  # a square product's side, and the seconds that are long enough for one


class Way:
    """What has rounds.

    images: real ones a round. precision: of its products, in the words of trainer.precision. compiled: by
    torch.compile, whose operators cannot be counted.
    """

    device: torch.device
    images = 0
    precision = "fp32"
    compiled = False

    def rounds(self) -> Generator[None, None, None]:
        """Play, a round a `next`, until it is closed."""
        raise NotImplementedError


class Trained(Way):
    """`gan train` with these overrides: its rounds, and what its log reads and checks; no pictures, no checkpoints."""

    def __init__(self, overrides: list[str]):
        with tempfile.TemporaryDirectory() as folder:
            self.run = TrainingRun(compose(overrides), Path(folder), [], quiet=True)
        trainer = self.run.trainer
        self.device, self.compiled, self.precision = trainer.device, trainer.compiled, self.run.options.precision
        self.images = trainer.batches.batch_size * trainer.objective.n_critic  # type: ignore[attr-defined]

    def rounds(self) -> Generator[None, None, None]:
        trainer = self.run.trainer
        for step in trainer.steps():
            if step % self.run.options.log_every == 0:
                trainer.non_finite()
                trainer.read_terms()
            yield


class Products(Way):
    """Products of two square matrices, one a round: the most that the machine does in this precision."""

    def __init__(self, device: str, precision: str):
        self.device, self.precision, self.n = choose_device(device), precision, 512
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        while True:
            kind: dict[str, Any] = {"dtype": torch.bfloat16 if precision == "bf16" else torch.float32}
            self.factor = torch.randn(self.n, self.n, device=self.device, **kind)
            self.product = torch.empty_like(self.factor)
            if self.n >= LARGEST or turn(self, 1) > LONG:
                break
            self.n *= 2

    def rounds(self) -> Generator[None, None, None]:
        while True:
            torch.mm(self.factor, self.factor, out=self.product)
            yield


class Operations(TorchDispatchMode):
    """Counts floating-point operations of convolutions and matrix products, two for a multiply-add.

    By the formulas of torch.utils.flop_counter, whose own mode hangs hooks on modules which gradient penalties break.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=made)
        return made


def prepared(way: Way, rounds: int, seconds: float) -> dict[str, Any]:
    """Facts of a way that is ready for its turns, each of so many rounds; of 0: as many as take so many seconds."""
    built, flops = peak_memory(way.device), None
    playing = way.rounds()
    for _ in range(WARM):
        next(playing)
    if not way.compiled:
        with Operations() as counted:
            next(playing)
        flops = counted.total
    synchronize(way.device)
    begun, took, played = time.perf_counter(), 0.0, 0
    while not rounds and took < seconds / 3:
        next(playing)
        synchronize(way.device)
        took, played = time.perf_counter() - begun, played + 1
    playing.close()
    return {
        "images": way.images,
        "rounds": rounds or max(1, round(seconds * played / took)),
        "flops": flops,
        "precision": way.precision,
        "compiled": way.compiled,
        "memory_before": built,
    }


def turn(way: Way, rounds: int) -> float:
    """Seconds that so many rounds take, the device's queue empty before and after.

    A tenth as many go before: by then the workers of a loader are awake and have filled their queue.
    """
    playing = way.rounds()
    for _ in range(max(1, rounds // 10)):
        next(playing)
    synchronize(way.device)
    begun = time.perf_counter()
    for _ in range(rounds):
        next(playing)
    synchronize(way.device)
    took = time.perf_counter() - begun
    playing.close()
    return took


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Failed(Exception):
    """A way that cannot go on: why in a sentence, and the traceback if there is one."""

    def __init__(self, sentence: str, trace: str = ""):
        super().__init__(sentence, trace)
        self.sentence, self.trace = sentence, trace


def serve(pipe: Connection, make: Callable[[], Way], rounds: int, seconds: float) -> None:
    """The life of a cell's process: make the way and tell its facts, then play a turn for each word that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for who asks, and closes the pipe
    try:
        way = make()
        facts = prepared(way, rounds, seconds)
        pipe.send(facts)
        while True:
            pipe.recv()
            pipe.send((turn(way, facts["rounds"]), peak_memory(way.device)))
    except (EOFError, ConnectionError):  # nobody asks any more
        return
    except Exception as error:
        sentence = one_line(error)
        pipe.send(Failed(sentence, traceback.format_exc()))


class Cell:
    """A way in a process of its own, waiting for its next turn.

    There torch's global switches, which precisions set, compiled code and the peak of memory are this way's alone.
    facts: those of `prepared`. memory: peak in bytes, so far.
    """

    def __init__(self, make: Callable[[], Way], rounds: int, seconds: float):
        context = multiprocessing.get_context("spawn")  # a fork would share what torch has begun, and CUDA forbids it
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make, rounds, seconds))
        self.process.start()
        theirs.close()
        try:
            self.facts: dict[str, Any] = self.answer()
        except BaseException:
            self.close()
            raise
        self.memory = self.facts["memory_before"]

    def turn(self) -> float:
        """Seconds that its rounds take this time."""
        with contextlib.suppress(ConnectionError):  # where it has ended, the answer says so
            self.pipe.send("play")
        took, self.memory = self.answer()
        return took

    def answer(self) -> Any:
        """What the process says next; Failed where it could not do its part."""
        try:
            told = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            killed = ", killed: memory may not have sufficed" if self.process.exitcode == -9 else ""
            raise Failed(f"its process ended with exit code {self.process.exitcode}{killed}") from None
        if isinstance(told, Failed):
            raise told
        return told

    def close(self) -> None:
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():  # in the middle of a turn
            self.process.terminate()
            self.process.join()
