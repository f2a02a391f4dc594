"""A run that gets a signal finishes its step and saves: alone, in a sweep and in its workers."""

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY, at_step, process

from gancli.checkpoint import format as checkpoint
from gancli.report.run_folder import read_run
from gancli.runtime.files import write_atomically
from gancli.runtime.signals import Stopped, StopRequest, current, terminable
from gancli.training.checkpoint_manager import LAST
from gancli.training.run import TrainingRun

ENDLESS = [*(word for word in TINY if "_every" not in word), "trainer.steps=100000", "trainer.sample_every=100000"]
ENDLESS += ["trainer.log_every=2", "trainer.checkpoint_every=100000", "model=mlp"]
not_windows = pytest.mark.skipif(os.name == "nt", reason="SIGHUP and SIGUSR1 are of POSIX")


def wait(process: subprocess.Popen, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not until():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def is_training(folder: Path) -> bool:
    metrics = folder / "metrics.jsonl"
    return metrics.exists() and "D/adversarial" in metrics.read_text()


def assert_saved(folder: Path) -> int:
    """Assert that the checkpoint has the step at which the run stopped; return it."""
    run = read_run(folder)
    assert run.status == "stopped"
    assert checkpoint.read(folder / "checkpoints" / LAST)["step"] == run.ending["step"] > 0
    return run.ending["step"]


def resume_command(error: str) -> list[str]:
    """Return the words of the command that the message names."""
    return shlex.split(next(line for line in error.splitlines() if "to resume, type" in line).partition("type gan ")[2])


# --- runs


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), pytest.param("SIGUSR1", 138, marks=not_windows)])
def test_a_signal_saves_and_the_command_to_resume_is_printed(gan, tmp_path, name, code):
    run = process("train", *ENDLESS, cwd=tmp_path)
    wait(run, lambda: any(is_training(folder) for folder in (tmp_path / "outputs").glob("*")))
    run.send_signal(getattr(signal, name))
    if name == "SIGUSR1":
        run.send_signal(signal.SIGUSR1)  # a second warning of Slurm is not urgent, unlike a second Ctrl-C
    _, error = run.communicate(timeout=120)
    assert run.returncode == code and f"stopped: {name}" in error and "Traceback" not in error, error
    [folder] = (tmp_path / "outputs").glob("*")
    step, words = assert_saved(folder), resume_command(error)
    assert words == ["train", f"resume=outputs/{folder.name}"]
    assert "to resume, type gan train resume=" in (folder / "log.txt").read_text()
    code, _, error = gan(*words, f"trainer.steps={step + 1}")
    assert code == 0 and "resumed" in error


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_resumes_when_it_is_typed_again(gan, monkeypatch, signum, code):
    """The first job is finished, the second is in its third step, the third has not started."""
    init = TrainingRun.__init__

    def interrupted(run, *args, **kwargs):
        init(run, *args, **kwargs)
        if run.config["seed"] == 1:
            at_step(run, 3, lambda: signal.raise_signal(signum))

    words = ["train", "-m", *TINY, "model=mlp", "seed=0,1,2"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "__init__", interrupted)
        stopped, out, error = gan(*words)
    assert stopped == code and "leaderboard.html" in out
    command = resume_command(error)
    assert command[:-1] == ["train"] and command[-1].startswith("resume=outputs/sweeps/")
    folder = Path(command[-1].removeprefix("resume="))
    jobs = [folder / name for name in "012"]
    assert [read_run(job).status for job in jobs if job.exists()] == ["finished", "stopped"]
    first = {path: path.stat().st_mtime_ns for path in (jobs[0] / "checkpoints").iterdir()}
    done, out, error = gan(*command)
    assert done == 0 and "job 1 of 3" in error
    assert error.count("was done:") == 1 and error.count("  done:") == 2
    assert first == {path: path.stat().st_mtime_ns for path in (jobs[0] / "checkpoints").iterdir()}
    assert [read_run(job).status for job in jobs] == ["finished"] * 3
    events = [event["event"] for event in read_run(jobs[1]).events]
    assert [name for name in events if name in ("started", "resumed")] == ["started", "resumed"]
    assert (folder / "leaderboard.csv").read_text().count("finished") == 3


