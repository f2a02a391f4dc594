"""Each finding begins when it should, gives one event and ends with one; healthy runs, invented and real, give none."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from helpers import ROOT

from gancli.training.monitor import Event, Monitor, findings

Row = dict[str, Any]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.jsonl"))


def log_row(step: int, **values: Any) -> Row:
    row = {"step": step, "lr": 2e-4, "D/adversarial": 0.9, "G/adversarial": 1.3, "D(real)": 0.66, "D(fake)": 0.34}
    return row | {"gradient_norm(D)": 50.0, "gradient_norm(G)": 5.0} | values


def logs(first: int, last: int, every: int = 50, **values: Any) -> list[Row]:
    return [log_row(step, **values) for step in range(first, last + 1, every)]


def sample_rows(diversity: Iterable[float], coverage: Iterable[float] | float = 1.0, every: int = 250) -> list[Row]:
    """Rows with the metrics of samples, from step 0 on."""
    values = list(diversity)
    covered = [coverage] * len(values) if isinstance(coverage, float) else list(coverage)
    return [
        {"step": every * i, "sliced_wasserstein": 0.1, "diversity": d, "class_coverage": c}
        for i, (d, c) in enumerate(zip(values, covered))
    ]


def replay(rows: Iterable[Row], monitor: Monitor | None = None) -> list[Event]:
    monitor = monitor or Monitor()
    return [event for row in rows for event in monitor.add(row)]


def events(rows: Iterable[Row]) -> list[tuple[int, str, str]]:
    return [(event.step, event.type, event.finding) for event in replay(rows)]


WINNING = {"D(real)": 0.998, "D(fake)": 0.0031}


# ---- each finding


def test_d_is_winning_after_500_steps_without_mistakes_and_recovers_after_500_with_some():
    rows = logs(50, 1000) + logs(1050, 3000, **WINNING) + logs(3050, 5000)
    assert events(rows) == [(1500, "warning", "d_winning"), (3500, "recovered", "d_winning")]
    warning, recovered = replay(rows)
    assert "D(fake) is 0.0031 and D(real) 0.998" in warning.message
    assert "model/penalty=r1" in warning.message and "model/augment=diffaugment" in warning.message
    assert recovered.message == "D is no longer winning: D(fake) is 0.34 and D(real) 0.66"


def test_a_mistake_of_d_restarts_the_count():
    assert events(logs(50, 450, **WINNING) + logs(500, 3000)) == []
    doubts = [log_row(step, **(WINNING if step % 300 else {})) for step in range(50, 5000, 50)]
    assert events(doubts) == []


def test_a_model_without_d_gives_no_finding():
    rows = [{k: v for k, v in row.items() if not k.startswith("D(")} for row in logs(50, 3000, **WINNING)]
    assert events(rows) == []


def test_mode_collapse_begins_with_the_second_row():
    rows = sample_rows([0.02, 0.6, 0.9, 0.9, 0.12, 0.1, 0.12, 0.12, 0.5, 0.9, 0.9])
    assert events(rows) == [(1250, "warning", "mode_collapse"), (2250, "recovered", "mode_collapse")]
    warning, recovered = replay(rows)
    assert "the diversity of samples is 10 % of the data's" in warning.message
    assert "model.packing=2" in warning.message and "model.minibatch=discrimination" in warning.message
    assert "90 %" in recovered.message


def test_rising_diversity_is_no_collapse():
    for rise in (
        [0.002, 0.214, 0.971, 0.84, 0.997],  # DCGAN on CIFAR-10, every 250 steps
        [0.06, 0.108, 0.18, 0.406, 0.36, 0.534],  # MLP on MNIST
        [0.01 + 0.02 * i for i in range(40)],  # something slow
    ):
        assert events(sample_rows(rise)) == []


def test_diversity_that_never_rises_is_a_collapse():
    assert events(sample_rows([0.02, 0.03, 0.03, 0.02, 0.03])) == [(750, "warning", "mode_collapse")]


def test_missing_classes_are_found_when_no_more_come():
    # From an MLP on MNIST that collapsed to ones: every 250 steps of 3,000.
    coverage = [0.1, 0.4, 0.4, 0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.7, 0.5, 0.5, 0.5]
    diversity = [0.06, 0.11, 0.18, 0.41, 0.36, 0.53, 0.59, 0.62, 0.63, 0.66, 0.68, 0.71, 0.71]
    rows = sample_rows(diversity, coverage)
    assert events(rows) == [(2500, "warning", "classes_missing")]
    message = replay(rows)[0].message
    assert "50 % of the data's classes" in message and "model.packing=2" in message and "model=unrolled" in message


def test_classes_that_come_one_by_one_are_no_finding():
    assert events(sample_rows([0.9] * 11, [0.1 * i for i in range(11)])) == []
    assert events(sample_rows([0.9] * 21, [1.0, 1.0, 0.8, 0.8, 1.0, 0.9, 0.8] * 3)) == []


def test_a_collapse_is_not_reported_again_as_missing_classes():
    rows = sample_rows([0.9] * 4 + [0.1] * 20, [1.0] * 4 + [0.1] * 20)
    assert events(rows) == [(1250, "warning", "mode_collapse")]
    # An earlier finding stays: classes do not come back because of a collapse.
    rows = sample_rows([0.9] * 12 + [0.1] * 8, [1.0] * 4 + [0.4] * 8 + [0.1] * 8)
    assert events(rows) == [(1750, "warning", "classes_missing"), (3250, "warning", "mode_collapse")]
    assert list(findings(rows)) == ["mode_collapse", "classes_missing"]


def test_gradients_explode_at_a_hundred_times_their_median():
    calm, wild = logs(50, 1000), {"gradient_norm(G)": 5.0 * 101}
    rows = [*calm, *logs(1050, 2000, **wild), *logs(2050, 3000)]
    assert events(rows) == [(1050, "warning", "gradients_exploding"), (2500, "recovered", "gradients_exploding")]
    message = replay(rows)[0].message
    assert "gradient_norm(G) is 505, its median 5;" in message and "trainer.clip=1" in message
    assert events([*calm, *logs(1050, 2000, **{"gradient_norm(G)": 5.0 * 99})]) == []
    assert events([*calm, log_row(1050, **{"gradient_norm(D)": math.inf})]) == [
        (1050, "warning", "gradients_exploding")
    ]


def test_early_gradients_and_those_after_zeros_are_no_explosion():
    assert events([*logs(50, 450, **{"gradient_norm(D)": 0.01}), *logs(500, 900)]) == []
    # The hinge loss gives D no gradient while it makes no mistakes.
    assert events([*logs(50, 2000, **{"gradient_norm(D)": 0.0}), *logs(2050, 2500)]) == []


@pytest.mark.parametrize("value", [-2e4, 3e5, math.nan, math.inf, None])
def test_diverging_losses(value):
    rows = [*logs(50, 500), log_row(550, **{"D/adversarial": value}), *logs(600, 2000)]
    assert events(rows) == [(550, "warning", "losses_diverging"), (1050, "recovered", "losses_diverging")]
    message = replay(rows)[0].message
    assert "D/adversarial is" in message and "model.lr=5e-5, or model/penalty=gp" in message
    assert events(logs(50, 3000, **{"D/adversarial": -900.0})) == []


# ---- the monitor


def test_active_findings_have_the_newest_numbers():
    monitor = Monitor()
    replay(logs(50, 1000, **WINNING), monitor)
    assert "D(fake) is 0.0031" in monitor.active["d_winning"]
    monitor.add(log_row(1050, **{"D(real)": 1.0, "D(fake)": 0.0001}))
    assert "D(fake) is 0.0001" in monitor.active["d_winning"]
    replay(logs(1100, 1500), monitor)
    assert list(monitor.active) == ["d_winning"]  # not yet over, and it does not flicker
    replay(logs(1550, 1600), monitor)
    assert monitor.active == {}


def sick_run() -> Iterator[Row]:
    """Yield the rows of a long run with every finding."""
    for step in range(0, 12_001, 50):
        if step:
            values = WINNING if 2000 < step < 3500 or 6000 < step < 8000 else {}
            values = values | ({"gradient_norm(G)": 9e3} if step == 5000 else {})
            yield log_row(step, **values)
        if step % 250 == 0:
            sick = 4000 < step < 6500
            yield {"step": step, "diversity": 0.1 if sick else 0.9, "class_coverage": 0.5 if step > 9000 else 1.0}


def test_a_resumed_monitor_gives_the_events_of_an_uninterrupted_one():
    rows = list(sick_run())
    whole = replay(rows)
    assert {event.finding for event in whole} == {
        "d_winning",
        "mode_collapse",
        "classes_missing",
        "gradients_exploding",
    }
    for cut in range(0, len(rows), 7):
        # A resumed run reads its rows from the file.
        monitor = Monitor()
        before = replay([json.loads(json.dumps(row)) for row in rows[:cut]], monitor)
        assert before + replay(rows[cut:], monitor) == whole


def test_a_row_counts_as_the_file_stores_it():
    # metrics.jsonl has six decimals, and 0.0099999 is not below 0.01 there.
    edge = {"D(real)": 0.998, "D(fake)": 0.00999999}
    assert events(logs(50, 2000, **edge)) == events(logs(50, 2000, **{**edge, "D(fake)": 0.01})) == []


def test_rows_of_any_cadence():
    assert events(logs(1000, 9000, every=1000, **WINNING)) == [(2000, "warning", "d_winning")]
    assert events(logs(1, 600, every=1, **WINNING)) == [(500, "warning", "d_winning")]
    assert events(sample_rows([0.9, 0.1, 0.1], every=5000)) == [(10_000, "warning", "mode_collapse")]
    assert events(sample_rows([0.9] * 600 + [0.1] * 600, every=1)) == [(1099, "warning", "mode_collapse")]


def test_rows_without_numbers_are_ignored():
    odd = [{"event": "warning", "step": 500, "message": "x"}, {}, {"step": None}, {"step": "a"}, {"step": math.nan}]
    odd += [
        log_row(50, **{"D(real)": "high", "D/adversarial": True, "gradient_norm(G)": [1]}),
        {"step": 100, "lr": None},
    ]
    odd += [{"step": 1000 * i, "diversity": math.nan, "class_coverage": None} for i in range(9)]
    assert replay(odd) == []


# ---- healthy runs


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_runs_of_the_docs_give_no_warning(path):
    assert replay(json.loads(line) for line in path.read_text().splitlines()) == []


def test_a_small_data_set_that_d_nearly_memorises_gives_no_warning():
    # From a DCGAN on 1,500 digits of 8x8: every 125 steps of 2,000.
    real = [0.909, 0.8, 0.858, 0.909, 0.718, 0.866, 0.934, 0.937, 0.848, 0.841, 0.882, 0.947, 0.798, 0.945, 0.905]
    norms = [7.6, 26.0, 11.5, 12.4, 42.0, 40.3, 13.5, 17.9, 23.3, 56.4, 56.1, 14.3, 55.3, 22.4, 26.4]
    rows = [
        log_row(125 * i, **{"D(real)": d, "D(fake)": 1 - d, "gradient_norm(D)": n})
        for i, (d, n) in enumerate(zip(real, norms), 1)
    ]
    assert events(rows) == []
