"""Resuming: with the same config, by one process at a time, from the step of the last checkpoint."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import TINY, assert_same_runs, config, crash, rows_of, start
from omegaconf import OmegaConf
from PIL import Image

from gancli.checkpoint import format as checkpoint
from gancli.report.run_folder import read_run
from gancli.runtime import locks
from gancli.runtime.locks import RunBusy, RunLock
from gancli.training.checkpoint_manager import LAST
from gancli.training.config_diff import changes
from gancli.training.run_log import save_config

LONGER = "trainer.steps=8"


def resolved(*overrides: str) -> tuple[dict, object]:
    cfg = config(*overrides)
    cfg.data.update(size=16, channels=3, classes=4)
    return OmegaConf.to_container(cfg, resolve=True), cfg


def files(run: str = "run") -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}


# --- config


def test_only_the_change_itself_is_reported_not_what_follows_from_it():
    before, cfg = resolved("model=dcgan")
    assert changes(before, resolved("model=dcgan", "trainer.steps=9", "run.dir=x", "device=cpu")[1]) == {}
    assert changes(resolved("model=cgan")[0], resolved("model=cgan", "device=cuda")[1]) == {}
    # A number that reaches both optimizers, one that others are computed from, and one in a list.
    assert changes(before, resolved("model=dcgan", "model.lr=1e-3")[1]) == {"model.lr": (5e-4, 1e-3)}
    assert changes(before, resolved("model=dcgan", "model.packing=2")[1]) == {"model.packing": (1, 2)}
    assert changes(before, resolved("model=dcgan", "model.betas=[0.0,0.9]")[1]) == {
        "model.betas": ([0.5, 0.999], [0.0, 0.9])
    }
    # The same number in another place is another change.
    words = ["model=dcgan", "model.lr=1e-3", "model.optimizers.D.lr=7e-4", "trainer.clip=1"]
    assert list(changes(before, resolved(*words)[1])) == ["model.lr", "trainer.clip", "model.optimizers.D.lr"]
    # Keys that an older version did not know and that do not change what is learned.
    del before["resume"], before["deterministic"], before["trainer"]["preflight"]
    assert changes(before, cfg) == {}


@pytest.mark.parametrize("model", ["mlp", "r3gan", "srgan", "cgan"])
def test_changes_are_reported_between_any_two_models(model):
    changed = changes(resolved("model=dcgan")[0], resolved(f"model={model}")[1])
    assert changed["model.name"] == ("dcgan", model) and all(old != new for old, new in changed.values())


@pytest.mark.slow
def test_another_config_is_refused_with_every_change_and_nothing_is_touched(gan):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    before = files()
    words = ["train", *TINY, "run.dir=run", LONGER, "model.lr=2e-3", "trainer.clip=1"]
    code, _, error = gan(*words)
    assert code == 1 and len(error.splitlines()) == 1
    assert "model.lr: 0.001 -> 0.002; trainer.clip: 0.0 -> 1" in error and "optimizers" not in error
    assert "resume.allow=[model.lr,trainer.clip]" in error
    code, _, error = gan(*words, "resume.allow=model.lr")
    assert code == 1 and "trainer.clip: 0.0 -> 1" in error and "model.lr: " not in error
    code, _, error = gan(*words, "resume.allow=[model.lrr]")
    assert code == 1 and "did you mean model.lr?" in error
    code, _, error = gan("train", *TINY, "run.dir=run", LONGER, "model.width=8", "resume.allow=[model.width]")
    assert code == 1 and "does not fit model.width: 4 -> 8" in error and len(error.splitlines()) == 1, error
    assert before == files()


@pytest.mark.slow
def test_allowed_changes_are_applied_and_logged(gan):
    assert gan("train", *TINY, "model=dcgan", "run.dir=run")[0] == 0
    words = ["train", *TINY, "model=dcgan", "run.dir=run", LONGER, "model.lr=2e-3", "model/penalty=r1"]
    code, _, error = gan(*words, "resume.allow=[model.lr,model.penalty]")
    assert code == 0, error
    assert "changed: model.lr: 0.0005 -> 0.002; model.penalty" in Path("run/log.txt").read_text()
    rows = rows_of(Path("run"))
    events = [row["event"] for row in rows if row.get("event", "grids") != "grids"]
    assert events == ["started", "finished", "resumed", "changed", "finished"]
    assert rows[-3]["lr"] == 2e-3
    assert gan(*words)[0] == 0, "from then on it is the config of the run"


def test_a_checkpoint_does_not_restore_old_options_of_an_optimizer(tmp_path):
    start(tmp_path, "dcgan").train()
    new = ["model.lr=1e-3", "model.betas=[0.2,0.9]"]
    new += [f"+model.optimizers.{name}.{key}" for name in "GD" for key in ("weight_decay=0.1", "eps=1e-3")]
    run = start(tmp_path, "dcgan", *new, LONGER, "resume.allow=[model.lr,model.betas,model.optimizers]")
    assert all(len(optimizer.state) for optimizer in run.trainer.optimizers.values())
    run.trainer.train_step(0.5)
    for optimizer in run.trainer.optimizers.values():
        group = optimizer.param_groups[0]
        options = (group["lr"], tuple(group["betas"]), group["eps"], group["weight_decay"])
        assert options == (1e-3, (0.2, 0.9), 1e-3, 0.1)


# --- a killed run


def test_a_killed_run_resumes_as_if_it_had_not_been(tmp_path):
    """Its log is longer than its last checkpoint, and ends in the middle of a line."""
    words = ["trainer.log_every=1", "trainer.checkpoint_every=2"]
    start(tmp_path / "whole", "mlp", *words).train()
    crash(start(tmp_path / "killed", "mlp", *words))
    metrics, last = (tmp_path / "killed" / name for name in ("metrics.jsonl", f"checkpoints/{LAST}"))
    for thread in threading.enumerate():
        if "_write" in thread.name:  # a save in progress, which a real kill would end too
            thread.join()
    assert '"step": 3' in metrics.read_text() and checkpoint.read(last)["step"] == 2
    with metrics.open("ab") as file:
        file.write(b'{"step": 4, "kimg": 0.0\x00')
    start(tmp_path / "killed", "mlp", *words).train()
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


# --- locks

HOLD = """
import sys, time
from pathlib import Path
from gancli.runtime.locks import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_second_process_is_refused_and_a_lock_ends_with_its_process(gan, tmp_path):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    words = ["train", *TINY, "run.dir=run", LONGER]
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    before = files()
    code, _, error = gan(*words)
    assert code == 1 and f"process {other.pid} on " in error and "since 20" in error and len(error.splitlines()) == 1
    # In a sweep it is no failure, and reading is allowed.
    tiny = [word for word in TINY if "steps" not in word]
    code, _, error = gan("train", "-m", *tiny, "trainer.steps=1", "run.dir=.", "hydra.sweep.subdir=run")
    assert code == 0 and "skipped: another process trains in" in error, error
    assert gan("report", "run")[0] == 0 and gan("sample", "run", "n=1")[0] == 0
    assert before == files() | {path: before[path] for path in before if path.name == "index.html"}
    other.kill()
    other.wait()
    assert (tmp_path / "run" / ".lock").exists(), "its file is left, its lock is not"
    assert gan(*words)[0] == 0 and not (tmp_path / "run" / ".lock").exists()


