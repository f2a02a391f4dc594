"""Typed words: quoting, paths, options anywhere, and the nearest right word for a wrong one."""

import os
import random
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from run_fixtures import write_run

from gancli.cli.overrides import read_train, read_values
from gancli.config import override
from gancli.report.run_folder import resume_command

PARSER = OverridesParser.create()
WITHOUT_RAY = pytest.mark.skipif(find_spec("hydra_plugins.hydra_ray_launcher") is not None, reason="Ray is installed")
ODD_FOLDER = "my images (1)=a,b {x} ~ ${y} 猫"


def test_hydra_and_a_shell_read_back_exactly_the_quoted_text():
    rng, characters = random.Random(0), "ab1 \\'\"()[]{}=~,:#$%&|*?!+-@.;/<>\n\té猫\u00a0"
    texts = ["".join(rng.choices(characters, k=rng.randrange(9))) for _ in range(1500)]
    texts += [
        "".join(rng.choices([chr(rng.randrange(1, 0xD800)), chr(rng.randrange(0xE000, 0x110000)), "\udcff", "\r"], k=4))
        for _ in range(500)
    ]
    for text in [
        *texts,
        ".1",
        "._1",
        "1.10",
        "2024_01_15",
        "null",
        "True",
        "1e3",
        "nan",
        ODD_FOLDER,
        "choice(a,b)",
        "${x}",
    ]:
        (word,) = shlex.split(shlex.quote(override("data.path", text)))
        parsed = PARSER.parse_override(word)
        assert parsed.key_or_group == "data.path" and parsed.value() == text and not parsed.is_sweep_override()


def composed(word):
    """Return the value of an override in a composed config."""
    return OmegaConf.create({"model": {"name": "cgan"}, "x": PARSER.parse_override(word).value()}).x


PATHS = [("folder", "data.path"), ("pairs", "data.sources"), ("photos", "data.cache"), ("mnist", "data.root")]


@pytest.mark.parametrize(("data", "key"), [*PATHS, ("mnist10k", "run.dir"), ("mnist10k", "trainer.start")])
@pytest.mark.parametrize("path", [ODD_FOLDER, "a,b", "'a' and 'b'", "choice(a,b)", "C:\\new\\", "1", "null"])
def test_a_path_is_never_grammar(data, key, path):
    command = read_train([f"data={data}", f"{key}={path}"])
    assert command.words[-1] == f"{key}={path}"
    assert composed(command.overrides[-1]) == path
    # A printed command has the quoted form, which means the same when it is typed.
    assert read_train([*command.words[:-1], command.overrides[-1]]).overrides == command.overrides


def test_a_sweep_over_paths_has_one_job_for_each():
    command = read_train(["-m", "data=folder", "data.path=a b/,c=d/", "run.dir=x,y"])
    path, run = PARSER.parse_overrides(command.overrides[1:])
    assert [str(value) for value in path.sweep_string_iterator()] == ["'a b/'", "'c=d/'"]
    assert run.value() == "x,y" and not run.is_sweep_override()


def test_names_of_classes_are_texts_and_their_positions_numbers():
    (word,) = read_train(["model=cyclegan", "model.between=[true,010]"]).overrides[1:]
    assert PARSER.parse_override(word).value() == ["true", "010"]
    (word,) = read_train(["model=cyclegan", "model.between=[3, Дом]"]).overrides[1:]
    assert PARSER.parse_override(word).value() == [3, "Дом"]


def test_options_may_stand_anywhere_and_take_either_form(tmp_path):
    first = read_train(["-m", "task=edges", "model=pix2pix", "seed=0,1"])
    assert first == read_train(["task=edges", "model=pix2pix", "seed=0,1", "--multirun"])
    assert first.sweep and first.words == ["model/task=edges", "model=pix2pix", "seed=0,1"]
    own = str(tmp_path)
    a = read_train(["--cfg", "job", "--config-dir", own, "--resolve", "seed=1"])
    assert a == read_train(["seed=1", "-c", "job", f"--config-dir={own}", "--resolve"]) and a.resolve and a.cfg == "job"


