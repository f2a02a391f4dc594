"""`gan bench modes`: the scores of real data and of noise, and the command at tiny size."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.bench import modes, modes_report
from gancli.bench.modes import ModeCounter, ModeData, RecipeRun
from gancli.config import compose
from gancli.data.synthetic import synthetic

TINY = ["bench", "modes", "data=[ring]", "steps=20", "device=cpu", "out=o"]


@pytest.mark.parametrize(("data", "total"), [("ring", 8), ("grid", 25)])
def test_scores_of_real_points(data, total):
    counter = ModeCounter(torch.device("cpu"), stacked=False)
    scores, _ = counter.count(data, synthetic(data, n=50_000, seed=1).images)
    assert scores["modes"] == scores["fair_modes"] == total
    assert abs(scores["near"] - (1 - math.exp(-4.5))) < 0.002 and scores["reverse_kl"] < 0.001
    scores, _ = counter.count(data, counter.real(data))  # as in the benchmark's table
    assert scores["modes"] == scores["fair_modes"] == total and abs(scores["near"] - 0.989) < 0.006


def test_noise_covers_every_mode_but_none_well():
    """One sample per mode is not enough: points spread evenly cover 25 of 25 with a small reverse KL."""
    noise = torch.rand(2500, 2, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores, _ = ModeCounter(torch.device("cpu"), stacked=False).count("grid", noise)
    assert scores["modes"] == 25 and scores["reverse_kl"] < 0.2
    assert scores["fair_modes"] == 0 and abs(scores["near"] - 25 * math.pi * 0.06**2 / 4) < 0.02


def test_the_same_command_again_only_reads_the_finished_runs(gan, tmp_path):
    code, out, error = gan(*TINY, "recipes=[gan]", "seeds=[0,1]")
    assert code == 0, error
    assert "modes of 8" in out and out.split()[-3:] == ["o/modes.json", "o/modes.md", "o/modes.png"]
    assert error.count("\n") == 3 and "2 of 2  ring gan-1: " in error, "the folder, then a line per run"
    stored = json.loads((tmp_path / "o" / "modes.json").read_text())
    assert stored["finished"] and stored["failed"] == []
    protocol = stored["protocol"]
    assert {"machine", "versions", "seeds", "sigma", "ema", "reverse_kl", "recipes"} <= protocol.keys()
    ring = protocol["data"]["ring"]
    assert (ring["samples"], ring["modes"], ring["steps"], ring["width"]) == (2500, 8, [20], [64])
    runs = {(run["recipe"], run["seed"]): run for run in stored["runs"]}
    assert runs.keys() == {(modes_report.REAL, 0), ("gan", 0), ("gan", 1)}
    assert runs["gan", 1]["steps"] == 20 and runs["gan", 1]["images"] == 20 * 256 and runs["gan", 1]["minutes"] > 0
    real, ours = stored["summary"]
    assert real["modes"]["mean"] == 8 and ours["runs"] == 2 and ours["modes"]["standard_deviation"] is not None
    text = (tmp_path / "o" / "modes.md").read_text()
    assert "2,500 samples" in text and "0.06" in text and "batch 256" in text and out.splitlines()[0] in text
    with Image.open(tmp_path / "o" / "modes.png") as image:
        assert image.width == 2 * modes_report.SIDE + modes_report.GAP
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "ring").rglob("*")}
    assert gan(*TINY, "recipes=[gan]", "seeds=[0,1]")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "ring").rglob("*")}
    assert after == before, "finished runs are not trained again"
    assert json.loads((tmp_path / "o" / "modes.json").read_text())["runs"] == stored["runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mode"], "what=mode is not one of modes, speed, race; did you mean modes?"),
        (["data=[rink]"], "data=rink is not one of ring, grid, stacked; did you mean ring?"),
        (["recipes=[gan,pacgan3]"], "recipes=pacgan3 is not one of"),
        (["recipe=gan"], "did you mean recipes?"),
        (["repeats=2"], "repeats is a key of gan bench speed, not of gan bench modes"),
        (["seeds=[a]"], "seeds is a whole number, but seeds=a was given"),
        (["seeds=[-1]"], "seeds=[-1] are not whole numbers"),
        (["steps=-1"], "steps=-1 is out of range"),
    ],
)
def test_refused_commands(gan, tmp_path, words, message):
    code, out, error = gan("bench", *words)
    assert code == 2 and message in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_a_run_that_fails_is_named_and_the_others_go_on(gan, tmp_path, monkeypatch):
    monkeypatch.setitem(modes.PLANE, "sngan", ["model.nrom=spectral"])
    code, out, error = gan(*TINY, "recipes=[sngan,gan]")
    assert code == 1 and "1 of 2  ring sngan-0: failed: " in error and "model.nrom" in error
    assert "1 of 2 runs failed: ring/sngan-0" in error.splitlines()[-1] and "| gan " in out
    stored = json.loads((tmp_path / "o" / "modes.json").read_text())
    assert [f["recipe"] for f in stored["failed"]] == ["sngan"]
    assert [r["recipe"] for r in stored["runs"]][1:] == ["gan"]
    assert "Traceback" in (tmp_path / "o" / "ring" / "sngan-0" / "log.txt").read_text()
    assert "sngan-0: " in (tmp_path / "o" / "modes.md").read_text().partition("## Failed")[2]


def test_another_config_in_the_same_folder_is_refused(gan, monkeypatch):
    assert gan(*TINY, "recipes=[gan]")[0] == 0
    monkeypatch.setitem(modes.PLANE, "gan", ["model.lr=1e-3"])
    code, _, error = gan(*TINY, "recipes=[gan]")
    assert code == 1 and "model.lr: 0.002 -> 0.001" in error


def test_stacked_digits_without_mnist_fail_before_anything_is_trained(gan, tmp_path, monkeypatch):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "nowhere"))
    code, out, error = gan("bench", "data=[ring,stacked]", "steps=20", "device=cpu")
    assert code == 1 and "needs MNIST" in error and "set GAN_DATA" in error and "data=[ring,grid]" in error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_stacked_digits_at_tiny_width(gan, tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (256, 28, 28), dtype=np.uint8)
    y = np.arange(256) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setenv("GAN_DATA", str(tmp_path))
    small = [*modes.DIGITS, "model.width=4", "data.n=64", "data.batch_size=8"]
    monkeypatch.setitem(modes.DATA, "stacked", ModeData(1000, small, modes.STACKED, 1.0, 100))
    code, out, error = gan("bench", "modes", "data=[stacked]", "recipes=[gan]", "steps=2", "device=cpu", "out=o")
    assert code == 0 and "modes of 1,000" in out and "3 sigma" not in out, error
    stored = json.loads((tmp_path / "o" / "modes.json").read_text())
    _, run = stored["runs"]
    assert run["steps"] == 2 and 1 <= run["modes"] <= 100 and run["reverse_kl"] <= math.log(1000)
    assert 0 <= stored["protocol"]["digit_classifier_accuracy"] <= 1
    with Image.open(tmp_path / "o" / "modes.png") as image:
        assert image.height == 52 + 4 * 56 + 3 * 2, "four rows of eight"


@pytest.mark.parametrize("data", list(modes.DATA))
@pytest.mark.slow
def test_every_recipe_composes_and_is_in_the_help(data, gan):
    text = gan("bench", "--help")[1]
    for recipe, options in modes.DATA[data].recipes.items():
        cfg = compose(RecipeRun(data, recipe, 3).overrides(0.0, 7, "cpu"))
        assert (cfg.seed, cfg.trainer.steps, cfg.model.width) == (3, 7, 32 if data == "stacked" else 64)
        assert recipe in text and (options or recipe == "gan")
        timed = compose(RecipeRun(data, recipe, 3).overrides(0.5, 0, "cpu"))
        assert (timed.trainer.minutes, timed.trainer.steps) == (0.5, None)


def test_the_table_has_means_and_deviations_over_seeds():
    report = modes_report.ModesReport(Path("o"), modes.DATA, torch.device("cpu"), None)
    facts = {"steps": 1000, "minutes": 0.5}
    for seed, (count, kl) in enumerate([(6, 0.5), (8, 0.1), (7, 0.3)]):
        scores = {"modes": count, "fair_modes": 1, "near": 0.5, "reverse_kl": kl}
        report.add(("ring", "gan", seed), facts, scores, torch.zeros(1, 2, 1, 1))
    scores = {"modes": 0, "fair_modes": 0, "near": 0.0, "reverse_kl": math.nan}
    report.add(("ring", "r1", 0), facts, scores, torch.zeros(1, 2, 1, 1))
    ((_, table),) = report.tables()
    header, _, several, one = table.splitlines()
    assert len({len(line) for line in table.splitlines()}) == 1 and "modes of 8" in header
    assert [c.strip() for c in several.split("|")[2:5]] == ["3", "7 ± 1", "1 ± 0"]
    assert "50.0% ± 0.0%" in several and "0.300 ± 0.200" in several and " 1,000 |" in several
    assert "±" not in one and "nan" in one
