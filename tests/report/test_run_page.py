import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from run_fixtures import MakeRun, metric_row

from gancli.report.run_folder import read_run
from gancli.report.run_page import curve, resume_command, write_page

ATTACK = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"


def data_of(html: str) -> dict[str, Any]:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[0])


def test_a_page_stands_alone_and_tells_what_the_run_was(make_run: MakeRun) -> None:
    folder = make_run(ending={"event": "finished", "step": 200, "minutes": 5.0})
    path = write_page(folder)
    html = path.read_text()
    assert path == folder / "index.html"
    assert not list(folder.glob(".index*"))
    for text in ("dcgan on mnist", "finished", "gan train model=dcgan", "AMD EPYC", "1,234,567", "50,000", "5 minutes"):
        assert text in html
    assert f"gan sample ckpt={folder}" in html
    assert 'http-equiv="refresh"' not in html
    assert not re.findall(r'(?:src|href)="(?!data:|samples/)', html)
    assert [c["name"] for c in data_of(html)["charts"]] == ["losses", "D(real), D(fake)", "images a second"]


def test_everything_written_by_others_is_escaped(make_run: MakeRun) -> None:
    config = {
        "model": {"name": ATTACK},
        "data": {"name": ATTACK, ATTACK: [ATTACK]},
        ATTACK: {"deep": {"deeper": ATTACK}},
    }
    rows = [metric_row(50, **{f"G/{ATTACK}": 1.0, f"D({ATTACK})": 0.5, ATTACK: 2.0})]
    folder = make_run(
        rows=rows,
        config=config,
        overrides=(f"x={ATTACK}",),
        ending={"event": "failed", "step": ATTACK, "message": ATTACK},
    )
    html = write_page(folder).read_text()
    # Ours: the data and the script.
    assert html.count("<script") == html.count("</script>") == 2
    assert "<img src=x" not in html
    assert any(ATTACK in s["name"] for c in data_of(html)["charts"] for s in c["series"])


def test_events_from_strangers_do_not_break_it(make_run: MakeRun) -> None:
    odd = {"event": "started", "versions": ATTACK, "parameters": [1], "overrides": ATTACK, "images": None, "command": 3}
    write_page(make_run(ending=odd))
    write_page(make_run("other", ending={"event": "finished", "step": None, "minutes": "five"}))


def test_a_running_page_reloads_itself_and_tells_how_to_resume(make_run: MakeRun) -> None:
    folder = make_run()
    html = write_page(folder).read_text()
    assert 'http-equiv="refresh" content="15"' in html
    assert resume_command(read_run(folder)) == f"gan train model=dcgan data=mnist run.dir={folder}"


def test_commands_survive_a_shell_and_hydra(make_run: MakeRun) -> None:
    folder = make_run("a b=ü", overrides=("model=dcgan", "run.dir=elsewhere", "data.path='my pictures'"))
    words = shlex.split(resume_command(read_run(folder)))
    assert words == ["gan", "train", "model=dcgan", "data.path='my pictures'", f'run.dir="{folder}"']


def test_the_slider_has_every_grid_up_to_forty(make_run: MakeRun) -> None:
    few = write_page(make_run("few", steps=(0, 100, 200))).read_text()
    assert re.findall(r'data-step="(\d+)"', few) == ["0", "100", "200"]
    assert few.count('class="frame on"') == 1 and 'max="2" value="2"' in few
    many = write_page(make_run("many", steps=tuple(range(0, 10_000, 100)))).read_text()
    shown = re.findall(r'data-step="(\d+)"', many)
    assert (len(shown), shown[0], shown[-1]) == (40, "0", "9900")
    assert "40 of 100 grids" in many


def test_large_grids_are_made_small_and_broken_ones_left_out(make_run: MakeRun) -> None:
    folder = make_run(steps=(0,))
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "samples" / "step-0000100.png")
    (folder / "samples" / "step-0000200.png").write_bytes(b"not a picture")
    html = write_page(folder).read_text()
    assert 'width="640" height="853"' in html
    assert re.findall(r'data-step="(\d+)"', html) == ["0", "100"]
    assert len(html) < 1_500_000


