"""Runs and sweeps from somebody else: resumed, they build, read and start nothing that was not typed here."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import TINY

from gancli.runtime import cache

WORDS = [*TINY, "model=mlp", "trainer.steps=1", "run.dir=run"]


@pytest.fixture
def run(gan, tmp_path) -> Path:
    """A run that this user has started."""
    assert gan("train", *WORDS)[0] == 0
    return tmp_path / "run"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Any:
    """Return a function after which nothing is known of what was typed before, as on another machine."""
    return lambda: monkeypatch.setattr(cache, "FOLDER", tmp_path / "another")


def change_config(run: Path, **values: Any) -> None:
    """Set dotted keys of a run's config."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in values.items():
        *outer, last = key.split("__")
        node = config
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def add_word(run: Path, word: str) -> None:
    """Add a word to those that a run says it was started with."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if "overrides" in line:
            line["overrides"].append(word)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


PAYLOAD = {"_target_": "os.system", "command": "touch pwned"}
CONFIGS = [
    {"model__G": PAYLOAD},
    {"model__quick_metrics": PAYLOAD},
    {"data__source": PAYLOAD},
    {"data__extra": [[PAYLOAD]]},
    {"model__objective__more": {**PAYLOAD, "_target_": "gancli.images.os.system"}},
]


@pytest.mark.parametrize("values", CONFIGS)
def test_no_class_that_only_a_received_config_names_is_built(values, run, gan):
    change_config(run, **values)
    code, _, error = gan("train", "resume=run", "trainer.steps=2")
    assert code == 2 and "no config of gan names this class" in error and len(error.splitlines()) == 1, error
    assert not Path("pwned").exists()


HOSTILE = {
    "+model.more._target_=os.system": "it may name a class",
    "+model.more={_target_: os.system, command: touch pwned}": "it may name a class",
    "+data.root=/root/.ssh": "it names a file or a folder",
    "trainer.start=../other": "it names a file or a folder",
}


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_a_received_run_name_no_class_and_no_file(word, run, gan):
    add_word(run, word)
    code, _, error = gan("train", "resume=run", "trainer.steps=2")
    assert code == 2 and HOSTILE[word] in error and len(error.splitlines()) == 1, error
    assert not Path("pwned").exists()


def test_words_for_hydra_in_a_received_run_do_not_count(run, gan):
    add_word(run, "+hydra.callbacks.more._target_=os.getcwd")
    assert gan("train", "resume=run", "trainer.steps=2")[0] == 0


def test_a_received_run_goes_on_where_its_config_names_our_classes_only(run, elsewhere, gan):
    elsewhere()
    code, _, error = gan("train", "resume=run", "trainer.steps=2")
    assert code == 0, error


@pytest.mark.slow
def test_a_folder_that_a_received_run_names_is_typed_again(gan, tmp_path, elsewhere, monkeypatch):
    from PIL import Image

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "own").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "own" / f"{i}.png")
    words = ["model=mlp", "data=folder", "data.size=8", "data.path=own", "data.batch_size=4", *WORDS[4:]]
    words = [word for word in words if not word.startswith("data=synth") and not word.startswith("data.n=")]
    code, _, error = gan("train", *words)
    assert code == 0, error
    with monkeypatch.context() as patch:  # died when config.yaml was written, and nothing else
        patch.setattr("gancli.training.run.RunLog", killed)
        assert gan("train", "resume=run", "trainer.steps=2")[0] == 130
    assert gan("train", "resume=run", "trainer.steps=2")[0] == 0  # it is this user's own
    elsewhere()
    code, _, error = gan("train", "resume=run", "trainer.steps=3")
    assert code == 2 and "data.path=own is not used, since it names a file or a folder" in error
    code, _, error = gan("train", "resume=run", "trainer.steps=3", "data.path=own")
    assert code == 0, error


SWEEPS = [
    {"words": ["hydra.callbacks.more._target_=os.getcwd"]},
    {"words": ["hydra.searchpath=[file://evil]"]},
    {"words": ["+model.more._target_=os.system,os.getcwd"]},
    {"options": {"config_dir": "evil"}},
    {"options": {"config_name": "evil"}},
]


@pytest.mark.slow
def test_a_received_sweep_configures_nothing_that_was_not_typed(gan, tmp_path):
    (tmp_path / "evil").mkdir()
    assert gan("train", "-m", *WORDS[:-1], "seed=0,1", "run.dir=sweep")[0] == 0
    assert gan("train", "resume=sweep")[0] == 0
    own = Path("sweep/sweep.json").read_text()
    for change in SWEEPS:
        content = json.loads(own)
        content["words"] += change.get("words", [])
        content["options"] |= change.get("options", {})
        Path("sweep/sweep.json").write_text(json.dumps(content))
        code, _, error = gan("train", "resume=sweep")
        assert code == 2 and "sweep was not started by you on this machine" in error, error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"words": 3, "options": {}}', "[" * 10**5])
def test_a_damaged_file_of_a_sweep_is_refused_in_one_sentence(text, gan, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(text)
    code, _, error = gan("train", "resume=sweep")
    assert code == 1 and "cannot be read" in error and len(error.splitlines()) == 1


def test_a_received_run_does_not_choose_where_its_log_is_sent(run, elsewhere, gan, tmp_path):
    uri = f"sqlite:///{tmp_path}/theirs.db"
    node = {"_target_": "gancli.report.loggers.MLflow", "experiment": "gan", "uri": uri}
    change_config(run, trainer__log={"mlflow": node})
    elsewhere()
    code, _, error = gan("train", "resume=run", "trainer.steps=2")
    assert code == 2 and f"trainer.log.mlflow.uri={uri} is not used" in error, error
    code, _, error = gan("train", "resume=run", "trainer.steps=2", "trainer.log=[csv]")
    assert code == 0 and (run / "metrics.csv").exists() and not (tmp_path / "theirs.db").exists(), error
