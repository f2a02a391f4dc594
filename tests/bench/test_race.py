"""gan bench race: entries evaluated as they train, at tiny width."""

import csv
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gancli.bench import race
from gancli.bench.race import first_confirmed, run_entry
from gancli.config import compose
from gancli.inference.generator import Generator

TINY = """# @package _global_
# {name}
defaults:
  - override /model: {model}
  - override /data: mnist10k
model: {{width: {width}, z_dim: 8}}
data: {{batch_size: 16}}
"""
WORDS = ["bench", "race", "--config-dir", "conf", "data=mnist10k", "device=cpu", "out=o"]


@pytest.fixture
def own(tmp_path: Path) -> None:
    """Write three experiments of one's own: two that train, and one that cannot."""
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    for name, model, width in (("plain", "dcgan", 4), ("classes", "cgan", 4), ("broken", "dcgan", -4)):
        (folder / f"{name}.yaml").write_text(TINY.format(name=name, model=model, width=width))


@pytest.mark.slow
def test_entries_are_evaluated_and_one_that_crashes_stops_no_other(
    gan: Any, tmp_path: Path, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "N", 200)
    monkeypatch.setattr(race, "POINTS_TO_TARGET", 2)
    code, out, error = gan(*WORDS, "entries=[broken,plain,classes]", "minutes=0.02", "target=0.1")
    assert code == 1 and "1 of 3 runs failed: broken-0" in error and "model.width=-4 is out of range" in error
    assert error.count("target not reached, at best") == 2
    assert "| with classes" in out and "| without classes" in out and out.split()[-1] == "o/race.png"
    result = json.loads((tmp_path / "o" / "race.json").read_text())
    assert result["finished"] and [run["entry"] for run in result["runs"]] == ["plain", "classes"]
    assert result["protocol"]["evaluation"] == "fd_mnist and swd of 200 images against 1,000 test images"
    plain, classes = (run["curve"][-1] for run in result["runs"])
    assert plain["images"] == 16 * plain["steps"] and "as_asked" not in plain and 0 <= classes["as_asked"] <= 1
    assert all(run["curve"][-1]["tflop"] > 10**6 * run["curve"][-1]["steps"] / 1e12 for run in result["runs"])
    rows = list(csv.DictReader((tmp_path / "o" / "race.csv").read_text().splitlines()))
    assert {row["evaluation"] for row in rows} == {result["protocol"]["evaluation"]} and {
        row["entry"] for row in rows
    } == {*("plain", "classes")}
    with Image.open(tmp_path / "o" / "race.png") as image:
        assert image.width > 500
    command = "gan train --config-dir=conf experiment=plain seed=0 trainer.minutes=0.02 device=cpu"
    assert command in (tmp_path / "o" / "race.md").read_text()
    with Image.open(tmp_path / "o" / "race-samples.png") as image:
        assert image.width > 1000, "two grids of ten columns"

    own_yaml = tmp_path / "conf" / "experiment" / "plain.yaml"
    own_yaml.write_text(own_yaml.read_text().replace("width: 4", "width: 5"))
    (tmp_path / "o" / "samples" / "classes-0.png").write_bytes(b"damaged")
    code, _, error = gan(*WORDS, "entries=[plain,classes]", "minutes=0.02", "target=0.1")
    assert code == 0 and "classes-0: raced before" in error and "plain-0: fd_mnist" in error, "its recipe has changed"
    again = json.loads((tmp_path / "o" / "race.json").read_text())["runs"]
    assert [run["entry"] for run in again] == ["classes", "plain"] and again[0] == result["runs"][1]
    with Image.open(tmp_path / "o" / "race-samples.png") as image:
        assert image.width < 1000, "the grid that can be read"
    code, _, error = gan(*WORDS, "entries=[plain]", "minutes=0.03", "target=0.1")
    assert code == 2 and "out=o has a race with other minutes; type another out=" in error
    before = (tmp_path / "o" / "race.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(race, "run_entry", lambda *arguments: signal.raise_signal(signal.SIGINT))
        code, _, error = gan(*WORDS, "entries=[broken]", "minutes=0.02", "target=0.1")
    assert code == 130 and "type the same with out=o to go on with this race" in error
    assert (tmp_path / "o" / "race.json").read_text() == before
    (tmp_path / "o" / "race.json").write_text("{}")
    assert "race.json is no result of a race" in gan(*WORDS, "entries=[plain]")[2]


@pytest.mark.slow
def test_the_clock_stands_still_while_a_run_is_evaluated(tmp_path: Path) -> None:
    class Slow:
        score = "fd_mnist"

        def __call__(self, G: Any) -> dict[str, float]:
            time.sleep(0.5)
            return {"fd_mnist": 1.0}

        def generator(self, G: Any) -> Generator:
            return Generator(G, 8, 3)

    words = ["model=mlp", "model.width=4", "data=synthetic", "data.n=32", "data.size=8", "device=cpu"]
    cfg = compose([*words, "data.batch_size=8", "trainer.minutes=0.03"])
    facts = run_entry(cfg, 0.03, 0, Slow(), tmp_path / "a.png")  # type: ignore[arg-type]
    assert len(facts["curve"]) == race.POINTS, "1.8 seconds of training, in spite of 2.5 seconds of evaluations"


def test_one_lucky_score_does_not_reach_the_target() -> None:
    curve = [{"seconds": float(i), "fd": value} for i, value in enumerate((9.0, 4.0, 6.0, 5.0, 4.5, 7.0))]
    assert first_confirmed(curve, "fd", 5.0) == 3.0 and first_confirmed(curve, "fd", 4.0) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["entries=[mnist-dcgan]"], "entries=mnist-dcgan cannot race: it trains on data=mnist; type data=mnist"),
        (["entries=[]"], "no experiment is called after data=mnist10k"),
        (["entries=[plaim]"], "did you mean plain?"),
        (["data=mnist", "entries=[zoo/mnist]"], "entries=zoo/mnist cannot race: it is a sweep"),
        (["data=[mnist,cifar10]"], "gan bench race trains on one data set"),
        (["seeds=[-1]"], "are not whole numbers from 0 on"),
        (["minutes=-1"], "minutes=-1.0 is out of range"),
        (["models=[mlp]"], "models is a key of gan bench speed, not of gan bench race"),
    ],
)
def test_refused_commands(gan: Any, tmp_path: Path, own: None, words: list[str], message: str) -> None:
    code, out, error = gan(*WORDS, *words)
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1 and not out, error
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]