def test_an_empty_folder_and_a_run_that_failed_early(make_run: MakeRun, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    html = write_page(empty).read_text()
    assert "No grid of samples" in html and "No numbers" in html
    failed = make_run("failed", rows=[], steps=(), ending={"event": "failed", "step": 0, "message": "no such data set"})
    html = write_page(failed).read_text()
    assert "no such data set" in html and data_of(html)["charts"] == []


def test_gaps_and_lone_points(make_run: MakeRun) -> None:
    values = [1.0, None, float("nan"), float("inf"), 2.0]
    rows = [metric_row(50 * i, **{"G/adversarial": v, "fid": float("nan")}) for i, v in enumerate(values)]
    html = write_page(make_run(rows=rows)).read_text()
    losses, _, fid, _ = data_of(html)["charts"]
    assert losses["series"][1]["y"] == [1.0, None, None, None, 2.0]
    assert "G/adversarial: 3 of 5 not finite" in html
    assert fid["series"][0]["window"] is None
    one = data_of(write_page(make_run("one", rows=[metric_row(50)])).read_text())
    assert one["charts"][0]["series"][0]["y"] == [1.1]


def test_d_that_gives_logits_is_not_drawn_on_zero_to_one(make_run: MakeRun) -> None:
    charts = data_of(write_page(make_run(rows=[metric_row(50, **{"D(real)": 3.5})])).read_text())["charts"]
    assert [c["unit"] for c in charts] == [False, False, False]
    charts = data_of(write_page(make_run("other")).read_text())["charts"]
    assert [c["unit"] for c in charts] == [False, True, False]


def test_a_curve_keeps_its_extremes_and_a_spike_does_not_flatten_it() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    values[5_000] = 1e6
    drawn = curve("G/adversarial", np.arange(10_000.0), values)
    assert max(drawn["high"]) == 1e6 and max(drawn["y"]) < 1
    assert drawn["beyond"] and drawn["window"][1] < 10


def test_the_page_of_a_hundred_thousand_rows_is_small(make_run: MakeRun) -> None:
    noise = np.random.default_rng(0).normal(size=100_000).tolist()
    folder = make_run(rows=[metric_row(i, **{"G/adversarial": v}) for i, v in enumerate(noise)])
    path = write_page(folder)
    assert path.stat().st_size < 500_000


def told(kind: str, step: Any, finding: Any, message: Any) -> str:
    return json.dumps({"event": kind, "step": step, "finding": finding, "message": message}) + "\n"


def test_what_goes_wrong_is_told_and_stands_on_top_until_it_is_over(make_run: MakeRun) -> None:
    tail = told("warning", 1500, "d_won", "D has won: type model/penalty=r1")
    over = (
        tail + told("recovered", 2500, "d_won", "D no longer wins") + told("rollback", 2600, "", "back to step 2,000")
    )
    again = over + told("warning", 2750, "g_alike", "samples are alike")
    for name, lines, notes in (
        ("ill", tail, ["D has won: type model/penalty=r1 since step 1,500"]),
        ("well", over, []),
        ("again", again, ["samples are alike since step 2,750"]),
        (
            "stopped",
            again + told("stopped", 2800, "", "by Ctrl-C"),
            ["by Ctrl-C", "samples are alike since step 2,750"],
        ),
    ):
        html = write_page(make_run(name, tail=lines)).read_text()
        shown = re.findall(r'<p class="note \w+">(.*?)</p>', html)
        assert [re.sub(r"<.*?>", "", note) for note in shown] == notes
        assert re.findall(r'<li class="(\w+)">', html) == [json.loads(line)["event"] for line in lines.splitlines()]


def test_findings_from_strangers_do_not_break_it(make_run: MakeRun) -> None:
    tail = told("warning", ATTACK, ATTACK, ATTACK) + told("warning", None, [1], None) + told("recovered", [], {}, 3)
    html = write_page(make_run(tail=tail)).read_text()
    assert html.count("<script") == html.count("</script>") == 2 and "<img src=x" not in html
    assert html.count('<p class="note warning">') == 2


def test_gradient_norms_share_a_chart_and_are_no_result(make_run: MakeRun) -> None:
    norms = {"gradient_norm(D)": 3.0, "gradient_norm(G)": 0.5}
    html = write_page(make_run(rows=[metric_row(50, **norms), {"step": 50, "diversity": 0.93}])).read_text()
    charts = {c["name"]: [s["name"] for s in c["series"]] for c in data_of(html)["charts"]}
    assert charts["gradient norms"] == list(norms) and charts["diversity"] == ["diversity"]
    header = html[html.index("<header>") : html.index("</header>")]
    assert "diversity" in header and "gradient_norm" not in header


def test_a_metric_in_a_row_of_its_own_hides_nothing(make_run: MakeRun) -> None:
    html = write_page(make_run(rows=[metric_row(1000), {"step": 1000, "fid": 12.5}])).read_text()
    header = html[html.index("<header>") : html.index("</header>")]
    assert re.findall(r"<dd>(.*?)</dd>", header) == ["1,000", "128", "1 min", "1,500", "12.5"]
