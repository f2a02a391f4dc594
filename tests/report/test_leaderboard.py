import csv
import re
import statistics
from pathlib import Path

import pytest
from fabricate import MakeRun, metric_row
from PIL import Image

from gancli.report.leaderboard import NOTE, over_seeds, rank, write_leaderboard
from gancli.report.page import write_page
from gancli.report.read import read_run

FINISHED = {"event": "finished", "step": 200, "minutes": 0.2}
FAILED = {"event": "failed", "step": 50, "message": "D/adversarial became NaN <b>|</b>; lower model.lr"}


def job(make_run: MakeRun, name: str, fid: float | None, ending: dict | None = FINISHED, **settings: object) -> Path:
    rows = [metric_row(step, **({} if fid is None else {"fid": fid})) for step in (100, 200)]
    config = {"seed": settings.get("seed", 0), "model": {"name": settings.get("model", "dcgan")}, "lr": 2e-4}
    overrides = tuple(f"{key}={value}" for key, value in settings.items())
    return make_run(f"sweep/{name}", rows=rows, ending=ending, overrides=overrides, config=config)


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


def test_order(sweep: list[Path]) -> None:
    rows = rank([read_run(folder) for folder in sweep], "fid", True)
    assert [(row.run.name, row.rank) for row in rows] == [
        ("1", 1),
        ("10", 2),
        ("0", 3),
        ("11", 4),
        ("3", None),
        ("2", None),
    ]
    rows = rank([read_run(folder) for folder in sweep], "fid", False)
    assert [row.run.name for row in rows] == ["11", "0", "10", "1", "3", "2"]
    assert rows[0].differs == {"model": "dcgan", "seed": "2"}


def test_files(sweep: list[Path], tmp_path: Path) -> None:
    for folder in sweep[:3]:
        write_page(folder)
    out = tmp_path / "sweep"
    text = write_leaderboard(sweep, out, "fid", True)
    assert max(map(len, text.splitlines())) <= 100
    assert "rank" in text.splitlines()[0] and NOTE in text
    assert "2: D/adversarial became NaN" in text

    with (out / "leaderboard.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["job"] for line in table] == ["1", "10", "0", "11", "3", "2"]
    assert table[0]["fid"] == "10" and table[0]["parameters G"] == "1234567" and table[4]["fid"] == ""
    assert table[-1]["error"] == FAILED["message"] and table[-1]["status"] == "failed"

    lines = [line for line in (out / "leaderboard.md").read_text().splitlines() if line.startswith("|")][:8]
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


def test_seeds(sweep: list[Path], tmp_path: Path) -> None:
    rows = rank([read_run(folder) for folder in sweep], "fid", True)
    (line,) = over_seeds(rows, True)
    # Neither the running one (10) nor the failed one (2) counts.
    assert (line.settings, line.n, line.mean) == ({"model": "dcgan"}, 2, 32.0)
    assert line.sd == pytest.approx(statistics.stdev([30, 34]))
    assert line.shown == "32.0 ± 2.8"
    text = write_leaderboard(sweep, tmp_path, "fid", True)
    assert "Over seeds" in text and "32.0 ± 2.8" in text
    assert "32.0 ± 2.8" in (tmp_path / "leaderboard.md").read_text()
    assert "32.0 ± 2.8" in (tmp_path / "leaderboard.html").read_text()


def test_no_seeds_no_table(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [job(make_run, name, 1.0, model=model) for name, model in [("0", "dcgan"), ("1", "mlp")]]
    assert "Over seeds" not in write_leaderboard(runs, tmp_path, "fid", True)


def test_an_unknown_metric_is_answered_with_the_nearest(sweep: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run here has the metric 'fidd'; sort by 'fid' or another of: "):
        write_leaderboard(sweep, tmp_path, "fidd", True)


def test_runs_that_all_failed_early_still_have_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(name, rows=[], steps=(), ending=FAILED) for name in ("a", "b")]
    text = write_leaderboard(runs, tmp_path, "fid", True)
    assert text.count("D/adversarial became NaN") == 2
    assert not (tmp_path / "contact.png").exists()


def test_without_overrides_configs_tell_runs_apart(make_run: MakeRun) -> None:
    runs = [make_run(str(lr), overrides=(), config={"model": {"name": "dcgan", "lr": lr}}) for lr in (1e-3, 2e-3)]
    rows = rank([read_run(folder) for folder in runs], "G/adversarial", True)
    assert [row.differs for row in rows] == [{"model.lr": "0.001"}, {"model.lr": "0.002"}]


def test_one_value_in_two_spellings_is_no_difference(make_run: MakeRun) -> None:
    runs = [make_run(text, overrides=(f"model.lr={text}",)) for text in ("2e-4", "0.0002")]
    assert rank([read_run(folder) for folder in runs], "G/adversarial", True)[0].differs == {}


def test_long_names_and_odd_ones(make_run: MakeRun, tmp_path: Path) -> None:
    name = "a <b> & # %" + "long" * 30
    folder = make_run(name, ending=FINISHED)
    write_page(folder)
    text = write_leaderboard([folder], tmp_path, "images_per_second", False)
    assert max(map(len, text.splitlines())) <= 100
    html = (tmp_path / "leaderboard.html").read_text()
    assert "a <b>" not in html and "a%20%3Cb%3E%20%26%20%23%20%25" in html
