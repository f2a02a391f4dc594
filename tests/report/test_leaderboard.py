import csv
import re
from pathlib import Path

import pytest
from PIL import Image
from run_fixtures import MakeRun, evaluated, metric_row, protocol

from gancli.commands import report
from gancli.report.leaderboard import NOTE, Table, higher_is_better, ranked, write_leaderboard
from gancli.report.run_folder import read_run
from gancli.report.run_page import write_page

FINISHED = {"event": "finished", "step": 200, "minutes": 0.2}
FAILED = {"event": "failed", "step": 50, "message": "D/adversarial became NaN <b>|</b>; lower model.lr"}
ATTACK = "</script><script>alert('x')</script><img src=x onerror=alert(1)>|\x1b[2J\n# "


def job(make_run: MakeRun, name: str, fid: float | None, ending: dict | None = FINISHED, **settings: object) -> Path:
    rows = [metric_row(step, **({} if fid is None else {"fid": fid})) for step in (100, 200)]
    data = {"name": settings.get("data", "mnist"), "size": 28}
    model = {"name": settings.get("model", "dcgan")}
    config = {"seed": settings.get("seed", 0), "model": model, "data": data, "lr": 2e-4}
    overrides = tuple(f"{key}={value}" for key, value in settings.items())
    return make_run(f"sweep/{name}", rows=rows, ending=ending, overrides=overrides, config=config)


def tables(folders: list[Path], sort_by: str = "auto", ascending: bool | None = None) -> list[Table]:
    return ranked([read_run(folder) for folder in folders], sort_by, ascending)


def jobs(table: Table) -> list[str]:
    return [row.run.name for row in table.rows]


def csv_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep(make_run: MakeRun) -> list[Path]:
    return [
        job(make_run, "0", 30.0, model="dcgan", seed=0),
        job(make_run, "1", 10.0, model="mlp", seed=0),
        job(make_run, "2", 1.0, model="mlp", seed=1, ending=FAILED),
        job(make_run, "3", None, model="mlp", seed=2),
        job(make_run, "10", 20.0, model="dcgan", seed=1, ending=None),
        job(make_run, "11", 34.0, model="dcgan", seed=2),
    ]


@pytest.fixture
def scored(make_run: MakeRun) -> list[Path]:
    """Seven models of three seeds, by two protocols; the last run failed before it began, another was measured once."""
    runs = []
    for i in range(20):
        folder = job(make_run, str(i), 1.0, model=f"m{i // 3}", seed=i % 3)
        figures = {f"{name}_mnist": i + 0.25 for name in ("fd", "kd", "score", "precision", "recall", "density")}
        evaluated(folder, figures | {"coverage_mnist": None if i < 3 else 0.5})
        runs.append(evaluated(folder, {"fd_mnist": 100.0 - i}, protocol(made=1000)) if i else folder)
    return [*runs, make_run("sweep/20", rows=[], steps=(), ending=FAILED, overrides=("model=m6", "seed=2"), config={})]


# ---- single runs


def test_order(sweep: list[Path]) -> None:
    (table,) = tables(sweep, "fid")
    assert [(row.run.name, row.rank) for row in table.rows] == [
        ("1", 1),
        ("10", 2),
        ("0", 3),
        ("11", 4),
        ("3", None),
        ("2", None),
    ]
    (table,) = tables(sweep, "fid", False)
    assert jobs(table) == ["11", "0", "10", "1", "3", "2"]
    assert table.rows[0].differs == {"model": "dcgan", "seed": "2"}


