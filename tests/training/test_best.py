"""Evaluations within a training: the best checkpoint, what ends a run that gets no better, and that a resumed run knows of both."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.evaluation import generative as samples
from gancli.evaluation.scores import Scores
from gancli.training.evaluation import Best

GREY = ["model=mlp", *TINY, "data.channels=1", "trainer.evaluate_every=2", "trainer.evaluate_n=80", "data.n=80"]


def rows(run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def evaluated(run: str, figure: str = "fd_mnist") -> dict[int, float]:
    return {row["step"]: row[figure] for row in rows(run) if figure in row}


@pytest.fixture
def values(monkeypatch) -> list[float]:
    """What fd_mnist shall be, one evaluation after the other."""
    given: list[float] = []
    monkeypatch.setattr(samples.Comparison, "__call__", lambda *_, **__: Scores({"fd_mnist": given.pop(0)}))
    return given


def test_best_is_the_best_and_says_so(gan, values):
    values += [5.0, 3.0, 4.0]
    code, _, err = gan("train", *GREY, "run.dir=run")
    assert code == 0 and evaluated("run") == {2: 5.0, 4: 3.0, 6: 4.0}
    best = checkpoint.read(Path("run/checkpoints/best.safetensors"))
    assert best["step"] == 4 and best["best"]["value"] == 3.0
    assert checkpoint.read(Path("run/checkpoints/last.safetensors"))["best"]["step"] == 4
    assert checkpoint.find("run") == Path("run/checkpoints/best.safetensors"), "what a run's folder means from then on"
    assert "fd_mnist 4 at 6, best 3 at 4 (" in err and "% of the time)" in err, "what it costs is on the status line"
    assert "finished: best fd_mnist 3 at step 4, checkpoints/best.safetensors" in Path("run/log.txt").read_text()
    assert all("evaluate_seconds" in row for row in rows("run") if "fd_mnist" in row)


def test_the_scores_of_a_training_are_those_of_gan_evaluate(gan):
    """Of the same images: the averaged weights' first n of seed 0, the training images drawn by seed 0."""
    assert gan("train", *GREY, "trainer.evaluate_metrics=[fd_mnist,recall_mnist]", "run.dir=run")[0] == 0
    code, _, err = gan(
        "evaluate", "ckpt=run/checkpoints/last.safetensors", "n=80", "split=train", "json=s.json", "device=cpu"
    )
    assert code == 0, err
    found = json.loads(Path("s.json").read_text())
    assert evaluated("run")[6] == pytest.approx(found["scores"]["fd_mnist"], abs=1e-6)
    assert evaluated("run", "recall_mnist")[6] == pytest.approx(found["scores"]["recall_mnist"], abs=1e-6)
    told = next(row for row in rows("run") if row.get("event") == "protocol")
    assert told["figures"] == ["fd_mnist", "recall_mnist"]
    for key in ("features", "generated", "real", "real images", "seed", "averaged"):
        assert told["protocol"][key] == found["protocol"][key], key


def test_evaluating_changes_nothing_that_is_learned(gan):
    assert gan("train", *GREY, "run.dir=a")[0] == 0
    assert gan("train", *GREY, "run.dir=b", "trainer.evaluate_every=0")[0] == 0
    a, b = (checkpoint.read(Path(run, "checkpoints/last.safetensors")) for run in "ab")
    assert "best" in a and "best" not in b and not Path("b/checkpoints/best.safetensors").exists()
    for player in ("G", "D"):
        for x, y in zip(a["networks"][player]["state"].values(), b["networks"][player]["state"].values()):
            assert torch.equal(x, y)


def test_a_run_that_gets_no_better_ends(gan, values):
    values += [5.0, 3.0, 4.0, 3.0]
    words = (*GREY, "run.dir=run", "trainer.steps=100", "trainer.evaluate_patience=2")
    assert gan("train", *words)[0] == 0 and not values
    assert checkpoint.read(Path("run/checkpoints/last.safetensors"))["step"] == 8
    end = "finished: no better in 2 evaluations; best fd_mnist 3 at step 4, checkpoints/best.safetensors"
    assert end in Path("run/log.txt").read_text()
    code, _, err = gan("train", *words)
    assert code == 0 and "is finished (8 steps); it got no better" in err and "trainer.evaluate_patience=0" in err
    values += [2.0, 6.0, 7.0]
    assert gan("train", *words, "trainer.evaluate_patience=3")[0] == 1, "its values are over: it went on"
    assert evaluated("run")[10] == 2.0
    assert checkpoint.read(Path("run/checkpoints/best.safetensors"))["step"] == 10


