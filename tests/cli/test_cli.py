"""The command line's contract: help at once, nearest names, exit codes, sweeps, resume."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import TINY, process

from gancli.cli import help as helps
from gancli.cli.overrides import every_key
from gancli.config import choices, keys


def test_help_needs_neither_torch_nor_hydra():
    code = (
        "import sys; from gancli.cli.main import main\n"
        "for words in ([], ['--help'], ['train', '--help'], ['sample', '-h'], ['list'], ['--complete', 'gan tr']):\n"
        "    assert main(words) == 0\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'torchvision', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_shows_every_command_and_every_key_with_its_meaning(gan):
    code, out, _ = gan("--help")
    assert code == 0 and all(
        f"gan {command} " in out for command in ("train", "sample", "list", "info", "report", "data")
    )
    for command in helps.commands():
        code, out, _ = gan(command, "--help")
        assert code == 0 and f"gan {command}" in out
        for key in keys(command):
            assert key.meaning and f"{key.name}=" in out, key
    assert every_key()
    assert all(name in gan("train", "--help")[1] for name in [*choices("model"), *choices("data")])


def test_list_names_what_can_be_chosen(gan):
    code, out, _ = gan("list", "models")
    assert code == 0 and re.findall(r"^  (\w+)", out, re.M) == choices("model")
    assert gan("list")[1].count("\n") > 10
    code, _, error = gan("list", "modles")
    assert code == 2 and "did you mean models?" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tarin"], "did you mean train?"),
        (["train", "model=dcgam"], "did you mean dcgan?"),
        (["train", "data=minst"], "did you mean mnist?"),
        (["train", "model/loss=minmax"], "did you mean minimax?"),
        (["train", "trainer.step=5"], "did you mean trainer.steps?"),
        (["train", "batch_size=5"], "did you mean data.batch_size?"),
        (["train", "lrr=5"], "did you mean model.lr?"),
        (["train", "dcgan"], "is not key=value"),
        (["train", "seed=0,1"], "-m"),
        (["train", "--mulitrun"], "did you mean --multirun?"),
        (["train", "seed=[1"], "seed is a whole number"),
        (["train", "model.betas=[1"], "gan train --help"),
        (["train", "-m", "model=dcgan,mpl"], "did you mean mlp?"),
        (["train", "data.batch_size=many"], "data.batch_size"),
        (["train", "seed=1.5"], "seed is a whole number"),
        (["train", "model.lr=fast"], "model.lr is a number"),
        (["train", "trainer.channels_last=maybe"], "true or false"),
        (["train", "data.kind=ring"], "data.kind is a key of data=synthetic"),
        (["report", "sort=x", "upside=down"], "no key 'upside'"),
        (["train", "-m", "--cfg", "job"], "leave one out"),
        (["train", "-m", "model.betas=[1", "run.dir=s"], "gan train --help"),
        (["--completion", "tcsh"], "bash, zsh or fish"),
    ],
)
def test_a_slip_of_the_fingers_gets_the_nearest_right_word_and_exit_2(gan, tmp_path, words, sentence):
    code, out, error = gan(*words)
    assert code == 2 and sentence in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data=folder", "data.path=nowhere"], "nowhere"),
        (["data=folder", "data.path=empty"], "empty"),
        (["data=folder", "data.path=corrupt"], "corrupt"),
        (["data=mnist", "data.root=empty"], "data=digits"),
        (["data.batch_size=65"], "is more than the 64 images of the data"),
        (["data.batch_size=0"], "data.batch_size=0 is out of range"),
        (["data=digits", "data.size=7"], "try model=mlp"),
        (["data.kind=ring", "data.size=null"], "try model=mlp"),
        (["data.kind=rign", "data.size=null"], "did you mean"),
        (["device=cuda:7"], "device=cpu"),
        (["device=tpu"], "device=auto, cpu, cuda or mps"),
        (["trainer.steps=0"], "positive budget"),
        (["trainer.minutes=-1"], "positive budget"),
        (["trainer.precision=fp8"], "fp32, tf32, bf16"),
        (["trainer.log_every=0"], "trainer.log_every counts from 1"),
        (["trainer.ema.ramp=2"], "trainer.ema.ramp=2"),
        (["trainer.clip=-1"], "trainer.clip=-1"),
        (["run.dir=a_file/run"], "a_file"),
    ],
)
def test_what_cannot_be_trained_gets_one_sentence_exit_1_and_leaves_nothing(
    gan, tmp_path, monkeypatch, overrides, sentence
):
    monkeypatch.setattr("urllib.request.urlopen", refuse_network)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file").touch()
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / "a.png").write_bytes(b"no picture")
    tiny = TINY if "data=" not in overrides[0] else [word for word in TINY if not word.startswith("data")]
    code, out, error = gan("train", *tiny, "run.dir=run", *overrides)
    assert code == 1 and sentence in error, error
    assert len(error.strip().splitlines()) == 1 and not out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_file", "corrupt", "empty"]


def refuse_network(*_: object, **__: object) -> None:
    raise OSError("no network")


def test_a_traceback_is_shown_where_it_is_asked_for(gan, monkeypatch):
    monkeypatch.setenv("GAN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="positive budget"):
        gan("train", *TINY, "trainer.steps=0")


def test_a_run_leaves_what_the_contract_says(gan, tmp_path):
    code, out, error = gan("train", *TINY, "run.dir=outputs/mine", "trainer.keep_every=4")
    assert code == 0 and Path(out.strip()).samefile("outputs/mine"), error
    run = tmp_path / "outputs" / "mine"
    assert sorted(p.name for p in run.iterdir()) == sorted(
        ["config.yaml", "log.txt", "metrics.jsonl", "samples", "checkpoints", "index.html"]
    )
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "last.safetensors",
        "previous.safetensors",
        "step-0000004.safetensors",
    ]
    names = [p.name for p in sorted((run / "samples").iterdir())]
    assert names == ["history.png", "step-0000000.png", "step-0000003.png", "step-0000006.png"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "D/adversarial" in row]
    assert steps == [2, 4, 6]
    assert {"kimg", "minutes", "images_per_second", "lr", "D(real)", "D(fake)", "G/adversarial"} <= rows[
        -3
    ].keys() | rows[-2].keys()
    assert "\x1b" not in error and "step 6" in error, "lines, and no bar, where there is no terminal"
    assert "data:image" in (run / "index.html").read_text()
    again = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    code, out, error = gan("train", *TINY, "run.dir=outputs/mine", "trainer.keep_every=4")
    assert code == 0 and "is finished" in error and again == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


def test_a_larger_budget_goes_on_and_another_config_is_refused(gan):
    assert gan("train", *TINY, "run.dir=run")[0] == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, _, error = gan("train", *TINY, "run.dir=run", "trainer.steps=8", "model.lr=1e-3")
    assert code == 1 and "model.lr: 0.0002 -> 0.001" in error
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    code, out, error = gan("sample", "run", "n=1")
    assert code == 0 and "from run/checkpoints/last.safetensors" in error and out.strip() == "samples.png"
    code, _, error = gan("train", *TINY, "run.dir=run", "trainer.steps=8")
    assert code == 0 and "step 8" in error and "step 4 " not in error


@pytest.mark.slow
def test_a_terminal_gets_one_bar_and_no_lines_of_numbers(tmp_path):
    pty = pytest.importorskip("pty")
    termios = pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    run = process("train", *TINY, "run.dir=run", cwd=tmp_path, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while part := os.read(ours, 65536):
            shown += part
    assert run.wait() == 0
    text = shown.decode()
    assert "100%|" in text and "step 6" in text and "images/s" in text and "min left" not in text


@pytest.mark.slow
def test_runs_begun_at_once_do_not_share_a_folder(tmp_path):
    runs = [process("train", *TINY, "trainer.steps=1", cwd=tmp_path) for _ in range(2)]
    folders = {run.communicate()[0].strip() for run in runs}
    assert all(run.returncode == 0 for run in runs) and len(folders) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_same_command_resumes(tmp_path, signum, code):
    words = ["train", *TINY, "trainer.steps=100000", "trainer.sample_every=100000", "run.dir=run"]
    run = process(*words, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and "D/adversarial" in metrics.read_text()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signum)
    _, error = run.communicate(timeout=60)
    assert run.returncode == code and "Traceback" not in error and "saved" in error
    stopped = json.loads(metrics.read_text().splitlines()[-1])
    assert stopped["event"] == "stopped"
    words[words.index("trainer.steps=100000")] = f"trainer.steps={stopped['step'] + 2}"
    again = process(*words, cwd=tmp_path)
    _, error = again.communicate(timeout=60)
    assert again.returncode == 0 and "resumed" in error


@pytest.mark.slow
def test_a_sweep_ranks_its_jobs_and_one_that_fails_stops_no_other(gan, tmp_path):
    tiny = [word for word in TINY if not word.startswith("trainer.steps")]
    words = [*tiny, "model=dcgan,mlp", "trainer.steps=2,-1", "seed=0,1", "-m", "run.dir=outputs/sweeps/s"]
    code, out, error = gan("train", *words)
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    assert code == 1 and "4 of 8 jobs failed" in error and "positive budget" in error
    assert sorted(p.name for p in sweep.iterdir() if p.is_dir()) == [str(i) for i in range(8)]
    failed = [job for job in sweep.glob("[0-9]") if "positive budget" in (job / "log.txt").read_text()]
    assert len(failed) == 4
    for job in sweep.glob("[0-9]"):
        assert ("Traceback" in (job / "log.txt").read_text()) == (job in failed)
        assert (job / "checkpoints" / "last.safetensors").exists() == (job not in failed)
    assert error.count("done:") == 4 and error.count("failed:") == 4 and "job 7 (of 0 to 7)" in error
    table = (sweep / "leaderboard.csv").read_text()
    assert table.count("\n") == 9 and "sliced_wasserstein" in table
    assert table.count("mlp") == 4, "a job that failed before it began is told apart too"
    assert {"leaderboard.csv", "leaderboard.md", "leaderboard.html", "contact.png"} <= {p.name for p in sweep.iterdir()}
    assert "sliced_wasserstein" in out
    # Once more: what is finished is not run again.
    before = {p: p.stat().st_mtime_ns for p in sweep.glob("*/checkpoints/last.safetensors")}
    gan("train", *words)
    assert before == {p: p.stat().st_mtime_ns for p in sweep.glob("*/checkpoints/last.safetensors")}


def test_sys_exit_in_a_job_does_not_end_the_sweep(gan, tmp_path, monkeypatch):
    from gancli.training import run as train

    real = train.TrainingRun.train

    def exits_once(self):
        if self.config["seed"] == 0:
            sys.exit(3)
        return real(self)

    monkeypatch.setattr(train.TrainingRun, "train", exits_once)
    code, _, error = gan("train", "-m", *TINY, "trainer.steps=1", "seed=0,1", "run.dir=s")
    assert code == 1 and "sys.exit(3)" in error
    assert (tmp_path / "s" / "1" / "checkpoints" / "last.safetensors").exists()


PLUGINS = {"optuna": "hydra_optuna_sweeper", "joblib": "hydra_joblib_launcher", "submitit": "hydra_submitit_launcher"}


@pytest.mark.slow
@pytest.mark.parametrize("sweep", choices("sweep"))
def test_every_sweep_config_sweeps(sweep, gan, tmp_path):
    """Each of configs/sweep for real, at tiny width; the cluster's through submitit's local executor."""
    if sweep in PLUGINS:
        pytest.importorskip(f"hydra_plugins.{PLUGINS[sweep]}")
    extra = {
        "seeds": [],
        "optuna": ["hydra.sweeper.n_trials=3", "hydra.sweeper.params={model.width:'choice(4,8)'}"],
        "joblib": ["seed=0,1"],
        "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=0,1"],
    }
    tiny = [word for word in TINY if not (sweep == "optuna" and "width" in word)]
    code, _, error = gan("train", "-m", *tiny, f"sweep={sweep}", *extra.get(sweep, []), "run.dir=s")
    if sweep == "joblib":  # its workers wait for more work for minutes, and would be told of the signals of other tests
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)
    assert code == (1 if sweep == "rates" else 0), error
    rows = (tmp_path / "s" / "leaderboard.csv").read_text().splitlines()[1:]
    assert len(rows) == {"seeds": 6, "rates": 6, "optuna": 3}.get(sweep, 2)
    assert sum("finished" in row for row in rows) == len(rows) - code


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes(experiment, gan):
    code, out, error = gan("train", f"experiment={experiment}", "--cfg", "job", "--resolve")
    assert code == 0 and "model:" in out, error


def test_a_folder_of_ones_own_configs_adds_choices(gan, tmp_path):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nseed: 41\n")
    code, out, error = gan("train", "experiment=mine", "--config-dir", str(own.parent), "--cfg", "job")
    assert code == 0 and "seed: 41" in out, error
    assert gan("train", "experiment=mine")[0] == 2


def test_cfg_prints_the_config_and_trains_nothing(gan, tmp_path):
    code, out, _ = gan("train", "model=cgan", "--cfg", "job", "--resolve")
    assert code == 0 and "classes: 10" in out and not any(tmp_path.iterdir())


def test_odd_folders_are_ordinary(gan, tmp_path):
    from PIL import Image

    pictures = tmp_path / "my pictures (1)=a,b {x} ~ 猫"
    for i in range(8):
        (pictures / "class é").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 17 + i), (i, 0, 0)).save(pictures / "class é" / f"{i}.png")
    tiny = [word for word in TINY if not word.startswith(("data=", "data.kind", "data.n="))]
    words = ["data=folder", f"data.path={pictures}", "model=cgan", f"run.dir={tmp_path}/run (2)"]
    code, out, error = gan("train", *tiny, *words)
    assert code == 0, error
    code, out, error = gan("info", f"{tmp_path}/run (2)")
    assert code == 0 and "class é" in out
    code, out, _ = gan("data", "check", str(pictures))
    assert code == 0 and "8" in out


def test_report_rewrites_a_page_and_ranks_runs(gan, tmp_path):
    for seed in (0, 1):
        assert gan("train", *TINY, "trainer.steps=2", f"seed={seed}", f"run.dir=outputs/{seed}")[0] == 0
    page = tmp_path / "outputs" / "0" / "index.html"
    page.unlink()
    assert gan("report", "outputs/0")[0] == 0 and page.exists()
    code, out, _ = gan("report")
    assert code == 0 and "leaderboard.html" in out and (tmp_path / "outputs" / "leaderboard.csv").exists()
    code, _, error = gan("report", "sort=sliced_waserstein")
    assert code == 1 and "sliced_wasserstein" in error
    assert gan("report", "nowhere")[0] == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gan tra", ["train", "translate"]),
        ("gan train model=cg", ["model=cgan", "model=cgan_mlp"]),
        ("gan train task=e", ["task=edges"]),
        ("gan train -m model=dcgan,ml", ["model=dcgan,mlp"]),
        ("gan train trainer.log", ["trainer.log_every="]),
        ("gan sample inter", ["interpolate="]),
    ],
)
def test_completion_offers(gan, typed, offered):
    assert gan("--complete", typed)[1].split() == offered


def test_completion_works_in_a_real_shell(tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "gan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gancli "$@"\n')
    (bin_folder / "gan").chmod(0o755)
    script = """
    eval "$(gan --completion bash)"
    COMP_LINE="gan train model=dc"; COMP_POINT=${#COMP_LINE}
    _gan 2>/dev/null; echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert shell.stdout.strip() == "dcgan", shell.stderr  # bash breaks words at =, and completes the last one


def test_tensorboard_is_written_when_asked_for(gan, tmp_path):
    pytest.importorskip("tensorboard")
    assert gan("train", *TINY, "trainer.tensorboard=true", "run.dir=run")[0] == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert "D/adversarial" in events.Tags()["scalars"] and "samples" in events.Tags()["images"]
    assert [e.step for e in events.Scalars("D/adversarial")] == [2, 4, 6]


def test_without_tensorboard_one_sentence_says_what_to_install(gan, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    code, _, error = gan("train", *TINY, "trainer.tensorboard=true", "run.dir=run")
    assert code == 1 and "gancli[tensorboard]" in error