def test_files(sweep: list[Path], tmp_path: Path) -> None:
    for folder in sweep[:3]:
        write_page(folder)
    out = tmp_path / "sweep"
    text = write_leaderboard(sweep, out, "fid")
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[0] == "mnist" and NOTE in text
    assert "2: D/adversarial became NaN" in text and text.count("became NaN") == 1

    table = csv_of(out / "leaderboard.csv")
    assert [line["job"] for line in table] == ["1", "10", "0", "11", "3", "2"]
    assert table[0]["fid"] == "10" and table[0]["parameters G"] == "1234567" and table[4]["fid"] == ""
    assert table[-1]["error"] == FAILED["message"] and table[-1]["status"] == "failed"
    assert table[0]["protocol"] == "mnist · size 28 · measured while training" and table[4]["protocol"] == ""

    markdown = (out / "leaderboard.md").read_text().partition("### Runs")[2]
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert len(lines) == 8 and len(set(cells)) == 1

    html = (out / "leaderboard.html").read_text()
    assert "<b>|</b>" not in html and "&lt;b&gt;" in html
    assert html.count('href="1/index.html"') == 2  # table and picture
    assert html.count('href="2/index.html"') == 3  # and its error
    assert "3/index.html" not in html  # it has no page
    assert html.count("data:image/") == len(sweep)
    assert not re.findall(r'src="(?!data:)', html)

    with Image.open(out / "contact.png") as sheet:
        assert sheet.width > 600
    assert not list(out.glob(".*"))


def test_runs_that_all_failed_early_still_have_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name, rows=[], steps=(), ending=FAILED) for name in ("a", "b")]
    text = write_leaderboard(runs, tmp_path)
    assert text.count("D/adversarial became NaN") == 2
    assert not (tmp_path / "contact.png").exists()
    assert len(csv_of(tmp_path / "leaderboard.csv")) == 2
    assert write_leaderboard(runs, tmp_path, "fid")


def test_without_overrides_configs_tell_runs_apart(make_run: MakeRun) -> None:
    runs = [make_run(str(lr), overrides=(), config={"model": {"name": "dcgan", "lr": lr}}) for lr in (1e-3, 2e-3)]
    (table,) = tables(runs, "G/adversarial")
    assert [row.differs for row in table.rows] == [{"model.lr": "0.001"}, {"model.lr": "0.002"}]


def test_one_value_in_two_spellings_is_no_difference(make_run: MakeRun) -> None:
    runs = [make_run(text, overrides=(f"model.lr={text}",)) for text in ("2e-4", "0.0002")]
    (table,) = tables(runs, "G/adversarial")
    assert table.rows[0].differs == {}


def test_long_names_and_odd_ones(make_run: MakeRun, tmp_path: Path) -> None:
    name = "a <b> & # %" + "long" * 30
    folder = make_run(name, ending=FINISHED)
    write_page(folder)
    text = write_leaderboard([folder], tmp_path, "images_per_second")
    assert max(map(len, text.splitlines())) <= 100
    html = (tmp_path / "leaderboard.html").read_text()
    assert "a <b>" not in html and "a%20%3Cb%3E%20%26%20%23%20%25" in html


# ---- protocols


def test_two_protocols_never_share_a_table(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), 1.0, model=f"m{i}") for i in range(3)]
    evaluated(runs[0], {"fd_mnist": 3.0})
    evaluated(runs[1], {"fd_mnist": 1.0}, protocol(made=1000))
    evaluated(runs[2], {"fd_mnist": 2.0}, protocol(made=1000))
    few, many = tables(runs)  # most runs first
    assert (few.heading, jobs(few)) == ("mnist · split test · made 1,000 · real 10,000", ["1", "2"])
    assert (many.heading, jobs(many)) == ("mnist · split test · made 10,000 · real 10,000", ["0"])
    assert [row.rank for row in (*few.rows, *many.rows)] == [1, 2, 1]


def test_other_versions_and_weights_are_no_other_protocol(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), 1.0, model=f"m{i}") for i in range(2)]
    evaluated(runs[0], {"fd_mnist": 3.0}, protocol(weights="a.safetensors", versions={"torch": "2.15.0"}))
    evaluated(
        runs[1], {"fd_mnist": 1.0}, protocol(weights="b.safetensors", versions={"torch": "3.0.0"}, untold={"is": "few"})
    )
    (table,) = tables(runs)
    assert jobs(table) == ["1", "0"] and "weights" not in table.details and "versions" not in table.details


