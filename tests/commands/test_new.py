"""gan new: a package that installs, trains, samples and passes its tests at once."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers import ROOT, TINY, pretend_install

from gancli import plugins


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    plugins._read.cache_clear()


def test_a_new_package_is_a_plugin_with_a_model_and_a_loss(gan, tmp_path, site):
    code, out, error = gan("new", "my work/quiet_gan")
    assert code == 0 and out == "my work/quiet_gan\n" and "pip install -e 'my work/quiet_gan'" in error
    texts = [file.read_text() for file in (tmp_path / "my work").rglob("*") if file.is_file()]
    assert not [text for text in texts if "my_gan" in text or "my-gan" in text]
    pretend_install(tmp_path / "my work" / "quiet_gan", site)
    assert f"  {'quiet_gan':<24}DCGAN with" in gan("list", "models")[1]
    assert "model.loss.smoothing=0.1" in gan("train", "model=quiet_gan", "--help")[1]
    code, _, error = gan("train", *TINY, "model=quiet_gan", "run.dir=run", "trainer.steps=1")
    assert code == 0 and "warning" not in error, error
    assert gan("sample", "ckpt=run", "n=2")[0] == 0


def test_names_that_cannot_be_and_folders_with_files_are_refused(gan, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    for words, sentence in {
        ("full",): "exists and is not empty",
        ("torch",): "there is a package torch already",
        ("a/dcgan",): "there is a model dcgan already",
        ("9",): "cannot be the name of a package",
        ("x", "name=class"): "cannot be the name of a package",
        (): "type gan new DIR",
    }.items():
        code, _, error = gan("new", *words)
        assert code == 1 and sentence in error, (words, error)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.mark.slow
def test_the_life_of_a_package_in_an_environment_of_its_own(tmp_path):
    pytest.importorskip("hatchling")

    def output(*words: str | Path) -> str:
        env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        run = subprocess.run(words, cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout.strip()

    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    site = output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    gan = (python, "-m", "gancli")
    package = output(*gan, "new", "calm_gan")
    pip = (sys.executable, "-m", "pip", "-q", "--python", python)
    output(*pip, "install", "--no-deps", "--no-build-isolation", "-e", package)
    assert "calm_gan" in output(*gan, "list", "models")
    run = output(*gan, "train", "model=calm_gan", *TINY)
    assert output(*gan, "sample", f"ckpt={run}") == "samples.png"
    chosen = "shape or finite"
    assert "2 passed" in output(python, "-m", "pytest", "-p", "no:cacheprovider", "calm_gan", "-k", chosen)
