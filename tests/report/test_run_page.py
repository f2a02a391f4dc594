import json
import re
import shlex
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_fixtures import CONFIG, FINISHED, add_score, metric_row, protocol, write_run

from gancli.report.charts import curve
from gancli.report.run_page import write_page

ATTACK = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"


def html_of(folder: Path, **values: Any) -> str:
    return write_page(write_run(folder, **values)).read_text()


def charts_of(html: str) -> list[dict[str, Any]]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)["charts"]


def facts_of(html: str) -> list[str]:
    return re.findall(r"<dd>(.*?)</dd>", html[html.index("<header>") : html.index("</header>")])


def test_a_page_is_one_file_and_reloads_itself_while_the_run_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    running = html_of(tmp_path / "running")
    assert 'http-equiv="refresh" content="15"' in running
    assert "gan train resume=running" in running
    html = html_of(tmp_path / "run", ending=FINISHED | {"minutes": 5.0})
    assert not list((tmp_path / "run").glob(".*"))
    for text in ("dcgan on mnist", "finished", "gan train model=dcgan", "AMD EPYC", "1,234,567", "50,000", "5 minutes"):
        assert text in html
    assert "gan sample ckpt=run" in html
    assert 'http-equiv="refresh"' not in html and "default-src 'none'" in html
    assert not re.findall(r'(?:src|href)="(?!data:|samples/)', html)
    assert [c["name"] for c in charts_of(html)] == ["Losses", "Outputs of D", "Images per second"]


def test_scores_are_shown_with_their_protocol(tmp_path: Path) -> None:
    folder = add_score(
        write_run(tmp_path / "run"), {"fd_mnist": 4.25, "kd_mnist": None, ATTACK: 1}, protocol(task=ATTACK)
    )
    html = write_page(folder).read_text()
    assert re.search(r"<h3>mnist · split test · generated 10,000 · real 10,000 <span.*>step 200</span></h3>", html)
    assert "features mnist 1a2b3c" in html and "<dt>fd_mnist</dt><dd>4.25</dd>" in html and "kd_mnist" not in html
    assert "<img src=x" not in html


def test_values_from_others_are_escaped(tmp_path: Path) -> None:
    event = {"step": ATTACK, "finding": ATTACK, "message": ATTACK}
    tail = "".join(json.dumps({"event": name, **event}) + "\n" for name in ("warning", ATTACK, "failed"))
    html = html_of(
        tmp_path / "<u>",
        rows=[metric_row(50, **{f"G/{ATTACK}": 1.0, f"D({ATTACK})": 0.5, ATTACK: 2.0})],
        config={"model": {"name": ATTACK}, "data": {"name": ATTACK, ATTACK: [ATTACK]}, ATTACK: {"a": {"b": ATTACK}}},
        overrides=(f"x={ATTACK}",),
        tail=tail,
    )
    assert html.count("<script") == html.count("</script>") == 3  # data, charts and samples
    assert "<img src=x" not in html and "<u>" not in html
    assert any(ATTACK in s["name"] for c in charts_of(html) for s in c["series"])


@pytest.mark.parametrize(
    "event",
    [
        {"event": "started", "versions": ATTACK, "parameters": [1], "overrides": ATTACK, "images": None, "command": 3},
        {"event": "finished", "step": None, "minutes": "five"},
        {"event": "warning", "step": None, "finding": [1], "message": None},
        {"event": "recovered", "step": [], "finding": {}, "message": "\ud800"},
    ],
)
def test_events_of_other_types_do_not_fail(tmp_path: Path, event: dict) -> None:
    html_of(tmp_path / "run", ending=event)


def test_the_slider_has_every_grid_up_to_forty(tmp_path: Path) -> None:
    few = html_of(tmp_path / "few", steps=(0, 100, 200))
    assert re.findall(r'data-step="(\d+)"', few) == ["0", "100", "200"]
    assert few.count('class="frame on"') == 1 and 'max="2" value="2"' in few
    many = html_of(tmp_path / "many", steps=tuple(range(0, 10_000, 100)))
    shown = re.findall(r'data-step="(\d+)"', many)
    assert (len(shown), shown[0], shown[-1]) == (40, "0", "9900")
    assert "40 of 100 grids" in many


def test_large_grids_are_reduced_and_unreadable_ones_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=(0,))
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "samples" / "step-0000100.png")
    (folder / "samples" / "step-0000200.png").write_bytes(b"not an image")
    html = write_page(folder).read_text()
    assert 'width="680" height="907"' in html
    assert re.findall(r'data-step="(\d+)"', html) == ["0", "100"]
    assert len(html) < 1_500_000