def test_resumed_is_as_uninterrupted(gan, values):
    told = [5.0, 3.0, 4.0, 2.5, 6.0]
    values += told
    assert gan("train", *GREY, "run.dir=a", "trainer.steps=10")[0] == 0
    values += told[:3]
    assert gan("train", *GREY, "run.dir=b", "trainer.steps=6")[0] == 0
    values += told[3:]
    assert gan("train", *GREY, "run.dir=b", "trainer.steps=10")[0] == 0
    assert evaluated("a") == evaluated("b")
    a, b = (checkpoint.read(Path(run, "checkpoints/last.safetensors")) for run in "ab")
    assert (
        a["best"]
        == b["best"]
        == {
            **{"figure": "fd_mnist", "n": 80, "lower_is_better": True},
            **{"value": 2.5, "step": 8, "since": 1},
        }
    )
    assert checkpoint.read(Path("b/checkpoints/best.safetensors"))["step"] == 8


def test_another_figure_begins_anew():
    best = Best("fd_mnist", 100, True)
    best.load_state_dict({"figure": "kd_mnist", "n": 100, "lower_is_better": True, "value": 0.1, "step": 5, "since": 2})
    assert best.step == best.since == 0 and best.add(9.0, 1) and not best.add(9.0, 2) and best.since == 1
    assert not best.add(float("nan"), 3) and best.since == 2 and best.value == 9.0
    higher = Best("recall_mnist", 100, False)
    assert higher.add(0.5, 1) and higher.add(0.6, 2) and not higher.add(0.1, 3) and higher.step == 2
    again = Best("recall_mnist", 100, False)
    again.load_state_dict(higher.state_dict())
    assert again == higher


def test_few_images_are_judged_by_the_kernel_distance(gan):
    """A data set smaller than the features: the Fréchet distance would read high by an unknown amount."""
    assert gan("train", *GREY, "data.n=60", "run.dir=run")[0] == 0
    assert not evaluated("run") and len(evaluated("run", "kd_mnist")) == 3
    assert "60 images are too few for fd_mnist, of 64 features; kd_mnist takes" in Path("run/log.txt").read_text()
    assert checkpoint.read(Path("run/checkpoints/last.safetensors"))["best"]["figure"] == "kd_mnist"


def test_what_makes_nothing_of_noise_is_judged_by_its_game(gan):
    assert gan("train", "model=pix2pix", "task=inpaint", *TINY, "trainer.evaluate_every=2", "run.dir=run")[0] == 0
    best = checkpoint.read(Path("run/checkpoints/best.safetensors"))["best"]
    assert best["figure"] == "psnr" and not best["lower_is_better"]
    assert best["value"] == pytest.approx(max(evaluated("run", "psnr").values()), abs=1e-5)
    code, _, err = gan(
        "train", "model=pix2pix", "task=inpaint", *TINY, "trainer.evaluate_every=2", "trainer.evaluate_metrics=[fid]"
    )
    assert code == 1 and "which this model makes none of; leave it out, and psnr is what is looked at" in err


def test_points_are_judged_by_their_game(gan):
    words = ("model=mlp", *TINY, "data.kind=ring", "data.size=null", "trainer.evaluate_every=2")
    assert gan("train", *words, "run.dir=run")[0] == 0
    assert checkpoint.read(Path("run/checkpoints/best.safetensors"))["best"]["figure"] == "sliced_wasserstein"


def test_wrong_options_are_sentences(gan):
    for words, message in (
        (("trainer.evaluate_every=-1",), "trainer.evaluate_every=-1 is not negative; type 0 for none"),
        (("trainer.evaluate_patience=-1",), "trainer.evaluate_patience=-1 is not negative"),
        (("trainer.evaluate_patience=2",), "counts evaluations, and there are none; type trainer.evaluate_every=500"),
        (("trainer.evaluate_every=2", "trainer.evaluate_n=3"), "20 images or more"),
        (("trainer.evaluate_every=2", "trainer.evaluate_metrics=[fd_minst]"), "did you mean fd_mnist"),
    ):
        code, _, err = gan("train", "model=mlp", *TINY, "data.channels=1", *words)
        assert code == 1 and message in err, (words, err)


def test_a_sweep_minimises_what_is_evaluated(gan, values):
    """Its leaderboard is by that figure too."""
    values += [9.0, 8.0, 7.0, 5.0, 4.0, 3.0]
    code, out, err = gan("train", "-m", *GREY, "seed=0,1", "run.dir=sweep")
    assert code == 0, err
    assert "fd_mnist" in out and out.index("5.0 ± 2.8") > 0


def test_the_best_is_what_ships(gan, values):
    values += [1.0, 2.0, 3.0]
    assert gan("train", *GREY, "run.dir=run")[0] == 0
    G = gancli.load("run")
    content = checkpoint.read(Path("run/checkpoints/best.safetensors"))
    assert content["step"] == 2
    for name, x in G.network.state_dict().items():
        assert torch.equal(x, content["ema"][name])
