import json
from pathlib import Path

import numpy as np
import pytest
from run_fixtures import MakeRun, evaluated, metric_row, protocol

from gancli.report.run_folder import Score, find_runs, read_run

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


def test_the_latest_up_to_a_step(make_run: MakeRun) -> None:
    run = read_run(make_run(rows=[metric_row(100, fid=2.0), metric_row(200, fid=1.0)]))
    assert (run.latest("fid"), run.latest("fid", 199), run.latest("fid", 99)) == (1.0, 2.0, None)


def test_of_what_gan_evaluate_wrote_the_last_line_of_a_protocol_counts(make_run: MakeRun) -> None:
    folder = evaluated(make_run(), {"fd_mnist": 9.0, "kd_mnist": 0.2}, step=100)
    evaluated(folder, {"fd_mnist": 5.0}, protocol(made=1000), step=100)
    evaluated(folder, {"fd_mnist": 4.0, "kd_mnist": None, "by class": {"0": 1}, "ok": True}, protocol(weights="y.pt"))
    with (folder / "scores.jsonl").open("a") as file:
        file.write('{"step": 300, "figures": {"fd_mnist": 1.0}, "proto')  # killed while writing
    first, second = read_run(folder).scores
    assert (first.figures, first.step, first.by) == ({"fd_mnist": 4.0, "kd_mnist": None}, 200, "evaluate")
    assert (second.figures, second.step) == ({"fd_mnist": 5.0}, 100)


def test_scores_that_say_nothing_are_no_scores(make_run: MakeRun) -> None:
    folder = evaluated(make_run(), {"fd_mnist": None, "kd_mnist": float("nan")})
    evaluated(folder, {"fd_mnist": 1.0}, "a text")
    evaluated(folder, [1], {})
    (folder / "scores.jsonl").open("a").write('{"step": 1}\n[2]\n')
    assert read_run(folder).scores == []


def test_what_changes_no_number_is_no_other_protocol() -> None:
    def key(**values: object) -> str:
        return Score(protocol(**values), {}, None, "evaluate").key

    assert key() == key(versions={"torch": "3"}, weights="y.pt", step=9, command="x", time="y", untold={"fd": "few"})
    others = [
        {"made": 1000},
        {"split": "train"},
        {"features": "cifar"},
        {"averaged": False},
        {"seed": 1},
        {"real": None},
    ]
    assert len({key(), *(key(**other) for other in others)}) == 1 + len(others)


def test_a_training_s_own_evaluations_have_the_protocol_it_told_last(make_run: MakeRun) -> None:
    def told(*figures: str, **values: object) -> dict:
        return {"event": "protocol", "step": 0, "figures": list(figures), "protocol": protocol(**values)}

    rows = [
        told("fd_mnist", "is", made=5),
        metric_row(100, fd_mnist=3.0, diversity=0.8) | {"is": 7.0},
        told("fd_mnist", made=2000),
        {"step": 200, "fd_mnist": 3.5},
        metric_row(300, fd_mnist=float("nan"), diversity=0.9),
    ]
    own, objective = read_run(make_run(rows=rows)).scores
    # The weights at the end, though those of step 100 were better.
    assert (own.figures, own.step, own.by, own.protocol["made"]) == ({"fd_mnist": 3.5}, 200, "training", 2000)
    # `is` was measured in a way that nothing tells any more.
    assert (objective.figures, objective.step, objective.by) == ({"diversity": 0.9}, 300, "objective")


def test_of_one_protocol_gan_evaluate_has_the_last_word(make_run: MakeRun) -> None:
    event = {"event": "protocol", "step": 0, "figures": ["fd_mnist"], "protocol": protocol(weights="of the training")}
    folder = make_run(rows=[event, metric_row(100, fd_mnist=3.0)])
    (score,) = read_run(evaluated(folder, {"fd_mnist": 4.0})).scores
    assert (score.figures, score.by) == ({"fd_mnist": 4.0}, "evaluate")


def test_what_a_game_measures_is_of_its_data_and_no_loss(make_run: MakeRun) -> None:
    data = {"name": "folder", "path": "cats", "size": 32, "channels": 3, "batch_size": 8, "root": "/data", "flip": True}
    measured = {
        "diversity": 0.9,
        "sliced_wasserstein": 0.1,
        "augment_p": 0.3,
        "evaluate_seconds": 2.0,
        "gradient_norm(G)": 1.0,
    }
    run = read_run(make_run(rows=[metric_row(100, **measured)], config={"model": {"name": "dcgan"}, "data": data}))
    (score,) = run.scores
    assert score.figures == {"sliced_wasserstein": 0.1, "diversity": 0.9}
    assert next(iter(score.figures)) == "sliced_wasserstein"
    assert score.protocol == {
        "data": "folder",
        "path": "cats",
        "size": 32,
        "channels": 3,
        "measured": "while training",
    }


def test_a_bound_is_of_a_likelihood_and_samples_are_not(make_run: MakeRun) -> None:
    found = []
    for name in ("Bernoulli", "Gaussian"):
        model = {"name": "vae", "likelihood": {"_target_": f"gancli.networks.likelihood.{name}"}, "classes": 0}
        rows = [metric_row(100, sliced_wasserstein=0.1, elbo=-90.0)]
        run = read_run(make_run(name, rows=rows, config={"model": model, "data": {"name": "mnist", "size": 28}}))
        found.append(run.scores)
    (bernoulli, bernoulli_bound), (gaussian, gaussian_bound) = found
    assert bernoulli.key == gaussian.key and bernoulli_bound.key != gaussian_bound.key
    assert bernoulli_bound.figures == {"elbo": -90.0}
    assert "likelihood Bernoulli · classes none" in bernoulli_bound.told[1]


def test_a_protocol_is_told_in_a_line() -> None:
    how = protocol(averaged=False, real=None, task={"_target_": "a.Inpaint", "mask": "mixed"}, between=[0, 1], empty="")
    heading, details = Score(how | {"odd\n\x1b[2J": "\u2028x\ud800"}, {}, None, "objective").told
    assert heading == "mnist · split test · made 10,000"
    assert details == (
        "not averaged · seed 0 · features mnist 1a2b3c, 64 features · task Inpaint, mask mixed · between 0, 1 · "
        "odd [2J x"
    )
    assert Score({}, {}, None, "objective").told == ("", "")


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