@pytest.mark.slow
def test_all_workers_of_a_sweep_save(tmp_path):
    """Ctrl-C reaches the whole process group, and the workers wait until their parent passes it on."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["train", "-m", "sweep=joblib", *ENDLESS, "seed=0,1,2", "run.dir=s"]
    sweep = process(*words, cwd=tmp_path, start_new_session=True)
    jobs = [tmp_path / "s" / name for name in "01"]
    wait(sweep, lambda: all(is_training(job) for job in jobs))
    os.killpg(sweep.pid, signal.SIGINT)
    _, error = sweep.communicate(timeout=120)
    assert sweep.returncode == 130 and "Traceback" not in error, error
    for job in jobs:
        assert_saved(job)
    assert not (tmp_path / "s" / "2" / "metrics.jsonl").exists(), "a job that had not started does not start"


def test_a_run_stopped_while_it_loads_leaves_nothing(gan, tmp_path, monkeypatch):
    monkeypatch.setattr("gancli.training.setup.build", lambda *_: signal.raise_signal(signal.SIGTERM))
    code, _, error = gan("train", *TINY, "run.dir=run")
    assert code == 143 and error.splitlines() == ["gan: stopped: SIGTERM"] and not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=not_windows)])
def test_a_stopped_run_says_so_in_its_last_event(tmp_path, gan, monkeypatch, name, code):
    save, number = TrainingRun.save, getattr(signal, name)
    monkeypatch.setattr(TrainingRun, "save", lambda run: (save(run), signal.raise_signal(number)))
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored, as it should be
    try:
        assert gan("train", *TINY, "run.dir=run")[0] == code
    finally:
        signal.signal(number, before)
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["step"], last["message"]) == ("stopped", 1, f"{name} at step 1, saved")


@pytest.mark.parametrize("words", [["train"], ["train", "-m", "seed=0,1"]])
def test_a_signal_that_a_library_makes_an_error_of_stops_all_the_same(gan, monkeypatch, words):
    monkeypatch.setattr("hydra._internal.config_loader_impl.ConfigLoaderImpl.load_configuration", interrupted_cleanup)
    code, _, error = gan(*words, *TINY)
    assert code == 143 and error.splitlines()[-1] == "gan: stopped: SIGTERM"


def interrupted_cleanup(*_: object, **__: object) -> None:
    """Fail in the clean-up that a signal begins, as OmegaConf does in its own."""
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise AttributeError("'NoneType' object has no attribute 'flags'")


# --- requests


@pytest.mark.parametrize("context", [terminable, lambda: StopRequest(at_once=True)])
def test_an_error_is_a_stop_only_where_a_signal_interrupted(context):
    with pytest.raises(Stopped, match="SIGTERM"), context():
        interrupted_cleanup()
    with pytest.raises(OSError, match="disk"), context(), StopRequest():
        signal.raise_signal(signal.SIGTERM)  # heeded later, and the save that follows fails
        raise OSError("the disk is full")


def test_a_second_ctrl_c_exits_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signum == signal.SIGINT, "only a person is in such a hurry"
        signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_that_torchrun_passes_on_counts_once(monkeypatch):
    monkeypatch.setattr("gancli.runtime.signals.REPEAT_SECONDS", 1.0)  # as under torchrun
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert stop.signum == signal.SIGINT


def test_with_nothing_to_finish_the_first_signal_exits_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="SIGTERM"), StopRequest(at_once=True):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before and current() is None


def test_nested_requests_get_the_signals_of_each_other():
    with StopRequest(at_once=True) as outer:
        with StopRequest() as inner:
            signal.raise_signal(signal.SIGTERM)
            assert inner.signum == signal.SIGTERM and outer.signum is None
        assert outer.signum == signal.SIGTERM
        with StopRequest() as inner:
            assert inner.signum == signal.SIGTERM


@pytest.mark.skipif(not hasattr(os, "fork"), reason="not on this platform")
@not_windows
def test_a_forked_helper_ignores_requests_and_can_be_terminated():
    with StopRequest() as stop:
        child = os.fork()
        if not child:
            time.sleep(0.2)
            for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
                signal.raise_signal(signum)
            os._exit(0)  # never: the signal has ended it
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM and stop.signum is None


def test_a_terminated_command_leaves_no_temporary_file(tmp_path):
    before = signal.getsignal(signal.SIGTERM)

    def write(partial: Path) -> None:
        partial.write_text("half")
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped, terminable():
        write_atomically(tmp_path / "grid.png", write)
    assert stopped.value.exit_code == 143 and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is before
