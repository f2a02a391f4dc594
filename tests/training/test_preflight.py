"""The preflight tries everything once, at full size, and leaves the run the same to the last bit."""

import collections
import copy
import re
from pathlib import Path

import pytest
import torch
from helpers import MODELS, TINY, assert_same, assert_same_runs, crash, rows_of, start

from gancli.runtime.hardware import is_out_of_memory
from gancli.training import Trainer
from gancli.training.preflight import is_long, preflight

TRY = "trainer.preflight=true"


def run_out_of_memory() -> int:
    """Raise what the CPU's allocator raises."""
    torch.empty(2**60)
    return 0


def limit_memory(run, images: int, network: str = "D") -> None:
    """Let batches of more than so many images run out of memory in the updates of this network."""
    updates = run.trainer.objective.updates

    def limited(update):
        def loss(x, c, fakes):
            return update.loss(x, c, fakes) if len(x) <= images else run_out_of_memory()

        return update._replace(loss=loss) if update.network == network else update

    run.trainer.objective.updates = lambda *when: [limited(update) for update in updates(*when)]


@pytest.mark.parametrize("model", MODELS)
def test_a_trial_changes_nothing(model, tmp_path):
    trainer = start(tmp_path, model).trainer
    trainer.train_step(0.0)  # so that optimizers have their state
    before, generator = copy.deepcopy(trainer.state_dict()), torch.get_rng_state()
    preflight(trainer, lambda: 1, lambda: 1)
    assert_same(before, trainer.state_dict())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(p.grad is None for parameters in trainer.parameters.values() for p in parameters)


@pytest.mark.parametrize("model", ["dcgan", "srgan"])
@pytest.mark.slow
def test_a_run_after_a_trial_equals_one_without_and_resumes(model, tmp_path):
    words = ["model.norm=none", "model.penalty.every=2", "model/penalty=r1"] if model == "dcgan" else []
    start(tmp_path / "untried", model, *words, "trainer.preflight=false").train()
    crash(start(tmp_path / "tried", model, *words, TRY))
    start(tmp_path / "tried", model, *words, TRY).train()
    untried, tried = (tmp_path / name for name in ("untried", "tried"))
    assert (tried / "log.txt").read_text().count("preflight: about ") == 2
    assert_same_runs(untried, tried)
    assert {path.suffix for path in tried.rglob("*")} == {path.suffix for path in untried.rglob("*")}


def test_every_phase_is_tried_with_what_is_due_now_and_then(tmp_path, monkeypatch):
    run = start(tmp_path, "srgan", "model/penalty=r1", "model.penalty.every=16", "trainer.steps=1000")
    calls: collections.Counter = collections.Counter()
    apply = Trainer._apply

    def count(trainer, updates):
        calls.update((u.key[1], bool(dict(u.key[2]).get("penalty_weight"))) for u in updates)
        return apply(trainer, updates)

    monkeypatch.setattr(Trainer, "_apply", count)
    trial = preflight(run.trainer, run.try_sample, run.try_save)
    assert sum(calls[key] for key in calls if key[1]) == 1, "the penalty is due in step 0"
    assert {loss.rpartition(".")[2] for loss, _ in calls} == {"content_loss", "discriminator_loss", "generator_loss"}
    assert trial.steps == 1000 and trial.checkpoint_bytes > 100_000 and trial.sample_bytes > 1000


def test_the_forecast_is_logged(gan):
    code, _, error = gan("train", *TINY, "run.dir=run", TRY)
    assert code == 0, error
    line = next(line for line in error.splitlines() if line.startswith("preflight: "))
    pattern = r"preflight: about \d+ s, [\d.]+ MB of disk, [\d.]+ [MG]B of memory at most; tried in [\d.]+ s"
    assert re.fullmatch(pattern, line)
    [event] = [row for row in rows_of(Path("run")) if "disk" in row]
    written = sum(p.stat().st_size for p in Path("run").rglob("*") if p.suffix in (".safetensors", ".png"))
    assert written * 0.8 < event["disk"] < written * 4


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
def test_a_long_run_has_200_steps_or_a_minute(words, long, tmp_path):
    assert is_long(start(tmp_path, "mlp", *words).trainer) == long


@pytest.mark.parametrize(
    ("words", "network", "images", "advice"),
    [
        (["model=mlp"], "D", 3, "data.batch_size=2, or trainer.accumulate=4 to compute the same batch in parts$"),
        (["model=mlp", "trainer.accumulate=2"], "D", 3, "data.batch_size=4, or trainer.accumulate=4 "),
        (["model=mlp"], "G", 7, "data.batch_size=4"),
        (["model=cgan"], "D", 3, "data.batch_size=2$"),  # drifting compares the images of a batch
        (["model=mlp", "model.packing=4"], "D", 5, "data.batch_size=4"),
        (["model=srgan"], "D", 5, "data.batch_size=4"),  # D is trained in the second half only
        (["model=mlp", "model.packing=4"], "D", 3, "not even one image"),  # packing takes no fewer than four
    ],
)
def test_out_of_memory_names_the_batch_that_fits_and_the_parts_of_one_that_does_not(
    words, network, images, advice, tmp_path
):
    run = start(tmp_path, "mlp", *words)
    limit_memory(run, images, network)
    with pytest.raises(ValueError, match=advice):
        preflight(run.trainer, run.try_sample, run.try_save)


def test_other_errors_are_raised_as_they_are(tmp_path):
    run = start(tmp_path, "mlp")
    run.trainer.objective.generator_terms = lambda *_: {"G/adversarial": torch.zeros(3) @ torch.zeros(4)}
    with pytest.raises(RuntimeError, match="size"):
        preflight(run.trainer, run.try_sample, run.try_save)
    with pytest.raises(ValueError, match=r"trainer\.sample_rows=2"):
        preflight(start(tmp_path / "other", "mlp").trainer, run_out_of_memory, run.try_save)


def test_the_message_of_every_allocator_is_recognised():
    with pytest.raises(RuntimeError) as cpu:
        run_out_of_memory()
    errors = [cpu.value, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]
    errors += [RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")]
    assert all(map(is_out_of_memory, errors))
    assert not any(map(is_out_of_memory, [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError()]))


def test_a_full_disk_is_reported_before_the_run(gan, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: collections.namedtuple("Usage", "free")(50_000))
    code, _, error = gan("train", *TINY, "run.dir=run", TRY, "trainer.keep_every=1")
    assert code == 1 and re.search(r"needs about [\d.]+ MB of disk, for 9 checkpoints .*0\.1 MB are free", error), error


@pytest.mark.parametrize(
    ("model", "change"), [("model=cgan", "data.batch_size: 8 -> 4"), ("model=mlp", "trainer.accumulate: 1 -> 2")]
)
def test_out_of_memory_during_training_says_what_is_safe_and_what_to_type(model, change, gan, monkeypatch):
    next_batch = Trainer.next_batch

    def limited(trainer):
        whole = trainer.batches.batch_size // trainer.accumulate == 8
        return run_out_of_memory() if trainer.step == 5 and whole else next_batch(trainer)

    monkeypatch.setattr(Trainer, "next_batch", limited)
    code, _, error = gan("train", *TINY, model, "run.dir=run")
    assert code == 1 and "out of memory at step 5 with data.batch_size=8" in error
    assert "the checkpoint of step 4 is safe" in error
    typed = re.search(r"type gan train (resume=run) (\S+) (resume.allow=\S+)", error)
    assert typed
    code, _, error = gan("train", *typed.groups())
    assert code == 0 and f"changed: {change}" in error, error