def test_the_last_line_of_a_protocol_counts_and_half_a_line_none(make_run: MakeRun) -> None:
    folder = job(make_run, "0", None)
    for value in (9.0, 4.0):
        evaluated(folder, {"fd_mnist": value, "kd_mnist": None})
    with (folder / "scores.jsonl").open("a") as file:
        file.write('{"step": 300, "figures": {"fd_mnist": 1.0}, "protocol": {"da')
    (table,) = tables([folder])
    assert table.rows[0].score.figures == {"fd_mnist": 4.0, "kd_mnist": None}


def test_what_gan_evaluate_measured_comes_first_then_trainings_then_games(make_run: MakeRun) -> None:
    event = {"event": "protocol", "step": 0, "figures": ["fd_mnist"], "protocol": protocol(made=2000)}
    rows = [event, metric_row(200, fd_mnist=3.0, sliced_wasserstein=0.1)]
    runs = [make_run(str(i), rows=rows, ending=FINISHED) for i in range(2)]
    runs += [make_run(str(i), rows=[metric_row(200, sliced_wasserstein=0.2)], ending=FINISHED) for i in range(2, 6)]
    evaluated(runs[0], {"fd_mnist": 4.0})
    found = tables(runs)
    assert [table.heading for table in found] == [
        "mnist · split test · made 10,000 · real 10,000",
        "mnist · split test · made 2,000 · real 10,000",
        "mnist",
    ]
    assert [len(table.rows) for table in found] == [1, 2, 6]


def test_a_game_s_own_figures_are_shown_where_a_finished_run_has_no_others(make_run: MakeRun) -> None:
    runs = [job(make_run, "0", 1.0, model="a"), job(make_run, "1", 2.0, model="b", ending=None)]
    assert [table.figures for table in tables(runs)] == [["fid"]]
    evaluated(runs[0], {"fd_mnist": 1.0})
    (table,) = tables(runs)
    # The one that has not finished is not lost.
    assert (table.figures, jobs(table), table.rows[1].rank) == (["fd_mnist"], ["0", "1"], None)
    runs.append(job(make_run, "2", 3.0, model="c"))
    assert [table.figures for table in tables(runs)] == [["fd_mnist"], ["fid"]]


def test_a_game_s_own_figures_compare_on_the_same_data_alone(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), float(i), data=name) for i, name in enumerate(["mnist", "digits", "digits"])]
    digits, mnist = tables(runs)
    assert (digits.heading, jobs(digits)) == ("digits", ["1", "2"])
    assert (mnist.heading, jobs(mnist)) == ("mnist", ["0"])
    config = {
        "data": {"name": "mnist"},
        "model": {"name": "inpainting", "task": {"_target_": "gancli.transforms.tasks.Inpaint"}},
    }
    runs = [make_run(name, rows=[metric_row(9, psnr=20.0)], config=config) for name in ("a", "b")]
    config["model"] = {"name": "pix2pix", "task": {"_target_": "gancli.transforms.tasks.Colorize"}}
    runs.append(make_run("c", rows=[metric_row(9, psnr=30.0)], config=config))
    assert [jobs(table) for table in tables(runs)] == [["a", "b"], ["c"]]


def test_losses_and_speeds_are_ranked_only_when_typed(make_run: MakeRun) -> None:
    rows = [metric_row(200, sliced_wasserstein=0.1, diversity=0.9)]
    runs = [make_run("a", rows=rows), make_run("b", rows=[rows[0] | {"images_per_second": 1800.0}])]
    (table,) = tables(runs)
    assert table.figures == ["sliced_wasserstein", "diversity"]
    (table,) = tables(runs, "images_per_second")
    assert (table.figures, jobs(table)) == (["images_per_second"], ["b", "a"])
    (table,) = tables(runs, "images_per_second", True)
    assert jobs(table) == ["a", "b"]
    assert tables(runs, "G/adversarial")[0].rows[0].value == 0.9


