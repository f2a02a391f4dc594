"""Rounds as CUDA graphs: all kernels of a round are recorded once and then launched together.

At 32x32 a GPU is done with a round before Python has asked for it kernel by kernel. A graph repeats the kernels it was
recorded with on the same memory: so whatever differs from round to round has to lie in tensors (the place in the data,
the rates, the weight of the average), and what Python decides by itself makes another kind of round, with a graph of
its own. Random numbers are drawn anew, from the seed that torch's generator has when a graph is launched.
"""

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from gancli.runtime.text import one_line

T = TypeVar("T")
WARM = 3  # rounds of a kind before it is recorded: libraries set themselves up, optimizers make their state
MOST = 8  # kinds: each keeps the memory of a round


def unrecordable(graph_safe: bool, optimizers: Iterable[Any], beta2: Any, processes: int) -> str:
    """Why rounds cannot be recorded; "" where they can. optimizers: what makes them."""
    if processes > 1:
        return "several processes train together"
    if not graph_safe:
        return "this model decides some things on the host (model.graph_safe=false)"
    if beta2:
        return "Adam's second momentum changes from round to round"
    makers = [getattr(make, "func", make) for make in optimizers]
    if odd := [make for make in makers if "capturable" not in inspect.signature(make).parameters]:
        return f"{odd[0].__name__} counts its steps on the host"
    return ""


class CudaGraphs:
    """Called with a kind of round and how it is played, it plays the round, or launches what was recorded of it.

    `refused` says why nothing is recorded any more, where that is so: rounds are then played as they come.
    """

    def __init__(self, device: torch.device):
        self.device = device
        # What is recorded must not have been begun on another stream: autograd comes back to where a tensor was made.
        self.stream = torch.cuda.Stream(device)
        self.recorded: dict[Hashable, Callable[[], None]] = {}
        self.played: Counter[Hashable] = Counter()
        self.given: dict[Hashable, Any] = {}
        self.refused = ""

    def __call__(self, kind: Hashable, play: Callable[[], T], again: Callable[[], object]) -> T:
        """What `play` gives, the same for all rounds of a kind. again: seeds as for this round once more."""
        if kind in self.recorded:
            self.recorded[kind]()
            return self.given[kind]
        if kind is not None and not self.refused and self.played[kind] >= WARM:
            if len(self.recorded) == MOST:
                self.refused = f"there are more than {MOST} kinds of them"
            else:
                try:
                    self.recorded[kind] = self.record(play)
                    again()
                    return self(kind, play, again)
                except RuntimeError as error:  # an operation that waits for the host, say; nothing has been computed
                    self.refused = one_line(error, 200)
                    again()
        self.played[kind] += 1
        with self.aside():
            self.given[kind] = play()
        return self.given[kind]

    def record(self, play: Callable[[], object]) -> Callable[[], None]:
        """How to launch it. Nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        # A thread that reads images may take memory meanwhile.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            play()
        return graph.replay

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within it, kernels go to the stream that recordings are made on."""
        now = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            yield
        now.wait_stream(self.stream)

    def forget(self) -> None:
        """Tensors have been replaced that recordings point to."""
        self.recorded.clear()
        self.played.clear()
