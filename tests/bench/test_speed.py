"""`gan bench speed`: the plain loop is everybody's, the table says what was measured. No time is asserted."""

import json
from functools import partial

import pytest
import torch
from helpers import N, dcgan
from PIL import Image

from gancli.bench import speed
from gancli.bench import timing as cells
from gancli.bench.baseline_loop import Plain
from gancli.bench.timing import Failed, Products, Trained, prepared, turn

SMALL = ["data=digits", "batch=8", "width=4", "rounds=1", "repeats=2", "device=cpu", "out=o"]


class Here(cells.Cell):
    """A cell in this process: the way is the same, and no other has to import torch."""

    def __init__(self, make, rounds, seconds):
        try:
            self.way = make()
            self.facts = prepared(self.way, rounds, seconds)
        except Exception as error:
            raise Failed(str(error), "Traceback") from error
        self.memory = self.facts["memory_before"]

    def turn(self) -> float:
        return turn(self.way, self.facts["rounds"])

    def close(self) -> None:
        pass


@pytest.fixture
def here(monkeypatch):
    """Cells in this process, and few photographs; what a way sets for all of torch is set back."""
    monkeypatch.setattr(speed, "Cell", Here)
    monkeypatch.setattr(speed, "PHOTOGRAPHS", 2)
    monkeypatch.setattr(cells, "LARGEST", 512)
    monkeypatch.setattr(cells, "WARM", 1)
    yield
    torch.set_float32_matmul_precision("highest")


def plain_loop(model: str) -> Plain:
    common = ["data=synthetic", "data.n=64", "data.size=16", "data.batch_size=8", "device=cpu"]
    return Plain([f"model={model}", "model.width=4", *common])


def test_the_plain_loop_makes_two_forwards_of_g_and_gradients_of_d_that_it_throws_away():
    facts = prepared(plain_loop("dcgan"), 1, 0.0)
    G, D = dcgan()
    forward, weights = 2 * sum(G) + 3 * sum(D), sum(G) + 3 * sum(D)
    inputs = sum(G) - G[0] + 3 * sum(D) - 2 * D[0]
    assert facts["flops"] == 2 * N * (forward + weights + inputs)
    assert facts["images"] == N and facts["rounds"] == 1


@pytest.mark.parametrize(
    ("model", "critic"), [("mlp", 1), ("dcgan", 1), ("cgan", 1), ("sngan_proj", 5), ("wgan_gp", 5)]
)
def test_the_plain_loop_teaches_both_players(model, critic):
    plain = plain_loop(model)
    before = {player: [p.clone() for p in net.parameters()] for player, net in (("G", plain.G), ("D", plain.D))}
    playing = plain.rounds()
    next(playing)
    playing.close()
    assert plain.images == critic * N
    for player, optimizer in (("G", plain.g_optimizer), ("D", plain.d_optimizer)):
        moves = {int(optimizer.state[p]["step"]) for p in optimizer.param_groups[0]["params"]}
        assert moves == {1 if player == "G" else critic}
        now = optimizer.param_groups[0]["params"]
        assert not any(torch.equal(a, b) for a, b in zip(before[player], now))


def test_products_are_counted_in_closed_form(here):
    way = Products("cpu", "fp32")
    assert prepared(way, 1, 0.0)["flops"] == 2 * way.n**3 and turn(way, 1) > 0


def test_rounds_are_chosen_to_fill_a_turn(monkeypatch):
    class Clock(cells.Way):
        device, now = torch.device("cpu"), 0.0

        def rounds(self):
            while True:
                Clock.now += 0.25
                yield

    monkeypatch.setattr(cells.time, "perf_counter", lambda: Clock.now)
    assert prepared(Clock(), 0, 3.0)["rounds"] == 12 and prepared(Clock(), 7, 3.0)["rounds"] == 7
    assert turn(Clock(), 40) == 10.0, "the rounds that go before are not timed"


def test_every_way_is_told_of_beside_the_plain_loop(gan, tmp_path, here):
    models = ["mlp", "wgan_gp", "srgan"]
    code, out, error = gan("bench", "speed", *SMALL, f"models=[{','.join(models)}]", "repeats=1")
    assert code == 0, error
    assert error.count(" of 3  ") == 3 and "3 of 3  srgan, batch 8, width 4: plain loop " in error
    assert out.split()[-3:] == ["o/speed.json", "o/speed.md", "o/speed.png"] and "square products: bf16 " in out
    told = json.loads((tmp_path / "o" / "speed.json").read_text())
    assert told["finished"] and told["failed"] == [] and "mosaics" in told["protocol"]["photographs"]
    assert {"machine", "versions", "data", "repeats", "tuned"} <= told["protocol"].keys()
    lines = {(line["model"], line["way"]): line for line in told["summary"]}
    assert list(lines) == [(model, way) for model in models for way in ("plain loop", "gan train", "fp32", "bf16")]
    for (model, way), line in lines.items():
        assert line["images_per_second"] > 0 and line["share"] > 0 and line["memory"] > 1e7, (model, way)
        ours, plain = lines[model, "gan train"]["gflop"], lines[model, "plain loop"]["gflop"]
        assert ours < plain and line["gflop"] == (plain if way == "plain loop" else ours)
        assert (line["times_plain"] == 1) == (way == "plain loop")
    rows = {(row["model"], row["way"]): row for row in told["rows"]}
    assert rows["wgan_gp", "plain loop"]["images"] == rows["wgan_gp", "gan train"]["images"] == 5 * 8
    assert all(len(row["seconds"]) == 1 and row["products"].keys() == {"fp32", "bf16"} for row in told["rows"])
    table = (tmp_path / "o" / "speed.md").read_text()
    assert all(f"## {model}, batch 8, width 4" in table for model in models) and "DataLoader with two workers" in table
    with Image.open(tmp_path / "o" / "speed.png") as picture:
        assert picture.width == speed.SHEET + 2 * speed.GAP


