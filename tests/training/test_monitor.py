"""Each finding begins when it should, gives one event and ends with one; healthy runs, invented and real, give none."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from helpers import MODELS, ROOT, config, start
from omegaconf import OmegaConf

from gancli.metrics.terms import find
from gancli.training.monitor import Event, Monitor, advice, completed, is_accepted

Row = dict[str, Any]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.jsonl"))
WINNING = {"D(real)": 0.998, "D(fake)": 0.0031}


def log_row(step: int, **values: Any) -> Row:
    row = {"step": step, "lr": 2e-4, "D/adversarial": 0.9, "G/adversarial": 1.3, "D(real)": 0.66, "D(fake)": 0.34}
    return row | {"gradient_norm(D)": 50.0, "gradient_norm(G)": 5.0} | values


def logs(first: int, last: int, every: int = 50, **values: Any) -> list[Row]:
    return [log_row(step, **values) for step in range(first, last + 1, every)]


def samples(diversity: Iterable[float], coverage: Iterable[float] | float = 1.0, every: int = 250) -> list[Row]:
    """Return rows with the metrics of samples, from step 0 on."""
    values = list(diversity)
    covered = [coverage] * len(values) if isinstance(coverage, float) else list(coverage)
    return [
        {"step": every * i, "sliced_wasserstein": 0.1, "diversity": d, "class_coverage": c}
        for i, (d, c) in enumerate(zip(values, covered))
    ]


def gaps(values: Iterable[float], every: int = 250) -> list[Row]:
    """Return rows with the gap between training images and those held out, from the first grid after step 0 on."""
    return [{"step": every * i, "gap(held out)": value} for i, value in enumerate(values, 1)]


def replay(rows: Iterable[Row], monitor: Monitor | None = None) -> list[Event]:
    monitor = monitor or Monitor()
    return [event for row in rows for event in monitor.add(row)]


def events(rows: Iterable[Row]) -> list[tuple[int, str, str]]:
    return [(event.step, event.type, event.finding) for event in replay(rows)]


# --- findings

# An MLP on MNIST that collapsed to ones, every 250 steps of 3,000.
COVERAGE = [0.1, 0.4, 0.4, 0.5, 0.6, 0.6, 0.7, 0.6, 0.7, 0.7, 0.5, 0.5, 0.5]
DIVERSITY = [0.06, 0.11, 0.18, 0.41, 0.36, 0.53, 0.59, 0.62, 0.63, 0.66, 0.68, 0.71, 0.71]
WIDE = {"gradient_norm(G)": 5.0 * 101}
FINDINGS: dict[str, tuple[list[Row], str, list[int], list[str]]] = {
    "d": (
        *(logs(50, 1000) + logs(1050, 3000, **WINNING) + logs(3050, 5000), "d_winning", [1500, 3500]),
        [
            "D is winning: almost no mistakes in the last 500 steps",
            "D(fake) is 0.0031",
            "type model/penalty=r1 model.norm=none, or",
        ],
    ),
    "d, rows far apart": (logs(1000, 9000, 1000, **WINNING), "d_winning", [2000], []),
    "d, every step": (logs(1, 600, 1, **WINNING), "d_winning", [500], []),
    "collapse": (
        *(samples([0.02, 0.6, 0.9, 0.9, 0.12, 0.1, 0.12, 0.12, 0.5, 0.9, 0.9]), "mode_collapse", [1250, 2250]),
        ["the diversity of samples is 10 % of the data's", "model.packing=2", "model.minibatch=discrimination"],
    ),
    "no rise": (samples([0.02, 0.03, 0.03, 0.02, 0.03]), "mode_collapse", [750], []),
    "collapse, every step": (samples([0.9] * 600 + [0.1] * 600, every=1), "mode_collapse", [1099], []),
    "collapse alone": (samples([0.9] * 4 + [0.1] * 20, [1.0] * 4 + [0.1] * 20), "mode_collapse", [1250], []),
    "classes": (
        *(samples(DIVERSITY, COVERAGE), "classes_missing", [2500]),
        ["50 % of the data's classes", "model.packing=2", "model=unrolled"],
    ),
    "memorising": (
        *(gaps([0.1, 0.3, 0.6, 0.7, 0.8, 0.2, 0.2, 0.1]), "memorising", [1000, 1750]),
        ["its output is 70 % of the way", "type model/augment=diffaugment, or model/augment=ada"],
    ),
    "gradients": (
        *(logs(50, 1000) + logs(1050, 2000, **WIDE) + logs(2050, 3000), "gradients_exploding", [1050, 2500]),
        ["gradient_norm(G) is 505, its median 5;", "trainer.clip=1"],
    ),
    "infinite": (
        *([*logs(50, 1000), log_row(1050, **{"gradient_norm(D)": math.inf})], "gradients_exploding", [1050], []),
    ),
}
FINDINGS |= {
    f"loss {value}": (
        *([*logs(50, 500), log_row(550, **{"D/adversarial": value}), *logs(600, 2000)], "losses_diverging"),
        *([550, 1050], ["D/adversarial is", "model.lr=5e-5, or model/penalty=gp"]),
    )
    for value in (-2e4, 3e5, math.nan, math.inf, None)
}


@pytest.mark.parametrize(("rows", "finding", "steps", "words"), FINDINGS.values(), ids=list(FINDINGS))
def test_a_finding_begins_and_ends_once_with_advice(rows, finding, steps, words):
    assert events(rows) == [(step, kind, finding) for step, kind in zip(steps, ("warning", "recovered"))]
    message = replay(rows)[0].message
    assert all(word in message for word in words), message


def test_an_earlier_finding_stays_during_a_collapse():
    rows = samples([0.9] * 12 + [0.1] * 8, [1.0] * 4 + [0.4] * 8 + [0.1] * 8)
    assert events(rows) == [(1750, "warning", "classes_missing"), (3250, "warning", "mode_collapse")]


# A DCGAN on 1,500 digits of 8x8, every 125 steps of 2,000: D nearly memorises them.
REAL = [0.909, 0.8, 0.858, 0.909, 0.718, 0.866, 0.934, 0.937, 0.848, 0.841, 0.882, 0.947, 0.798, 0.945, 0.905]
NORMS = [7.6, 26.0, 11.5, 12.4, 42.0, 40.3, 13.5, 17.9, 23.3, 56.4, 56.1, 14.3, 55.3, 22.4, 26.4]
HEALTHY: dict[str, list[Row]] = {
    "D wins the first steps": logs(50, 450, **WINNING) + logs(500, 3000),
    "D makes a mistake now and then": [log_row(s, **(WINNING if s % 300 else {})) for s in range(50, 5000, 50)],
    "no D": [{k: v for k, v in row.items() if not k.startswith("D(")} for row in logs(50, 3000, **WINNING)],
    "rounded as in the file": logs(50, 2000, **{"D(real)": 0.998, "D(fake)": 0.00999999}),
    "diversity rises, DCGAN": samples([0.002, 0.214, 0.971, 0.84, 0.997]),
    "diversity rises, MLP": samples([0.06, 0.108, 0.18, 0.406, 0.36, 0.534]),
    "diversity rises slowly": samples([0.01 + 0.02 * i for i in range(40)]),
    "classes come one by one": samples([0.9] * 11, [0.1 * i for i in range(11)]),
    "classes come and go": samples([0.9] * 21, [1.0, 1.0, 0.8, 0.8, 1.0, 0.9, 0.8] * 3),
    "gradients below the threshold": logs(50, 1000) + logs(1050, 2000, **{"gradient_norm(G)": 5.0 * 99}),
    "small gradients at first": logs(50, 450, **{"gradient_norm(D)": 0.01}) + logs(500, 900),
    "gradients after zeros": logs(50, 2000, **{"gradient_norm(D)": 0.0}) + logs(2050, 2500),
    "a critic's loss": logs(50, 3000, **{"D/adversarial": -900.0}),
    "a small data set": [
        log_row(125 * i, **{"D(real)": d, "D(fake)": 1 - d, "gradient_norm(D)": n})
        for i, (d, n) in enumerate(zip(REAL, NORMS), 1)
    ],
    "rows without numbers": [
        *({"event": "warning", "step": 500}, {}, {"step": None}, {"step": "a"}, {"step": math.nan}),
        *(log_row(50, **{"D(real)": "high", "D/adversarial": True, "gradient_norm(G)": [1]}), {"step": 9, "lr": None}),
        *({"step": 1000 * i, "diversity": math.nan, "class_coverage": None} for i in range(9)),
    ],
    **{path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in RESULTS},
}


@pytest.mark.parametrize("rows", HEALTHY.values(), ids=list(HEALTHY))
def test_a_healthy_run_gives_no_event(rows):
    assert replay(rows) == []


# --- the monitor


def sick_run() -> Iterator[Row]:
    """Yield the rows of a long run with several findings."""
    for step in range(0, 12_001, 50):
        if step:
            values = WINNING if 2000 < step < 3500 or 6000 < step < 8000 else {}
            yield log_row(step, **values, **({"gradient_norm(G)": 9e3} if step == 5000 else {}))
        if step % 250 == 0:
            collapsed = 4000 < step < 6500
            coverage = 0.5 if step > 9000 else 1.0
            yield {"step": step, "diversity": 0.1 if collapsed else 0.9, "class_coverage": coverage}


def test_a_resumed_monitor_gives_the_events_of_an_uninterrupted_one():
    rows = list(sick_run())
    whole = replay(rows)
    assert len({event.finding for event in whole}) == 4
    for cut in range(0, len(rows), 7):
        monitor = Monitor()
        before = replay([json.loads(json.dumps(row)) for row in rows[:cut]], monitor)  # as read from the file
        assert before + replay(rows[cut:], monitor) == whole


# --- advice


def settings(model: str, *overrides: str) -> dict[str, Any]:
    composed = config(f"model={model}", "data.classes=4", "data.channels=3", *overrides)
    return OmegaConf.to_container(composed, resolve=True)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_advice_trains_the_model_that_it_is_for(model, tmp_path):
    chosen = settings(model)
    findings = [find(symptom.finding) for symptom in Monitor().symptoms]
    remedies = [remedy for term in findings for remedy in term.remedies if is_accepted(remedy, chosen)]
    assert remedies, "a lower learning rate suits every model"
    for i, remedy in enumerate(dict.fromkeys(remedies)):
        run = start(tmp_path / str(i), model, *completed(remedy, chosen).split())
        run.trainer.train_step(0.99)


def test_advice_leaves_out_what_a_model_refuses_or_has():
    assert advice("mode_collapse", settings("acgan")).startswith("; type model.minibatch=discrimination, or")
    assert "packing" not in advice("mode_collapse", settings("dcgan", "model.packing=2"))
    assert "packing" not in advice("mode_collapse", settings("dcgan", "data.batch_size=7"))
    assert advice("mode_collapse", settings("vae")) == "; type model.lr=2e-4"
    assert advice("d_winning", settings("mlp")) == "; type model/penalty=r1, or model/augment=diffaugment"
    assert "model.D.norm=none" in advice("d_winning", settings("pix2pix"))
    assert "penalty" not in advice("d_winning", settings("dcgan", "model/penalty=r1", "model.norm=none"))
    assert "unrolled_mlp" in advice("classes_missing", settings("mlp"))
    assert "trainer.clip" not in advice("gradients_exploding", settings("dcgan", "trainer.clip=1"))
