"""Packages of others: found by their entry points, trusted for what they vouch for and for nothing else."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import TINY, write_generator

from gancli import config, plugins
from gancli.checkpoint import format as checkpoint

NETWORKS = """
import torch
from torch import nn
from torch.fx import GraphModule

TOUCHED = []


class Generator(nn.Module):
    def __init__(self, z_dim: int = 4, channels: int = 3, size: int = 8, width: int = 4, classes: int = 0):
        super().__init__()
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, size, size)
        self.layer = nn.Linear(z_dim + classes, channels * size * size)

    def forward(self, z, c):
        return self.layer(torch.cat([z, c], 1)).tanh().unflatten(1, self.shape)


class Cleaner:
    def __init__(self, **settings):
        TOUCHED.append(settings)


def clean(**settings):
    TOUCHED.append(settings)


generator = Generator()
"""
MODEL = """# Calm: one linear layer
defaults:
  - mlp
  - _self_
name: calm
calmness: 1.0   # how calm it is
G:
  _target_: calm_gan.networks.Generator
  z_dim: 4
"""
ENTRY = "[console_scripts]\nx = y:z\n[gancli.plugins]\ncalm = calm_gan.configs:calm_gan.networks\n\n[other]\na = b\n"


def package(site: Path, name: str = "calm_gan", entry: str = ENTRY, networks: str = NETWORKS) -> Path:
    """Write a package as pip leaves it, with one network and the configs of one model."""
    folder = site / name
    (folder / "configs" / "model").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "networks.py").write_text(networks)
    (folder / "acts.py").write_text("raise SystemExit('it acts when it is imported')")
    (folder / "configs" / "model" / "calm.yaml").write_text(MODEL)
    information = site / f"{name}-0.1.dist-info"
    information.mkdir()
    (information / "entry_points.txt").write_text(entry)
    return folder


@pytest.fixture
def site(tmp_path_factory, monkeypatch):
    """Return a folder of installed packages, empty at first; what it holds is read anew by the first call of gan."""
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(folder)
    plugins._read.cache_clear()
    yield folder
    plugins._read.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("calm_gan", "other_gan")]:
        del sys.modules[name]


def write(path: Path, target: str, **arguments: object) -> str:
    """Write a checkpoint whose network has the weights of the plugin's generator but any target."""
    from calm_gan.networks import Generator

    shape = {"z_dim": 4, "channels": 3, "size": 8, "classes": 0}
    write_generator(path, {"_target_": target, **shape, **arguments}, Generator(**shape).state_dict())
    return f"ckpt={path}"


def test_a_plugin_is_listed_completed_trained_and_sampled(site, gan, tmp_path):
    package(site)
    assert f"  {'calm':<24}Calm: one linear layer\n" in gan("list", "models")[1]
    assert f"{'calm':<24}configs of calm_gan.configs, networks of calm_gan.networks" in gan("list")[1]
    assert "model.calmness=1.0" in gan("train", "model=calm", "--help")[1]
    assert gan("--complete", "gan train model=ca")[1].split() == ["model=calm"]
    code, _, error = gan("train", *TINY, "model=calm", "data.size=8", "run.dir=run", "trainer.steps=1")
    assert code == 0, error
    assert gan("sample", "ckpt=run", "n=2", "out=x.png")[0] == 0
    assert gan("train", "model=calmm")[2].count("did you mean calm?") == 1
    assert "calm_gan.networks.Generator" in gan("verify", "run")[1]


@pytest.mark.parametrize("target", ["Cleaner", "clean", "GraphModule", "generator", "nothing", "nn.Linear", "torch"])
def test_a_checkpoint_cannot_call_what_is_no_network_of_a_plugin(site, gan, tmp_path, target):
    package(site)
    ckpt = write(tmp_path / "bad.safetensors", f"calm_gan.networks.{target}")
    code, _, error = gan("sample", ckpt)
    assert code == 1 and "is not a network of gancli or of a plugin; it was not built" in error, error
    assert not sys.modules["calm_gan.networks"].TOUCHED


def test_modules_beside_the_vouched_one_are_not_even_imported(site, gan, tmp_path):
    package(site)
    for target in ("calm_gan.acts.Generator", "calm_gan.networks_of_others.Generator", "calm_gan.Generator"):
        assert "it was not built" in gan("sample", write(tmp_path / "bad.safetensors", target))[2]
    inner = {"_target_": "calm_gan.networks.Cleaner"}
    assert gan("sample", write(tmp_path / "bad.safetensors", "calm_gan.networks.Generator", z_dim=inner))[0] == 1
    assert not sys.modules["calm_gan.networks"].TOUCHED and "calm_gan.acts" not in sys.modules


