"""Each finding appears when it should, is told once and ends once; healthy runs, made up and real, hear nothing."""

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


def pictures(diversity: Iterable[float], coverage: Iterable[float] | float = 1.0, every: int = 250) -> list[Row]:
    """Picture rows from step 0 on."""
    values = list(diversity)
    covered = [coverage] * len(values) if isinstance(coverage, float) else list(coverage)
    return [
        {"step": every * i, "sliced_wasserstein": 0.1, "diversity": d, "class_coverage": c}
        for i, (d, c) in enumerate(zip(values, covered))
    ]


def replay(rows: Iterable[Row], monitor: Monitor | None = None) -> list[Event]:
    monitor = monitor or Monitor()
    return [event for row in rows for event in monitor.add(row)]


def told(rows: Iterable[Row]) -> list[tuple[int, str, str]]:
    return [(event.step, event.kind, event.finding) for event in replay(rows)]


WON = {"D(real)": 0.998, "D(fake)": 0.0031}


# ---- each finding


def test_d_that_is_always_right_has_won_after_500_steps_and_no_longer_when_it_doubts_for_500():
    rows = logs(50, 1000) + logs(1050, 3000, **WON) + logs(3050, 5000)
    assert told(rows) == [(1500, "warning", "d_won"), (3500, "recovered", "d_won")]
    warning, recovered = replay(rows)
    assert "D(fake) is 0.0031 and D(real) 0.998" in warning.message
    assert "model/penalty=r1" in warning.message and "model/augment=diffaugment" in warning.message
    assert recovered.message == "D no longer wins: D(fake) is 0.34 and D(real) 0.66"


def test_d_wins_the_first_steps_of_many_runs_and_a_doubt_in_between_starts_the_count_again():
    assert told(logs(50, 450, **WON) + logs(500, 3000)) == []
    doubts = [log_row(step, **(WON if step % 300 else {})) for step in range(50, 5000, 50)]
    assert told(doubts) == []


def test_without_d_of_x_there_is_nothing_to_win():
    rows = [{k: v for k, v in row.items() if not k.startswith("D(")} for row in logs(50, 3000, **WON)]
    assert told(rows) == []


def test_samples_that_become_alike_are_told_at_the_second_picture():
    rows = pictures([0.02, 0.6, 0.9, 0.9, 0.12, 0.1, 0.12, 0.12, 0.5, 0.9, 0.9])
    assert told(rows) == [(1250, "warning", "g_alike"), (2250, "recovered", "g_alike")]
    warning, recovered = replay(rows)
    assert "their diversity is 10 % of the data's" in warning.message
    assert "model.packing=2" in warning.message and "model.minibatch=discrimination" in warning.message
    assert "90 %" in recovered.message


def test_samples_are_alike_at_first_and_are_let_rise():
    for rise in (
        [0.002, 0.214, 0.971, 0.84, 0.997],  # DCGAN on CIFAR-10, every 250 steps
        [0.06, 0.108, 0.18, 0.406, 0.36, 0.534],  # MLP on MNIST
        [0.01 + 0.02 * i for i in range(40)],  # something slow
    ):
        assert told(pictures(rise)) == []


def test_samples_that_never_become_different_are_told_too():
    assert told(pictures([0.02, 0.03, 0.03, 0.02, 0.03])) == [(750, "warning", "g_alike")]


def test_classes_that_are_missing_are_told_when_no_more_come():
    # Read off an MLP on MNIST that ended at ones: every 250 steps of 3,000.
    coverage = [0.1, 0.4, 0.4, 0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.7, 0.5, 0.5, 0.5]
    diversity = [0.06, 0.11, 0.18, 0.41, 0.36, 0.53, 0.59, 0.62, 0.63, 0.66, 0.68, 0.71, 0.71]
    rows = pictures(diversity, coverage)
    assert told(rows) == [(2500, "warning", "classes_missing")]
    message = replay(rows)[0].message
    assert "50 % of the data's classes" in message and "model.packing=2" in message and "model=unrolled" in message


def test_classes_that_come_one_by_one_or_falter_are_no_finding():
    assert told(pictures([0.9] * 11, [0.1 * i for i in range(11)])) == []
    assert told(pictures([0.9] * 21, [1.0, 1.0, 0.8, 0.8, 1.0, 0.9, 0.8] * 3)) == []


def test_samples_that_are_alike_are_not_told_a_second_time_as_missing_classes():
    rows = pictures([0.9] * 4 + [0.1] * 20, [1.0] * 4 + [0.1] * 20)
    assert told(rows) == [(1250, "warning", "g_alike")]
    # What was told before stays told: classes do not come back because all samples are alike.
    rows = pictures([0.9] * 12 + [0.1] * 8, [1.0] * 4 + [0.4] * 8 + [0.1] * 8)
    assert told(rows) == [(1750, "warning", "classes_missing"), (3250, "warning", "g_alike")]
    assert list(findings(rows)) == ["g_alike", "classes_missing"]


def test_gradients_explode_at_a_hundred_times_their_median():
    calm, wild = logs(50, 1000), {"gradient_norm(G)": 5.0 * 101}
    rows = [*calm, *logs(1050, 2000, **wild), *logs(2050, 3000)]
    assert told(rows) == [(1050, "warning", "gradients_exploding"), (2500, "recovered", "gradients_exploding")]
    message = replay(rows)[0].message
    assert "gradient_norm(G) is 505, its median 5;" in message and "trainer.clip=1" in message
    assert told([*calm, *logs(1050, 2000, **{"gradient_norm(G)": 5.0 * 99})]) == []
    assert told([*calm, log_row(1050, **{"gradient_norm(D)": math.inf})]) == [(1050, "warning", "gradients_exploding")]