WRONG = [
    (["tarin"], "did you mean train?"),
    (["--completion", "tcsh"], "bash, zsh or fish"),
    (["list", "modles"], "did you mean models?"),
    (["report", "sort=x", "upside=down"], "no key 'upside'"),
    (["sample", "--n=3"], "takes no option --n=3; type n=3"),
    (["sample", "n=many"], "n is a whole number"),
    (["sample", "classes=[3"], "type it as in classes=[3,7]"),
    (["info", "a", "b"], "takes ckpt, but 2 words were given: a b"),
    (["train", "model=dcgam"], "did you mean dcgan?"),
    (["train", "model/loss=minmax"], "did you mean minimax?"),
    (["train", "model/augment=dif"], "there are: ada, diffaugment, none"),
    (["train", "model=null"], "there is no model 'null'"),
    (["train", "-m", "model=dcgan,mpl"], "did you mean mlp?"),
    (["train", "trainer.step=5"], "did you mean trainer.steps?"),
    (["train", "batch_size=5"], "there is no key 'batch_size'; type data.batch_size=5"),
    (["train", "steps=10"], "type trainer.steps=10"),
    (["train", "iterations=100"], "type trainer.steps=100"),
    (["train", "lr=1e-3"], "type model.lr=1e-3"),
    (["train", "epochs=5"], "type trainer.kimg=45: thousands of images, here 5 epochs"),
    (["train", "--model", "dcgan"], "type model=dcgan"),
    (["train", "--batch-size=64"], "type data.batch_size=64"),
    (["train", "--steps", "10"], "type trainer.steps=10"),
    (["train", "--gpu"], "type device=cuda"),
    (["train", "data=pictures/"], "type data=folder data.path=pictures/"),
    (["train", "data=my pictures/"], "type data=folder 'data.path=my pictures/'"),
    (["list", "--config-dir"], "--config-dir needs a value, as in --config-dir=my_configs"),
    (["list", "--config-dir=nowhere"], "nowhere is no folder"),
    (["train", "data=a.npz"], "type data=npz data.path=a.npz"),
    (["train", "model=dcgan,mlp"], "type gan train -m model=dcgan,mlp"),
    (["train", "resume=nowhere"], "resume=nowhere holds no run"),
    (["train", "resume=latest"], "there is no run in"),
    (["train", "resume=latest", "run.dir=x"], "leave one out"),
    (["train", "lrr=5"], "did you mean model.lr?"),
    (["train", "data.kind=ring"], "data.kind is a key of data=synthetic"),
    (["train", "dcgan"], "'dcgan' is not key=value; type model=dcgan"),
    (["train", "latest"], "type resume=latest"),
    (["train", "=3"], "is not key=value"),
    (["train", "seed=0,1"], "add -m"),
    (["train", "seed=1.5"], "seed is a whole number"),
    (["train", "data.batch_size=many"], "data.batch_size is a whole number"),
    (["train", "model.lr=fast"], "model.lr is a number"),
    (["train", "trainer.channels_last=maybe"], "true or false"),
    (["train", "model=mlp", "--help", "data=minst"], "did you mean mnist?"),
    (["train", "--mulitrun"], "did you mean --multirun?"),
    (["train", "--cfg"], "--cfg needs a value"),
    (["train", "--cfg=jobb"], "type --cfg job"),
    (["train", "--config-dir", "nowhere"], "nowhere is no folder"),
    (["train", "-m", "--cfg", "job"], "leave one out"),
    (["train", "--resolve"], "add --cfg job"),
]
# Hydra checks its own grammar and groups.
WRONG_FOR_HYDRA = [
    (["train", "model.betas=[1"], "model.betas=[1 cannot be read"),
    (["train", "-m", "model.betas=[1", "run.dir=s"], "cannot be read"),
    (["train", "data.size=choice(8,16)"], "add -m"),
    (["train", "model.lr.rate=1"], "there is no key 'model.lr.rate'"),
    (["train", "run.dir='${modle.name}'"], "modle"),
    (["train", "-m", "hydra/launcher=jobli", "run.dir=s"], "did you mean joblib?"),
    pytest.param(["train", "-m", "sweep=ray", "run.dir=s"], "type pip install 'gancli[ray]'", marks=WITHOUT_RAY),
    (["train", "+seed=3"], "seed"),
]


