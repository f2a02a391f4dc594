import json
from pathlib import Path

import numpy as np
import pytest
from run_fixtures import FINISHED, add_score, metric_row, protocol, write_run

from gancli.report.logger import RunLogger
from gancli.report.run_folder import Run, Score, read_run
from gancli.report.sweep_folder import find_runs
from gancli.runtime.links import refuse_links
from gancli.runtime.terminal import Terminal


def read(folder: Path, **values: object) -> Run:
    return read_run(write_run(folder, **values))  # type: ignore[arg-type]


def test_a_finished_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ending=FINISHED)
    (folder / "samples" / "history.gif").touch()
    run = read_run(folder)
    assert (run.name, run.status, run.message, run.last_step) == ("run", "finished", "", 200)
    assert [step for step, _ in run.samples] == [0, 100, 200]
    assert run.overrides == {"model": "dcgan", "data": "mnist"} and run.choice("model") == "dcgan"
    assert run.keys[:2] == ["step", "kimg"] and run.has_checkpoint


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
def test_the_status_is_that_of_the_last_event(tmp_path: Path, ending: dict, status: str, message: str) -> None:
    run = read(tmp_path / "run", ending=ending)
    assert (run.status, run.message) == (status, message)


def test_files_that_are_missing_torn_or_invalid(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.config, run.rows, run.events, run.samples, run.status) == ({}, [], [], [], "running")
    assert run.last_step is None and not run.has_checkpoint and run.scores == []
    folder = write_run(tmp_path / "run", tail='[1]\n"x"\n{"G/adversarial": 1}\n{"step": null}\n\n{"step": 250, "G/adv')
    (folder / "config.yaml").write_text("a: [")
    run = read_run(folder)
    assert run.last_step == 200 and run.config == {} and run.status == "running"
    assert run.damage == "config.yaml is not the config of a run"


