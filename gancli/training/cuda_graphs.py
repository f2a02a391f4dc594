"""Steps as CUDA graphs: all kernels of a step are captured once and then launched together.

At 32x32 a GPU finishes a step before Python has launched it kernel by kernel. A graph repeats the captured kernels on
the same memory. So values that change from step to step lie in tensors (the index of the batch, the learning rates, the
weight of the average), and each decision of Python is a phase with a graph of its own. Random numbers are new in every
replay, from the seed of torch's generator at its launch.
"""

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from gancli.runtime import ranks
from gancli.runtime.text import one_line

T = TypeVar("T")
WARM_UP = 3  # steps of a phase before it is captured: libraries initialise, optimizers allocate their state
MAX_PHASES = 8  # each holds the memory of a step


def why_not(graph_safe: bool, optimizers: Iterable[Any], beta2: Any) -> str:
    """Return why CUDA graphs are unavailable, or an empty string; optimizers: their factories."""
    if ranks.world_size() > 1:
        return "several processes train together"
    if not graph_safe:
        return "this model makes decisions on the host (model.graph_safe=false)"
    if beta2:
        return "Adam's second momentum changes from step to step"
    factories = [getattr(factory, "func", factory) for factory in optimizers]
    if unfit := [f for f in factories if "capturable" not in inspect.signature(f).parameters]:
        return f"{unfit[0].__name__} counts its steps on the host"
    return ""


class CudaGraphs:
    """CUDA graphs of a run's phases: the first steps of a phase run eagerly, the others replay its graph.

    Attributes:
        failure: why steps run eagerly from now on, or empty.
    """

    def __init__(self, device: torch.device):
        self.device = device
        # Eager steps use the stream of the captures: autograd goes back to the stream on which a tensor was created.
        self.stream = torch.cuda.Stream(device)
        self.replays: dict[Hashable, Callable[[], None]] = {}
        self.eager_steps: Counter[Hashable] = Counter()
        self.results: dict[Hashable, Any] = {}
        self.failure = ""

    def __call__(self, phase: Hashable, run: Callable[[], T], seed: Callable[[], object]) -> T:
        """Run a step and return its result, the same for all steps of a phase; `seed` seeds it anew after a capture."""
        if phase in self.replays:
            self.replays[phase]()
            return self.results[phase]
        if not self.failure and self.eager_steps[phase] >= WARM_UP:
            if len(self.replays) == MAX_PHASES:
                self.failure = f"there are more than {MAX_PHASES} phases"
            else:
                try:
                    self.replays[phase] = self.capture(run)
                    seed()
                    return self(phase, run, seed)
                except RuntimeError as error:  # such as an operation that waits for the host; nothing was computed
                    self.failure = one_line(error, 200)
                    seed()
        self.eager_steps[phase] += 1
        with self.side_stream():
            self.results[phase] = run()
        return self.results[phase]

    def capture(self, run: Callable[[], object]) -> Callable[[], None]:
        """Return the replay of a step. Nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        # A thread that reads images may allocate meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            run()
        return graph.replay

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        """Run kernels on the stream of the captures."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def reset(self) -> None:
        """Forget the captures: tensors that they point to have been replaced."""
        self.replays.clear()
        self.eager_steps.clear()
