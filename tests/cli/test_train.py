"""`gan train` from end to end: imports, run folders, exit codes, Hydra's configs and sweeps."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY, process
from PIL import Image

from gancli.config import choices
from gancli.data import synthetic
from gancli.report.run_folder import read_run
from gancli.report.sweep_folder import find_runs

# Each takes from a third of a second to one and a half.
HEAVY = {"torch._dynamo", "torchvision", "sympy", "scipy", "sklearn", "matplotlib", "pandas", "onnx", "tensorboard"}
ODD_FOLDER = "my images (1)=a,b {x} ~ 猫"
NO_STEPS = [word for word in TINY if not word.startswith("trainer.steps")]


@pytest.mark.slow
def test_a_command_imports_nothing_slow_that_it_does_not_use(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "import sys; from gancli.cli.main import main; print(main(sys.argv[1:]), *sys.modules)"
    sample = ["sample", "ckpt=run", "n=2", "overwrite=true", "out=a.png"]  # the first one checks the network
    for words, light in ((["train", *TINY, "model=dcgan", "run.dir=run"], True), (sample, False), (sample, True)):
        run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100)
        _path, status, *modules = run.stdout.split()
        assert status == "0", run.stderr
        assert not light or not HEAVY & set(modules), HEAVY & set(modules)


def test_a_run_folder_is_complete_and_a_finished_run_is_left_alone(gan, tmp_path):
    words = ["train", *TINY, "run.dir=outputs/mine", "trainer.keep_every=4"]
    code, out, error = gan(*words)
    run = tmp_path / "outputs" / "mine"
    assert code == 0 and Path(out.strip()) == run, error
    files = {"config.yaml", "log.txt", "metrics.jsonl", "samples", "checkpoints", "index.html"}
    assert {p.name for p in run.iterdir()} == files
    assert {p.stem for p in (run / "checkpoints").iterdir()} == {"last", "previous", "step-0000004"}
    samples = {"history.gif", "real.png", "step-0000000.png", "step-0000003.png", "step-0000006.png"}
    assert {p.name for p in (run / "samples").iterdir()} == samples
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "D/adversarial" in row]
    assert [row["step"] for row in logged] == [2, 4, 6]
    assert {"kimg", "minutes", "images_per_second", "lr", "D(real)", "D(fake)", "G/adversarial"} <= logged[-1].keys()
    assert "\x1b" not in error and "step 6" in error, "lines, and no bar, where there is no terminal"
    assert "data:image" in (run / "index.html").read_text()
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    code, _, error = gan(*words)
    assert code == 0 and "is finished" in error and before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


def test_a_traceback_is_shown_on_request(gan, monkeypatch):
    monkeypatch.setenv("GAN_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"trainer\.steps"):
        gan("train", *TINY, "trainer.steps=0")


def test_folders_with_odd_names_are_ordinary(gan, tmp_path):
    images = tmp_path / ODD_FOLDER / "class é"
    images.mkdir(parents=True)
    for i in range(8):
        Image.new("RGB", (20, 17 + i), (i, 0, 0)).save(images / f"{i}.png")
    tiny = [word for word in TINY if not word.startswith(("data=", "data.n="))]
    run = tmp_path / "run (2)=a,b"
    code, _, error = gan("train", *tiny, "data=folder", f"data.path={images.parent}", "model=cgan", f"run.dir={run}")
    assert code == 0, error
    code, out, _ = gan("info", str(run))
    assert code == 0 and "class é" in out
    code, out, _ = gan("data", "check", str(images.parent))
    assert code == 0 and "8" in out


@pytest.mark.slow
def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path):
    runs = [process("train", *TINY, "trainer.steps=1", cwd=tmp_path) for _ in range(2)]
    folders = {run.communicate()[0].strip() for run in runs}
    assert all(run.returncode == 0 for run in runs) and len(folders) == 2


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes(experiment, gan, tmp_path):
    code, out, error = gan("train", f"experiment={experiment}", "--cfg", "job", "--resolve")
    assert code == 0 and "model:" in out and "hydra:" not in out and "${" not in out, error
    assert not any(tmp_path.iterdir())


def test_part_of_the_config_and_hydras_own_are_printed(gan):
    assert gan("train", "model=cgan", "--cfg=job", "-p", "model.classes", "--resolve")[1] == "10\n"
    assert gan("train", "--cfg", "job", "--package", "trainer.ema")[1].startswith(
        "# @package trainer.ema\nhalf_life_kimg: 500.0\n"
    )
    assert gan("train", "--cfg", "hydra")[1].startswith("hydra:\n")
    assert {"hydra:", "model:"} <= set(gan("train", "--cfg", "all")[1].splitlines())


@pytest.mark.slow
def test_a_folder_of_the_users_own_configs_adds_choices_and_may_read_hydras_settings(gan, tmp_path):
    own = tmp_path / "own configs" / "experiment"
    own.mkdir(parents=True)
    name = "${hydra:job.name}-${hydra:runtime.choices.model}"
    (own / "mine.yaml").write_text(f"# @package _global_\nseed: 41\nextra: 1\nrun:\n  dir: runs/{name}\n")
    words = ["experiment=mine", f"--config-dir={own.parent}"]
    code, out, error = gan("train", *words, "--cfg", "job")
    assert code == 0 and "seed: 41" in out, error
    code, out, error = gan("train", *TINY, *words, "trainer.steps=1")
    assert code == 0 and Path(out.strip()) == tmp_path / "runs" / "train-cgan", error
    code, _, error = gan("train", "-m", *TINY, *words, "trainer.steps=1", "seed=1,2", "run.dir=s")
    assert code == 0 and (tmp_path / "s" / "1" / "index.html").exists(), error
    code, _, error = gan("train", *words, "sed=1")
    assert code == 2 and "did you mean seed?" in error
    assert gan("train", "experiment=mine")[0] == 2


@pytest.mark.slow
def test_hydras_own_argument_parser_is_not_used(gan, monkeypatch):
    """It fails on Python 3.14."""
    monkeypatch.delattr("hydra._internal.utils.get_args_parser")
    assert gan("train", *TINY, "trainer.steps=1", "run.dir=run")[0] == 0
    assert gan("train", "-m", *TINY, "trainer.steps=1", "seed=0,1", "run.dir=s")[0] == 0


def test_the_page_of_a_run_that_fails_says_so_and_nothing_advises_to_resume_a_nan(gan):
    code, _, error = gan("train", *TINY, "model=mlp", "model.lr=1e30", "trainer.steps=40", "run.dir=run")
    assert code == 1 and "is not a finite number" in error and "resume=" not in error
    assert "Traceback" in (log := Path("run/log.txt").read_text()) and "to resume" not in log
    page = Path("run/index.html").read_text()
    assert "status failed" in page and "is not a finite number" in page and "resume=" not in page


@pytest.mark.slow
def test_a_sweep_ranks_its_jobs_and_one_that_fails_stops_no_other(gan, tmp_path):
    words = ["train", *NO_STEPS, "model=dcgan,mlp", "trainer.steps=2,-1", "seed=0,1", "-m", "run.dir=outputs/sweeps/s"]
    code, out, error = gan(*words)
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    assert code == 1 and "4 of 8 jobs failed" in error and "trainer.steps" in error
    jobs = [p for p in sweep.iterdir() if p.is_dir()]
    assert sorted(p.name for p in jobs) == [str(i) for i in range(8)]
    failed = [job for job in jobs if "Traceback" in (job / "log.txt").read_text()]
    assert len(failed) == 4
    for job in jobs:
        assert any(job.glob("checkpoints/last.*")) == (job not in failed)
    assert error.count("done:") == 4 and error.count("failed:") == 4 and "job 8 of 8" in error
    table = (sweep / "leaderboard.csv").read_text()
    assert table.count("\n") == 9 and table.count("mlp") == 4, "a job that failed at once has its row too"
    assert {"leaderboard.csv", "leaderboard.md", "leaderboard.html", "contact.png"} <= {p.name for p in sweep.iterdir()}
    assert "sliced_wasserstein" in table and "sliced_wasserstein" in out
    before = {p: p.stat().st_mtime_ns for p in sweep.glob("*/checkpoints/*")}
    gan(*words)
    assert before == {p: p.stat().st_mtime_ns for p in sweep.glob("*/checkpoints/*")}, "finished jobs are left alone"


@pytest.mark.slow
def test_sys_exit_in_a_job_does_not_end_the_sweep(gan, tmp_path, monkeypatch):
    real, calls = synthetic.synthetic, []

    def exits_once(**settings):
        calls.append(settings)
        return real(**settings) if len(calls) > 1 else sys.exit(3)

    monkeypatch.setattr(synthetic, "synthetic", exits_once)
    code, _, error = gan("train", "-m", *TINY, "trainer.steps=1", "seed=0,1", "run.dir=s")
    assert code == 1 and "sys.exit(3)" in error and any((tmp_path / "s" / "1" / "checkpoints").iterdir())


PACKAGES = {
    **{"optuna": "optuna", "joblib": "hydra_plugins.hydra_joblib_launcher", "ray": "hydra_plugins.hydra_ray_launcher"},
    "submitit": "hydra_plugins.hydra_submitit_launcher",
}


@pytest.mark.slow
@pytest.mark.parametrize("sweep", choices("sweep"))
def test_every_sweep_config_sweeps(sweep, gan, tmp_path):
    """Tiny jobs; the cluster's run through submitit's local executor."""
    if sweep in PACKAGES:
        pytest.importorskip(PACKAGES[sweep])
    extra = {
        "optuna": ["hydra.sweeper.n_trials=3", "hydra.sweeper.params={model.width:'choice(4,8)'}"],
        **{"joblib": ["seed=0,1"], "ray": ["seed=0,1"]},
        "submitit": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=0,1"],
    }
    tiny = [word for word in TINY if not (sweep == "optuna" and "width" in word)]
    code, _, error = gan("train", "-m", *tiny, f"sweep={sweep}", *extra.get(sweep, []), "run.dir=s")
    if sweep == "joblib":  # its workers wait for more work for minutes, and would get the signals of other tests
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(kill_workers=True)
    assert code == (1 if sweep == "rates" else 0), error
    rows = (tmp_path / "s" / "leaderboard.csv").read_text().splitlines()[1:]
    assert len(rows) == {"seeds": 6, "rates": 6, "optuna": 3}.get(sweep, 2)
    assert sum("finished" in row for row in rows) == len(rows) - code


@pytest.mark.slow
def test_a_search_goes_on_where_it_was_and_past_a_job_that_fails(gan, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    tiny = [word for word in TINY if "width" not in word]
    space = "hydra.sweeper.params={model.width:'choice(4,8)',model.lr:'choice(-1,1e-4)'}"
    words = ["train", "-m", *tiny, "model=mlp", "trainer.steps=1", "sweep=optuna", space, "run.dir=s"]
    code, _, error = gan(*words, "hydra.sweeper.n_trials=4")
    assert code == 1 and "model.lr=-1 is out of range" in error and error.count("  done: s") >= 1, error
    done = error.count("  done: s")
    code, _, error = gan(*words, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=5")
    assert error.count("was done: s") >= done
    code, _, error = gan(*words[:-1], "hydra.sweeper.sampler=tpee", "run.dir=none")
    assert code == 2 and "hydra.sweeper.sampler=tpee is not one of tpe, random" in error
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, error = gan(*words[:-1], "run.dir=none")
    assert code == 2 and "type pip install 'gancli[optuna]'" in error and not (tmp_path / "none").exists()


@pytest.mark.slow
def test_an_extended_sweep_leaves_its_jobs_in_their_folders(gan, tmp_path):
    words = ["train", "-m", *NO_STEPS, "trainer.steps=1", "run.dir=s"]
    code, _, error = gan(*words, "model=choice(mlp,dcgan)")
    assert code == 0, error
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("s/*/checkpoints/*")}
    code, _, error = gan(*words, "model=dcgan, mlp", "seed=1,0")
    assert code == 0 and error.count("was done") == 2, error
    assert before.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.glob("s/*/checkpoints/*")}.items()
    assert sorted(p.name for p in (tmp_path / "s").iterdir() if p.is_dir()) == ["0", "1", "2", "3"]


@pytest.mark.slow
def test_a_sweep_takes_keys_of_its_choices_and_refuses_what_it_cannot_list(gan, tmp_path):
    words = ["train", "-m", *TINY, "model=dcgan", "trainer.steps=1", "run.dir=s-${model.name}"]
    code, _, error = gan(*words, "penalty=r1,r2", "model.penalty.every=16")
    assert code == 0 and (tmp_path / "s-dcgan" / "leaderboard.html").exists(), error
    code, _, error = gan(*words, "model.lr=interval(1e-4,1e-3)")
    assert code == 2 and "sweep=optuna" in error
    code, _, error = gan(*words, "model/loss=glob(nothing*)")
    assert code == 2 and "gives no value" in error


ONE_STEP = [*(word for word in TINY if "steps" not in word), "model=mlp", "trainer.steps=1", "run.dir=s"]


def jobs_of(sweep: Path) -> dict[str, list[str]]:
    """Return the overrides of jobs that ran, by their folders below the sweep's."""
    found = {}
    for run in find_runs(sweep):
        own = [word for word in read_run(run).started["overrides"] if word not in ONE_STEP]
        found[str(run.relative_to(sweep))] = own
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "jobs"),
    [
        (["seed=range(1,3)"], {"0": ["seed=1"], "1": ["seed=2"]}),
        (["seed=choice(7)"], {"0": ["seed=7"]}),
        (["seed=7"], {"0": ["seed=7"]}),
        (["seed=0,1", "hydra.sweep.subdir=job-${hydra.job.num}"], {"job-0": ["seed=0"], "job-1": ["seed=1"]}),
        (["seed=0,1", "hydra.sweep.subdir=${model.name}/${seed}"], {"mlp/0": ["seed=0"], "mlp/1": ["seed=1"]}),
    ],
)
def test_a_sweep_has_the_jobs_and_folders_that_hydra_documents(words, jobs, gan, tmp_path):
    code, _, error = gan("train", "-m", *ONE_STEP, *words)
    assert code == 0 and jobs_of(tmp_path / "s") == jobs, error


