import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run_fixtures import FAILED, FINISHED, add_score, metric_row, protocol, write_board, write_job, write_run

from gancli.commands import report
from gancli.report.columns import caption
from gancli.report.contact_sheet import contact_sheet
from gancli.report.leaderboard import BROKEN, NOTE, csv_names, terminal_text
from gancli.report.ranking import Table, each_run, rank_runs
from gancli.report.run_folder import read_run
from gancli.report.run_page import write_page


def tables(folders: list[Path], sort_by: str = "auto", ascending: bool | None = None) -> list[Table]:
    return rank_runs([read_run(folder) for folder in folders], sort_by, ascending)


def jobs(table: Table) -> list[str]:
    return [row.run.name for row in table.rows]


def csv_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_jobs(folder: Path, *models: str) -> list[Path]:
    return [write_job(folder / model, 1.0, model=model) for model in models]


def settings(folders: list[Path], sort_by: str = "G/adversarial") -> list[dict[str, str]]:
    return [row.settings for row in tables(folders, sort_by)[0].rows]


def seeds(table: Table) -> list[tuple[int | None, str, list[float], int]]:
    return [(row.rank, row.settings["model"], row.values(table.sort_by), row.seeds) for row in table.setting_rows]


@pytest.fixture
def sweep(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "sweep"
    return [
        write_job(folder / "0", 30.0, model="dcgan", seed=0),
        write_job(folder / "1", 10.0, model="mlp", seed=0),
        write_job(folder / "2", 1.0, FAILED, model="mlp", seed=1),
        write_job(folder / "3", None, model="mlp", seed=2),
        write_job(folder / "10", 20.0, None, model="dcgan", seed=1),
        write_job(folder / "11", 34.0, model="dcgan", seed=2),
    ]


@pytest.fixture
def scored(tmp_path: Path) -> list[Path]:
    """Seven models of three seeds, two protocols; the last run failed at once, and the first has one score only."""
    folder, runs = tmp_path / "sweep", []
    for i in range(20):
        run = write_job(folder / str(i), 1.0, model=f"m{i // 3}", seed=i % 3)
        metrics = {f"{name}_mnist": i + 0.25 for name in ("fd", "kd", "score", "precision", "recall", "density")}
        add_score(run, metrics | {"coverage_mnist": None if i < 3 else 0.5})
        runs.append(add_score(run, {"fd_mnist": 100.0 - i}, protocol(generated=1000)) if i else run)
    failed = {"rows": [], "steps": (), "ending": FAILED, "config": {}}
    return [*runs, write_run(folder / "20", overrides=("model=m6", "seed=2"), **failed)]


# --- runs


def test_failed_and_unmeasured_runs_have_no_rank(sweep: list[Path]) -> None:
    (table,) = tables(sweep, "fid")
    ranks = {"1": 1, "10": 2, "0": 3, "11": 4, "3": None, "2": None}
    assert {row.run.name: row.rank for row in table.rows} == ranks and jobs(table) == list(ranks)
    (table,) = tables(sweep, "fid", False)
    assert jobs(table) == ["11", "0", "10", "1", "3", "2"]
    assert table.rows[0].settings == {"model": "dcgan", "seed": "2"}
    add_score(sweep[0], {"kd_mnist": 0.1, "is": None})
    add_score(sweep[1], {"fd_mnist": 3.0, "kd_mnist": 0.2, "is": None})
    # One run without fd_mnist does not change which comes first, and a metric of no run is no column.
    (table,) = tables(sweep[:2])
    assert (table.metrics, jobs(table), table.rows[1].rank) == (["fd_mnist", "kd_mnist"], ["1", "0"], None)


def test_the_files_have_every_run_and_link_to_its_page(sweep: list[Path], tmp_path: Path) -> None:
    for folder in sweep[:3]:
        write_page(folder)
    out = tmp_path / "sweep"
    text = write_board(sweep, out, "fid")
    assert text.splitlines()[0] == "mnist" and NOTE in text
    assert "2: D/adversarial became NaN" in text and text.count("became NaN") == 1

    table = csv_of(out / "leaderboard.csv")
    assert [line["job"] for line in table] == ["1", "10", "0", "11", "3", "2"]
    assert table[0]["fid"] == "10" and table[0]["parameters G"] == "1234567" and table[4]["fid"] == ""
    assert table[-1]["error"] == FAILED["message"] and table[-1]["status"] == "failed"
    assert table[0]["protocol"] == "mnist · size 28 · measured while training" and table[4]["protocol"] == ""

    markdown = (out / "leaderboard.md").read_text().partition("### Runs")[2]
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(lines) == 8 and len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1

    html = (out / "leaderboard.html").read_text()
    assert "<b>|</b>" not in html and "&lt;b&gt;" in html
    assert html.count('href="1/index.html"') == 2  # table and image
    assert html.count('href="2/index.html"') == 3  # and its error
    assert "3/index.html" not in html  # it has no page
    assert html.count("data:image/") == len(sweep) and not re.findall(r'src="(?!data:)', html)
    with Image.open(out / "contact.png") as sheet:
        assert sheet.width > 600
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("sort_by", ["auto", "fid"])
def test_runs_that_all_failed_early_still_have_a_table(tmp_path: Path, sort_by: str) -> None:
    runs = [write_run(tmp_path / name, rows=[], steps=(), ending=FAILED) for name in ("a", "b")]
    text = write_board(runs, tmp_path, sort_by)
    assert "  a, b: D/adversarial became NaN" in text and text.count("became NaN") == 1
    assert len(csv_of(tmp_path / "leaderboard.csv")) == 2 and not (tmp_path / "contact.png").exists()


def test_typed_overrides_or_else_configs_distinguish_runs(tmp_path: Path) -> None:
    rates = (1e-3, 2e-3)
    untyped = [write_run(tmp_path / f"{r}", overrides=(), config={"model": {"name": "dcgan", "lr": r}}) for r in rates]
    assert settings(untyped) == [{"model.lr": "0.001"}, {"model.lr": "0.002"}]
    spellings = [write_run(tmp_path / text, overrides=(f"model.lr={text}",)) for text in ("2e-4", "0.0002")]
    assert settings(spellings) == [{}, {}]
    # A run that was resumed has what was typed at first.
    resumed = {"event": "resumed", "step": 100, "overrides": ["run.dir=x"]}
    jobs = write_jobs(tmp_path, "dcgan", "mlp")
    with (jobs[0] / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(resumed) + "\n")
    assert settings(jobs, "fid") == [{"model": "dcgan"}, {"model": "mlp"}]
    # One choice stands for the keys that follow from it.
    configs = [{"model": {"name": name, "lr": lr, "width": 64}} for name, lr in (("dcgan", 1e-3), ("mlp", 1e-4))]
    runs = [write_run(tmp_path / str(i), overrides=(), config=config) for i, config in enumerate(configs)]
    assert settings(runs) == [{"model": "dcgan"}, {"model": "mlp"}]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_tables_fit_the_terminal(scored: list[Path], width: int) -> None:
    ranked = tables(scored)
    text = terminal_text(ranked, width).partition(f"\n\n{BROKEN}\n")[0]
    assert max(map(len, text.splitlines())) <= max(width, 56)  # columns that always stay
    headers = [line.split() for line in text.splitlines() if line.startswith("rank")]
    assert len(headers) == 4 and all(line[:2] in (["rank", "model"], ["rank", "job"]) for line in headers)
    assert all("fd_mnist" in line and ("time" in line or width < 80) for line in headers)
    assert ("coverage_mnist" in headers[0]) == (width == 200)


@pytest.mark.parametrize("width", [60, 100])
def test_long_and_odd_names_are_cut_and_linked(tmp_path: Path, width: int) -> None:
    folder = write_run(tmp_path / ("a <b> & # %" + "long" * 30), ending=FINISHED)
    write_page(folder)
    text = terminal_text(tables([folder], "images_per_second"), width).partition("What to type next")[0]
    assert max(map(len, text.splitlines())) <= width
    write_board([folder], tmp_path, "images_per_second")
    html = (tmp_path / "leaderboard.html").read_text()
    assert "a <b>" not in html and "a%20%3Cb%3E%20%26%20%23%20%25" in html


def test_a_few_runs_begin_with_what_differs_between_them(tmp_path: Path) -> None:
    a = write_job(tmp_path / "a", 1.0, model="dcgan", **{"trainer.log_every": 5, "run.dir": "a"})
    b = write_job(tmp_path / "b", 2.0, model="mlp", seed=3, **{"trainer.log_every": 9, "run.dir": "b"})
    text = write_board([a, b], tmp_path)
    assert text.splitlines()[:5] == ["What differs", "", "       a      b", "model  dcgan  mlp", "seed   0      3"]
    assert "| model | dcgan | mlp |" in (tmp_path / "leaderboard.md").read_text()
    html = (tmp_path / "leaderboard.html").read_text()
    assert html.index("What differs") < html.index("measured while training")
    # Without repeated settings there is no table over seeds.
    assert tables([a, b])[0].setting_rows == [] and not any(word in text for word in ("±", "Runs", "seeds"))
    assert "Nothing that was typed differs" in write_board([a, write_job(tmp_path / "c", 1.0)], tmp_path / "d")


def test_it_says_what_to_type_next(sweep: list[Path], tmp_path: Path) -> None:
    names = [folder.rename(folder.with_name(f"it's {folder.name}")) for folder in sweep]
    text = write_board(names, tmp_path, "fid")
    commands = [line.strip() for line in text.partition("What to type next")[2].splitlines() if "    gan" in line]
    words = [shlex.split(command) for command in commands]
    assert words[0] == ["gan", "train", f"resume={tmp_path}/sweep/it's 1", "trainer.steps=400"]
    assert words[1][:2] == ["gan", "sample"] and words[-1] == ["gan", "train", f"resume={tmp_path}/sweep/it's 2"]
    assert "resume it's 2, which failed" in text
    assert "gan sample" in (tmp_path / "leaderboard.html").read_text() + (tmp_path / "leaderboard.md").read_text()


def test_tiles_of_a_contact_sheet_have_one_shape_and_say_the_setting(tmp_path: Path) -> None:
    runs = write_jobs(tmp_path, "a", "b", "c")
    Image.new("RGB", (132, 66)).save(runs[2] / "samples" / "step-0000200.png")
    ranked = each_run(tables(runs, "fid"))
    sheet = contact_sheet(ranked)
    assert sheet is not None and sheet.size == (2 * 252 + 12, 2 * (240 + 50) + 12)
    assert caption(ranked[0]) == ("a", "rank 1 · fid 1 · job a")
    write_board(runs, tmp_path)
    assert "--shape: 1.000" in (tmp_path / "leaderboard.html").read_text()


# --- protocols


def test_each_protocol_has_its_own_table_and_most_runs_come_first(tmp_path: Path) -> None:
    runs = write_jobs(tmp_path, "a", "b", "c")
    add_score(runs[0], {"fd_mnist": 3.0})
    add_score(runs[1], {"fd_mnist": 1.0}, protocol(generated=1000))
    add_score(runs[2], {"fd_mnist": 2.0}, protocol(generated=1000))
    few, many = tables(runs)
    assert (few.heading, jobs(few)) == ("mnist · split test · generated 1,000 · real 10,000", ["b", "c"])
    assert (many.heading, jobs(many)) == ("mnist · split test · generated 10,000 · real 10,000", ["a"])
    assert [row.rank for row in (*few.rows, *many.rows)] == [1, 2, 1]


def test_gan_evaluate_comes_first_then_trainings_then_quick_metrics(tmp_path: Path) -> None:
    event = {"event": "protocol", "step": 0, "metrics": ["fd_mnist"], "protocol": protocol(generated=2000)}
    evaluated = [event, metric_row(200, fd_mnist=3.0, sliced_wasserstein=0.1)]
    rows = [evaluated] * 2 + [[metric_row(200, sliced_wasserstein=0.2)]] * 4
    runs = [write_run(tmp_path / str(i), rows=rows[i], ending=FINISHED) for i in range(6)]
    add_score(runs[0], {"fd_mnist": 4.0})
    assert [(table.heading, len(table.rows)) for table in tables(runs)] == [
        ("mnist · split test · generated 10,000 · real 10,000", 1),
        ("mnist · split test · generated 2,000 · real 10,000", 2),
        ("mnist", 6),
    ]


def test_quick_metrics_are_shown_when_a_finished_run_has_nothing_else(tmp_path: Path) -> None:
    runs = [*write_jobs(tmp_path, "a"), write_job(tmp_path / "b", 2.0, None, model="b")]
    assert [table.metrics for table in tables(runs)] == [["fid"]]
    add_score(runs[0], {"fd_mnist": 1.0})
    (table,) = tables(runs)
    # The one that has not finished is in the table all the same.
    assert (table.metrics, jobs(table), table.rows[1].rank) == (["fd_mnist"], ["a", "b"], None)
    runs += write_jobs(tmp_path, "c")
    assert [table.metrics for table in tables(runs)] == [["fd_mnist"], ["fid"]]


def test_quick_metrics_compare_for_the_same_data_and_task_only(tmp_path: Path) -> None:
    runs = []
    for i, (data, task) in enumerate([("mnist", "Inpaint"), *[("mnist10k", "Inpaint")] * 2, ("mnist10k", "Colorize")]):
        config = {"model": {"name": f"m{i}", "task": {"_target_": f"tasks.{task}"}}, "data": {"name": data}}
        runs.append(write_run(tmp_path / str(i), rows=[metric_row(9, psnr=20.0)], config=config))
    groups = [(table.heading, jobs(table)) for table in tables(runs)]
    assert groups == [("mnist10k", ["1", "2"]), ("mnist", ["0"]), ("mnist10k", ["3"])]


def test_a_typed_metric_is_ranked_and_losses_and_speeds_only_then(tmp_path: Path) -> None:
    row = metric_row(200, sliced_wasserstein=0.1, diversity=0.9)
    runs = [write_run(tmp_path / name, rows=[row | {"images_per_second": v}]) for name, v in [("a", 1500), ("b", 1800)]]
    assert tables(runs)[0].metrics == ["sliced_wasserstein", "diversity"]
    (table,) = tables(runs, "images_per_second")
    assert (table.metrics, jobs(table)) == (["images_per_second"], ["b", "a"])
    assert jobs(tables(runs, "images_per_second", True)[0]) == ["a", "b"]
    assert tables(runs, "G/adversarial")[0].rows[0].value == 0.9
    # Of scores, the tables that have it are shown.
    runs = write_jobs(tmp_path / "scored", "a", "b")
    for i, folder in enumerate(runs):
        add_score(folder, {"fd_mnist": 1.0 + i, "recall_mnist": 0.1 + i})
    add_score(runs[0], {"fd_mnist": 5.0}, protocol(generated=1000))
    assert [table.sort_by for table in tables(runs)] == ["fd_mnist", "fd_mnist"]
    (table,) = tables(runs, "recall_mnist")
    assert (table.metrics, jobs(table)) == (["recall_mnist", "fd_mnist"], ["b", "a"])
    assert [jobs(table) for table in tables(runs, "fd_mnist")] == [["a", "b"], ["a"]]
    assert [table.metrics for table in tables(runs, "fid")] == [["fid"]]
    with pytest.raises(ValueError, match=r"sort=fd_mnits is not one of auto, fd_mnist, .*; did you mean fd_mnist"):
        tables(runs, "fd_mnits")


def test_costs_are_those_up_to_the_measured_step(tmp_path: Path) -> None:
    rows = [metric_row(step) for step in (100, 200, 300)]
    folder = write_run(tmp_path / "run", rows=rows, ending=FINISHED | {"step": 300})
    write_board([add_score(folder, {"fd_mnist": 1.0}, step=200)], tmp_path)
    (line,) = csv_of(tmp_path / "leaderboard.csv")
    assert (line["step"], line["minutes"], line["kimg"]) == ("200", "0.2", "25.6")


# --- seeds


def test_seeds_that_did_not_finish_or_have_no_value_are_left_out(sweep: list[Path], tmp_path: Path) -> None:
    (table,) = tables(sweep, "fid")
    # Of mlp the others failed or have no value, of dcgan the other is still running.
    assert seeds(table) == [(1, "mlp", [10.0], 3), (2, "dcgan", [30.0, 34.0], 3)]
    text = write_board(sweep, tmp_path, "fid")
    for written in (text, *((tmp_path / f"leaderboard.{form}").read_text() for form in ("md", "html"))):
        assert "32.0 ± 2.8" in written and "2 of 3" in written and "1 of 3" in written and "10 ±" not in written
    assert re.search(r"^ +1  mlp +1 of 3 +10 .*\n +2  dcgan +2 of 3  32.0 ± 2.8 ", text, re.M)


def test_a_setting_is_ranked_by_its_mean_and_not_by_its_best_seed(tmp_path: Path) -> None:
    values = {"lucky": (1.0, 2.0, 9.0), "reliable": (3.0, 3.5, 4.0)}
    pairs = [(model, seed) for model in values for seed in range(3)]
    runs = [write_job(tmp_path / f"{m}{seed}", values[m][seed], model=m, seed=seed) for m, seed in pairs]
    (table,) = tables(runs)
    assert jobs(table)[0] == "lucky0" and [row.mean("fid") for row in table.setting_rows] == [3.5, 4.0]
    # One without a finished seed is last, and a repeated seed counts once.
    ends = [("a", 0, FAILED), ("a", 1, FAILED), ("b", 0, FINISHED), ("b", 1, FINISHED), ("b", 1, FINISHED)]
    runs = [write_job(tmp_path / str(i), float(i), end, model=m, seed=s) for i, (m, s, end) in enumerate(ends)]
    (table,) = tables(runs)
    assert seeds(table) == [(1, "b", [2.0, 4.0], 2), (None, "a", [], 2)]


def test_mean_and_deviation_equal_a_computation_by_hand(tmp_path: Path) -> None:
    for seed, value in enumerate((1.0, 2.0, 6.0)):  # mean 3, squares 4 + 1 + 9 = 14, by n - 1 7, root 2.6458
        folder = write_job(tmp_path / "sweep" / str(seed), None, seed=seed)
        add_score(folder, {"fd_mnist": value, "kd_mnist": value if seed else None, "is": 5.0})
    text = write_board(sorted((tmp_path / "sweep").iterdir()), tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("   1 "))
    assert re.split("  +", line.strip())[:5] == ["1", "3", "3.0 ± 2.6", "4.0 ± 2.8 (n = 2)", "5 ± 0"]


# --- files


def test_each_protocol_has_a_csv_and_old_ones_are_removed(scored: list[Path], tmp_path: Path) -> None:
    for name in ("leaderboard-2.csv", "leaderboard-17.csv", "leaderboard-notes.csv"):
        (tmp_path / name).write_text("old")
    write_board(scored, tmp_path)
    for table in tables(scored):  # a seed that failed at once or was not measured counts
        assert table.setting_rows[-1].seeds == 3 and len(table.setting_rows[-1].rows) == 2
    second_file = tmp_path / "leaderboard-mnist-fd_mnist-n1000.csv"
    first, second = csv_of(tmp_path / "leaderboard.csv"), csv_of(second_file)
    assert (len(first), len(second)) == (21, 19)
    assert [line["fd_mnist"] for line in first[:2]] == ["0.25", "1.25"] and second[0]["fd_mnist"] == "81"
    assert first[0]["coverage_mnist"] == "" and first[5]["coverage_mnist"] == "0.5"
    # A run that failed at once has no protocol.
    assert len({line["protocol"] for line in first}) == 2 and first[-1]["protocol"] == ""
    assert {line["protocol"] for line in second} == {
        "mnist · split test · generated 1,000 · real 10,000 · averaged · seed 0 · features mnist 1a2b3c, 64 features"
    }
    assert {path.name for path in tmp_path.glob("leaderboard-*")} == {second_file.name, "leaderboard-notes.csv"}
    assert "parameters D" in (tmp_path / "leaderboard.md").read_text()
    assert f'href="{second_file.name}"' in (tmp_path / "leaderboard.html").read_text()
    write_board(scored, tmp_path, "recall_mnist")
    assert not second_file.exists()


def test_names_of_protocols_are_unique_and_safe_on_any_file_system(tmp_path: Path) -> None:
    runs = write_jobs(tmp_path, *"abcdefg")
    add_score(runs[0], {"fd_mnist": 1.0}, protocol(data="../x: y"))
    for i, split in ((1, "s1"), (2, "s2"), (3, "s1"), (3, "s2")):
        add_score(runs[i], {"fd_mnist": 1.0}, protocol(split=split))
    add_score(runs[4], {"fd_mnist": 1.0}, protocol(data="MNIST"))
    first, *others = csv_names(tables(runs))
    assert first == "leaderboard.csv" and len({name.lower() for name in others}) == len(others) == 4
    assert "leaderboard-_x_y-fd_mnist-n10000.csv" in others
    assert all(re.fullmatch(r"leaderboard-[\w-]+\.csv", name, re.ASCII) for name in others)


def charts(runs: list[Path], out: Path, sort_by: str = "auto") -> list[dict[str, Any]]:
    write_board(runs, out, sort_by)
    html = (out / "leaderboard.html").read_text()
    return json.loads(html.partition('id="data">')[2].partition("</script>")[0])["charts"]


def test_curves_are_of_metrics_that_the_training_logged(tmp_path: Path) -> None:
    rows = [metric_row(step, sliced_wasserstein=3.0, **({"fd_mnist": 2.0} if step > 100 else {})) for step in (99, 200)]
    event = {"event": "protocol", "step": 0, "metrics": ["fd_mnist"], "protocol": protocol()}
    folder = write_run(tmp_path / "run", rows=[event, *rows])
    assert charts([folder], tmp_path) == []  # a single evaluation
    assert [chart["name"] for chart in charts([folder], tmp_path, "sliced_wasserstein")] == ["sliced_wasserstein"]
    # The numbers of gan evaluate have no curve, those of the grids are next to them.
    add_score(folder, {"fd_mnist": 4.0})
    assert [chart["name"] for chart in charts([folder], tmp_path)] == ["sliced_wasserstein"]


def test_a_setting_is_a_median_in_the_band_of_its_seeds(tmp_path: Path) -> None:
    runs = []
    for seed, values in enumerate([(5, 4, 3), (6, 5, 4, 9), (9, 8)]):
        rows = [metric_row(100 * i, fid=float(value)) for i, value in enumerate(values, 1)]
        config = {"seed": seed, "model": {"name": "mlp"}, "data": {"name": "mnist"}}
        runs.append(write_run(tmp_path / f"s{seed}", rows, ("model=mlp", f"seed={seed}"), config, FINISHED))
    ((series,),) = [chart["series"] for chart in charts(runs, tmp_path)]
    assert (series["name"], series["x"]) == ("1. all seeds", [100, 200, 300]), "400 is of one seed alone"
    assert (series["low"], series["y"], series["high"]) == ([5, 4, 3], [6, 5, 3.5], [9, 8, 4])
    assert series["window"] == [3, 9]


def test_the_command(scored: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.main([str(tmp_path / "sweep")], sort="fd_mnist", ascending="false", out=str(tmp_path / "out"))
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "leaderboard.html")
    assert csv_of(tmp_path / "out" / "leaderboard.csv")[0]["fd_mnist"] == "19.25"
    with pytest.raises(ValueError, match="ascending=down is not one of auto, true, false"):
        report.main([str(tmp_path / "sweep")], ascending="down")
