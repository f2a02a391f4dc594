"""gan evaluate: results stored in the run folder, and refused commands."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY
from PIL import Image

METRICS = "metrics=[kd_mnist,recall_mnist]"


@pytest.fixture
def run(gan) -> Path:
    digits = ["data=mnist10k", *[word for word in TINY if not word.startswith(("data=", "data.n="))]]
    assert gan("train", "model=dcgan", *digits, "run.dir=dcgan")[0] == 0
    return Path("dcgan")


def stored(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]


def test_the_stored_command_repeats_the_evaluation(gan, run):
    assert gan("evaluate", "ckpt=dcgan", "n=100", "split=train", "seed=3", METRICS, "json=s.json")[0] == 0
    results, (row,) = json.loads(Path("s.json").read_text()), stored(run)
    assert row["metrics"] == results["scores"] and row["protocol"] == results["protocol"] and row["step"] == 6
    words = shlex.split(row["command"])
    checkpoint = next(Path("dcgan/checkpoints").glob("last.*"))
    assert words[:2] == ["gan", "evaluate"] and f"ckpt={checkpoint}" in words
    assert gan(*words[1:])[0] == 0 and gan(*words[1:], "ema=false")[0] == 0
    _, again, raw = stored(run)
    assert again["metrics"] == row["metrics"] and again["protocol"] == row["protocol"]
    assert raw["protocol"]["averaged"] is False and "weights as trained" in raw["protocol"]["weights"]
    assert "ema=false" in raw["command"] and raw["metrics"] != row["metrics"]


def test_a_torn_line_does_not_swallow_the_next_one(gan, run):
    (run / "scores.jsonl").write_text('{"time": "20')
    assert gan("evaluate", "ckpt=dcgan", "n=50", METRICS)[0] == 0
    _, line = (run / "scores.jsonl").read_text().splitlines()
    assert "kd_mnist" in json.loads(line)["metrics"]


def test_nothing_is_stored_for_a_lone_file(gan, run):
    alone = (run / "checkpoints" / "last.safetensors").rename("alone.safetensors")
    assert gan("evaluate", f"ckpt={alone}", "n=50", METRICS)[0] == 0
    assert not list(Path().rglob("scores.jsonl"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to evaluate was given; type ckpt=FILE"),
        (("images=set",), "no ckpt= to enlarge them was given, nor either of these; type one of them"),
        (("images=set", "reference=set", "data=mnist10k"), "and both were given; type one of them"),
        (("ckpt=faithful", "images=set", "out=x.gif"), "out=x.gif is not a format that can be written"),
        (("ckpt=faithful", "images=set", "json=x.txt"), "json=x.txt is not a format that can be written"),
        (("ckpt=faithful", "reference=set"), "reference=, size= and channels= are for images= without a model"),
        (("ckpt=faithful", "data=mnist10k"), "images to enlarge are of any size, and data=mnist10k has one"),
        (("ckpt=faithful", "images=set", "scale=5"), "scale=5 is not one of 2, 3"),
    ],
)
def test_refused_commands(gan, words, message):
    code, _, err = gan("evaluate", *words)
    assert code == 1 and message in err and len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_neither_objectives_nor_training_are_imported():
    code = "import sys, gancli.commands.evaluate; print(*[m for m in sys.modules if m.startswith('gancli.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gancli.evaluation.autoencoders" in done.stdout
    assert "gancli.objectives" not in done.stdout and "gancli.training" not in done.stdout


def test_results_of_a_read_only_run_are_on_the_screen_and_in_the_files_that_are_named(gan, read_only):
    folder, close = read_only
    (folder / "images").mkdir()
    for i in range(24):
        Image.new("RGB", (16, 16), (9 * i, 80, 255 - 9 * i)).save(folder / "images" / f"{i}.png")
    tiny = [word for word in TINY if not word.startswith(("data=", "data.n="))]
    assert gan("train", *tiny, "data=folder", "data.path=images", "run.dir=run")[0] == 0
    words = ["ckpt=run", "data=images", "n=24", "metrics=[kd_cifar]"]
    # The user that root becomes may not read Python's own files: what is imported late, is now.
    assert gan("evaluate", *words)[0] == 0 and gan("sample", "ckpt=run", "n=1", "out=first.png")[0] == 0
    close(folder / "run")
    before = sorted((folder / "run").rglob("*"))
    code, out, error = gan("evaluate", *words, "json=scores.json", "out=side.png")
    assert code == 0 and "kd_cifar" in out and "not added to the run" in error, error
    assert "kd_cifar" in json.loads((folder / "scores.json").read_text())["scores"] and (folder / "side.png").is_file()
    code, out, error = gan("sample", "ckpt=run", "n=2")
    assert code == 0 and (folder / "samples.png").is_file(), error
    code, out, error = gan("sample", "ckpt=run", "n=2", "out=run/x.png")
    assert code == 1 and "out=run/x.png cannot be written" in error, error
    assert before == sorted((folder / "run").rglob("*"))