@pytest.mark.slow
def test_a_glob_matches_choices_and_no_bases_of_them(gan, tmp_path):
    code, _, error = gan("train", "-m", *ONE_STEP, "model=glob(_*)")
    assert code == 2 and "gives no value; there are: acgan" in error and not (tmp_path / "s").exists(), error
    code, _, error = gan("train", "-m", *ONE_STEP, "model=dcgan", "augment=glob(*)")
    assert code == 0, error
    assert sorted(w for own in jobs_of(tmp_path / "s").values() for w in own if "augment" in w) == [
        f"model/augment={name}" for name in sorted(choices("model/augment"))
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("hydra.sweep.subdir=same", "is one folder for 2 jobs; type 'hydra.sweep.subdir=job-${hydra.job.num}'"),
        ("hydra.sweep.subdir=../out", "leads out of the folder of the sweep"),
        ("model.lr=interval(1e-4,1e-3)", "type sweep=optuna"),
        ("model=glob(nothing*)", "gives no value"),
        ("model.G.nothing=3", "nothing"),
    ],
)
def test_a_sweep_that_is_refused_leaves_the_folder_as_it_was(word, message, gan, tmp_path):
    code, _, error = gan("train", "-m", *ONE_STEP, "seed=0,1", word)
    assert code == 2 and message in error and not (tmp_path / "s").exists(), error


