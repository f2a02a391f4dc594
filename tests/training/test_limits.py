"""What can be known before a step is refused before it, by one sentence; what is only convenient is done without."""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from helpers import ROOT, TINY, start
from PIL import Image, ImageFont
from run_fixtures import write_run

from gancli.data import synthetic
from gancli.images import drawable, label_font
from gancli.report.contact_sheet import contact_sheet
from gancli.report.ranking import each_run, rank_runs
from gancli.report.run_folder import read_run
from gancli.runtime import files
from gancli.runtime.files import NOWHERE, user_folder
from gancli.runtime.hardware import is_out_of_memory, within_free_memory

OUT_OF_RANGE = [
    *("model.lr=0", "model.optimizers.D.lr=nan", "model.width=0", "model.z_dim=0", "trainer.steps=0"),
    *("trainer.steps=1.5", "device=[0]", "device=0"),
]


def without(words: list[str], *replaced: str) -> list[str]:
    """Return words without those of the same keys."""
    keys = {word.partition("=")[0] for word in replaced}
    return [word for word in words if word.partition("=")[0] not in keys]


@pytest.mark.parametrize("word", OUT_OF_RANGE)
def test_what_cannot_work_is_refused_before_the_data_is_read(word, gan, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "synthetic", lambda **settings: pytest.fail("the data was read"))
    code, _, error = gan("train", *without([*TINY, "model=dcgan"], word), word, "run.dir=r")
    assert code in (1, 2) and len(error.splitlines()) == 1, error
    key, _, value = word.partition("=")
    assert f"{key}={value}" in error and f"type {key}=" in error, error
    assert not (tmp_path / "r").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", ["upscale x.png", "sample", "evaluate images=a reference=b"])
def test_a_bare_number_is_a_gpu_in_every_command(command, gan) -> None:
    Image.new("RGB", (8, 8)).save("x.png")
    code, _, error = gan(*command.split(), "device=0")
    assert code == 1 and ("device=0 is not on this machine; type device=auto" in error or command == "sample"), error


@pytest.mark.parametrize(
    ("folder", "sweep"),
    [("/proc/x", 0), ("/dev/null/x", 0), ("a" * 300, 0), ("file", 0), ("/proc/x", 1), ("a" * 300, 1), ("file", 1)],
)
def test_a_run_folder_that_cannot_be_written_is_refused_at_once(folder, sweep, gan, monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "synthetic", lambda **settings: pytest.fail("the data was read"))
    Path("file").touch()
    code, _, error = gan("train", *TINY, *(["-m", "seed=0,1"] if sweep else []), f"run.dir={folder}")
    assert code in (1, 2) and len(error.splitlines()) == 1 and "type another run.dir=" in error, error


def test_a_read_only_folder_is_refused_at_once(gan, read_only) -> None:
    folder, close = read_only
    (folder / "closed").mkdir()
    close(folder / "closed")
    code, _, error = gan("train", *TINY, "run.dir=closed/r")
    assert code == 1 and "closed/r cannot be written" in error and "Permission denied" in error, error


def test_too_little_disk_ends_a_short_run_before_its_first_step(gan, tmp_path, monkeypatch) -> None:
    usage = collections.namedtuple("Usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(50_000))
    code, _, error = gan("train", *TINY, "run.dir=r")
    assert code == 1 and re.search(r"needs about [\d.]+ MB of disk, for 3 checkpoints of .*0\.1 MB are free", error), (
        error
    )
    assert not list(tmp_path.glob("r/checkpoints/*")) and "to resume" not in error
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(50_000_000))
    assert gan("train", *TINY, "run.dir=r")[0] == 0


