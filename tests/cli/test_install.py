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
    empty, clean = tmp_path / "empty", tmp_path / "clean"
    empty.mkdir()

    def output(*words: str | Path) -> str:
        env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        run = subprocess.run(words, cwd=empty, env=env, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()

    # The source archive, and the wheel from it.
    output(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    yamls = {f"gancli/configs/{p.relative_to(ROOT / 'configs').as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert yamls <= names and not [name for name in names if name.startswith(("tests", "configs", "outputs"))]

    venv.create(clean)
    python, gan = clean / "bin" / "python", clean / "bin" / "gan"
    output(sys.executable, "-m", "pip", "-q", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # The dependencies of this environment, but not its editable gancli: a path file in a path file is not followed.
    site = output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    assert output(python, "-c", "import gancli; print(gancli.__file__)").startswith(str(clean))

    run = Path(output(gan, "train", "trainer=debug", "device=cpu"))
    assert run.parent == empty / "outputs" and any(run.glob("checkpoints/last.*"))
    output(gan, "sample", "ckpt=latest", "n=4")
    assert (empty / "samples.png").is_file()
    Image.new("RGB", (6, 5), "teal").save(empty / "small.png")
    assert output(gan, "upscale", "small.png") == "small_x4.png"
    with Image.open(empty / "small_x4.png") as image:
        assert image.size == (24, 20)