@pytest.mark.parametrize(("words", "sentence"), [*WRONG, *WRONG_FOR_HYDRA])
def test_a_wrong_word_gets_one_sentence_with_the_right_one_and_exit_2(gan, tmp_path, words, sentence):
    code, out, error = gan(*words)
    assert code == 2 and sentence in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_a_list_holds_texts_and_a_home_is_found_in_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    given = {
        "classes=[no,007,2020-02-01]": ["no", "007", "2020-02-01"],
        "classes=[<=50K, >50K,#1,it's,'a,b',!x,{y},~]": ["<=50K", ">50K", "#1", "it's", "a,b", "!x", "{y}", "~"],
        "classes=[[x]]": ["[x]"],
        "images=[~/a,~/b]": ["/home/me/a", "/home/me/b"],
    }
    for word, expected in {**given, "classes=": [], "classes=3": ["3"]}.items():
        assert read_values("sample", [word])[word.partition("=")[0]] == expected
    assert read_values("bench", ["seeds=[0,2]"])["seeds"] == [0, 2]
    assert read_values("sample", ["ckpt=~/run", "out=~/x.png"])["ckpt"] == "/home/me/run"
    for key in ("data=folder data.path", "data=pairs data.sources", "data=mnist data.root", "trainer.start", "run.dir"):
        assert read_train(f"{key}=~/a".split()).overrides[-1].endswith("=/home/me/a")


@pytest.mark.parametrize(
    "name",
    [
        *("a b", "a+b", "it's", "写真", "🙂", "[x]", "k=v", "-x", "Łódź", "~x", "'q'", "${x}", "latest", "a,b"),
        *("a  b", "a\nb", "\x1b[31m", "a\\", "\udcff", "字" * 85, "\u202ex"),
    ],
)
def test_the_resume_command_of_any_folder_survives_a_shell_and_hydra(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / name)
    printed = resume_command(tmp_path / name)
    assert printed.isprintable()
    echoed = subprocess.run(["bash", "-c", f"printf '%s\\0' {printed}"], capture_output=True, check=True).stdout
    gan, train, *words = map(os.fsdecode, echoed.split(b"\0")[:-1])
    (word,) = [word for word in read_train(words).overrides if word.startswith("run.dir=")]
    assert (gan, train) == ("gan", "train") and Path(composed(word)).resolve() == tmp_path / name


def test_braces_of_a_name_are_no_interpolation_unless_they_name_a_key_or_a_function():
    def run_dir(path):
        return composed(read_train([f"run.dir={path}"]).overrides[0])

    assert run_dir("outputs/${model.name}") == "outputs/cgan"
    for name in ("${x}", "$${", "a\\${x}", "${oc.env:HOME", "${model", "${model.name} ${y}", "${}"):
        assert run_dir(name) == name


def test_a_sweep_takes_paths_with_commas_and_choices_of_any_name(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "Łódź.yaml").write_text("# @package _global_\nseed: 3\n", encoding="utf-8")
    words = ["-m", "data=folder", "data.path='a,b',c d,${x}", "experiment=Łódź"]
    overrides = read_train([*words, f"--config-dir={tmp_path}"]).overrides
    paths, experiment = (PARSER.parse_override(word) for word in overrides[1:])
    assert [value.text for value in paths.value().list] == ["a,b", "c d", "\\${x}"]
    assert experiment.value() == "Łódź"
