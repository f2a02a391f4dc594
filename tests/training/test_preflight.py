"""Before a long run everything is tried once, at full size, and the run is then the same to the last bit."""

import collections
import copy
import json
import re
from pathlib import Path

import pytest
import torch
from helpers import MODELS, TINY, assert_same, interrupted, learned, start, without_clocks

from gancli.runtime.hardware import is_out_of_memory
from gancli.training.preflight import is_long, preflight

LONG = ["trainer.preflight=true"]


def no_more_memory() -> None:
    """What the processor's allocator says where there is none."""
    torch.empty(2**60)


def limited(run, most: int, player: str = "D") -> None:
    """A run whose batches, in this player's moves, may have so many images."""
    updates = run.trainer.objective.updates

    def checked(loss):
        def within(x, c, fakes):
            if len(x) > most:
                no_more_memory()
            return loss(x, c, fakes)

        return within

    run.trainer.objective.updates = lambda *when: [
        u._replace(loss=checked(u.loss)) if u.network == player else u for u in updates(*when)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_what_is_tried_changes_nothing(model, tmp_path):
    run = start(tmp_path / "run", model)
    trainer = run.trainer
    trainer.round(0.0)  # there are momenta then
    before, noise = copy.deepcopy(trainer.state_dict()), torch.get_rng_state()
    preflight(trainer, lambda: 1, lambda: 1)
    assert_same(before, trainer.state_dict())
    assert torch.equal(noise, torch.get_rng_state())
    assert all(p.grad is None for parameters in trainer.parameters.values() for p in parameters)


@pytest.mark.parametrize("model", ["dcgan", "srgan"])
def test_a_run_with_it_is_the_run_without_it(model, tmp_path):
    """Killed on the way and resumed, so that it is tried at the beginning and in the middle, with momenta."""
    words = ["model/augment=ada", "model.penalty.every=2", "model/penalty=r1"] if model == "dcgan" else []
    start(tmp_path / "plain", model, *words).train()
    interrupted(tmp_path / "tried", model, *words, *LONG)
    start(tmp_path / "tried", model, *words, *LONG).train()
    plain, tried = (tmp_path / name for name in ("plain", "tried"))
    assert (tried / "log.txt").read_text().count("preflight: about ") == 2
    assert_same(*(learned(folder / "checkpoints" / "last.safetensors") for folder in (plain, tried)))
    assert without_clocks(tried / "metrics.jsonl") == without_clocks(plain / "metrics.jsonl")
    assert {path.suffix for path in tried.rglob("*")} == {path.suffix for path in plain.rglob("*")}


def test_every_phase_is_tried_and_what_is_due_now_and_then(tmp_path, monkeypatch):
    run = start(tmp_path / "run", "srgan", "model/penalty=r1", "model.penalty.every=16", "trainer.steps=1000")
    played: collections.Counter[str] = collections.Counter()
    for name in ("content_loss", "discriminator_loss", "generator_loss"):
        real = getattr(type(run.trainer.objective), name)

        def counted(self, *args, name=name, real=real, **kwargs):
            played[name] += 1
            return real(self, *args, **kwargs)

        counted.__qualname__ = name
        monkeypatch.setattr(type(run.trainer.objective), name, counted)
    penalised = []
    real_penalty = type(run.trainer.objective.penalty).__call__
    monkeypatch.setattr(
        type(run.trainer.objective.penalty), "__call__", lambda *args: penalised.append(1) or real_penalty(*args)
    )
    trial = preflight(run.trainer, run.try_picture, run.try_save)
    assert played.keys() == {"content_loss", "discriminator_loss", "generator_loss"} and max(played.values()) <= 3
    assert len(penalised) == 1
    assert trial.rounds == 1000 and trial.checkpoint_bytes > 100_000 and trial.picture_bytes > 1000


def test_its_line_says_what_the_run_will_take(gan):
    code, _, error = gan("train", *TINY, "run.dir=run", *LONG)
    assert code == 0, error
    line = next(line for line in error.splitlines() if line.startswith("preflight: "))
    assert re.fullmatch(
        r"preflight: about \d+ s, [\d.]+ MB of disk, [\d.]+ [MG]B of memory at most; tried in [\d.]+ s", line
    )
    event = next(row for row in map(json.loads, Path("run/metrics.jsonl").read_text().splitlines()) if "disk" in row)
    there = sum(path.stat().st_size for path in Path("run").rglob("*") if path.suffix in (".safetensors", ".png"))
    assert there * 0.8 < event["disk"] < there * 4


@pytest.mark.parametrize(
    ("words", "long"),
    [
        (["trainer.steps=199"], False),
        (["trainer.steps=200"], True),
        (["trainer.steps=null", "trainer.minutes=0.9"], False),
        (["trainer.steps=null", "trainer.minutes=1"], True),
        (["trainer.minutes=60"], False),  # and 6 steps
        (["trainer.steps=null", "trainer.kimg=1.7"], True),
    ],
)
def test_a_long_run_is_200_rounds_or_a_minute(words, long, tmp_path):
    assert is_long(start(tmp_path / "run", "mlp", *words).trainer) == long


@pytest.mark.parametrize(
    ("words", "player", "most", "fits"),
    [
        ([], "D", 3, "data.batch_size=2"),
        ([], "G", 7, "data.batch_size=4"),
        (["model.packing=4"], "D", 5, "data.batch_size=4"),
        (["model=srgan"], "D", 5, "data.batch_size=4"),  # D plays in the second half only
        (["model.packing=4"], "D", 3, "not even one image"),  # packing takes no fewer than four
    ],
)
def test_out_of_memory_names_the_batch_that_fits(words, player, most, fits, tmp_path):
    run = start(tmp_path / "run", "mlp" if "model=srgan" not in words else "srgan", *words)
    limited(run, most, player)
    with pytest.raises(ValueError, match=fits):
        preflight(run.trainer, run.try_picture, run.try_save)


def test_what_is_no_lack_of_memory_is_told_as_it_is(tmp_path):
    run = start(tmp_path / "run", "mlp")
    run.trainer.objective.generator_terms = lambda x, c, fake: {"G/adversarial": torch.zeros(3) @ torch.zeros(4)}
    with pytest.raises(RuntimeError, match="size"):
        preflight(run.trainer, run.try_picture, run.try_save)
    with pytest.raises(ValueError, match=r"trainer\.sample_rows=2"):
        preflight(start(tmp_path / "other", "mlp").trainer, no_more_memory, run.try_save)  # type: ignore[arg-type]


def test_every_allocator_is_understood():
    with pytest.raises(RuntimeError) as ours:
        no_more_memory()
    said = [ours.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]
    said += [RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")]
    assert all(is_out_of_memory(error) for error in said)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) and not is_out_of_memory(
        OSError()
    )


def test_a_disk_that_will_not_do_is_told_before_the_run_begins(gan, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: collections.namedtuple("Usage", "free")(50_000))
    code, _, error = gan("train", *TINY, "run.dir=run", *LONG, "trainer.keep_every=1")
    assert code == 1 and re.search(r"needs about [\d.]+ MB of disk, for 9 checkpoints .*0\.1 MB are free", error), error


def test_out_of_memory_on_the_way_names_what_is_safe_and_what_to_type(gan, monkeypatch):
    from gancli.training import Trainer

    real = Trainer.round

    def grows(trainer, progress):
        if trainer.step == 5 and trainer.batches.batch_size == 8:
            no_more_memory()
        real(trainer, progress)

    monkeypatch.setattr(Trainer, "round", grows)
    words = ["train", *TINY, "run.dir=run"]
    code, _, error = gan(*words)
    assert code == 1 and "out of memory at step 5 with data.batch_size=8" in error
    assert "the checkpoint of step 4 is safe" in error
    typed = re.search(r"with (data.batch_size=\S+) (resume.allow=\S+)", error)
    assert typed
    code, _, error = gan(*words, *typed.groups())
    assert code == 0 and "changed: data.batch_size: 8 -> 4" in error, error