def test_a_figure_that_is_typed_shows_the_tables_that_have_it(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), 1.0, model=f"m{i}") for i in range(2)]
    for i, folder in enumerate(runs):
        evaluated(folder, {"fd_mnist": 1.0 + i, "recall_mnist": 0.1 + i})
    evaluated(runs[0], {"fd_mnist": 5.0}, protocol(made=1000))
    assert [table.sort_by for table in tables(runs)] == ["fd_mnist", "fd_mnist"]
    (table,) = tables(runs, "recall_mnist")
    assert (table.figures, jobs(table)) == (["recall_mnist", "fd_mnist"], ["1", "0"])
    assert [jobs(table) for table in tables(runs, "fd_mnist")] == [["0", "1"], ["0"]]
    assert [table.figures for table in tables(runs, "fid")] == [["fid"]]


def test_an_unknown_metric_is_answered_with_the_nearest(sweep: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run here has the metric 'fidd'; sort by 'fid' or another of: "):
        write_leaderboard(sweep, tmp_path, "fidd")
    evaluated(sweep[0], {"fd_mnist": 1.0})
    with pytest.raises(ValueError, match="sort by 'fd_mnist' or another of: fd_mnist, fid, "):
        write_leaderboard(sweep, tmp_path, "fd_mnits")


def test_which_way_a_figure_is_better() -> None:
    higher = "is score_mnist precision_mnist recall_cifar density_mnist coverage_mnist accuracy_mnist class_accuracy"
    higher += " class_coverage diversity psnr hole_psnr reconstruction_psnr ssim elbo importance_weighted"
    lower = (
        "fid fd_mnist kd_mnist class_fd_mnist sliced_wasserstein cycle_error squared_error elbo_bits isolation minutes"
    )
    assert all(map(higher_is_better, higher.split())) and not any(map(higher_is_better, lower.split()))


def test_one_run_without_the_first_figure_does_not_change_which_is_first(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), None, model=f"m{i}") for i in range(2)]
    evaluated(runs[0], {"kd_mnist": 0.1})
    evaluated(runs[1], {"fd_mnist": 3.0, "kd_mnist": 0.2})
    (table,) = tables(runs)
    assert (table.figures, jobs(table), table.rows[1].rank) == (["fd_mnist", "kd_mnist"], ["1", "0"], None)


def test_a_figure_that_nobody_has_is_no_column(make_run: MakeRun) -> None:
    names = ["fd_mnist", "kd_mnist"]  # of too few images the first is not told, and the training has the second for it
    event = {"event": "protocol", "step": 0, "figures": names, "protocol": protocol()}
    (table,) = tables([make_run(rows=[event, metric_row(100, kd_mnist=0.1)], ending=FINISHED)])
    assert (table.figures, table.rows[0].rank) == (["kd_mnist"], 1)


