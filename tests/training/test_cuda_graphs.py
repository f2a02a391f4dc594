"""Captured and replayed steps, with a stand-in for CUDA's graphs; tests/test_gpu.py has the real ones."""

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import GRAPHS, assert_same, start

from gancli.runtime import ranks
from gancli.training.cuda_graphs import MAX_PHASES, WARM_UP, CudaGraphs, why_not


class RepeatedCalls(CudaGraphs):
    """Captures the call itself, with everything that Python had decided by then, and replays it by calling again."""

    def __init__(self, fails: str = ""):
        self.device, self.replays, self.eager_steps, self.results, self.failure = None, {}, Counter(), {}, ""
        self.fails, self.replayed = fails, 0

    def capture(self, run: Callable[[], Any]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError(self.fails)

        def replay() -> None:
            self.replayed += 1
            run()

        return replay

    def side_stream(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def trainer(tmp_path: Any, *words: str, graphs: CudaGraphs | None = None) -> Any:
    """Return a trainer that keeps its scalars in tensors, as on a GPU."""
    result = start(tmp_path / "run", "dcgan", "trainer.steps=60", "data.flip=true", *words).trainer
    result.batches.prefetch_count = 7
    result.use_device_scalars()
    result.graphs = graphs
    return result


def train(trainer: Any, steps: int) -> list[dict[str, float]]:
    terms = []
    for _ in range(steps):
        trainer.train_step(trainer.progress)
        if trainer.step % 4 == 0:
            terms.append(trainer.read_terms())
    return terms


def assert_same_state(a: Any, b: Any) -> None:
    assert_same(*({k: v for k, v in t.state_dict().items() if k != "seconds"} for t in (a, b)))


@pytest.mark.slow
@pytest.mark.parametrize("words", GRAPHS.values(), ids=list(GRAPHS))
def test_replayed_steps_equal_eager_ones_across_a_resume(tmp_path, words):
    eager, replayed = trainer(tmp_path, *words), trainer(tmp_path, *words, graphs=RepeatedCalls())
    assert train(eager, 25) == train(replayed, 25)
    assert replayed.graphs.replayed > 25 - 3 * (WARM_UP + 1)
    resumed = trainer(tmp_path, *words, graphs=RepeatedCalls())
    resumed.load_state_dict(replayed.state_dict())
    assert train(eager, 25) == train(resumed, 25) and resumed.graphs.replayed
    assert_same_state(eager, resumed)


def test_replayed_steps_of_streamed_images_equal_eager_ones(tmp_path):
    """Phases differ in their number of batches: each finds its images at the address of its capture."""
    words = ["model=wgan_gp", "model.n_critic=2"]
    eager, replayed = trainer(tmp_path, *words), trainer(tmp_path, *words, graphs=RepeatedCalls())
    replayed.batches.streamed = True
    assert train(eager, 12) == train(replayed, 12) and replayed.graphs.replayed
    assert_same_state(eager, replayed)
    replayed.batches.wait()


def test_scalars_in_tensors_change_only_roundings(tmp_path):
    floats, tensors = start(tmp_path / "floats", "dcgan", "data.flip=true").trainer, trainer(tmp_path)
    train(floats, 3), train(tensors, 3)
    for a, b in zip(floats.ema.network.parameters(), tensors.ema.network.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    (one,), (other,) = (t.state_dict()["optimizers"]["G"]["param_groups"] for t in (floats, tensors))
    assert one == {**other, "lr": pytest.approx(other["lr"])}, "checkpoints are equal on every device"


def test_a_failed_capture_leaves_steps_eager(tmp_path):
    eager, failing = trainer(tmp_path), trainer(tmp_path, graphs=RepeatedCalls(fails="an operation that waits"))
    assert train(eager, 8) == train(failing, 8)
    assert failing.graphs.failure == "an operation that waits" and not failing.graphs.replayed
    assert_same_state(eager, failing)


def test_too_many_phases_end_the_captures(tmp_path):
    """A penalty whose weight changes with every step would be captured with every step."""
    changing = trainer(tmp_path, "model=r3gan", "model.beta2=null", "model.penalty.every=1", graphs=RepeatedCalls())
    train(changing, 8)
    assert not changing.graphs.replayed
    changing.graphs.replays = dict.fromkeys(range(MAX_PHASES))
    changing.graphs.eager_steps = Counter(
        {tuple(update.key for update in changing.objective.updates(changing.step, changing.progress)): WARM_UP}
    )
    train(changing, 1)
    assert changing.graphs.failure == f"there are more than {MAX_PHASES} phases"


def test_reasons_against_cuda_graphs(monkeypatch):
    assert why_not(True, [torch.optim.Adam], None) == ""
    assert "model.graph_safe=false" in why_not(False, [torch.optim.Adam], None)
    assert "second momentum" in why_not(True, [torch.optim.Adam], object())
    assert "SGD counts its steps" in why_not(True, [torch.optim.SGD], None)
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    assert "several processes" in why_not(True, [torch.optim.Adam], None)