def test_scaling_adds_a_table_and_a_curve_by_size(gan, tmp_path, here, monkeypatch):
    monkeypatch.setattr(speed, "BATCHES", (4, 8))
    monkeypatch.setattr(speed, "WIDTHS", (4, 8))
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]", "tuned=[]", "scaling=true", "repeats=1")
    assert code == 0 and "3 of 3  mlp, batch 8, width 8: " in error, error
    assert "mlp of width 4 by batch: images/s" in out and "mlp with batch 8 by width: images/s" in out
    told = json.loads((tmp_path / "o" / "speed.json").read_text())
    assert [(row["batch"], row["width"]) for row in told["rows"][::2]] == [(8, 4), (4, 4), (8, 8)]
    with Image.open(tmp_path / "o" / "speed.png") as picture:
        assert picture.height > 2 * speed.CHART


def test_a_way_that_fails_is_named_and_the_others_go_on(gan, tmp_path, here, monkeypatch):
    monkeypatch.setitem(speed.TUNED, "bf16", ["trainer.precision=bf61"])
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]", "repeats=1")
    assert code == 1 and "mlp, batch 8, width 4, bf16: failed: trainer.precision=bf61" in error, error
    assert "1 of the ways failed: mlp bf16" in error.splitlines()[-1] and "| gan train " in out
    assert "Traceback" in (tmp_path / "o" / "log.txt").read_text()
    assert "bf61" in (tmp_path / "o" / "speed.md").read_text().partition("## Failed")[2]


def test_a_penalty_is_not_compiled_and_the_table_says_so(tmp_path):
    facts = {"images": 8, "rounds": 1, "flops": 100, "precision": "fp32", "compiled": False, "memory_before": 1}
    case = speed.Case("wgan_gp", 8, 4, [])
    report = speed.Report(tmp_path, case, {})
    report.add(case, speed.SHIPPED, facts, [1.0, 3.0, 2.0], 10**7, {"fp32": [50.0, 100.0, 200.0]})
    report.add(case, "compile", facts, [4.0], 10**7, {})
    shipped, compiled = report.summary()
    assert shipped["images_per_second"] == 4 and (shipped["slowest"], shipped["fastest"]) == (8 / 3, 8)
    assert shipped["share"] == 0.5 and "share" not in compiled and "times_plain" not in shipped
    ((title, table),) = report.tables()
    assert title == "wgan_gp, batch 8, width 4" and "compile (eager)" in table and "50%" in table
    assert len({len(line) for line in table.splitlines()}) == 1
    # A round that was compiled cannot be counted, and does what the eager one does.
    report.add(case, "bf16_compile", facts | {"flops": None, "compiled": True}, [1.0], 10**7, {})
    assert report.summary()[-1]["gflop"] == shipped["gflop"]


@pytest.mark.slow
@pytest.mark.slow
def test_ways_wait_in_processes_of_their_own(gan, tmp_path):
    code, out, error = gan("bench", "speed", *SMALL, "models=[mlp]", "tuned=[]")
    assert code == 0 and "| gan train" in out, error
    told = json.loads((tmp_path / "o" / "speed.json").read_text())
    assert [len(row["seconds"]) for row in told["rows"]] == [2, 2]
    with pytest.raises(Failed, match="images of the data"):
        cells.Cell(partial(Trained, ["data=digits", "data.batch_size=9999", "device=cpu"]), 1, 1.0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models=[dcgam]"], "no model 'dcgam'; did you mean dcgan?"),
        (["models=[]"], "names no model; type any of: mlp, dcgan"),
        (["tuned=[bf61]"], "no way to run gan train 'bf61'; did you mean bf16?"),
        (["data=[cifar11]"], "no data set 'cifar11'; did you mean cifar10?"),
        (["data=[ring,grid]"], "data=['ring', 'grid'] was given; type data=cifar10"),
        (["data=photos"], "no data set 'photos'"),
        (["repeats=0"], "repeats counts from 1, but repeats=0 was given; type repeats=5"),
        (["rounds=-1"], "rounds=-1 was given; type rounds=20"),
        (["batch=-1"], "batch=-1 was given"),
        (["width=many"], "width is a whole number"),
        (["recipes=[gan]"], "recipes is a key of gan bench modes, not of gan bench speed; leave it out"),
        (["model=dcgan"], "no key 'model'; did you mean models?"),
    ],
)
def test_a_slip_gets_one_sentence_and_exit_2(gan, tmp_path, words, sentence):
    code, out, error = gan("bench", "speed", *words)
    assert code == 2 and sentence in error, error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_a_batch_larger_than_the_data_says_so_before_anything_is_timed(gan, tmp_path):
    code, out, error = gan("bench", "speed", *SMALL, "batch=2000")
    assert code == 1 and "a batch of 2000 is larger than data=digits, 1500 images; type batch=1500 or less" in error
    assert len(error.strip().splitlines()) == 1 and not out and not any(tmp_path.iterdir())


def test_ways_and_models_are_in_the_help(gan):
    told = gan("bench", "--help")[1]
    assert all(word in told for word in [*speed.MODELS, *speed.TUNED])
