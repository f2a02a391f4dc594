"""Speed without a clock: how much a round computes, launches, copies and waits for.

A timing on a shared machine proves little; a count is exact, and grows with the first needless forward, gradient, copy
or wait that a change brings.
"""

import functools
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CHANNELS, CLASSES, SIDE, N, Z, config, dcgan
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gancli.config import choices
from gancli.data.loader import BatchLoader
from gancli.data.synthetic import synthetic
from gancli.training import Trainer
from gancli.training.run import TrainingRun

aten = torch.ops.aten


def trainer_of(model: str, *overrides: str) -> Trainer:
    """One that has played a round: optimizers have their state, and the epoch its order."""
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(config(f"model={model}", *overrides), Path(folder), [], quiet=True)
    run.trainer.train_step(0.6)
    return run.trainer


# --- floating-point operations ------------------------------------------------------------------------------------


def mlp() -> tuple[list[int], list[int]]:
    pixels = CHANNELS * SIDE**2
    return [Z * 4, 4 * 8, 8 * 16, 16 * pixels], [pixels * 16, 16 * 8, 8 * 4, 4 * 1]


def least(G: list[int], D: list[int], forwards_of_g: int, embed_g: int = 0, embed_d: int = 0) -> int:
    """The operations that a round of D's move and G's cannot do without.

    embed_g, embed_d: multiply-adds of a class's embedding in either network. It lies before the first layer, which then
    has a gradient by its input to give.
    """
    first_g, first_d = (0 if embed else layers[0] for embed, layers in ((embed_g, G), (embed_d, D)))
    made = forwards_of_g * (sum(G) + embed_g)
    # D's move: real and made images, forward, the slopes of all weights, and of all inputs but the images themselves.
    of_d = 2 * (sum(D) + embed_d) + 2 * (sum(D) + embed_d) + 2 * (sum(D) - first_d)
    # G's: through D to the image, past D's weights; then the slopes of G's own weights and inputs.
    of_g = (sum(D) + embed_d) + sum(D) + (sum(G) + embed_g) + (sum(G) - first_g)
    return 2 * N * (made + of_d + of_g)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    ("model", "layers", "embeds"),
    [
        ("mlp", mlp(), (0, 0)),
        ("dcgan", dcgan(), (0, 0)),
        # D embeds the class twice a forward: for its stages and for its last layer.
        ("cgan", dcgan(50, 8), (CLASSES * 50, 2 * CLASSES * 8)),
    ],
    ids=["mlp", "dcgan", "cgan"],
)
def test_a_round_computes_what_it_must_and_no_more(model, layers, embeds, share):
    trainer = trainer_of(model, f"model.reuse_fakes={str(share).lower()}")
    with FlopCounterMode(display=False) as counter:
        trainer.train_step(0.6)
    assert counter.get_total_flops() == least(*layers, 1 if share else 2, *embeds)


# --- launches and waits -------------------------------------------------------------------------------------------

# What a round waits for the device by: its values come back, or their number does.
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.masked_select, aten.equal, aten._unique2}
READS = {
    *(torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy),
    *(torch.Tensor.__bool__, torch.Tensor.__float__, torch.Tensor.__int__, torch.Tensor.__index__),
}


IDLE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}


class Operators(TorchDispatchMode):
    """Counts the operators that are dispatched; views, empty memory and the profiler's marks launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket not in IDLE and func.namespace == "aten":
            self.seen[func.overloadpacket] += 1
        mask = func.overloadpacket in (aten.index, aten.index_put_) and [i for i in args[1] if i is not None]
        if mask and any(i.dtype in (torch.bool, torch.uint8) for i in mask):
            self.seen[aten.nonzero] += 1  # how many are chosen has to be known
        return func(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Counts the calls that bring values to Python."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            self.seen[func.__name__] += 1
        return func(*args, **(kwargs or {}))


@functools.cache
def dispatched(model: str) -> tuple[Counter[Any], Counter[str]]:
    """The operators and the reads of one round."""
    trainer = trainer_of(model)
    with Operators() as operators, Reads() as reads:
        trainer.train_step(0.6)
    return operators.seen, reads.seen


@pytest.mark.parametrize("model", choices("model"))
def test_a_round_waits_for_nothing(model):
    operators, reads = dispatched(model)
    assert not {str(op): n for op, n in operators.items() if op in WAITS} and not reads
    assert operators[aten.convolution_backward] + operators[aten.mm] > 0, "the operators of backward are seen too"


# Operators of a round with torch 2.15; lower a number where a change saves some, raise it only for a reason.
LAUNCHES = {
    "mlp": 156,
    # 54 the layers and their slopes, 5 batch norm's counters, 16 two batches, 21 the loss and its slopes, 20 what is
    # watched, 7 the sums of D's slopes on real and on made images, 4 Adam, 7 the average.
    "dcgan": 134,
    "cgan": 166,  # and the class beside every layer's input
    "sngan_proj": 3366,  # two thirds of it the power iterations of 9 layers in 11 forwards of D
    "wgan_gp": 1607,  # five penalties, each with a slope of a slope
    "srgan": 659,  # G has 33 batch norms, with three buffers each for the average to copy
}


@pytest.mark.parametrize("model", LAUNCHES)
def test_a_round_launches_no_more_than_it_did(model):
    operators, _ = dispatched(model)
    # Another version of torch may put an operation together from others.
    assert operators.total() <= 1.03 * LAUNCHES[model], operators.most_common()


# --- bytes --------------------------------------------------------------------------------------------------------


class Copies(TorchDispatchMode):
    """Sums the bytes that go from the host to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        source = args[0] if func.overloadpacket is aten._to_copy else args[1] if func is aten.copy_.default else None
        if source is not None and source.device.type == "cpu" and made.device.type != "cpu":
            self.bytes += source.numel() * source.element_size()
        return made


MOST = N * (8 + 8 + 1)  # for an image its number, to find it and to find its class, and whether it is mirrored


def test_of_data_on_the_device_a_batch_copies_numbers_alone():
    """On torch's meta device, where nothing is computed, but all that would be copied is seen."""
    batches = BatchLoader(synthetic("shapes", n=64, size=SIDE), N, CLASSES, True, 0, torch.device("meta"))
    with Copies() as copies:
        x, c = batches(0)
    assert x.shape == (N, CHANNELS, SIDE, SIDE) and c.shape == (N, CLASSES) and x.device.type == "meta"
    assert 0 < copies.bytes <= MOST < x.numel(), "the images themselves are a byte a value"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", LAUNCHES)
def test_a_round_on_a_gpu_copies_numbers_alone_and_waits_for_nothing(model):
    trainer = trainer_of(model, "device=cuda", "data.flip=true")
    moves = trainer.objective.n_critic + 1
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with Copies() as copies:
            trainer.train_step(0.6)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert copies.bytes <= MOST * moves
