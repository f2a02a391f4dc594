"""Help, completion and `gan list`: read from the yaml files, at once."""

import os
import re
import subprocess
import sys

import pytest

from gancli import config
from gancli.cli.help import commands
from gancli.config import choices, groups, keys


def test_help_and_usage_errors_import_neither_torch_nor_hydra():
    code = (
        "import sys; from gancli.cli.main import main\n"
        "right = ['', '--help', 'train --help', 'train model=cgan --help', 'sample -h', 'list', '--complete gan_tr']\n"
        "wrong = ['tarin', 'train model=dcgam', 'train lrr=5', 'train data.kind=ring', 'train seed=x', 'train -x']\n"
        "assert [main(line.split()) for line in right + wrong] == [0] * len(right) + [2] * len(wrong)\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'torchvision', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_help_shows_every_command_and_every_key_with_its_meaning(gan):
    overview = gan("--help")[1]
    for command in commands():
        assert f"gan {command} " in overview
        code, out, _ = gan(command, "--help")
        assert code == 0 and f"gan {command}" in out
        for key in keys(command):
            assert key.meaning and (f"{key.name}=" in out) == (not key.rare), key


@pytest.mark.parametrize("model", choices("model"))
def test_help_of_train_shows_the_keys_of_the_chosen_model(gan, model):
    code, out, _ = gan("train", f"model={model}", "--help")
    shown = re.findall(r"^  (model\.[\w.]+)=", out, re.M)
    own = {key.name for key in keys(f"model/{model}", "model.") if key.meaning and not key.rare}
    assert code == 0 and own <= set(shown) and "model.lr" in shown
    assert ("model.cycle" in shown) == (model == "cyclegan")
    everything = gan("train", f"model={model}", "--help", "all")[1]
    assert all(f"  {key.name}=" in everything for key in keys(f"model/{model}", "model."))


def test_help_of_train_follows_typed_data_experiments_and_inner_groups(gan):
    assert "data.sources=" in gan("train", "--help", "data=unpaired")[1]
    assert "Keys with model=vae_mlp data=mnist" in gan("train", "experiment=mnist-vae", "-h")[1]
    assert "model.penalty.weight=" in gan("train", "model/penalty=r1", "-h", "all")[1]


def test_list_names_the_choices(gan):
    code, out, _ = gan("list", "models")
    assert code == 0 and re.findall(r"^  (\w+)", out, re.M) == choices("model")
    assert gan("list", "loss")[1] == gan("list", "losses")[1] == gan("list", "model/loss")[1]
    assert all(f"{group}=" in gan("list")[1] for group in groups())


def test_help_and_lists_show_the_users_own_configs_too(gan, tmp_path):
    (tmp_path / "model" / "loss").mkdir(parents=True)
    (tmp_path / "model" / "mine.yaml").write_text("# Mine\ndefaults: \n  - dcgan\n  - _self_\nextra: 1   # something\n")
    (tmp_path / "model" / "loss" / "untitled.yaml").write_text("_target_: mine.Loss\n")
    for option in ([f"--config-dir={tmp_path}"], ["--config-dir", str(tmp_path)]):
        code, out, _ = gan("train", "model=mine", *option, "--help")
        assert code == 0 and "model.extra=1" in out and "model.width=" in out and "untitled" in out
        assert f"  {'mine':<24}Mine\n" in gan("list", "models", *option)[1]
        assert "  untitled\n" in gan("list", *option)[1]
    assert "mine" not in choices("model") and gan("train", "model=mine", "--help")[0] == 2


def test_a_name_that_begins_with_an_underscore_is_a_base_and_no_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "_gan.yaml").write_text("lr: 1   # rate\n# Rarely changed\nclip: 0   # norm\n")
    (tmp_path / "model" / "mine.yaml").write_text(
        "# Mine\ndefaults:\n  - _gan\n  - override loss: hinge\nlr: 2\n# Rarely changed\nclip: 3\nx: 4\n"
    )
    assert choices("model") == ["mine"] and config.defaults("model/mine") == {"model/loss": "hinge"}
    expected = [("m.lr", "2", "rate", False), ("m.clip", "3", "norm", True), ("m.x", "4", "", True)]
    assert [tuple(key) for key in keys("model/mine", "m.")] == expected


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("gan tra", ["train", "translate"]),
        ("gan train model=cg", ["model=cgan", "model=cgan_mlp"]),
        ("gan train task=e", ["task=edges"]),
        ("gan train -m model=dcgan,ml", ["model=dcgan,mlp"]),
        ("gan train trainer.log=[csv,tens", ["trainer.log=[csv,tensorboard"]),
        ("gan train trainer.log_", ["trainer.log_every="]),
        ("gan train model.cyc", ["model.cycle="]),
        ("gan sample inter", ["interpolate="]),
        ("gan nothing x", []),
    ],
)
def test_completion_offers(gan, typed, offered):
    assert gan("--complete", typed)[1].split() == offered


def test_completion_works_in_a_real_shell(tmp_path):
    (tmp_path / "gan").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gancli "$@"\n')
    (tmp_path / "gan").chmod(0o755)
    script = """
    eval "$(gan --completion bash)"
    COMP_LINE="gan train model=dc"; COMP_POINT=${#COMP_LINE}
    _gan 2>/dev/null; echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)
    assert shell.stdout.strip() == "dcgan", shell.stderr  # bash breaks words at =, and completes the last one
