"""`gan bench speed`: the baseline is the loop of tutorials, and the report says what was measured."""

import json
from functools import partial

import pytest
import torch
from helpers import N, dcgan
from PIL import Image

from gancli.bench import charts, speed, speed_report, timing
from gancli.bench.baseline_loop import BaselineLoop
from gancli.bench.timing import LoopFailed, MatrixProducts, TrainingLoop, prepare, time_steps

SMALL = ["data=mnist10k", "batch=8", "width=4", "steps=1", "repeats=1", "device=cpu", "out=o"]


class InProcess(timing.LoopProcess):
    """The same loop in this process, so that no other one imports torch."""

    def __init__(self, build, steps, seconds):
        try:
            self.loop = build()
            self.facts = prepare(self.loop, steps, seconds)
        except Exception as error:
            raise LoopFailed(str(error), "Traceback") from error
        self.memory = self.facts["memory_before"]

    def turn(self) -> float:
        return time_steps(self.loop, self.facts["steps"])

    def close(self) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(speed, "LoopProcess", InProcess)
    monkeypatch.setattr(speed, "MOSAICS", 2)
    monkeypatch.setattr(timing, "LARGEST", 512)
    monkeypatch.setattr(timing, "WARM_UP", 1)
    yield
    torch.set_float32_matmul_precision("highest")


def baseline(model: str, *words: str) -> BaselineLoop:
    common = ["data=synthetic", "data.n=64", "data.size=16", "data.batch_size=8", "device=cpu"]
    return BaselineLoop([f"model={model}", "model.width=4", *common, *words])


def test_the_baseline_runs_g_twice_and_discards_gradients_of_d():
    facts = prepare(baseline("dcgan"), 1, 0.0)
    G, D = dcgan()
    forward, weights = 2 * sum(G) + 3 * sum(D), sum(G) + 3 * sum(D)
    inputs = sum(G) - G[0] + 3 * sum(D) - 2 * D[0]
    assert facts["flops"] == 2 * N * (forward + weights + inputs)
    assert facts["images"] == N and facts["steps"] == 1


@pytest.mark.parametrize(
    ("model", "n_critic"), [("mlp", 1), ("dcgan", 1), ("cgan", 1), ("sngan_proj", 5), ("wgan_gp", 5)]
)
def test_a_step_of_the_baseline_updates_both_networks(model, n_critic):
    loop = baseline(model, f"model.n_critic={n_critic}")
    before = {name: [p.clone() for p in network.parameters()] for name, network in (("G", loop.G), ("D", loop.D))}
    running = loop.steps()
    next(running)
    running.close()
    assert loop.images == n_critic * N
    for name, optimizer in (("G", loop.g_optimizer), ("D", loop.d_optimizer)):
        after = optimizer.param_groups[0]["params"]
        assert {int(optimizer.state[p]["step"]) for p in after} == {1 if name == "G" else n_critic}
        assert not any(torch.equal(a, b) for a, b in zip(before[name], after))


def test_the_flop_of_a_matrix_product_is_its_closed_form(in_process):
    loop = MatrixProducts("cpu", "fp32")
    assert prepare(loop, 1, 0.0)["flops"] == 2 * loop.n**3


def test_a_turn_has_as_many_steps_as_fill_its_seconds(monkeypatch):
    class Clock(timing.TimedLoop):
        device, now = torch.device("cpu"), 0.0

        def steps(self):
            while True:
                Clock.now += 0.25
                yield

    monkeypatch.setattr(timing.time, "perf_counter", lambda: Clock.now)
    assert prepare(Clock(), 0, 3.0)["steps"] == 12 and prepare(Clock(), 7, 3.0)["steps"] == 7
    assert time_steps(Clock(), 40) == 10.0, "steps before the turn are not timed"


@pytest.mark.slow
def test_every_variant_is_compared_with_the_baseline(gan, tmp_path, in_process):
    models = ["mlp", "wgan_gp", "srgan"]
    code, out, error = gan("bench", "speed", *SMALL, f"models=[{','.join(models)}]")
    assert code == 0, error
    assert error.count(" of 3  ") == 3 and "3 of 3  srgan, batch 8, width 4: baseline " in error
    assert out.split()[-3:] == ["o/speed.json", "o/speed.md", "o/speed.png"] and "square products: bf16 " in out
    stored = json.loads((tmp_path / "o" / "speed.json").read_text())
    assert stored["finished"] and stored["failed"] == [] and "mosaics" in stored["protocol"]["photos"]
    assert {"machine", "versions", "data", "repeats", "tuned"} <= stored["protocol"].keys()
    lines = {(line["model"], line["variant"]): line for line in stored["summary"]}
    assert list(lines) == [(model, name) for model in models for name in ("baseline", "gan train", "fp32", "bf16")]
    for (model, name), line in lines.items():
        assert line["images_per_second"] > 0 and line["of_products"] > 0 and line["memory"] > 1e7, (model, name)
        ours, theirs = lines[model, "gan train"]["gflop"], lines[model, "baseline"]["gflop"]
        assert ours < theirs and line["gflop"] == (theirs if name == "baseline" else ours)
        assert (line["times_baseline"] == 1) == (name == "baseline")
    rows = {(row["model"], row["variant"]): row for row in stored["rows"]}
    assert rows["wgan_gp", "baseline"]["images"] == rows["wgan_gp", "gan train"]["images"] == 8
    assert all(len(row["seconds"]) == 1 and row["products"].keys() == {"fp32", "bf16"} for row in stored["rows"])
    text = (tmp_path / "o" / "speed.md").read_text()
    assert all(f"## {model}, batch 8, width 4" in text for model in models) and "DataLoader with two workers" in text
    with Image.open(tmp_path / "o" / "speed.png") as image:
        assert image.width == charts.WIDTH + 2 * charts.GAP


