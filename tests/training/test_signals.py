"""Asked to stop, a run finishes its step and saves: alone, in a sweep, in a sweep's workers; asked twice, it leaves."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY, process

from gancli.checkpoint import format as checkpoint
from gancli.report.run_folder import read_run
from gancli.runtime.signals import Stopped, StopRequest, current

ENDLESS = [*(word for word in TINY if "_every" not in word), "trainer.steps=100000", "trainer.sample_every=100000"]
ENDLESS += ["trainer.log_every=2", "trainer.checkpoint_every=100000", "model=mlp"]
usr1 = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="not on this platform")


def wait(process: subprocess.Popen, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def trains(folder: Path) -> bool:
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and "D/adversarial" in metrics.read_text()


def to_go_on(error: str) -> list[str]:
    """The command that the last lines name."""
    return shlex.split(next(line for line in error.splitlines() if "to go on, type" in line).partition("type gan ")[2])


@usr1
@pytest.mark.slow
def test_slurms_warning_saves_too_and_the_command_that_goes_on_is_told(gan, tmp_path):
    run = process("train", *ENDLESS, cwd=tmp_path)
    wait(run, lambda: any(trains(folder) for folder in (tmp_path / "outputs").glob("*")))
    run.send_signal(signal.SIGUSR1)
    run.send_signal(signal.SIGUSR1)  # Slurm is not a person: its second is no hurry
    _, error = run.communicate(timeout=60)
    assert run.returncode == 138 and "stopped: SIGUSR1" in error and "Traceback" not in error, error
    folder = next((tmp_path / "outputs").glob("*"))
    step = read_run(folder).ending["step"]
    assert checkpoint.read(folder / "checkpoints" / "last.safetensors")["step"] == step > 0
    words = to_go_on(error)
    assert words[-1] == f"run.dir={folder}"
    code, _, error = gan(*words, f"trainer.steps={step + 1}")
    assert code == 0 and "resumed" in error


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_sweep_that_is_interrupted_goes_on_when_it_is_typed_again(gan, monkeypatch, signum, code):
    """The first job is done, the second is in its third step, the third has not begun."""
    from gancli.training.run import TrainingRun

    build = TrainingRun.__init__

    def interrupted(run, *args, **kwargs):
        build(run, *args, **kwargs)
        play = run.trainer.train_step

        def play_and_signal(progress):
            play(progress)
            if run.config["seed"] == 1 and run.trainer.step == 3:
                signal.raise_signal(signum)

        run.trainer.train_step = play_and_signal

    words = ["train", "-m", *TINY, "model=mlp", "seed=0,1,2"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "__init__", interrupted)
        stopped, out, error = gan(*words)
    assert stopped == code and "leaderboard.html" in out
    again = to_go_on(error)
    assert again[:-1] == words and again[-1].startswith("run.dir=outputs/sweeps/")
    folder = Path(again[-1].removeprefix("run.dir="))
    jobs = [folder / name for name in "012"]
    assert [read_run(job).status for job in jobs if job.exists()] == ["finished", "stopped"]
    first = {path: path.stat().st_mtime_ns for path in (jobs[0] / "checkpoints").iterdir()}
    done, out, error = gan(*again)
    assert done == 0 and "job 0 (of 0 to 2)" in error
    assert error.count("was done:") == 1 and error.count("  done:") == 2
    assert first == {path: path.stat().st_mtime_ns for path in (jobs[0] / "checkpoints").iterdir()}
    assert [read_run(job).status for job in jobs] == ["finished"] * 3
    assert [e["event"] for e in read_run(jobs[1]).events if e["event"] in ("started", "resumed")] == [
        "started",
        "resumed",
    ]
    assert (folder / "leaderboard.csv").read_text().count("finished") == 3


@pytest.mark.slow
def test_the_workers_of_a_sweep_all_save(tmp_path):
    """Ctrl-C reaches the whole family, and the workers wait for the first of them to pass it on."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["train", "-m", "sweep=joblib", *ENDLESS, "seed=0,1,2", "run.dir=s"]
    sweep = process(*words, cwd=tmp_path, start_new_session=True)
    jobs = [tmp_path / "s" / name for name in "01"]
    wait(sweep, lambda: all(trains(job) for job in jobs))
    os.killpg(sweep.pid, signal.SIGINT)
    _, error = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and "Traceback" not in error, error
    for job in jobs:
        run = read_run(job)
        assert run.status == "stopped"
        assert checkpoint.read(job / "checkpoints" / "last.safetensors")["step"] == run.ending["step"] > 0
    assert not (tmp_path / "s" / "2" / "metrics.jsonl").exists(), "what had not begun did not begin"


def test_a_second_ctrl_c_leaves_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGINT, "only a person is in such a hurry"
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_that_torchrun_passes_on_as_well_is_one(monkeypatch):
    monkeypatch.setattr("gancli.runtime.signals.AGAIN", 1.0)  # as under torchrun
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.signum == signal.SIGINT


def test_where_nothing_is_in_hand_the_first_signal_leaves_and_what_was_before_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"), StopRequest(at_once=True):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before and current() is None


def test_a_request_within_another_hears_for_both():
    with StopRequest(at_once=True) as outer:
        with StopRequest() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner.signum == signal.SIGTERM and outer.signum is None
        assert outer.signum == signal.SIGTERM
        with StopRequest() as inner:
            assert inner.signum == signal.SIGTERM


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not on this platform")
@usr1
def test_a_forked_helper_is_not_asked_and_can_be_ended():
    with StopRequest() as stop:
        child = os.fork()
        if not child:
            time.sleep(0.2)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)  # never: it has ended by the signal
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM and stop.signum is None


def test_a_run_stopped_while_it_loads_leaves_nothing(gan, tmp_path, monkeypatch):
    def slow(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("gancli.training.run.build", slow)
    code, _, error = gan("train", *TINY, "run.dir=run")
    assert code == 143 and error.splitlines() == ["gan: stopped: SIGTERM"] and not any(tmp_path.iterdir())


def test_the_last_event_of_a_stopped_run_says_so(tmp_path, gan, monkeypatch):
    from gancli.training.run import TrainingRun

    real = Run.save

    def save(run) -> None:
        real(run)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TrainingRun, "save", save)
    assert gan("train", *TINY, "run.dir=run")[0] == 143
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["message"]) == ("stopped", 1, "SIGTERM at step 1, saved")