def test_an_empty_folder_and_a_run_that_failed_early(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    html = write_page(tmp_path / "empty").read_text()
    assert "No grid of samples" in html and "No numbers" in html
    assert '<dl class="facts">' not in html and 'class="plot"' not in html
    html = html_of(tmp_path / "failed", rows=[], steps=(), ending={"event": "failed", "message": "no such data set"})
    assert "no such data set" in html and charts_of(html) == []
    html = html_of(tmp_path / "new", rows=[], steps=())
    assert "Curves appear here" in html and "samples appears here" in html and 'class="view"' not in html


def test_gaps_and_single_points(tmp_path: Path) -> None:
    values = [1.0, None, float("nan"), float("inf"), 2.0]
    rows = [metric_row(50 + 50 * i, **{"G/adversarial": v, "fid": float("nan")}) for i, v in enumerate(values)]
    html = html_of(tmp_path / "run", rows=rows)
    losses, _, fid, _ = charts_of(html)
    assert losses["series"][1]["y"] == [1.0, None, None, None, 2.0]
    assert "G/adversarial: 3 of 5 not finite" in html
    assert fid["series"][0]["window"] is None
    assert charts_of(html_of(tmp_path / "one", rows=[metric_row(50)]))[0]["series"][0]["y"] == [1.1]


@pytest.mark.parametrize(("value", "unit"), [(0.6, True), (3.5, False)])
def test_probabilities_of_d_have_a_scale_of_zero_to_one_and_logits_have_not(
    tmp_path: Path, value: float, unit: bool
) -> None:
    charts = charts_of(html_of(tmp_path / "run", rows=[metric_row(50, **{"D(real)": value})]))
    assert [c["unit"] for c in charts] == [False, unit, False]


def test_a_long_curve_has_few_points_keeps_its_extremes_and_is_not_flattened_by_a_spike() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    values[5_000] = 1e6
    series = curve("G/adversarial", np.arange(10_000.0), values)
    assert len(series["x"]) == len(series["y"]) == 240
    assert max(series["high"]) == 1e6 and max(series["y"]) < 1
    assert series["spikes"] and series["window"][1] < 10


def test_metrics_are_facts_and_gradient_norms_are_not(tmp_path: Path) -> None:
    norms = {"gradient_norm(D)": 3.0, "gradient_norm(G)": 0.5}
    html = html_of(tmp_path / "run", rows=[metric_row(1000, **norms), {"step": 1000, "fid": 12.5}])
    charts = {c["name"]: [s["name"] for s in c["series"]] for c in charts_of(html)}
    assert charts["Gradient norms"] == list(norms) and charts["fid"] == ["fid"]
    # The last row need not hold everything.
    assert facts_of(html) == ["1,000", "128", "1 min", "1,500", "12.5"]


def event(name: str, step: int, finding: str, message: str) -> str:
    return json.dumps({"event": name, "step": step, "finding": finding, "message": message}) + "\n"


ACTIVE = event("warning", 1500, "d_won", "D is winning: type model/penalty=r1")
OVER = (
    ACTIVE + event("recovered", 2500, "d_won", "D is not winning") + event("rollback", 2600, "", "back to step 2,000")
)
AGAIN = OVER + event("warning", 2750, "g_alike", "samples are alike")


@pytest.mark.parametrize(
    ("lines", "notes"),
    [
        (ACTIVE, ["D is winning: type model/penalty=r1 since step 1,500"]),
        (OVER, []),
        (AGAIN, ["samples are alike since step 2,750"]),
        (AGAIN + event("stopped", 2800, "", "by Ctrl-C"), ["by Ctrl-C", "samples are alike since step 2,750"]),
    ],
)
def test_a_warning_is_at_the_top_until_it_is_over(tmp_path: Path, lines: str, notes: list[str]) -> None:
    html = html_of(tmp_path / "run", tail=lines)
    shown = re.findall(r'<p class="note \w+">(.*?)</p>', html)
    assert [re.sub(r"<.*?>", "", note) for note in shown] == notes
    assert re.findall(r'<li class="(\w+)">', html) == [json.loads(line)["event"] for line in lines.splitlines()]


def test_real_images_are_next_to_the_samples_and_columns_have_names(tmp_path: Path) -> None:
    layout = {"event": "grids", "columns": 3, "parts": ["generated"], "class_names": ["cat", "dog", ATTACK]}
    folder = write_run(tmp_path / "run", tail=json.dumps(layout) + "\n")
    assert "<h2>Real" not in write_page(folder).read_text()
    Image.new("L", (66, 66), 90).save(folder / "samples" / "real.png")
    html = write_page(folder).read_text()
    assert "<h2>Real" in html and 'href="samples/real.png"' in html
    assert html.count('<span title="dog">dog</span>') == 2 and "each column a class" in html
    assert "grids" not in re.findall(r'<li class="(\w+)">', html)
    parts = {"event": "grids", "parts": ["real", "reconstructed", "generated"], "class_names": []}
    assert "from the left: real · reconstructed · generated" in html_of(tmp_path / "ae", tail=json.dumps(parts) + "\n")


def test_next_commands_train_on_sample_evaluate_export_and_animate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIG | {"trainer": {"steps": 200, "minutes": 2.5, "kimg": None}}
    folder = Path("it's a 100% été")
    html = unescape(html_of(folder, config=config, ending=FINISHED))
    typed = [shlex.split(text) for text in re.findall(r'<code class="command">(.*?)</code>', html)]
    assert [words[1] for words in typed[:5]] == ["train", "sample", "evaluate", "export", "export"]
    assert typed[0][2:] == [f"resume={folder}", "trainer.steps=400", "trainer.minutes=5"]
    assert typed[1] == ["gan", "sample", f"ckpt={folder}"]
    assert [words[3] for words in typed[3:5]] == ["out=play.html", "out=generator.safetensors"]
    assert typed[5] == ["gan", "report", str(folder), "gif=true"] and typed[6] == ["gan", "report", "."]


def test_every_curve_says_its_meaning_and_untrained_values_are_no_curve(tmp_path: Path) -> None:
    rows = [metric_row(1, **{"G/adversarial": 900.0}), metric_row(50), metric_row(100)]
    html = html_of(tmp_path / "run", rows=rows)
    losses, outputs, speed = charts_of(html)
    assert losses["series"][1]["x"] == [50, 100] and losses["series"][1]["extent"] == [0.9, 0.9]
    assert all(series["meaning"] for chart in (losses, outputs) for series in chart["series"])
    assert "0.5: D cannot tell real from fake" in html and speed["meaning"]
