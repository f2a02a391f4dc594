"""Modes are counted right, and `gan bench modes` compares recipes by them."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gancli.bench import modes as bench
from gancli.data.builtin import mnist, stacked_digits, stacked_mnist
from gancli.data.synthetic import synthetic
from gancli.metrics.mode_coverage import coverage, stacked_modes, train_digit_classifier

ROOT = os.environ.get("GAN_DATA", "")
TINY = ["bench", "modes", "data=[ring]", "steps=20", "device=cpu", "out=o"]


class Brightness(nn.Module):
    """A classifier that can be read: an image of the level d is the digit d."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.arange(10) / 4.5 - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x) <= 1000, "images are classified in chunks"
        return -(x.mean((1, 2, 3))[:, None] - self.levels).abs()


# --- counting -----------------------------------------------------------------------------------------------------


def test_coverage_in_closed_form():
    assert coverage(torch.arange(1000).repeat(7), 1000) == (1000, 0)
    found, kl = coverage(torch.full((50,), 3), 1000)
    assert found == 1 and kl == pytest.approx(math.log(1000), abs=1e-12)
    found, kl = coverage(torch.tensor([0, 0, 0, 2]), 4)  # 3/4 ln 3 + 1/4 ln 1
    assert found == 2 and kl == pytest.approx(0.75 * math.log(3), abs=1e-12)
    found, kl = coverage(torch.empty(0, dtype=torch.int64), 8)
    assert found == 0 and math.isnan(kl)


def test_half_of_the_modes_evenly_cost_ln_2():
    """The reverse direction: finite where modes are missing, and KL(data || generated) is not."""
    found, kl = coverage(torch.arange(0, 1000, 2).repeat(3), 1000)
    assert found == 500 and kl == pytest.approx(math.log(2), abs=1e-12)


def test_samples_of_the_truth_cost_what_statistics_says():
    """E[KL] = (modes - 1) / 2N to first order: 0.0192 for 26,000 samples of 1,000 modes."""
    _, kl = coverage(torch.randint(1000, (26_000,), generator=torch.Generator().manual_seed(0)), 1000)
    assert abs(kl - 999 / 52_000) < 0.003


@pytest.mark.parametrize("stored", [True, False])
def test_stacked_modes_are_the_digits_in_order(stored):
    digits = torch.randint(10, (2500, 3), generator=torch.Generator().manual_seed(0))
    levels = (digits * 255 / 9).round().to(torch.uint8) if stored else digits / 4.5 - 1
    images = levels[:, :, None, None].expand(-1, -1, 28, 28)
    assert torch.equal(stacked_modes(Brightness(), images), digits @ torch.tensor([100, 10, 1]))


def test_stacked_modes_of_nothing_and_of_other_images():
    assert stacked_modes(Brightness(), torch.empty(0, 3, 28, 28)).shape == (0,)
    with pytest.raises(ValueError, match=r"\(5, 1, 28, 28\) was given"):
        stacked_modes(Brightness(), torch.zeros(5, 1, 28, 28))


def test_the_classifier_leaves_torchs_generator_alone(tmp_path, monkeypatch):
    few = synthetic("shapes", n=256, size=28, channels=1)
    monkeypatch.setattr("gancli.metrics.mode_coverage.mnist", lambda *_: few)
    before = torch.get_rng_state()
    first, accuracy = train_digit_classifier("", epochs=1)
    assert torch.equal(before, torch.get_rng_state()) and 0 <= accuracy <= 1 and not first.training
    torch.rand(3)
    again, _ = train_digit_classifier("", epochs=1)
    other, _ = train_digit_classifier("", seed=1, epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))
    monkeypatch.setattr("gancli.metrics.mode_coverage.mnist", lambda *_: synthetic("shapes", n=20, size=28, channels=1))
    with pytest.raises(ValueError, match="20 digits"):
        train_digit_classifier("")


# --- what the truth scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "modes"), [("ring", 8), ("grid", 25)])
def test_the_plane_is_calibrated(data, modes):
    judge = bench.Judge(torch.device("cpu"), stacked=False)
    scores, _ = judge(data, synthetic(data, n=50_000, seed=1).images)
    assert scores["modes"] == scores["fair_modes"] == modes
    assert abs(scores["share"] - (1 - math.exp(-4.5))) < 0.002 and scores["reverse_kl"] < 0.001
    scores, _ = judge(data, judge.real(data))  # as the benchmark's table has it
    assert scores["modes"] == scores["fair_modes"] == modes and abs(scores["share"] - 0.989) < 0.006


