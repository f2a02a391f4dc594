import json
from pathlib import Path

import numpy as np
import pytest
from fabricate import MakeRun, metric_row

from gancli.report.read import find_runs, read_run

FINISHED = {"event": "finished", "step": 200, "minutes": 0.2}


def test_a_finished_run(make_run: MakeRun) -> None:
    folder = make_run(ending=FINISHED)
    (folder / "samples" / "history.png").touch()
    run = read_run(folder)
    assert (run.name, run.status, run.message) == ("run", "finished", "")
    assert run.last["step"] == 200
    assert [step for step, _ in run.samples] == [0, 100, 200]
    assert run.overrides == {"model": "dcgan", "data": "mnist"}
    assert run.choice("model") == "dcgan"
    assert run.keys[:2] == ["step", "kimg"]


@pytest.mark.parametrize(
    ("ending", "status", "message"),
    [
        (None, "running", ""),
        ({"event": "stopped", "step": 9, "message": "SIGINT"}, "stopped", "SIGINT"),
        ({"event": "failed", "step": 9, "message": "no GPU"}, "failed", "no GPU"),
        ({"event": "resumed", "step": 9}, "running", ""),
        ({"event": "warning", "message": "slow"}, "running", ""),
    ],
)
def test_status(make_run: MakeRun, ending: dict | None, status: str, message: str) -> None:
    run = read_run(make_run(ending=ending))
    assert (run.status, run.message) == (status, message)


def test_missing_files(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.config, run.rows, run.events, run.samples, run.last, run.status) == ({}, [], [], [], {}, "running")


def test_lines_that_are_not_rows_are_passed_over(make_run: MakeRun) -> None:
    run = read_run(make_run(tail='[1]\n"x"\n{"G/adversarial": 1}\n{"step": null}\n\n{"step": 250, "G/adv'))
    assert run.last["step"] == 200


def test_values_that_are_not_finite_are_nan_and_absent_ones_are_left_out(make_run: MakeRun) -> None:
    rows = [metric_row(50, fid=None), metric_row(100), metric_row(150, fid=float("inf")), metric_row(200, fid=3)]
    run = read_run(make_run(rows=[*rows, metric_row(250, fid=float("nan"), note="text", flag=True)]))
    steps, values = run.series("fid")
    np.testing.assert_array_equal(steps, [50, 150, 200, 250])
    np.testing.assert_array_equal(values, [np.nan, np.nan, 3, np.nan])
    assert run.latest("fid") == 3
    assert "note" not in run.keys and "flag" not in run.keys


def test_what_a_resumed_run_repeats_replaces_what_it_told_before(make_run: MakeRun) -> None:
    again = [{"event": "resumed", "step": 100}, metric_row(150, fid=1), metric_row(200, fid=2)]
    run = read_run(make_run(tail="".join(json.dumps(line) + "\n" for line in again)))
    assert [row["step"] for row in run.rows] == [50, 100, 150, 200]
    assert run.latest("fid") == 2


def test_the_call_of_a_resumed_run_is_the_last(make_run: MakeRun) -> None:
    resumed = {
        "event": "resumed",
        "step": 200,
        "command": "gan train trainer.steps=9",
        "overrides": ["trainer.steps=9"],
    }
    assert read_run(make_run(ending=resumed)).overrides == {"trainer.steps": "9"}


def test_a_config_that_is_not_yaml_is_a_warning(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "config.yaml").write_text("a: [")
    run = read_run(folder)
    assert run.config == {} and run.status == "running"
    assert "YAML" in run.events[-1]["message"]


def test_find_runs(make_run: MakeRun, tmp_path: Path) -> None:
    for job in ("0", "2", "10"):
        make_run(f"outputs/sweeps/lr/{job}")
    single = make_run("outputs/single")
    (single / ".hydra").mkdir()
    (single / ".hydra" / "config.yaml").touch()
    assert find_runs(single) == [single]
    sweep = tmp_path / "outputs" / "sweeps" / "lr"
    assert [path.name for path in find_runs(sweep)] == ["0", "2", "10"]
    assert len(find_runs(tmp_path / "outputs")) == 4


def test_find_runs_says_what_to_give_instead(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in [(tmp_path, "no run"), (tmp_path / "gone", "does not exist"), (tmp_path / "file", "is a file")]:
        with pytest.raises(ValueError, match=f"{why}.*; give a run folder or a sweep folder"):
            find_runs(path)