def test_a_refused_extension_does_not_change_what_a_sweep_resumes(gan, tmp_path):
    assert gan("train", "-m", *ONE_STEP, "seed=choice(0)")[0] == 0
    before = (tmp_path / "s" / "sweep.json").read_text()
    assert gan("train", "-m", *ONE_STEP, "seed=0,1", "model.G.nothing=3")[0] == 2
    assert (tmp_path / "s" / "sweep.json").read_text() == before and jobs_of(tmp_path / "s") == {"0": ["seed=0"]}


@pytest.mark.slow
def test_a_job_whose_folder_was_removed_or_damaged_is_trained_again_in_its_place(gan, tmp_path):
    words = ["train", "-m", *ONE_STEP, "seed=0,1"]
    assert gan(*words)[0] == 0
    shutil.rmtree(tmp_path / "s" / "0")
    for name in ("config.yaml", "metrics.jsonl"):
        (tmp_path / "s" / "1" / name).write_bytes(bytes(range(200, 256)) * 3)
    code, out, error = gan("report", "s")
    assert code == 0 and "has not begun, or its folder was removed" in out and "config.yaml is not the config" in out
    code, out, error = gan(*words)
    assert code == 0 and jobs_of(tmp_path / "s") == {"0": ["seed=0"], "1": ["seed=1"]}, error
    assert "Failed or damaged" not in out


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "POSIX"])
def test_a_sweep_completes_on_a_terminal_of_another_encoding(encoding, tmp_path):
    names = {"PYTHONIOENCODING": encoding} if encoding != "POSIX" else {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    path = tmp_path / "Bilder 猫"
    path.mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (i * 9, 3, 4)).save(path / f"{i}.png")
    words = [*ONE_STEP[:-1], "data=folder", f"data.path={path}", "run.dir=Läufe-Ł", "seed=0,1", "data.batch_size=2"]
    words = [word for word in words if not word.startswith(("data=synthetic", "data.n="))]
    env = {**os.environ, "PYTHONUTF8": "0", **names, "HYDRA_FULL_ERROR": "1"}
    run = process("train", "-m", *words, cwd=tmp_path, env=env, text=False)
    out, error = run.communicate()
    assert run.returncode == 0 and b"Traceback" not in error, error.decode(errors="replace")
    assert b"leaderboard.html" in out and (tmp_path / "Läufe-Ł" / "leaderboard.html").exists()
    run = process("report", "Läufe-Ł", cwd=tmp_path, env=env, text=False)
    out, error = run.communicate()
    assert run.returncode == 0 and b"sliced_wasserstein" in out, error


def test_a_job_whose_folder_cannot_be_made_says_so_and_stops_no_other(gan, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "0").touch()
    code, _, error = gan("train", "-m", *ONE_STEP, "seed=0,1")
    assert code == 1 and "job 1 of 2  seed=0  failed: run.dir=" in error and "s/0 is a file" in error, error
    assert jobs_of(tmp_path / "s") == {"1": ["seed=1"]}
