"""A run that is continued: with the config it was begun with, by one process at a time, its log cut to its step."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import TINY, assert_same, config, interrupted, learned, start, without_clocks

from gancli.checkpoint import format as checkpoint
from gancli.config import flatten
from gancli.runtime import locks
from gancli.runtime.locks import RunBusy, RunLock
from gancli.training.config_diff import changes

LONGER = "trainer.steps=8"


def resolved(*overrides: str) -> tuple[dict, object]:
    from omegaconf import OmegaConf

    cfg = config(*overrides)
    cfg.data.update(size=16, channels=3, classes=4)
    return OmegaConf.to_container(cfg, resolve=True), cfg


def test_of_what_follows_from_a_change_only_the_change_is_told():
    before, _ = resolved("model=dcgan")
    assert changes(before, resolved("model=dcgan", "trainer.steps=9", "run.dir=x", "device=cuda")[1]) == {}
    # One number, which reaches both optimizers; one that is computed with; one in an inner list.
    assert changes(before, resolved("model.lr=1e-3")[1]) == {"model.lr": (2e-4, 1e-3)}
    assert changes(before, resolved("model.packing=2")[1]) == {"model.packing": (1, 2)}
    assert changes(before, resolved("model.betas=[0.0,0.9]")[1]) == {"model.betas": ([0.5, 0.999], [0.0, 0.9])}
    # The same number at another place is another change.
    words = ["model.lr=1e-3", "model.optimizers.D.lr=5e-4", "trainer.clip=1"]
    assert list(changes(before, resolved(*words)[1])) == ["model.lr", "trainer.clip", "model.optimizers.D.lr"]


@pytest.mark.parametrize("model", ["mlp", "r3gan", "srgan", "cgan"])
def test_changes_are_told_between_any_two_models(model):
    before, _ = resolved("model=dcgan")
    found = changes(before, resolved(f"model={model}")[1])
    assert found["model.name"] == ("dcgan", model) and all(was != now for was, now in found.values())


def test_another_config_is_refused_with_every_change_and_nothing_is_touched(gan):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    words = ["train", *TINY, "run.dir=run", LONGER, "model.lr=1e-3", "trainer.clip=1"]
    code, _, error = gan(*words)
    assert code == 1 and len(error.splitlines()) == 1
    assert "model.lr: 0.0002 -> 0.001; trainer.clip: 0.0 -> 1" in error and "optimizers" not in error
    assert "resume.allow=[model.lr,trainer.clip]" in error
    code, _, error = gan(*words, "resume.allow=model.lr")
    assert code == 1 and "trainer.clip: 0.0 -> 1" in error and "model.lr: " not in error
    code, _, error = gan(*words, "resume.allow=[model.lrr]")
    assert code == 1 and "did you mean model.lr?" in error
    code, _, error = gan("train", *TINY, "run.dir=run", LONGER, "model.width=8", "resume.allow=[model.width]")
    assert code == 1 and "does not fit model.width: 4 -> 8" in error and len(error.splitlines()) == 1, error
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


def test_a_change_that_is_allowed_is_taken_and_written_down(gan):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    words = ["train", *TINY, "run.dir=run", LONGER, "model.lr=1e-3", "model/penalty=r1"]
    code, _, error = gan(*words, "resume.allow=[model.lr,model.penalty]")
    assert code == 0, error
    assert "changed: model.lr: 0.0002 -> 0.001; model.penalty" in Path("run/log.txt").read_text()
    events = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if "event" in e] == ["started", "finished", "resumed", "changed", "finished"]
    assert events[-3]["lr"] == 1e-3
    assert gan(*words)[0] == 0, "from then on it is the config of the run"


def test_a_state_brings_no_old_value_of_an_optimizer_back(tmp_path):
    start(tmp_path / "run", "dcgan").train()
    new = ["model.lr=1e-3", "model.betas=[0.2,0.9]"]
    new += [f"+model.optimizers.{p}.{key}" for p in "GD" for key in ("weight_decay=0.1", "eps=1e-3")]
    names = "model.lr,model.betas,model.optimizers"
    run = start(tmp_path / "run", "dcgan", *new, LONGER, f"resume.allow=[{names}]")
    for optimizer in run.trainer.optimizers.values():
        assert len(optimizer.state), "the momenta are there"
    run.trainer.train_step(0.5)
    for optimizer in run.trainer.optimizers.values():
        group = optimizer.param_groups[0]
        now = (group["lr"], tuple(group["betas"]), group["eps"], group["weight_decay"])
        assert now == (1e-3, (0.2, 0.9), 1e-3, 0.1)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    """Its log was longer than its last checkpoint knows, and ends in the middle of a line."""
    words = ["trainer.log_every=1", "trainer.checkpoint_every=2"]
    start(tmp_path / "whole", "mlp", *words).train()
    interrupted(tmp_path / "killed", "mlp", *words)
    metrics, last = (tmp_path / "killed" / name for name in ("metrics.jsonl", "checkpoints/last.safetensors"))
    for thread in threading.enumerate():
        if "_write" in thread.name:  # beside the training; what is killed for good may lose this one too
            thread.join()
    assert '"step": 3' in metrics.read_text() and checkpoint.read(last)["step"] == 2
    with metrics.open("ab") as file:
        file.write(b'{"step": 4, "kimg": 0.0\x00')
    start(tmp_path / "killed", "mlp", *words).train()
    assert_same(*(learned(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "killed")))
    assert without_clocks(tmp_path / "whole" / "metrics.jsonl") == without_clocks(metrics)


def test_a_checkpoint_of_before_these_keys_resumes(tmp_path):
    """What is new in a config and changes nothing that is learned is not held against a run that does not know it."""
    before, cfg = resolved("model=dcgan")
    for key in ("resume", "deterministic"):
        before.pop(key, None)
    before["trainer"].pop("preflight", None)
    assert changes(before, cfg) == {} and "resume.allow" not in flatten(before)


HOLD = "import sys, time; from pathlib import Path; from gancli.training.config_diff import RunLock\n"


def holder(folder: Path) -> subprocess.Popen:
    """Another process that trains in the folder, as far as anybody can see."""
    code = HOLD + f"with RunLock(Path({str(folder)!r})):\n    print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    return other


def test_a_second_process_is_refused_and_a_lock_dies_with_its_holder(gan, tmp_path):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    words = ["train", *TINY, "run.dir=run", LONGER]
    other = holder(tmp_path / "run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, _, error = gan(*words)
    assert code == 1 and f"process {other.pid} on " in error and "since 20" in error and len(error.splitlines()) == 1
    # In a sweep it is nobody's failure; and who only reads is not kept out.
    tiny = [word for word in TINY if "steps" not in word]
    code, _, error = gan("train", "-m", *tiny, "trainer.steps=1", "run.dir=.", "hydra.sweep.subdir=run")
    assert code == 0 and "skipped: another process trains in" in error, error
    assert gan("report", "run")[0] == 0 and gan("sample", "run", "n=1")[0] == 0
    after = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert before == after | {path: before[path] for path in before if path.name == "index.html"}
    other.kill()
    other.wait()
    assert (tmp_path / "run" / ".lock").exists(), "its file is left, its lock is not"
    assert gan(*words)[0] == 0 and not (tmp_path / "run" / ".lock").exists()


def test_without_locks_a_line_of_the_log_says_so(gan, monkeypatch):
    def refuse(file: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(locks, "lock_file", refuse)
    code, _, error = gan("train", *TINY, "run.dir=run")
    assert code == 0 and "this file system has no locks" in error and "no locks" in Path("run/log.txt").read_text()


def test_a_lock_whose_file_was_taken_away_meanwhile_is_taken_again(tmp_path, monkeypatch):
    """Its holder ended between our opening and our locking: what we hold is a file that nobody else will find."""
    real, times = locks.lock_file, []

    def late(file: int) -> None:
        times.append(file)
        if len(times) == 1:
            (tmp_path / ".lock").unlink()
        real(file)

    monkeypatch.setattr(locks, "lock_file", late)
    with RunLock(tmp_path):
        assert len(times) == 2 and str(os.getpid()) in (tmp_path / ".lock").read_text()
        with pytest.raises(RunBusy, match=f"process {os.getpid()}"), RunLock(tmp_path):
            pass
    assert not any(tmp_path.iterdir())
