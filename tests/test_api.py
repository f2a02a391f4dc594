"""From Python: the commands as functions, the pieces without Hydra, and the notebook."""

import contextlib
import importlib
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, broken_png
from PIL import Image
from torch.utils.data import TensorDataset

import gancli


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_trained_sampled_shown_and_opened_again(here):
    run = gancli.train("model=cgan_mlp", *TINY, "data.classes=4", "run.dir=a", steps=2)
    assert run.folder == here / "a" and run.status == "finished" and run.last_step == 2
    assert run.sample(n=5, classes=[3]).shape == (5, 3, 16, 16)
    assert run.scores and "sliced_wasserstein" in run.scores[0].metrics
    shown = run._repr_html_()
    assert shown.count("data:image/png;base64,") == 2 and "generated, step 2" in shown
    again = gancli.train("resume=a", steps=3)
    assert again.last_step == 3 and gancli.open_run("a").last_step == 3
    assert torch.equal(gancli.load("a").sample(2), again.sample(2))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=dcgam"], "did you mean dcgan"),
        (["-m", "seed=0,1"], "trains one run"),
        (["trainer.log_every=0"], "trainer.log_every"),
    ],
)
def test_what_the_command_would_refuse_is_an_error(here, words, sentence):
    with pytest.raises(ValueError, match=sentence):
        gancli.train(*TINY[:-3], *words)
    assert not list(here.rglob("*.*"))


def test_images_in_memory_are_evaluated_against_others_and_data_by_name(here):
    x = torch.rand(100, 1, 28, 28) * 2 - 1
    result = gancli.evaluate(x, "mnist10k", metrics=["fd_mnist"], device="cpu")
    assert result.headline["fd_mnist"] > 0 and "fd_mnist" in str(result)
    array = gancli.as_dataset(x).images.permute(0, 2, 3, 1).numpy()
    assert gancli.evaluate(array, x, metrics=["fd_mnist"], device="cpu").headline["fd_mnist"] < 1e-3
    with pytest.raises(ValueError, match="is grey"):
        gancli.evaluate(x, x.repeat(1, 3, 1, 1), device="cpu")


def test_upscale_takes_paths_and_arrays_and_gives_their_like(here):
    array = np.zeros((5, 6, 3), np.uint8)
    Image.fromarray(array).save("a.png")
    assert gancli.upscale(here / "a.png", scale=2).size == gancli.upscale("a.png", scale=2).size == (12, 10)
    assert gancli.upscale(array, scale=2).shape == (10, 12, 3)
    assert gancli.upscale(array[..., :1], scale=2).shape == (10, 12, 1)
    with pytest.raises(ValueError, match=r"b\.png is not a file"):
        gancli.upscale("b.png")
    (here / "c.png").write_bytes(broken_png())
    with pytest.raises(ValueError, match=r"c\.png broken PNG file"):
        gancli.upscale("c.png")
    with pytest.raises(ValueError, match="float64"):
        gancli.upscale(array / 255)


class Pictures(torch.utils.data.Dataset):
    classes = ("dark", "light")

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return Image.new("L", (8, 8), 60 * i), i % 2


def test_any_torch_dataset_tensor_or_array_becomes_data():
    pictures = gancli.as_dataset(Pictures())
    assert pictures.class_names == ["dark", "light"] and pictures.images[:, 0, 0, 0].tolist() == [0, 60, 120, 180]
    floats = TensorDataset(pictures.images / 255)
    assert torch.equal(gancli.as_dataset(floats).images, pictures.images)
    assert torch.equal(gancli.as_dataset(pictures.images[:, 0].numpy()).images, pictures.images)
    assert gancli.as_dataset(pictures.images, labels=[0, 1, 2, 0]).classes == 3
    for wrong in (torch.rand(4, 3, 8, 6), 9 * torch.rand(4, 1, 8, 8), torch.rand(4, 2, 8, 8), np.zeros((4, 8, 8)), 7):
        with pytest.raises(ValueError, match="images"):
            gancli.as_dataset(wrong)


def test_the_public_names_are_listed_once_and_documented():
    text = (ROOT / "gancli" / "__init__.py").read_text()
    typed = re.findall(r"^    from (gancli[\w.]+) import (\w+) as \2$", text, re.M)
    assert {name: f"gancli.{module}" for name, module in gancli._PUBLIC.items()} == {n: m for m, n in typed}
    assert all(getattr(gancli, name).__doc__ for name in gancli._PUBLIC)
    assert set(dir(gancli)) == {"__version__", *gancli._PUBLIC} and (ROOT / "gancli" / "py.typed").exists()
    code = "import sys, gancli; dir(gancli); assert not {'torch', 'numpy', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def code_for_others() -> dict[str, str]:
    """Return the Python that readers copy: of the Markdown pages, the notebook and the template, by file."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    code = {
        str(page): "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)) for page in pages
    }
    for notebook in (ROOT / "docs").glob("*.ipynb"):
        code[notebook.name] = "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])
    return code | {str(file): file.read_text() for file in (ROOT / "gancli" / "template").rglob("*.py")}


def test_what_docs_notebook_and_template_import_is_public():
    imported = [
        (file, module, name.strip())
        for file, code in code_for_others().items()
        for module, names in re.findall(r"^from gancli\.([\w.]+) import (.+)$", code, re.M)
        for name in names.split(",")
    ]
    assert len(imported) > 8
    for file, module, name in imported:
        public = any(f"{module}.{name}.".startswith(f"{part}.") for part in gancli._PUBLIC_MODULES)
        assert public and not name.startswith("_"), f"{file}: {name} of gancli.{module}"
        importlib.import_module(f"gancli.{module}.{name}" if module == "networks" else f"gancli.{module}")
    assert not re.findall(r"^import gancli\..*", "\n".join(code_for_others().values()), re.M)
    assert all(importlib.import_module(f"gancli.{part}").__doc__ for part in gancli._PUBLIC_MODULES)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "docs").glob("*.ipynb")), ids=lambda file: file.name)
def test_a_notebook_of_the_docs_runs_from_top_to_bottom(notebook, here):
    """Its cells of code are Python alone, so that no kernel is needed; %pip is not reached."""
    cells = json.loads(notebook.read_text())["cells"]
    names: dict[str, object] = {}
    for cell in [cell for cell in cells if cell["cell_type"] == "code"]:
        lines = [re.sub(r"^(\s*)%.*", r"\1raise AssertionError", line) for line in "".join(cell["source"]).splitlines()]
        code = "\n".join(lines).replace("minutes=1", "steps=2").replace("steps=400", "steps=2")
        last = (lines or [""])[-1]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
            if re.fullmatch(r"\w+", last):  # shown below the cell
                assert names[last]._repr_html_()
