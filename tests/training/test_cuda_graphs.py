"""Rounds that are recorded and launched again: by a stand-in for CUDA's graphs, and by these where there is a GPU."""

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import TINY
from hydra import compose, initialize_config_dir

from gancli.config import CONFIGS, register_resolvers
from gancli.data.builtin import digits
from gancli.data.loader import BatchLoader
from gancli.training import cuda_graphs as captured
from gancli.training.cuda_graphs import MOST, WARM, CudaGraphs
from gancli.training.run import Run


class Repeated(CudaGraphs):
    """What is recorded is the call itself, with all that Python had decided by then; launched, it is called again."""

    def __init__(self, fails: str = ""):
        self.device, self.recorded, self.played, self.given, self.refused = torch.device("cpu"), {}, Counter(), {}, ""
        self.fails, self.launched = fails, 0

    def record(self, play: Callable[[], Any]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError(f"{self.fails}\nand more")

        def launch() -> None:
            self.launched += 1
            play()

        return launch

    def aside(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def trainer(tmp_path: Any, *words: str, ahead: int = 7) -> Any:
    """As gan train makes it on a GPU: numbers ahead, and in tensors what differs from round to round."""
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*TINY, "trainer.steps=60", "data.flip=true", *words])
    run = Run(cfg, tmp_path / "run", [], quiet=True)
    made = run.trainer
    made.batches.prefetch_count = ahead
    made.in_tensors = ahead > 0
    if ahead:
        made.ema.weight = torch.zeros(())
        made._rates_in_tensors()
    return made


def play(made: Any, rounds: int) -> list[dict[str, float]]:
    read = []
    for _ in range(rounds):
        made.round(made.progress)
        if made.step % 4 == 0:
            read.append(made.read())
    return read


def state(made: Any) -> dict[str, Any]:
    return {k: v for k, v in made.state_dict().items() if k != "seconds"}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


# What each has that a recording could get wrong.
MODELS = {
    "dcgan": ["model=dcgan", "model.schedule._target_=gancli.training.schedules.linear"],
    "noise in D": ["model=dcgan", "model/augment=diffaugment", "model.minibatch=std"],
    "lazy penalty": ["model=dcgan", "model/penalty=r1", "model.penalty.every=3", "model.norm=none"],
    "five moves": ["model=wgan_gp", "model.n_critic=2"],
    "classes": ["model=sngan_proj", "model.n_critic=2"],
    "adaptive": ["model=cgan", "model/augment=ada"],
}


@pytest.mark.parametrize("words", MODELS.values(), ids=list(MODELS))
def test_recorded_rounds_are_those_that_are_played(tmp_path, words):
    """Of 50 rounds, across a save and a resume in the middle, which forgets what was recorded."""
    plain, recorded = trainer(tmp_path, *words), trainer(tmp_path, *words)
    recorded.graphs = Repeated()
    assert play(plain, 25) == play(recorded, 25)
    assert recorded.graphs.launched > 25 - 3 * (WARM + 1) and same(state(plain), state(recorded))
    again = trainer(tmp_path, *words)
    again.graphs = Repeated()
    again.load_state_dict(recorded.state_dict())
    assert play(plain, 25) == play(again, 25) and again.graphs.launched
    assert same(state(plain), state(again))


def test_recorded_rounds_are_those_of_streamed_images(tmp_path):
    """Critics move more often in some rounds than in others: each kind of round looks where its images are."""
    words = ["model=wgan_gp", "model.n_critic=2"]
    plain, recorded = trainer(tmp_path, *words), trainer(tmp_path, *words)
    recorded.batches.streamed, recorded.graphs = True, Repeated()
    assert play(plain, 12) == play(recorded, 12) and recorded.graphs.launched
    assert same(state(plain), state(recorded))
    recorded.batches.wait()


def test_numbers_ahead_and_in_tensors_change_nothing_but_roundings(tmp_path):
    """A rate in a tensor has the digits of float32."""
    plain, ahead = trainer(tmp_path, "model=dcgan", ahead=0), trainer(tmp_path, "model=dcgan")
    play(plain, 8), play(ahead, 8)
    for a, b in zip(plain.ema.network.parameters(), ahead.ema.network.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    (one,), (other,) = (made.state_dict()["optimizers"]["G"]["param_groups"] for made in (plain, ahead))
    assert one == {**other, "lr": pytest.approx(other["lr"])}, "a checkpoint is alike on any device"


@pytest.mark.parametrize("flip", [False, True])
def test_batches_brought_ahead_are_the_same(flip):
    data = digits(8)
    one, many = (BatchLoader(data, 32, 10, flip, 0, torch.device("cpu"), prefetch=ahead) for ahead in (0, 5))
    for start, count in (
        (0, 2),
        (2, 2),
        (4, 2),
        (6, 1),
        (100, 7),
        (0, 1),
        (46, 3),
    ):  # 1,500 digits: into the next epoch
        for batches in (one, many):
            batches.prefetch(start, count)
        for _ in range(count):
            (x, c), (y, d) = one.next_batch(), many.next_batch()
            assert torch.equal(x, y) and torch.equal(c, d)


def test_what_cannot_be_recorded_is_played(tmp_path):
    plain, refusing = trainer(tmp_path, "model=dcgan"), trainer(tmp_path, "model=dcgan")
    refusing.graphs = Repeated(fails="an operation that waits")
    assert play(plain, 8) == play(refusing, 8) and same(state(plain), state(refusing))
    assert refusing.graphs.refused == "an operation that waits" and not refusing.graphs.launched


def test_too_many_kinds_end_it(tmp_path):
    """A penalty whose weight changes with every round would be recorded with every round."""
    words = ["model=r3gan", "model.beta2=null"]
    plain, recorded = trainer(tmp_path, *words), trainer(tmp_path, *words)
    recorded.graphs = Repeated()
    assert play(plain, 8) == play(recorded, 8) and not recorded.graphs.launched
    recorded.graphs.recorded = dict.fromkeys(range(MOST), (None, None))
    recorded.graphs.played = Counter(
        {tuple(u.key for u in recorded.objective.updates(recorded.step, recorded.progress)): WARM}
    )
    play(recorded, 1)
    assert recorded.graphs.refused == f"there are more than {MOST} kinds of them"


def test_who_can_be_recorded(tmp_path):
    def reason(*words: str, beta2: Any = None, processes: int = 1, make: Any = torch.optim.Adam) -> str:
        made = trainer(tmp_path, *words)
        return captured.unrecordable(made.graph_safe, [make], beta2, processes)

    assert not reason("model=dcgan") and not reason("model=wgan_gp")
    assert "on the host" in reason("model=unrolled")
    assert "several processes" in reason("model=dcgan", processes=2)
    assert "second momentum" in reason("model=dcgan", beta2=object())
    assert "SGD counts its steps" in reason("model=dcgan", make=torch.optim.SGD)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("words", MODELS.values(), ids=list(MODELS))
def test_on_a_gpu_recorded_rounds_are_those_that_are_played(tmp_path, words):
    runs = []
    for graphs in ("false", "true"):
        register_resolvers()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("train", [*TINY, "trainer.steps=60", *words, "device=cuda", f"trainer.graphs={graphs}"])
        runs.append(Run(cfg, tmp_path / graphs, [], quiet=True).trainer)
    plain, recorded = runs
    assert play(plain, 50) == play(recorded, 50)
    assert recorded.graphs and recorded.graphs.recorded and not recorded.graphs.refused
    assert same(state(plain), state(recorded))