def test_what_gradients_are_at_first_or_after_nothing_is_no_explosion():
    assert told([*logs(50, 450, **{"gradient_norm(D)": 0.01}), *logs(500, 900)]) == []
    # Of D, which hinge leaves without a gradient while it is right.
    assert told([*logs(50, 2000, **{"gradient_norm(D)": 0.0}), *logs(2050, 2500)]) == []


@pytest.mark.parametrize("value", [-2e4, 3e5, math.nan, math.inf, None])
def test_losses_that_run_away(value):
    rows = [*logs(50, 500), log_row(550, **{"D/adversarial": value}), *logs(600, 2000)]
    assert told(rows) == [(550, "warning", "losses_running_away"), (1050, "recovered", "losses_running_away")]
    message = replay(rows)[0].message
    assert "D/adversarial is" in message and "model.lr=5e-5, or model/penalty=gp" in message
    assert told(logs(50, 3000, **{"D/adversarial": -900.0})) == []


# ---- the monitor


def test_active_is_what_has_begun_and_is_not_over_with_the_newest_numbers():
    monitor = Monitor()
    replay(logs(50, 1000, **WON), monitor)
    assert "D(fake) is 0.0031" in monitor.active["d_won"]
    monitor.add(log_row(1050, **{"D(real)": 1.0, "D(fake)": 0.0001}))
    assert "D(fake) is 0.0001" in monitor.active["d_won"]
    replay(logs(1100, 1500), monitor)
    assert list(monitor.active) == ["d_won"]  # not yet over, and it does not flicker
    replay(logs(1550, 1600), monitor)
    assert monitor.active == {}


def ill_run() -> Iterator[Row]:
    """A long log with a bit of everything."""
    for step in range(0, 12_001, 50):
        if step:
            values = WON if 2000 < step < 3500 or 6000 < step < 8000 else {}
            values = values | ({"gradient_norm(G)": 9e3} if step == 5000 else {})
            yield log_row(step, **values)
        if step % 250 == 0:
            ill = 4000 < step < 6500
            yield {"step": step, "diversity": 0.1 if ill else 0.9, "class_coverage": 0.5 if step > 9000 else 1.0}


def test_resumed_at_any_row_it_tells_what_the_uninterrupted_one_tells():
    rows = list(ill_run())
    whole = replay(rows)
    assert {event.finding for event in whole} == {"d_won", "g_alike", "classes_missing", "gradients_exploding"}
    for cut in range(0, len(rows), 7):
        # A resumed run reads its rows from the file.
        monitor = Monitor()
        before = replay([json.loads(json.dumps(row)) for row in rows[:cut]], monitor)
        assert before + replay(rows[cut:], monitor) == whole


def test_a_row_is_judged_as_the_file_will_have_it():
    # metrics.jsonl has six decimals, and 0.0099999 is not below 0.01 there.
    edge = {"D(real)": 0.998, "D(fake)": 0.00999999}
    assert told(logs(50, 2000, **edge)) == told(logs(50, 2000, **{**edge, "D(fake)": 0.01})) == []


def test_rows_of_any_cadence():
    assert told(logs(1000, 9000, every=1000, **WON)) == [(2000, "warning", "d_won")]
    assert told(logs(1, 600, every=1, **WON)) == [(500, "warning", "d_won")]
    assert told(pictures([0.9, 0.1, 0.1], every=5000)) == [(10_000, "warning", "g_alike")]
    assert told(pictures([0.9] * 600 + [0.1] * 600, every=1)) == [(1099, "warning", "g_alike")]


def test_lines_that_are_no_rows_and_values_that_are_no_numbers_are_passed_over():
    odd = [{"event": "warning", "step": 500, "message": "x"}, {}, {"step": None}, {"step": "a"}, {"step": math.nan}]
    odd += [
        log_row(50, **{"D(real)": "high", "D/adversarial": True, "gradient_norm(G)": [1]}),
        {"step": 100, "lr": None},
    ]
    odd += [{"step": 1000 * i, "diversity": math.nan, "class_coverage": None} for i in range(9)]
    assert replay(odd) == []


def test_a_long_log():
    rows = [log_row(50 * i, **{"gradient_norm(G)": 5 + (i * 7919 % 1000) / 100}) for i in range(20_000)]
    assert findings(rows) == {}


# ---- healthy runs


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_runs_of_the_readme_are_left_in_peace(path):
    assert replay(json.loads(line) for line in path.read_text().splitlines()) == []


def test_a_small_data_set_that_d_nearly_knows_by_heart_is_left_in_peace():
    # DCGAN on 1,500 digits of 8x8: read off, every 125 steps of 2,000.
    real = [0.909, 0.8, 0.858, 0.909, 0.718, 0.866, 0.934, 0.937, 0.848, 0.841, 0.882, 0.947, 0.798, 0.945, 0.905]
    norms = [7.6, 26.0, 11.5, 12.4, 42.0, 40.3, 13.5, 17.9, 23.3, 56.4, 56.1, 14.3, 55.3, 22.4, 26.4]
    rows = [
        log_row(125 * i, **{"D(real)": d, "D(fake)": 1 - d, "gradient_norm(D)": n})
        for i, (d, n) in enumerate(zip(real, norms), 1)
    ]
    assert told(rows) == []