def test_a_file_system_without_locks_gives_a_warning(gan, monkeypatch):
    def refuse(file: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(locks, "lock_file", refuse)
    code, _, error = gan("train", *TINY, "run.dir=run")
    assert code == 0 and "warning: this file system" in error and "locks" in Path("run/log.txt").read_text()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    """The holder ended between open and lock: another process would not see a lock on the removed file."""
    hold, calls = locks.lock_file, []

    def late(file: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        hold(file)

    monkeypatch.setattr(locks, "lock_file", late)
    with RunLock(tmp_path):
        assert len(calls) == 2 and str(os.getpid()) in (tmp_path / ".lock").read_text()
        with pytest.raises(RunBusy, match=f"process {os.getpid()}"), RunLock(tmp_path):
            pass
    assert not any(tmp_path.iterdir())


# --- the folder alone


@pytest.mark.slow
def test_a_folder_alone_resumes_with_its_own_config_and_typed_keys_are_checked(gan):
    words = [*TINY, "model=cgan", "model/penalty=r1", "model.lr=1e-3"]
    assert gan("train", *words, "run.dir=outputs/a b+é")[0] == 0
    code, _, error = gan("train", "run.dir=outputs/a b+é")
    assert code == 0 and "finished (6 steps)" in error and "resume=outputs/a b+é' trainer.steps=12" in error, error
    assert gan("train", "resume=latest", LONGER)[0] == 0
    before = files("outputs")
    code, _, error = gan("train", "resume=latest", "model.lr=1e-4", "trainer.steps=9")
    assert code == 1 and "model.lr: 0.001 -> 0.0001;" in error and before == files("outputs")
    code, _, error = gan("train", "resume=latest", "model.lr=1e-4", "trainer.steps=9", "resume.allow=[model.lr]")
    assert code == 0 and "changed: model.lr" in error, error
    Path("outputs/a b+é/metrics.jsonl").unlink()  # the words that started it
    assert gan("train", "resume=outputs/a b+é", "trainer.steps=10")[0] == 0
    saved = OmegaConf.load("outputs/a b+é/config.yaml")
    assert (saved.model.lr, saved.model.penalty.weight, saved.trainer.steps) == (1e-4, 1.0, 10)


@pytest.mark.slow
def test_the_same_images_elsewhere_are_the_same_data_and_other_images_are_named(gan, tmp_path):
    (tmp_path / "pics").mkdir()
    for i in range(9):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(tmp_path / "pics" / f"{i}.png")
    tiny = [word for word in TINY if not word.startswith(("data=", "data.n="))]
    assert gan("train", *tiny, "data=folder", "data.path=pics", "run.dir=run")[0] == 0
    assert gan("train", "resume=run", f"data.path={tmp_path / 'pics'}", "trainer.steps=7")[0] == 0
    Path("pics").rename("moved")
    assert gan("train", "resume=run", "data.path=moved/", LONGER)[0] == 0
    Path("moved/0.png").unlink()
    code, _, error = gan("train", "resume=run", "trainer.steps=9")
    assert code == 1 and "data.content: data.path 9 images -> 8 images" in error, error
    assert gan("train", "resume=run", "trainer.steps=9", "resume.allow=[data.content]")[0] == 0


@pytest.mark.slow
def test_classes_of_other_names_are_never_matched_silently(gan, tmp_path):
    for name, shade in (("apples", 50), ("pears", 200)):
        (tmp_path / "fruit" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (16, 16), (shade, i, 0)).save(tmp_path / "fruit" / name / f"{i}.png")
    train = ["train", *(word for word in TINY if not word.startswith("data=synthetic") and word != "data.n=64")]
    train += ["data=folder", "data.path=fruit", "model=cgan", "trainer.steps=1"]
    assert gan(*train, "run.dir=a")[0] == 0
    (tmp_path / "fruit" / "apples").rename(tmp_path / "fruit" / "red_apples")  # now the last of the two
    code, _, error = gan(*train, "run.dir=a", "trainer.steps=2")
    assert code == 1 and "apples, pears" in error and "pears, red_apples" in error, error
    code, _, error = gan(*train, "run.dir=b", "trainer.start=a", "trainer.steps=1")
    assert code == 0 and "apples, pears, and this run's are pears, red_apples, whose weights are new" in error, error
    code, _, error = gan(*train, "run.dir=c", "trainer.start=a", "resume.allow=[data.content]")
    assert code == 0 and "trainer.start" not in error
    shutil.copytree("fruit/pears", "fruit/figs")
    code, _, error = gan("train", "resume=a", "trainer.steps=2")
    assert code == 1 and "classes apples, pears -> figs, pears, red_apples" in error, error
    shutil.rmtree("fruit/figs")
    shutil.rmtree("fruit/red_apples")
    code, _, error = gan("train", "resume=a", "trainer.steps=2")
    assert code == 1 and "classes apples, pears -> pears" in error, error


def test_a_resumed_run_finds_its_data_where_they_were_typed(gan, tmp_path, monkeypatch):
    for folder in ("in/pics", "pics"):  # two of this name
        (tmp_path / folder).mkdir(parents=True)
    for i in range(9):
        Image.new("RGB", (16, 16), (30 * i, 0, 0)).save(tmp_path / "in" / "pics" / f"{i}.png")
    monkeypatch.chdir(tmp_path / "in")
    tiny = [word for word in TINY if not word.startswith(("data=", "data.n="))]
    assert gan("train", *tiny, "data=folder", "data.path=pics", "run.dir=../run")[0] == 0
    monkeypatch.chdir(tmp_path)
    code, _, error = gan("train", "resume=run", LONGER)
    assert code == 0, error


@pytest.mark.parametrize("text", ["a\x85b", "\u2028", "a\nb ", "1e3", "2024_01_15", "${x", "\x1b[0m", "\ufeffa", "'"])
def test_a_text_of_the_config_is_read_back_as_it_was(text, tmp_path):
    save_config({"data": {"path": text}}, tmp_path, [])
    assert read_run(tmp_path).config == {"data": {"path": text}}