def test_rewind_removes_what_was_logged_after_a_step(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", ending={"event": "warning", "step": 150}, tail='{"step": 9')
    logger = RunLogger(folder, Terminal(quiet=True))
    logger.rewind(150)
    assert [row["step"] for row in read_run(folder).rows] == [50, 100, 150]
    row = logger.metrics(175, {"fid": 3.5})
    assert row == {"step": 175, "fid": 3.5} == read_run(folder).rows[-1]
    left = logger.rewind(100)
    assert [line.get("event", line.get("step")) for line in left] == ["started", 50, 100]
    assert [row["step"] for row in read_run(folder).rows] == [50, 100]
    assert logger.rows == 2


def test_rewind_removes_what_a_killed_session_logged_at_the_saved_step(tmp_path: Path) -> None:
    """A run is saved on request before the tasks of its last step, which the next session does again."""
    warning = '{"event": "warning", "step": 150, "finding": "nan"}'
    tail = f'{warning}\n{{"step": 150, "fid": 2.5}}\n{warning}\n[1]\n{{"event": "stopped", "step": 150}}\n'
    folder = write_run(tmp_path / "run", rows=[metric_row(step) for step in (50, 100, 150)], tail=tail)
    logger = RunLogger(folder, Terminal(quiet=True))
    left = [line.get("event", line.get("step")) for line in logger.rewind(150, rows=3)]
    assert left == ["started", 50, 100, 150, "warning", "stopped"] and logger.rows == 3


def test_infinite_values_are_nan_and_absent_ones_are_left_out(tmp_path: Path) -> None:
    rows = [metric_row(50, fid=None), metric_row(100), metric_row(150, fid=float("inf")), metric_row(200, fid=3)]
    run = read(tmp_path / "run", rows=[*rows, metric_row(250, fid=float("nan"), note="text", flag=True)])
    steps, values = run.series("fid")
    np.testing.assert_array_equal(steps, [50, 150, 200, 250])
    np.testing.assert_array_equal(values, [np.nan, np.nan, 3, np.nan])
    assert (run.latest("fid"), run.latest("fid", until=199)) == (3, None)
    assert "note" not in run.keys and "flag" not in run.keys


def test_rows_after_a_resume_replace_the_rows_before_it(tmp_path: Path) -> None:
    resumed = {"event": "resumed", "step": 100, "command": "gan train", "overrides": ["trainer.steps=9"]}
    again = [resumed, metric_row(150, fid=1), metric_row(200, fid=2)]
    run = read(tmp_path / "run", tail="".join(json.dumps(line) + "\n" for line in again))
    assert [row["step"] for row in run.rows] == [50, 100, 150, 200]
    assert run.latest("fid") == 2
    assert run.overrides == {"model": "dcgan", "data": "mnist", "trainer.steps": "9"}, "all that was ever typed"


def test_the_last_score_of_a_protocol_counts_and_invalid_lines_do_not(tmp_path: Path) -> None:
    folder = add_score(write_run(tmp_path / "run"), {"fd_mnist": 9.0, "kd_mnist": 0.2}, step=100)
    add_score(folder, {"fd_mnist": 5.0}, protocol(generated=1000), step=100)
    add_score(folder, {"fd_mnist": 4.0, "kd_mnist": None, "by class": {"0": 1}, "ok": True}, protocol(weights="y"))
    # None of these lines has a number and its protocol.
    add_score(folder, {"fd_mnist": None, "kd_mnist": float("nan")}, protocol(seed=9))
    add_score(folder, {"fd_mnist": 1.0}, "a text")
    add_score(folder, [1], {})
    with (folder / "scores.jsonl").open("a") as file:
        file.write('{"step": 1}\n[2]\n{"step": 300, "metrics": {"fd_mnist": 1.0}, "proto')  # killed while writing
    first, second = read_run(folder).scores
    assert (first.metrics, first.step, first.source) == ({"fd_mnist": 4.0, "kd_mnist": None}, 200, "evaluate")
    assert (second.metrics, second.step) == ({"fd_mnist": 5.0}, 100)


def test_only_entries_that_change_the_meaning_of_numbers_form_another_protocol() -> None:
    def key(**values: object) -> str:
        return Score(protocol(**values), {}, None, "evaluate").key

    assert key() == key(versions={"torch": "3"}, weights="y", step=9, command="x", time="y", skipped={"fd": "few"})
    others: list[dict] = [{"generated": 9}, {"split": "train"}, {"features": "cifar"}, {"averaged": False}, {"seed": 1}]
    assert len({key(), *(key(**other) for other in others), key(real=None)}) == 2 + len(others)


def test_evaluations_during_training_have_the_last_protocol_and_the_last_values(tmp_path: Path) -> None:
    def event(*metrics: str, **values: object) -> dict:
        return {"event": "protocol", "step": 0, "metrics": list(metrics), "protocol": protocol(**values)}

    rows = [
        event("fd_mnist", "is", generated=5),
        metric_row(100, fd_mnist=3.0, diversity=0.8) | {"is": 7.0},
        event("fd_mnist", generated=2000),
        {"step": 200, "fd_mnist": 3.5},
        metric_row(300, fd_mnist=float("nan"), diversity=0.9),
    ]
    folder = write_run(tmp_path / "run", rows=rows)
    own, quick = read_run(folder).scores
    # The weights at the end, although those of step 100 were better.
    assert (own.metrics, own.step, own.source, own.protocol["generated"]) == ({"fd_mnist": 3.5}, 200, "training", 2000)
    # `is` has the protocol of the first event, which no longer holds.
    assert (quick.metrics, quick.step, quick.source) == ({"diversity": 0.9}, 300, "quick")
    # gan evaluate replaces the score of the same protocol.
    first = read_run(add_score(folder, {"fd_mnist": 4.0}, protocol(generated=2000, weights="last"))).scores[0]
    assert (first.metrics, first.source) == ({"fd_mnist": 4.0}, "evaluate")


def test_quick_metrics_have_the_data_as_protocol_and_leave_out_losses(tmp_path: Path) -> None:
    data = {"name": "folder", "path": "cats", "size": 32, "batch_size": 8, "root": "/data", "flip": True}
    values = {"diversity": 0.9, "sliced_wasserstein": 0.1, "augment_p": 0.3, "evaluate_seconds": 2.0}
    rows = [metric_row(100, **values, **{"gradient_norm(G)": 1.0})]
    (score,) = read(tmp_path / "run", rows=rows, config={"model": {"name": "dcgan"}, "data": data}).scores
    assert list(score.metrics.items()) == [("sliced_wasserstein", 0.1), ("diversity", 0.9)]
    assert score.protocol == {"data": "folder", "path": "cats", "size": 32, "measured": "while training"}
    config = {"model": {"name": "dcgan"}, "data": data | {"path": "/somewhere/./cats"}}
    resumed = {"event": "resumed", "overrides": [], "files": {"name": "folder cats", "content": "1a2b"}}
    (score,) = read(tmp_path / "new", rows=rows, config=config, tail=json.dumps(resumed) + "\n").scores
    same = {"data": "folder cats", "size": 32, "content": "1a2b", "measured": "while training"}
    assert score.protocol == same, "the path says nothing about the data"


def test_a_bound_compares_between_equal_likelihoods_only(tmp_path: Path) -> None:
    scores = []
    for name in ("Bernoulli", "Gaussian"):
        model = {"name": "vae", "likelihood": {"_target_": f"gancli.networks.likelihood.{name}"}, "classes": 0}
        rows = [metric_row(100, sliced_wasserstein=0.1, elbo=-90.0)]
        config = {"model": model, "data": {"name": "mnist", "size": 28}}
        scores.append(read(tmp_path / name, rows=rows, config=config).scores)
    (bernoulli, bernoulli_bound), (gaussian, gaussian_bound) = scores
    assert bernoulli.key == gaussian.key and bernoulli_bound.key != gaussian_bound.key
    assert bernoulli_bound.metrics == {"elbo": -90.0}
    assert "likelihood Bernoulli · classes none" in bernoulli_bound.details


def test_a_protocol_as_one_line_of_text() -> None:
    how = protocol(averaged=False, real=None, task={"_target_": "a.Inpaint", "mask": "mixed"}, between=[0, 1], empty="")
    score = Score(how | {"odd\n\x1b[2J": "\u2028x\ud800"}, {}, None, "quick")
    assert score.heading == "mnist · split test · generated 10,000"
    assert score.details == (
        "not averaged · seed 0 · features mnist 1a2b3c, 64 features · task Inpaint, mask mixed · between 0, 1 · "
        "odd [2J x\\ud800"
    )


def test_find_runs_in_natural_order(tmp_path: Path) -> None:
    for job in ("0", "2", "10"):
        write_run(tmp_path / f"outputs/sweeps/lr/{job}")
    single = write_run(tmp_path / "outputs/single")
    (single / ".hydra").mkdir()
    (single / ".hydra" / "config.yaml").touch()
    assert find_runs(single) == [single]
    assert [path.name for path in find_runs(tmp_path / "outputs/sweeps/lr")] == ["0", "2", "10"]
    assert len(find_runs(tmp_path / "outputs")) == 4


def test_find_runs_says_what_to_give_instead(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in [
        (tmp_path, "holds no run"),
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "file", "is a file"),
    ]:
        with pytest.raises(ValueError, match=f"{why}.*; give a run folder or a sweep folder"):
            find_runs(path)


def test_links_out_of_a_run_are_not_followed_and_odd_lines_are_counted(tmp_path):
    run, outside = tmp_path / "run", tmp_path / "secret.png"
    (run / "samples").mkdir(parents=True)
    outside.write_bytes(b"secret")
    (run / "samples" / "step-0000001.png").symlink_to(outside)
    (run / "scores.jsonl").symlink_to(outside)
    odd = ["[1]", "{", "[" * 100_000, '{"step": 1' + "0" * 5000 + "}", "7", '{"step": 3, "x": 1e400}']
    (run / "metrics.jsonl").write_text('{"step": 2, "x": 1}\n' + "\n".join(odd))
    bomb = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if not i else f'b{i - 1}'}, *a]\n" for i in range(9))
    (run / "config.yaml").write_text(bomb)
    found = read_run(run)
    assert found.samples == [] and found.evaluations == [] and found.config == {}
    assert (
        found.skipped[-1] == "4 lines of metrics.jsonl"
        and sum("a link out of the folder" in s for s in found.skipped) == 2
    )
    with pytest.raises(ValueError, match="is a link out of the run"):
        refuse_links(run)
