"""The pages in a real browser: what the scripts draw, and that they fetch nothing and raise no error."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from run_fixtures import FAILED, FINISHED, metric_row, write_board, write_job, write_run

from gancli.report.run_page import write_page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: type pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: type apt-get install chromium"),
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a file at a width in pixels. The test fails on errors, requests and pages wider than the window."""
    faults: list[str] = []
    contexts = []

    def open_file(path: Path, width: int = 1280, anchor: str = "") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if "index" not in request.url else None)
        page.goto(f"{path.as_uri()}{anchor}")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not fault.startswith("data:")] == []


def legend(page: Any) -> list[str]:
    return page.locator(".key output").all_inner_texts()


@pytest.mark.parametrize("width", [1280, 390])
def test_curves_follow_the_pointer_and_their_keys(tmp_path: Path, open_page: Open, width: int) -> None:
    rows = [metric_row(step, **{"G/adversarial": step / 100}) for step in (100, 200, 300, 400)]
    rows[2]["D/adversarial"] = None  # a gap leaves a line of two points and a single point
    page = open_page(write_page(write_run(tmp_path / "run", rows=rows)), width)
    losses = page.locator(".chart").first
    assert page.locator(".chart svg").count() == 3
    assert losses.locator("path.line").count() == 2 and losses.locator("circle.dot").count() == 7
    # The script writes numbers as the template does.
    assert legend(page) == ["1.1", "4", "0.62", "0.35", "1,500"]
    losses.scroll_into_view_if_needed()
    box = losses.locator(".plot").bounding_box()
    page.mouse.move(box["x"] + 46 + (box["width"] - 60) / 2, box["y"] + 80)  # the middle of 0 to 400
    assert losses.locator(".at").inner_text() == "step 200"
    assert legend(page) == ["1.1", "2", "0.62", "0.35", "1,500"] and page.locator("line.cursor").count() == 3
    page.mouse.move(0, 0)
    assert legend(page)[1] == "4" and page.locator("line.cursor").count() == 0
    losses.locator(".key").first.click()
    assert losses.locator("path.line").count() == 1
    losses.locator(".key").last.click()
    assert "nothing chosen" in losses.inner_text()


def test_axes_and_smoothing_are_chosen_and_remembered(tmp_path: Path, open_page: Open) -> None:
    rows = [metric_row(step, **{"minutes": step / 50, "D/penalty": 0.0}) for step in range(10, 510, 10)]
    path = write_page(write_run(tmp_path / "run", rows=rows, ending=FINISHED))
    page = open_page(path)
    losses, outputs = page.locator(".chart").first, page.locator(".chart").nth(1)
    assert losses.locator(".title").all_text_contents() == ["loss", "step"]
    assert losses.locator(".at").inner_text() == "last: step 500" and page.locator("path.raw").count() == 0
    for choice in ("minutes", "log", "light"):
        page.locator(f'input[value="{choice}"] + span').click()
    assert outputs.locator(".title").all_text_contents() == ["probability, log", "minutes of training"]
    assert "values of 0 or below: linear" in losses.locator(".title").first.text_content()
    assert outputs.locator(".at").inner_text() == "last: step 500, 10 min"
    assert outputs.locator("path.raw").count() == outputs.locator("path.line").count() == 2
    assert page.locator(".smoothed").is_visible()
    page.reload()
    assert page.locator("input:checked").evaluate_all("all => all.map(one => one.value)") == ["minutes", "log", "light"]
    assert outputs.locator("path.raw").count() == 2


def test_arrow_keys_read_a_chart_that_has_the_focus(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_page(write_run(tmp_path / "run")))
    losses = page.locator(".chart").first
    losses.locator(".plot").focus()
    texts = {"Home": "step 50", "ArrowRight": "step 100", "End": "step 200", "Escape": "last: step 200"}
    for key, text in texts.items():
        page.keyboard.press(key)
        assert losses.locator(".at").inner_text() == text
    assert page.locator(".frame.on").get_attribute("data-step") == "200"


def test_a_small_change_does_not_fill_a_chart(tmp_path: Path, open_page: Open) -> None:
    rows = [metric_row(step, fid=10 + step / 1000, psnr=28.0) for step in (100, 200)]
    page = open_page(write_page(write_run(tmp_path / "run", rows=rows)))
    fid = page.locator(".chart", has_text="fid")
    bottom, top = (dot.bounding_box()["y"] for dot in fid.locator("circle").all())
    assert 0 < bottom - top < 10


def test_long_curves_have_a_band_and_metrics_without_a_value_say_so(tmp_path: Path, open_page: Open) -> None:
    rows = [metric_row(step, fid=float("nan")) for step in range(0, 1000)]
    page = open_page(write_page(write_run(tmp_path / "run", rows=rows)))
    assert page.locator(".chart").first.locator("path.band").count() == 2
    assert page.get_by_text("no finite value").count() == 1


def test_keys_clicks_the_slider_and_play_choose_a_grid(tmp_path: Path, open_page: Open) -> None:
    path = write_page(write_run(tmp_path / "run", ending=FINISHED))
    page = open_page(path)

    def shown() -> str:
        return page.locator(".frame.on").get_attribute("data-step")

    assert shown() == "200" and page.locator("line.mark").count() == 3
    page.keyboard.press("ArrowLeft")
    assert shown() == "100" and page.locator("#step").inner_text() == "step 100"
    assert page.url.endswith("#step=100")
    page.locator(".plot").first.scroll_into_view_if_needed()
    box = page.locator(".plot").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 20, box["y"] + 80)  # the end of the curves
    assert shown() == "200"
    page.locator("#slider").fill("0")
    assert shown() == "0"
    page.locator("#play").click()
    page.locator('.frame.on[data-step="200"]').wait_for()
    page.locator('#play[aria-label="Play"]').wait_for()
    page = open_page(path, anchor="#step=100")
    assert shown() == "100"


def test_a_page_without_curves_and_grids_and_one_that_has_gone_quiet(tmp_path: Path, open_page: Open) -> None:
    failed: dict[str, Any] = {"rows": [], "steps": (), "ending": FAILED}
    page = open_page(write_page(write_run(tmp_path / "failed", **failed)))
    assert page.get_by_text("No grid of samples").count() == 1
    path = write_page(write_run(tmp_path / "running"))
    assert not open_page(path).locator("#stale").is_visible()
    html = path.read_text()
    written = json.loads(html.partition('id="data">')[2].partition("</script>")[0])["written"]
    path.write_text(html.replace(f'"written":{written}', f'"written":{written - 3600}'))
    assert "No news for 60 minutes" in open_page(path).locator("#stale").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_on_a_header_sorts_the_leaderboard(tmp_path: Path, open_page: Open, width: int) -> None:
    values = {"a2": 9.0, "a10": 100.0, "b": None, "c": 20.0}
    runs = [write_job(tmp_path / name, fid, model=name) for name, fid in values.items()]
    write_board(runs, tmp_path, "fid")
    (tmp_path / "leaderboard.html").rename(tmp_path / "index.html")
    page = open_page(tmp_path / "index.html", width)

    def sorted_by(name: str) -> list[str]:
        page.locator(".board th", has_text=name).first.locator("button").click()
        return page.locator(".board tbody tr td:nth-child(2)").all_inner_texts()

    assert sorted_by("fid") == ["a2", "c", "a10", "b"]  # by value, missing ones last
    assert page.locator("th[aria-sort=ascending]").inner_text() == "fid"
    assert sorted_by("fid") == ["a10", "c", "a2", "b"]
    assert sorted_by("job") == ["a2", "a10", "b", "c"]
    assert page.locator("path.line").count() == 3
