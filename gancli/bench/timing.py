"""Training loops whose steps are timed in turns, each loop in a process of its own."""

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

WARM_UP = 2  # steps before anything is timed: kernels are compiled and chosen, memory is allocated
LARGEST, LONG = 8192, 0.05  # side of a square matrix product, and seconds that are long enough for one


class TimedLoop:
    """A loop of training steps or other work."""

    device: torch.device
    images = 0  # real ones per step
    precision = "fp32"  # of matrix products, as trainer.precision names it
    compiled = False  # by torch.compile, so that operations cannot be counted

    def steps(self) -> Generator[None, None, None]:
        """Run one step for each `next`, until closed."""
        raise NotImplementedError


class TrainingLoop(TimedLoop):
    """`gan train` with these overrides, including what its log reads; without samples and checkpoints."""

    def __init__(self, overrides: list[str]):
        with tempfile.TemporaryDirectory() as folder:
            self.run = TrainingRun(compose(overrides), Path(folder), [])
        trainer = self.run.trainer
        self.device, self.compiled, self.precision = trainer.device, trainer.compiled, self.run.options.precision
        self.images = trainer.batches.batch_size * trainer.objective.n_critic  # type: ignore[attr-defined]

    def steps(self) -> Generator[None, None, None]:
        trainer = self.run.trainer
        for step in trainer.steps():
            if step % self.run.options.log_every == 0:
                trainer.non_finite()
                trainer.read_terms()
            yield


class MatrixProducts(TimedLoop):
    """One product of two square matrices per step: the most that the machine can do in this precision."""

    def __init__(self, device: str, precision: str):
        self.device, self.precision, self.n = choose_device(device), precision, 512
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        while True:
            self.factor = torch.randn(self.n, self.n, device=self.device, dtype=dtype)
            self.product = torch.empty_like(self.factor)
            if self.n >= LARGEST or time_steps(self, 1) > LONG:
                break
            self.n *= 2

    def steps(self) -> Generator[None, None, None]:
        while True:
            torch.mm(self.factor, self.factor, out=self.product)
            yield


class FlopCounter(TorchDispatchMode):
    """Counts FLOP of convolutions and matrix products, two for a multiply-add.

    torch's own FlopCounterMode adds module hooks that gradient penalties break; its formulas are used here.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


def prepare(loop: TimedLoop, steps: int, seconds: float) -> dict[str, Any]:
    """Warm a loop up and return the facts of its turns, each of `steps` steps, or if 0 of as many as take `seconds`."""
    memory_before, flops = peak_memory(loop.device), None
    running = loop.steps()
    for _ in range(WARM_UP):
        next(running)
    if not loop.compiled:
        with FlopCounter() as counter:
            next(running)
        flops = counter.total
    synchronize(loop.device)
    begin, duration, done = time.perf_counter(), 0.0, 0
    while not steps and duration < seconds / 3:
        next(running)
        synchronize(loop.device)
        duration, done = time.perf_counter() - begin, done + 1
    running.close()
    return {
        "images": loop.images,
        "steps": steps or max(1, round(seconds * done / duration)),
        "flops": flops,
        "precision": loop.precision,
        "compiled": loop.compiled,
        "memory_before": memory_before,
    }


def time_steps(loop: TimedLoop, steps: int) -> float:
    """Return the seconds of so many steps; a tenth as many run first, so that data loaders have filled their queues."""
    running = loop.steps()
    for _ in range(max(1, steps // 10)):
        next(running)
    synchronize(loop.device)
    begin = time.perf_counter()
    for _ in range(steps):
        next(running)
    synchronize(loop.device)
    duration = time.perf_counter() - begin
    running.close()
    return duration


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class LoopFailed(Exception):
    """A loop cannot go on."""

    def __init__(self, message: str, trace: str = ""):
        super().__init__(message, trace)
        self.message, self.trace = message, trace


class LoopProcess:
    """A loop in a process of its own, to which torch's switches, compiled code and peak memory belong.

    Attributes:
        facts: of `prepare`.
        memory: peak in bytes so far.
    """

    def __init__(self, build: Callable[[], TimedLoop], steps: int, seconds: float):
        context = multiprocessing.get_context("spawn")  # CUDA forbids a fork, which would also share torch's state
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, build, steps, seconds))
        self.process.start()
        theirs.close()
        try:
            self.facts: dict[str, Any] = self._receive()
        except BaseException:
            self.close()
            raise
        self.memory = self.facts["memory_before"]

    def turn(self) -> float:
        """Return the seconds of one more turn."""
        with contextlib.suppress(ConnectionError):  # if it has ended, _receive says so
            self.pipe.send("turn")
        seconds, self.memory = self._receive()
        return seconds

    def _receive(self) -> Any:
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            killed = ", killed: possibly out of memory" if self.process.exitcode == -9 else ""
            raise LoopFailed(f"its process ended with exit code {self.process.exitcode}{killed}") from None
        if isinstance(message, LoopFailed):
            raise message
        return message

    def close(self) -> None:
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():  # in the middle of a turn
            self.process.terminate()
            self.process.join()


def _serve(pipe: Connection, build: Callable[[], TimedLoop], steps: int, seconds: float) -> None:
    """Prepare a loop, send its facts, then time a turn for each message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent, which closes the pipe
    # Workers of data loaders start as they do without a parent; in a spawned process they would import all anew.
    multiprocessing.set_start_method(None, force=True)
    try:
        loop = build()
        facts = prepare(loop, steps, seconds)
        pipe.send(facts)
        while True:
            pipe.recv()
            pipe.send((time_steps(loop, facts["steps"]), peak_memory(loop.device)))
    except (EOFError, ConnectionError):  # the parent has closed the pipe
        return
    except Exception as error:
        pipe.send(LoopFailed(one_line(error), traceback.format_exc()))
