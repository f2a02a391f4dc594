"""Tests that need a GPU: CUDA graphs, streamed batches, steps that wait for nothing. Run with `make test-gpu`."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import GRAPHS, N, assert_same, start
from torch.utils._python_dispatch import TorchDispatchMode

from gancli.data import dataset
from gancli.data.builtin import mnist10k
from gancli.data.loader import BatchLoader

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
aten = torch.ops.aten


def trainer(folder: Path, *words: str) -> Any:
    return start(folder, "dcgan", "device=cuda", "trainer.steps=60", "data.flip=true", *words).trainer


def state(trainer: Any) -> dict[str, Any]:
    return {key: value for key, value in trainer.state_dict().items() if key != "seconds"}


@pytest.mark.parametrize("words", GRAPHS.values(), ids=list(GRAPHS))
def test_replayed_steps_equal_eager_ones(tmp_path, words):
    trainers = [trainer(tmp_path / graphs, *words, f"trainer.graphs={graphs}") for graphs in ("false", "true")]
    for _ in range(50):
        for t in trainers:
            t.train_step(t.progress)
    eager, replayed = trainers
    assert replayed.graphs and replayed.graphs.replays and not replayed.graphs.failure
    assert eager.read_terms() == replayed.read_terms()
    assert_same(state(eager), state(replayed))


class Copies(TorchDispatchMode):
    """Sums the bytes that are copied from the host to a device."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        source = args[0] if func.overloadpacket is aten._to_copy else args[1] if func is aten.copy_.default else None
        if source is not None and source.device.type == "cpu" and result.device.type != "cpu":
            self.bytes += source.numel() * source.element_size()
        return result


@pytest.mark.parametrize("model", ["mlp", "dcgan", "cgan", "sngan_proj", "wgan_gp"])
def test_a_step_copies_indices_alone_and_waits_for_nothing(model):
    with tempfile.TemporaryDirectory() as folder:
        t = trainer(Path(folder), f"model={model}", "trainer.graphs=false")
    t.train_step(0.6)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with Copies() as copies:
            t.train_step(0.6)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    # For an image its index, to find it and to find its class, and whether it is flipped.
    assert copies.bytes <= N * (8 + 8 + 1) * (t.objective.n_critic + 1)


def test_a_run_resumes_on_another_device(tmp_path):
    start(tmp_path, "dcgan", "device=cuda").train()
    run = start(tmp_path, "dcgan", "trainer.steps=8")
    run.train()
    assert run.trainer.step == 8 and all(p.isfinite().all() for p in run.trainer.parameters["G"])


def test_a_gpu_without_space_for_the_data_gets_the_same_batches(monkeypatch):
    data, device = mnist10k(8), torch.device("cuda")
    resident = BatchLoader(data, 4, 10, True, 5, device, prefetch=3)
    monkeypatch.setattr(dataset, "free_memory", lambda device: 0.0)
    streamed = BatchLoader(replace(data, mapped=True), 4, 10, True, 5, device, prefetch=3)
    assert streamed.streamed and not resident.streamed
    for n in range(0, 20, 2):
        for batches in (resident, streamed):
            batches.prefetch(n, 2)
        for _ in range(2):
            assert_same(list(streamed.next_batch()), list(resident.next_batch()))
