"""Evaluations during training: the best checkpoint, patience, and both after a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import TINY, assert_same, rows_of

import gancli
from gancli.checkpoint import format as checkpoint
from gancli.evaluation import generative
from gancli.evaluation.scores import Scores
from gancli.training.checkpoint_manager import BEST, LAST
from gancli.training.evaluation import Best

GREY = ["model=mlp", *TINY, "data.channels=1", "trainer.evaluate_every=2", "trainer.evaluate_n=80", "data.n=80"]


def evaluated(run: str, metric: str = "fd_mnist") -> dict[int, float]:
    return {row["step"]: row[metric] for row in rows_of(Path(run)) if metric in row}


def content(run: str, name: str = LAST) -> dict[str, Any]:
    return checkpoint.read(Path(run, "checkpoints", name))


@pytest.fixture
def values(monkeypatch) -> list[float]:
    """The values of fd_mnist, one evaluation after the other."""
    values: list[float] = []
    monkeypatch.setattr(generative.Comparison, "__call__", lambda *_, **__: Scores({"fd_mnist": values.pop(0)}))
    return values


def test_the_best_checkpoint_is_saved_reported_and_loaded(gan, values):
    values += [5.0, 3.0, 4.0]
    code, _, err = gan("train", *GREY, "run.dir=run")
    assert code == 0 and evaluated("run") == {2: 5.0, 4: 3.0, 6: 4.0}
    best = content("run", BEST)
    assert best["step"] == 4 and best["best"]["value"] == 3.0 and content("run")["best"]["step"] == 4
    assert "fd_mnist 4, best 3 at 4 (" in err and "% of the time)" in err, "its cost is in its line"
    assert f"finished: best fd_mnist 3 at step 4, checkpoints/{BEST}" in Path("run/log.txt").read_text()
    assert all("evaluate_seconds" in row for row in rows_of(Path("run")) if "fd_mnist" in row)
    assert checkpoint.find("run") == Path("run/checkpoints", BEST)
    assert_same(dict(gancli.load("run").network.state_dict()), best["ema"])


def test_the_scores_during_training_are_those_of_gan_evaluate(gan):
    """Both use the averaged weights, the first n images of seed 0, and training images sampled with seed 0."""
    assert gan("train", *GREY, "trainer.evaluate_metrics=[fd_mnist,recall_mnist]", "run.dir=run")[0] == 0
    words = ["n=80", "split=train", "json=s.json", "device=cpu"]
    code, _, err = gan("evaluate", f"ckpt=run/checkpoints/{LAST}", *words)
    assert code == 0, err
    result = json.loads(Path("s.json").read_text())
    for metric in ("fd_mnist", "recall_mnist"):
        assert evaluated("run", metric)[6] == pytest.approx(result["scores"][metric], abs=1e-6)
    logged = next(row for row in rows_of(Path("run")) if row.get("event") == "protocol")
    assert logged["metrics"] == ["fd_mnist", "recall_mnist"]
    protocol = {key: result["protocol"][key] for key in logged["protocol"]} | {"split": "none"}
    assert logged["protocol"] == protocol and {"features", "seed", "averaged", "real images"} <= protocol.keys()


def test_evaluating_does_not_change_what_is_learned(gan):
    assert gan("train", *GREY, "run.dir=a")[0] == 0
    assert gan("train", *GREY, "run.dir=b", "trainer.evaluate_every=0")[0] == 0
    a, b = content("a"), content("b")
    assert "best" in a and "best" not in b and not Path("b/checkpoints", BEST).exists()
    assert_same(a["networks"], b["networks"])


@pytest.mark.slow
def test_a_run_without_improvement_ends(gan, values):
    values += [5.0, 3.0, 4.0, 3.0]
    words = (*GREY, "run.dir=run", "trainer.steps=100", "trainer.evaluate_patience=2")
    assert gan("train", *words)[0] == 0 and not values
    assert content("run")["step"] == 8
    end = f"finished: no better in 2 evaluations; best fd_mnist 3 at step 4, checkpoints/{BEST}"
    assert end in Path("run/log.txt").read_text()
    code, _, err = gan("train", *words)
    assert code == 0 and "is finished (8 steps); it no longer improved" in err and "evaluate_patience=0" in err
    values += [2.0, 6.0, 7.0]
    assert gan("train", *words, "trainer.evaluate_patience=3")[0] == 1, "it went on until the values were used up"
    assert evaluated("run")[10] == 2.0 and content("run", BEST)["step"] == 10


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(gan, values):
    metric = [5.0, 3.0, 4.0, 2.5, 6.0]
    values += metric
    assert gan("train", *GREY, "run.dir=a", "trainer.steps=10")[0] == 0
    values += metric
    assert gan("train", *GREY, "run.dir=b", "trainer.steps=6")[0] == 0
    assert gan("train", *GREY, "run.dir=b", "trainer.steps=10")[0] == 0
    assert evaluated("a") == evaluated("b")
    protocol = {"metric": "fd_mnist", "n": 80, "lower_is_better": True}
    assert content("a")["best"] == content("b")["best"] == {**protocol, "value": 2.5, "step": 8, "since": 1}
    assert content("b", BEST)["step"] == 8


def test_the_best_value_of_another_metric_is_forgotten():
    best = Best("fd_mnist", 100, True)
    best.load_state_dict({"metric": "kd_mnist", "n": 100, "lower_is_better": True, "value": 0.1, "step": 5, "since": 2})
    assert best.step == best.since == 0 and best.add(9.0, 1) and not best.add(9.0, 2) and best.since == 1
    assert not best.add(float("nan"), 3) and best.since == 2 and best.value == 9.0
    higher = Best("recall_mnist", 100, False)
    assert higher.add(0.5, 1) and higher.add(0.6, 2) and not higher.add(0.1, 3) and higher.step == 2
    restored = Best("recall_mnist", 100, False)
    restored.load_state_dict(higher.state_dict())
    assert restored == higher


POINTS = ["model=mlp", "data.kind=ring", "data.size=null"]
INPAINTING = ["model=pix2pix", "task=inpaint"]


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ([*GREY, "data.n=60"], "kd_mnist"),  # fewer images than features: the Fréchet distance would be too high
        ([*TINY, *POINTS], "sliced_wasserstein"),
        ([*TINY, *INPAINTING], "psnr"),
    ],
)
def test_the_deciding_metric_fits_the_model_and_the_data(words, metric, gan):
    code, _, err = gan("train", *words, "trainer.evaluate_every=2", "run.dir=run")
    assert code == 0, err
    best = content("run", BEST)["best"]
    assert best["metric"] == metric and best["lower_is_better"] == (metric != "psnr") and not evaluated("run")
    values = list(evaluated("run", metric).values())
    assert best["value"] == pytest.approx(min(values) if best["lower_is_better"] else max(values), abs=1e-5)
    replaced = "fd_mnist needs more images than its 64 features, but there are 60; kd_mnist takes its place"
    assert (replaced in Path("run/log.txt").read_text()) == (metric == "kd_mnist")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trainer.evaluate_every=-1"], "trainer.evaluate_every=-1 is out of range, it must be 0 or more"),
        (["trainer.evaluate_patience=2"], "counts evaluations, but there are none; type trainer.evaluate_every=500"),
        (["trainer.evaluate_every=2", "trainer.evaluate_n=3"], "20 images or more"),
        (["trainer.evaluate_every=2", "trainer.evaluate_metrics=[fd_minst]"], "did you mean fd_mnist"),
        ([*INPAINTING, "trainer.evaluate_every=2", "trainer.evaluate_metrics=[fid]"], "does not sample from noise"),
        (["trainer.keep_last=-1"], "trainer.keep_last=-1 is out of range"),
    ],
)
def test_wrong_options_get_a_sentence(words, message, gan):
    code, _, err = gan("train", "model=mlp", *TINY, "data.channels=1", *words)
    assert code == 1 and message in err, err


def test_a_sweep_minimises_the_deciding_metric(gan, values):
    values += [9.0, 8.0, 7.0, 5.0, 4.0, 3.0]
    code, out, err = gan("train", "-m", *GREY, "seed=0,1", "run.dir=sweep")
    assert code == 0, err
    assert "fd_mnist" in out and "5.0 ± 2.8" in out