def test_noise_finds_every_mode_but_no_fair_share():
    """Why one sample a mode is not enough to go by: evenly strewn points score 25 of 25 and a small reverse KL."""
    noise = torch.rand(2500, 2, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores, _ = bench.Judge(torch.device("cpu"), stacked=False)("grid", noise)
    assert scores["modes"] == 25 and scores["reverse_kl"] < 0.2
    assert scores["fair_modes"] == 0 and abs(scores["share"] - 25 * math.pi * 0.06**2 / 4) < 0.02


@pytest.mark.slow
@pytest.mark.data
def test_stacked_digits_are_calibrated():
    """Of 26,000: 1,000 modes, reverse KL 0.025, of which 0.019 is due to their number and 0.004 to MNIST's classes."""
    classifier, accuracy = train_digit_classifier(ROOT)
    assert accuracy >= 0.991
    modes = stacked_modes(classifier, stacked_mnist(ROOT, n=26_000).images)
    truth = mnist(ROOT).labels[stacked_digits(60_000, 26_000)] @ torch.tensor([100, 10, 1])
    assert (modes == truth).double().mean() > 0.97
    found, kl = coverage(modes, 1000)
    assert found >= 999 and 0.019 < kl < 0.030
    _, exact = coverage(truth, 1000)
    assert abs(kl - exact) < 0.002


# --- the command --------------------------------------------------------------------------------------------------


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_bench_modes_and_again(gan, tmp_path):
    code, out, error = gan(*TINY, "recipes=[gan]", "seeds=[0,1]")
    assert code == 0, error
    assert "modes of 8" in out and out.split()[-3:] == ["o/modes.json", "o/modes.md", "o/modes.png"]
    assert error.count("\n") == 3 and "2 of 2  ring gan-1: " in error, "what is done, and a line a run"
    told = json.loads((tmp_path / "o" / "modes.json").read_text())
    assert told["finished"] and told["failed"] == []
    protocol = told["protocol"]
    assert {"machine", "versions", "seeds", "sigma", "ema", "reverse_kl", "recipes"} <= protocol.keys()
    ring = protocol["data"]["ring"]
    assert (ring["samples"], ring["modes"], ring["steps"], ring["width"]) == (2500, 8, [20], [64])
    runs = {(run["recipe"], run["seed"]): run for run in told["runs"]}
    assert runs.keys() == {(bench.REAL, 0), ("gan", 0), ("gan", 1)}
    assert runs["gan", 1]["steps"] == 20 and runs["gan", 1]["images"] == 20 * 256 and runs["gan", 1]["minutes"] > 0
    real, ours = told["summary"]
    assert real["modes"]["mean"] == 8 and ours["runs"] == 2 and ours["modes"]["standard_deviation"] is not None
    text = (tmp_path / "o" / "modes.md").read_text()
    assert "2,500 samples" in text and "0.06" in text and "batch 256" in text and out.splitlines()[0] in text
    with Image.open(tmp_path / "o" / "modes.png") as picture:
        assert picture.width == 2 * bench.SIDE + bench.GAP
    before = files(tmp_path / "o" / "ring")
    code, _, error = gan(*TINY, "recipes=[gan]", "seeds=[0,1]")
    assert code == 0 and files(tmp_path / "o" / "ring") == before, "nothing is run twice"
    again = json.loads((tmp_path / "o" / "modes.json").read_text())
    assert again["runs"] == told["runs"]
    code, out, error = gan("info", "o/ring/gan-0")
    assert code == 0 and "20 steps" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mode"], "no benchmark 'mode'; did you mean modes?"),
        (["data=[rink]"], "no data set 'rink'; did you mean ring?"),
        (["recipes=[gan,pacgan3]"], "no recipe 'pacgan3'; did you mean pacgan"),
        (["recipe=gan"], "no key 'recipe'; did you mean recipes?"),
        (["rounds=20"], "rounds is a key of gan bench speed, not of gan bench modes"),
        (["seeds=[a]"], "seeds=['a'] was given"),
        (["seeds=[]"], "seeds=[] was given"),
        (["seeds=[-1]"], "seeds=[-1] was given"),
        (["steps=-1"], "steps=-1 minutes=0 was given"),
    ],
)
def test_a_slip_gets_the_nearest_name_and_exit_2(gan, tmp_path, words, sentence):
    code, out, error = gan("bench", *words)
    assert code == 2 and sentence in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_a_run_that_fails_is_named_and_the_others_go_on(gan, tmp_path, monkeypatch):
    monkeypatch.setitem(bench.PLANE, "sngan", ["model.nrom=spectral"])
    code, out, error = gan(*TINY, "recipes=[sngan,gan]")
    assert code == 1 and "1 of 2  ring sngan-0: failed: " in error and "model.nrom" in error
    assert "1 of 2 runs failed: ring/sngan-0" in error.splitlines()[-1] and "| gan " in out
    told = json.loads((tmp_path / "o" / "modes.json").read_text())
    assert [f["recipe"] for f in told["failed"]] == ["sngan"] and [r["recipe"] for r in told["runs"]][1:] == ["gan"]
    assert "Traceback" in (tmp_path / "o" / "ring" / "sngan-0" / "log.txt").read_text()
    assert "sngan-0: " in (tmp_path / "o" / "modes.md").read_text().partition("## Failed")[2]


