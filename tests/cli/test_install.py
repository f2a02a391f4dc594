"""From a wheel: `gan` works in any folder, with its configs inside."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT
from PIL import Image


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment_trains_in_an_empty_folder(tmp_path):
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # the source archive, and the wheel from it
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for yaml in (ROOT / "configs").rglob("*.yaml"):
        assert f"gancli/configs/{yaml.relative_to(ROOT / 'configs').as_posix()}" in names
    assert not [name for name in names if name.startswith(("tests", "configs", "outputs"))]

    clean = tmp_path / "clean"
    venv.create(clean, with_pip=True)
    python = clean / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    # The dependencies of this environment, but not its editable gancli: a path file in a path file is not followed.
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    gan = clean / "bin" / "gan"
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    where = subprocess.run(
        [python, "-c", "import gancli; print(gancli.__file__)"],
        cwd=empty,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(clean))
    run = subprocess.run(
        [gan, "train", "trainer=debug", "device=cpu"], cwd=empty, env=env, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert (empty / "outputs").is_dir() and (Path(run.stdout.strip()) / "checkpoints" / "last.safetensors").is_file()
    sample = subprocess.run([gan, "sample", "ckpt=latest", "n=4"], cwd=empty, env=env, capture_output=True, text=True)
    assert sample.returncode == 0 and (empty / "samples.png").is_file(), sample.stderr
    Image.new("RGB", (6, 5), "teal").save(empty / "small.png")
    large = subprocess.run([gan, "upscale", "small.png"], cwd=empty, env=env, capture_output=True, text=True)
    assert large.returncode == 0 and large.stdout == "small_x4.png\n", large.stderr
    with Image.open(empty / "small_x4.png") as picture:
        assert picture.size == (24, 20)