def test_what_a_score_cost_is_what_had_been_spent_by_then(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [metric_row(step) for step in (100, 200, 300)]
    folder = evaluated(make_run(rows=rows, ending=FINISHED | {"step": 300}), {"fd_mnist": 1.0}, step=200)
    write_leaderboard([folder], tmp_path)
    (line,) = csv_of(tmp_path / "leaderboard.csv")
    assert (line["step"], line["minutes"], line["kimg"]) == ("200", "0.2", "25.6")


# ---- seeds


def test_seeds(sweep: list[Path], tmp_path: Path) -> None:
    (table,) = tables(sweep, "fid")
    mlp, dcgan = table.settings
    # Neither the running one (10) nor the failed one (2) counts, nor one that has no value (3).
    assert (mlp.rank, mlp.differs, mlp.values("fid"), mlp.seeds) == (1, {"model": "mlp"}, [10.0], 3)
    assert (dcgan.rank, dcgan.differs, dcgan.values("fid"), dcgan.seeds) == (2, {"model": "dcgan"}, [30.0, 34.0], 3)
    text = write_leaderboard(sweep, tmp_path, "fid")
    for written in (text, *((tmp_path / f"leaderboard.{form}").read_text() for form in ("md", "html"))):
        assert "32.0 ± 2.8" in written and "2 of 3" in written and "1 of 3" in written and "10 ±" not in written
    assert re.search(r"^ +1  mlp +1 of 3 +10 .*\n +2  dcgan +2 of 3  32.0 ± 2.8 ", text, re.M)


def test_a_setting_is_ranked_by_its_mean_and_not_by_its_best_seed(make_run: MakeRun) -> None:
    runs = []
    for model, values in (("lucky", (1.0, 2.0, 9.0)), ("steady", (3.0, 3.5, 4.0))):
        for seed, value in enumerate(values):
            folder = job(make_run, f"{model}{seed}", None, model=model, seed=seed)
            runs.append(evaluated(folder, {"fd_mnist": value, "precision_mnist": value / 10}))
    (table,) = tables(runs)
    assert jobs(table)[0] == "lucky0"
    assert [line.differs["model"] for line in table.settings] == ["steady", "lucky"]
    steady, lucky = table.settings
    assert lucky.mean("fd_mnist") == 4.0 and steady.mean("fd_mnist") == 3.5
    assert steady.mean("precision_mnist") == pytest.approx(0.35)


def test_mean_and_deviation_are_those_of_a_computation_by_hand(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, value in enumerate((1.0, 2.0, 6.0)):  # mean 3, squares 4 + 1 + 9 = 14, by n - 1 7, root 2.6458
        folder = job(make_run, str(seed), None, seed=seed)
        evaluated(folder, {"fd_mnist": value, "kd_mnist": value if seed else None, "is": 5.0})
    text = write_leaderboard(sorted((tmp_path / "sweep").iterdir()), tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("   1 "))
    assert re.split("  +", line.strip())[:5] == ["1", "3", "3.0 ± 2.6", "4.0 ± 2.8 (n = 2)", "5 ± 0"]


def test_a_seed_that_failed_before_it_began_is_counted(scored: list[Path]) -> None:
    first, _ = tables(scored)
    assert [(len(line.rows), line.seeds) for line in first.settings] == [*[(3, 3)] * 6, (2, 3)]
    # So is one that nobody has measured in this way.
    assert [(len(line.rows), line.seeds) for line in tables(scored)[1].settings][-1] == (2, 3)


def test_a_setting_none_of_whose_seeds_finished_comes_last(make_run: MakeRun) -> None:
    runs = [job(make_run, f"a{i}", 1.0, FAILED, model="a", seed=i) for i in range(2)]
    runs += [job(make_run, f"b{i}", 2.0, model="b", seed=i) for i in range(2)]
    (table,) = tables(runs)
    assert [(line.rank, line.differs["model"], len(line.rows)) for line in table.settings] == [
        (1, "b", 2),
        (None, "a", 0),
    ]


def test_one_seed_run_twice_is_one_seed(make_run: MakeRun) -> None:
    runs = [job(make_run, str(i), float(i), seed=seed) for i, seed in enumerate((0, 1, 1))]
    (table,) = tables(runs)
    (line,) = table.settings
    assert line.values("fid") == [0.0, 2.0] and line.seeds == 2


def test_no_seeds_no_table_of_them(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [job(make_run, name, 1.0, model=model, seed=name) for name, model in [("0", "dcgan"), ("1", "mlp")]]
    assert tables(runs)[0].settings == []
    text = write_leaderboard(runs, tmp_path)
    assert "±" not in text and "Runs" not in text and "seeds" not in (tmp_path / "leaderboard.md").read_text()


# ---- forms


def test_a_csv_for_each_protocol_and_none_left_of_before(scored: list[Path], tmp_path: Path) -> None:
    for name in ("leaderboard-2.csv", "leaderboard-17.csv", "leaderboard-notes.csv"):
        (tmp_path / name).write_text("old")
    write_leaderboard(scored, tmp_path)
    first, second = csv_of(tmp_path / "leaderboard.csv"), csv_of(tmp_path / "leaderboard-2.csv")
    assert (len(first), len(second)) == (21, 19)
    assert [line["fd_mnist"] for line in first[:2]] == ["0.25", "1.25"] and second[0]["fd_mnist"] == "81"
    assert first[0]["coverage_mnist"] == "" and first[5]["coverage_mnist"] == "0.5"
    # Who failed before it began has no protocol.
    assert len({line["protocol"] for line in first}) == 2 and first[-1]["protocol"] == ""
    assert {line["protocol"] for line in second} == {
        "mnist · split test · made 1,000 · real 10,000 · averaged · seed 0 · features mnist 1a2b3c, 64 features"
    }
    assert not (tmp_path / "leaderboard-17.csv").exists() and (tmp_path / "leaderboard-notes.csv").exists()
    write_leaderboard(scored, tmp_path, "recall_mnist")
    assert not (tmp_path / "leaderboard-2.csv").exists()


def test_a_terminal_gets_what_matters_most(scored: list[Path], tmp_path: Path) -> None:
    text = write_leaderboard(scored, tmp_path)
    assert max(map(len, text.splitlines())) <= 100
    heads = [line.split() for line in text.splitlines() if line.startswith("rank")]
    assert len(heads) == 4 and all(line[:2] in (["rank", "model"], ["rank", "job"]) for line in heads)
    assert all("fd_mnist" in line and "time" in line for line in heads) and "coverage_mnist" not in heads[0]
    assert "parameters D" in (tmp_path / "leaderboard.md").read_text()
    assert text.count("20: D/adversarial became NaN") == 1


def test_every_table_of_the_page_sorts(scored: list[Path], tmp_path: Path) -> None:
    write_leaderboard(scored, tmp_path)
    html = (tmp_path / "leaderboard.html").read_text()
    assert html.count('<table class="board">') == html.count("<table") == 4
    assert 'document.querySelectorAll("table.board")' in html and 'id="board"' not in html
    # A mean sorts by its value and not by its text.
    assert re.search(r'data-value="1.25">1.2 ± 1.0<', html)
    assert html.count("<button>") == html.count("<th ")
    assert html.count("data:image/") == len(scored) - 1, "each run's picture once, whatever number of tables it is in"


def test_curves_are_of_what_the_training_measured(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [metric_row(step, fd_mnist=3.0) for step in (100, 200)]
    folder = evaluated(make_run(rows=rows), {"fd_mnist": 4.0})
    write_leaderboard([folder], tmp_path)
    assert "Curves" not in (tmp_path / "leaderboard.html").read_text()
    (folder / "scores.jsonl").unlink()
    write_leaderboard([folder], tmp_path)
    assert "Curves" in (tmp_path / "leaderboard.html").read_text()


def test_what_others_wrote_into_a_protocol_is_text(make_run: MakeRun, tmp_path: Path) -> None:
    folder = job(make_run, "0", None)
    evaluated(folder, {f"fd{ATTACK}": 1.0}, {"data": ATTACK, ATTACK: {ATTACK: [ATTACK]}, "surrogate": "\ud800"})
    text = write_leaderboard([folder], tmp_path)
    assert "\x1b" not in text
    html = (tmp_path / "leaderboard.html").read_text()
    assert html.count("<script") == html.count("</script>") == 3  # the data, the page's and the tables'
    assert "<img src=x" not in html and "&lt;img src=x" in html
    markdown = (tmp_path / "leaderboard.md").read_text()
    assert "<img" not in markdown and "\n# " not in markdown.removeprefix("# Leaderboard")
    assert [line["rank"] for line in csv_of(tmp_path / "leaderboard.csv")] == ["1"]


def test_the_command_takes_a_direction(scored: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(tmp_path / "sweep")], sort="fd_mnist", ascending="false", out=str(tmp_path / "out"))
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "leaderboard.html")
    assert csv_of(tmp_path / "out" / "leaderboard.csv")[0]["fd_mnist"] == "19.25"
    with pytest.raises(ValueError, match="ascending=down is neither auto, true nor false; type ascending=true"):
        report.main([str(tmp_path / "sweep")], ascending="down")