def test_another_config_in_the_same_folder_is_not_mixed_in(gan, monkeypatch):
    assert gan(*TINY, "recipes=[gan]")[0] == 0
    monkeypatch.setitem(bench.PLANE, "gan", ["model.lr=1e-3"])
    code, _, error = gan(*TINY, "recipes=[gan]")
    assert code == 1 and "model.lr: 0.002 -> 0.001" in error


def test_stacked_without_mnist_says_so_before_anything_is_trained(gan, tmp_path, monkeypatch):
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "nowhere"))
    code, out, error = gan("bench", "data=[ring,stacked]", "steps=20", "device=cpu")
    assert code == 1 and "needs MNIST" in error and "set GAN_DATA" in error and "data=[ring,grid]" in error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_stacked_at_tiny_width(gan, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (256, 28, 28), dtype=np.uint8), np.arange(256) % 10
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setenv("GAN_DATA", str(tmp_path))
    small = [*bench.DIGITS, "model.width=4", "data.n=64", "data.batch_size=8"]
    monkeypatch.setitem(bench.TASKS, "stacked", bench.Task(1000, small, bench.STACKED, 1.0, 100))
    code, out, error = gan("bench", "modes", "data=[stacked]", "recipes=[gan]", "steps=2", "device=cpu", "out=o")
    assert code == 0 and "modes of 1,000" in out and "share" not in out, error
    told = json.loads((tmp_path / "o" / "modes.json").read_text())
    _, run = told["runs"]
    assert run["steps"] == 2 and 1 <= run["modes"] <= 100 and run["reverse_kl"] <= math.log(1000)
    assert 0 <= told["protocol"]["digit_classifier_accuracy"] <= 1
    with Image.open(tmp_path / "o" / "modes.png") as picture:
        assert picture.height == 52 + 4 * 56 + 3 * 2, "four rows of eight"


@pytest.mark.parametrize("data", list(bench.TASKS))
def test_every_recipe_composes_and_is_in_the_help(data, gan):
    told = gan("bench", "--help")[1]
    for recipe, options in bench.TASKS[data].recipes.items():
        cfg = bench.composed(bench.Job(data, recipe, 3).overrides(0.0, 7, "cpu"))
        assert (cfg.seed, cfg.trainer.steps, cfg.model.width) == (3, 7, 32 if data == "stacked" else 64)
        assert recipe in told and (options or recipe == "gan")
        timed = bench.composed(bench.Job(data, recipe, 3).overrides(0.5, 0, "cpu"))
        assert (timed.trainer.minutes, timed.trainer.steps) == (0.5, None)


def test_tables_over_seeds():
    report = bench.Report(Path("o"), torch.device("cpu"), None)
    for seed, (modes, kl) in enumerate([(6, 0.5), (8, 0.1), (7, 0.3)]):
        scores = {"modes": modes, "fair_modes": 1, "share": 0.5, "reverse_kl": kl}
        facts = {"steps": 1000, "minutes": 0.5}
        report.add(bench.Job("ring", "gan", seed), facts, scores, torch.zeros(1, 2, 1, 1))
    scores = {"modes": 0, "fair_modes": 0, "share": 0.0, "reverse_kl": math.nan}
    report.add(bench.Job("ring", "r1", 0), facts, scores, torch.zeros(1, 2, 1, 1))
    ((_, table),) = report.tables()
    header, _, several, one = table.splitlines()
    assert len({len(line) for line in table.splitlines()}) == 1 and "modes of 8" in header
    assert [c.strip() for c in several.split("|")[2:5]] == ["3", "7 ± 1", "1 ± 0"]
    assert "50.0% ± 0.0%" in several and "0.300 ± 0.200" in several and " 1,000 |" in several
    assert "±" not in one and "nan" in one