def test_the_estimate_of_a_checkpoint_is_near_its_size(tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr("gancli.training.preflight.check_disk", lambda *a: seen.append(a[2]))
    run = start(tmp_path / "r", "dcgan", "model.width=32")
    run.train()
    size = (tmp_path / "r" / "checkpoints" / "last.safetensors").stat().st_size
    assert 0.8 * size < seen[0] < 1.2 * size


def test_too_little_memory_ends_a_run_before_its_first_step(gan, tmp_path, monkeypatch) -> None:
    code, _, error = gan("train", *without(TINY, "model.width="), "model=dcgan", "model.width=10000000", "run.dir=r")
    assert code == 1 and "do not fit into memory; type a smaller model.width=" in error, error
    monkeypatch.setattr("gancli.training.preflight.free_memory", lambda device: 1000.0)
    code, _, error = gan("train", *TINY, "run.dir=r2")
    assert code == 1 and "gradients and momenta of the weights take" in error, error
    assert not list(tmp_path.glob("r*/checkpoints/*"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_allocations_fail_before_memory_is_full(monkeypatch) -> None:
    monkeypatch.setattr("gancli.runtime.hardware.free_memory", lambda: 100e6)
    with within_free_memory(), pytest.raises(RuntimeError) as error:
        torch.empty(10**9)
    assert is_out_of_memory(error.value)
    torch.empty(10**8)


@pytest.mark.slow
def test_a_batch_of_one_is_refused_where_batch_norm_sees_one_value_and_trained_elsewhere(gan, tmp_path) -> None:
    one = [*without(TINY, "data.batch_size=", "trainer.steps="), "data.batch_size=1", "trainer.steps=1"]
    code, _, error = gan("train", *one, "model=aegan", "run.dir=aegan")
    assert code == 1 and "batch norm" in error and "type data.batch_size=2" in error and "to resume" not in error, error
    assert not list(tmp_path.glob("aegan/checkpoints/*")), "it was tried before anything was written"
    code, _, error = gan("train", *one, "model=aegan", "trainer.preflight=true", "run.dir=tried")
    assert code == 1 and "type data.batch_size=2" in error, error
    packed = [*without(one, "data.batch_size="), "data.batch_size=2", "model.packing=2"]
    assert gan("train", *packed, "model=dcgan", "run.dir=packed")[0] == 0
    for model in ("dcgan", "mlp", "pix2pix"):
        code, _, error = gan(
            "train", *one, f"model={model}", *["task=edges"] * (model == "pix2pix"), f"run.dir={model}"
        )
        assert code == 0, error


def test_a_batch_larger_than_the_data_becomes_smaller_and_says_so(gan) -> None:
    words = [*without(TINY, "data.batch_size=", "data.n="), "data.batch_size=64", "data.n=12"]
    code, _, error = gan("train", *words, "run.dir=r")
    assert code == 0 and "data.batch_size is 12 instead of 64: there are 12 images" in error, error


# --- what is only convenient


@pytest.fixture
def no_home(monkeypatch, tmp_path):
    """Take the home away, and let temporary files lie in tmp_path."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError()))
    monkeypatch.setattr("pathlib.Path.expanduser", lambda path: (_ for _ in ()).throw(RuntimeError()))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._temporary_home.cache_clear()
    yield tmp_path / f"gan-{os.getuid()}"
    files._temporary_home.cache_clear()


def test_without_a_home_caches_lie_in_a_folder_that_only_this_user_can_write(no_home) -> None:
    assert user_folder("~/.cache/gan") == no_home / ".cache/gan"
    assert no_home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["open to all", "a link", "a file", "of another user", "no folder for temporary files"])
def test_a_folder_that_others_could_have_prepared_is_not_used(how, no_home, tmp_path, monkeypatch, capfd) -> None:
    if how == "open to all":
        no_home.mkdir()
        no_home.chmod(0o777)
    elif how == "a link":
        no_home.symlink_to(tmp_path)
    elif how == "a file":
        no_home.touch()
    with monkeypatch.context() as patch:
        if how == "of another user":
            no_home.mkdir(mode=0o700)
            patch.setattr(os, "getuid", iter([os.getuid(), os.getuid() + 1]).__next__)
        elif how == "no folder for temporary files":
            patch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "absent"))
        assert user_folder("~/.cache/gan").is_relative_to(NOWHERE)
    said = capfd.readouterr().err
    assert ("nothing is cached there" in said and "export HOME=DIR" in said) or how.startswith("no folder"), said


@pytest.mark.parametrize("home", ["/proc/x", "/dev/null", "", "file"])
def test_a_home_that_cannot_be_written_costs_the_caches_alone(home, gan, tmp_path, monkeypatch) -> None:
    Path("file").touch()
    for i in range(4):
        Path("images").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (i, 50, 90)).save(f"images/{i}.png")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", None)
    cache = Path("~/.cache/gan") if home else Path("/proc/x")
    monkeypatch.setattr("gancli.runtime.cache.FOLDER", cache)
    monkeypatch.setattr("gancli.data.decode_cache.FOLDER", cache / "decoded")
    words = [*without(TINY, "data=", "data.n=", "data.batch_size="), "data=folder", "data.path=images"]
    code, _, error = gan("train", *words, "data.batch_size=2", "run.dir=r")
    assert code == 0 and "are in memory" in error, error


def test_a_cache_folder_that_cannot_be_written_is_named_and_done_without(gan) -> None:
    Path("images").mkdir()
    Image.new("RGB", (20, 20)).save("images/0.png")
    words = [*without(TINY, "data=", "data.n="), "data=folder", "data.path=images", "data.cache=/proc/x"]
    code, _, error = gan("train", *words, "run.dir=r")
    assert code == 0 and "type data.cache=DIR" in error, error


def test_labels_are_drawn_without_freetype(tmp_path, monkeypatch) -> None:
    def missing(*size):
        raise ImportError("The _imagingft C module is not installed")

    monkeypatch.setattr(ImageFont, "load_default", missing)
    assert drawable("猫…a", label_font(13)) == "??a"
    runs = [read_run(write_run(tmp_path / name, overrides=(f"model=猫-{name}",))) for name in ("a", "b" * 60)]
    assert contact_sheet(each_run(rank_runs(runs)))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, as Linux does well")
def test_random_commands_that_are_killed_leave_everything_whole(tmp_path) -> None:
    bench = [sys.executable, "benchmarks/attack/soak.py", "--minutes", "0.1", "--seed", "2"]
    done = subprocess.run([*bench, "--out", str(tmp_path / "soak.json")], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["failures"] == [] and found["counts"]["train"] and found["counts"]["compared to the bit"]


def test_a_benchmark_that_cannot_write_is_refused_at_once(gan) -> None:
    for what in ("speed", "modes"):
        code, _, error = gan("bench", what, "out=/proc/x")
        assert code == 1 and "out=/proc/x cannot be written" in error, error