def test_without_an_entry_point_trust_builds_it_for_one_command(site, gan, tmp_path, monkeypatch):
    package(site, entry="")
    ckpt = write(tmp_path / "mine.safetensors", "calm_gan.networks.Generator")
    code, _, error = gan("sample", ckpt)
    assert code == 1 and "plugin" in error and "trust=[calm_gan]" in error and "GAN_TRUST=calm_gan" in error
    assert gan("sample", ckpt, "trust=[calm_gan]", "out=a.png")[0] == 0
    assert gan("sample", ckpt, "out=b.png")[0] == 1
    monkeypatch.setenv("GAN_TRUST", "calm_gan.networks")
    assert gan("sample", ckpt, "out=b.png")[0] == 0
    assert gan("sample", write(tmp_path / "bad.safetensors", "calm_gan.networks.GraphModule"))[0] == 1


@pytest.mark.parametrize("name", ["os", "torch", "torch.fx", "builtins", "gancli", "numpy"])
def test_python_and_torch_cannot_be_trusted(gan, name):
    code, _, error = gan("sample", f"trust=[{name}]")
    assert code == 2 and f"trust={name} is refused" in error
    assert "is no installed package" in gan("sample", "trust=[no_such_package]")[2]


BROKEN = {
    "of nothing": ("no_such.configs", "names the package no_such.configs, which is not there"),
    "for torch": ("other_gan.configs:torch.nn", "vouches for torch.nn, which is not its own"),
    "of the same name": ("other_gan.configs", "two plugins are called calm"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_cannot_be_used_is_named_once_and_all_else_works(site, gan, case):
    value, sentence = BROKEN[case]
    name = "calm" if case == "of the same name" else "broken"
    package(site)
    package(site, "other_gan", f"[gancli.plugins]\n{name} = {value}\n")
    code, out, error = gan("list", "models")
    assert code == 0 and "calm  " in out and error.count(sentence) == 1 and len(error.splitlines()) == 1, error
    assert gan("train", "model=calm", "--cfg", "job")[0] == 0


def test_a_plugin_that_raises_at_import_is_named_by_what_needs_it_alone(site, gan, tmp_path):
    package(site, networks="1 / 0")
    assert gan("list")[0] == 0 and gan("train", "model=mlp", "--cfg", "job")[0] == 0
    code, _, error = gan("train", *TINY, "model=calm", "run.dir=calm")
    assert code == 1 and "calm_gan.networks.Generator, which the config names, cannot be imported" in error, error
    assert "ZeroDivisionError" in error and len(error.splitlines()) == 1
    config_of = {"_target_": "calm_gan.networks.Generator", "z_dim": 4}
    write_generator(tmp_path / "a.safetensors", config_of, {"w": torch.zeros(1)})
    assert "calm_gan.networks cannot be imported: ZeroDivisionError" in gan("sample", "ckpt=a.safetensors")[2]


def test_configs_that_another_hides_are_named(site, gan):
    folder = package(site)
    (folder / "configs" / "model" / "mlp.yaml").write_text("# Mine\n")
    code, out, error = gan("list", "models")
    assert code == 0 and "model/mlp.yaml of the plugin calm is hidden by another" in error and "# Mine" not in out


def test_a_checkpoint_names_no_data_of_a_plugin_to_evaluate_on(site, gan, tmp_path):
    folder = package(site)
    (folder / "configs" / "data").mkdir()
    (folder / "configs" / "data" / "calm_data.yaml").write_text(
        "# D\nname: calm_data\nsize: 8\nsource:\n  _target_: calm_gan.networks.clean\n  size: ${data.size}\n"
    )
    ckpt = write(tmp_path / "a.safetensors", "calm_gan.networks.Generator")
    content = checkpoint.read(tmp_path / "a.safetensors")
    content["config"]["data"] = {"name": "calm_data", "size": 8}
    checkpoint.write(tmp_path / "a.safetensors", content)
    assert gan("evaluate", ckpt)[0] == 1 and not sys.modules["calm_gan.networks"].TOUCHED
    assert "calm_data" in config.choices("data")


@pytest.mark.parametrize("option", ["--config-dir={}", "hydra.searchpath=[file://{}]", "hydra.searchpath=[pkg://{}]"])
def test_folders_of_own_configs_work_in_every_form(site, gan, option):
    folder = package(site, entry="") / "configs"
    place = option.format("calm_gan.configs" if "pkg" in option else folder)
    assert "calm  " in gan("list", "models", place)[1]
    assert "model.calmness" in gan("train", place, "model=calm", "--help")[1]
    assert gan("--complete", f"gan train {place} model=ca")[1].split() == ["model=calm"]
    assert "calmness: 1.0" in gan("train", place, "model=calm", "--cfg", "job")[1]
    assert gan("train", place, "model=calmm")[2].count("did you mean calm?") == 1


@pytest.mark.slow
def test_sweeps_over_own_configs_run_and_resume(site, gan):
    folder = package(site, entry="") / "configs"
    for place in (f"--config-dir={folder}", f"hydra.searchpath=[file://{folder}]"):
        tiny = [*TINY, "model=mlp,calm", "data.size=8", "trainer.steps=1", place]
        code, _, error = gan("train", "-m", *tiny, "run.dir=" + str(len(place)))
        assert code == 0, error
        code, _, error = gan("train", f"resume={len(place)}")
        assert code == 0 and "was done" in error, error