@pytest.mark.slow
def test_scaling_adds_a_table_and_a_chart_by_size(gan, tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(speed, "BATCHES", (4, 8))
    monkeypatch.setattr(speed, "WIDTHS", (4, 8))
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]", "tuned=[]", "scaling=true")
    assert code == 0 and "3 of 3  mlp, batch 8, width 8: " in error, error
    assert "mlp of width 4 by batch: images/s" in out and "mlp with batch 8 by width: images/s" in out
    rows = json.loads((tmp_path / "o" / "speed.json").read_text())["rows"]
    assert [(row["batch"], row["width"]) for row in rows[::2]] == [(8, 4), (4, 4), (8, 8)]
    with Image.open(tmp_path / "o" / "speed.png") as image:
        assert image.height > 2 * charts.HEIGHT


def test_a_variant_that_fails_is_named_and_the_others_go_on(gan, tmp_path, in_process, monkeypatch):
    monkeypatch.setitem(speed.TUNED, "bf16", ["trainer.precision=bf61"])
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]")
    assert code == 1 and "mlp, batch 8, width 4, bf16: failed: trainer.precision=bf61" in error, error
    assert "1 of the loops failed: mlp bf16" in error.splitlines()[-1] and "| gan train " in out
    assert "Traceback" in (tmp_path / "o" / "log.txt").read_text()
    assert "bf61" in (tmp_path / "o" / "speed.md").read_text().partition("## Failed")[2]


def test_the_summary_has_medians_over_turns_and_says_what_was_not_compiled(tmp_path):
    facts = {"images": 8, "steps": 1, "flops": 100, "precision": "fp32", "compiled": False, "memory_before": 1}
    case = speed_report.Case("wgan_gp", 8, 4, [])
    report = speed_report.SpeedReport(tmp_path, case, {}, list(speed.TUNED))
    report.add(case, "gan train", facts, [1.0, 3.0, 2.0], 10**7, {"fp32": [50.0, 100.0, 200.0]})
    report.add(case, "compile", facts, [4.0], 10**7, {})
    shipped, compiled = report.summary()
    assert shipped["images_per_second"] == 4 and (shipped["slowest"], shipped["fastest"]) == (8 / 3, 8)
    assert shipped["of_products"] == 0.5 and "of_products" not in compiled and "times_baseline" not in shipped
    ((title, table),) = report.tables()
    assert title == "wgan_gp, batch 8, width 4" and "compile (eager)" in table and "50%" in table
    report.add(case, "bf16_compile", facts | {"flops": None, "compiled": True}, [1.0], 10**7, {})
    assert report.summary()[-1]["gflop"] == shipped["gflop"], "a compiled step is counted as the eager one"


@pytest.mark.slow
def test_loops_run_in_processes_of_their_own(gan, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "PRODUCT_TURN", 0.05)
    monkeypatch.setattr(speed, "MOSAICS", 2)
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]", "tuned=[]", "repeats=2")
    assert code == 0 and "| gan train" in out, error
    rows = json.loads((tmp_path / "o" / "speed.json").read_text())["rows"]
    assert [len(row["seconds"]) for row in rows] == [2, 2]
    with pytest.raises(LoopFailed, match="width=0 is out of range"):
        timing.LoopProcess(partial(TrainingLoop, ["data=synthetic", "model.width=0", "device=cpu"]), 1, 1.0)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["models=[dcgam]"], 2, "models=dcgam is not one of mlp, dcgan, cgan, sngan_proj, wgan_gp, srgan; did you"),
        (["models=[]"], 2, "models=[] names nothing; type any of mlp, dcgan"),
        (["tuned=[bf61]"], 2, "tuned=bf61 is not one of fp32, tf32, bf16, compile, bf16_compile; did you mean bf16?"),
        (["data=[ring,grid]"], 2, "data=['ring', 'grid'] was given; type data=cifar10"),
        (["data=photos"], 2, "data=photos is not one of"),
        (["repeats=0"], 2, "repeats=0 is out of range, it must be 1 or more; type repeats=5"),
        (["steps=-1"], 2, "steps=-1 is out of range"),
        (["recipes=[gan]"], 2, "recipes is a key of gan bench modes, not of gan bench speed; leave it out"),
        (["model=dcgan"], 2, "did you mean models?"),
        ([*SMALL, "batch=9999"], 1, "batch=9999 is larger than data=mnist10k, 9000 images; type batch=9000 or less"),
    ],
)
def test_refused_commands(gan, tmp_path, words, code, message):
    exit_code, out, error = gan("bench", "speed", *words)
    assert exit_code == code and message in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_models_and_variants_are_in_the_help(gan):
    text = gan("bench", "--help")[1]
    assert all(word in text for word in [*speed.MODELS, *speed.TUNED])
