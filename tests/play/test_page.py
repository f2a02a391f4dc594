"""Play pages: what is refused, what a stranger's names can do, and how they behave in a browser."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from play_pages import lively, needs_node, picture, run_page, write_page
from torch import nn

import gancli
from gancli.images import to_array
from gancli.inference.latents import encode
from gancli.play import page as play
from gancli.play.weights import pack

HOSTILE = ["</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "<!--", "a\u2028b & ${c}"]
OUTPUT = {"size": 8, "channels": 3, "class_names": []}


class Squares(nn.Module):
    """A generator of one layer and `call`."""

    z_dim, classes = 4, 0

    def __init__(self, call: Callable[[torch.Tensor], torch.Tensor], width: int = 192):
        super().__init__()
        self.layer, self.call = nn.Linear(4, width), call

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.call(self.layer(z)).unflatten(1, (3, 8, 8))


def test_a_model_with_another_operation_says_which_and_writes_nothing() -> None:
    with pytest.raises(ValueError, match=r"Squares calls erfinv, .*type out=generator.onnx instead"):
        play.build(Squares(torch.erfinv), OUTPUT, "x", "")


def test_points_and_huge_models_are_refused_in_a_sentence(gan, checkpoints) -> None:
    code, _, error = gan("export", f"ckpt={checkpoints['points']}", "out=play.html")
    assert code == 1 and "points of the plane" in error and not Path("play.html").exists()
    with torch.device("meta"):
        large = nn.Linear(10_000, 10_000)
    with pytest.raises(ValueError, match=r"100 million weights, .*about 267 MB; type force=true"):
        play.check_size(large, 16, force=False)
    play.check_size(large, 16, force=True)


@needs_node
def test_eight_bits_halve_the_page_and_its_text_says_what_they_change() -> None:
    torch.manual_seed(0)
    pages = [play.build(Squares(torch.tanh), OUTPUT, "x", "", bits) for bits in (16, 8)]
    assert 0 < pages[0].difference < 0.2 < pages[1].difference < 10
    assert f"8 bits, which changes a pixel by at most {pages[1].difference:.1f} of 255 levels" in pages[1].html
    x = {"w": torch.randn(6, 40), "b": torch.randn(6), "zero": torch.zeros(2, 2)}
    (_, half, _), (entries, byte, stored) = pack(x, 16), pack(x, 8)
    assert len(byte) < 0.7 * len(half) and [entry["type"] for entry in entries] == ["i1", "f4", "i1"]
    assert torch.equal(stored["b"], x["b"]) and torch.allclose(stored["w"], x["w"], atol=0.02)


def test_names_and_the_policy_of_a_page(tmp_path: Path) -> None:
    html = write_page(lively(tmp_path, "cgan_mlp", names=HOSTILE), tmp_path / "page.html").read_text()
    assert html.count("<script") == 4 and "alert(1)</script>" not in html and "<img" not in html
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data["classNames"] == HOSTILE and str(tmp_path) not in html
    policy = html.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy and "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http://" not in html and html.count("https://") == 0


# --- in Chromium --------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
Open = Callable[..., Any]
in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: type apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: type pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Open a page. The test fails on errors, on requests, and where it is wider than the window."""
    faults: list[str] = []
    contexts = []

    def open_file(path: Path, script: str = "", width: int = 1280) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, offline=True))
        page = contexts[-1].new_page()
        page.add_init_script(script)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.locator("body[data-ready]").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert [fault for fault in faults if not fault.startswith(("data:", "blob:"))] == []


def shown(page: Any, selector: str) -> np.ndarray:
    """Return the pixels of a canvas, uint8 (H, W, 3)."""
    script = """canvas => ({width: canvas.width, pixels: [...canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data]})"""
    found = page.locator(selector).first.evaluate(script)
    return np.array(found["pixels"], np.uint8).reshape(-1, found["width"], 4)[..., :3]


def wait_for(page: Any, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("what was waited for did not happen in ten seconds")


def differ(a: np.ndarray, b: np.ndarray) -> int:
    return int(abs(a.astype(int) - b.astype(int)).max())


def mark(function: Any) -> Any:
    for each in in_browser:
        function = each(function)
    return function


@mark
@pytest.mark.parametrize("missing", ["", "delete window.Worker", "delete window.WebAssembly; delete window.Worker"])
def test_a_page_of_classes_in_a_browser(missing: str, tmp_path: Path, open_page: Open) -> None:
    ckpt = lively(tmp_path, "cgan", names=HOSTILE)
    page, G = open_page(write_page(ckpt, tmp_path / "page.html"), missing), gancli.load(ckpt)
    expected = to_array(G.sample(24))
    wait_for(page, lambda: differ(shown(page, "#grid button:last-child canvas"), expected[23]) <= 1)
    assert differ(shown(page, "#image"), expected[0]) <= 1
    note = page.locator("#note")
    assert note.is_visible() == bool(missing)
    if missing:
        said = "takes longer" if "WebAssembly" in missing else "no workers"
        assert said in note.inner_text() or "four times" in note.inner_text()
    assert page.locator("#classes span").all_inner_texts()[1:3] == HOSTILE[:2]
    page.locator("#grid button").nth(5).click()
    wait_for(page, lambda: differ(shown(page, "#image"), expected[5]) <= 1)
    page.locator("#classes input").nth(3).check(force=True)  # the third class
    wait_for(page, lambda: differ(shown(page, "#image"), to_array(G.sample(6, classes=[2]))[5]) <= 1)
    assert HOSTILE[2] in page.locator("#image").get_attribute("aria-label")
    before = shown(page, "#grid button:last-child canvas")
    page.locator("#sliders input").first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    wait_for(page, lambda: differ(shown(page, "#grid button:last-child canvas"), before) > 5)
    assert page.locator("#sliders output").first.inner_text() == "+3.0"
    page.locator("#reset").click()
    page.locator("#seed").fill("7")
    page.keyboard.press("Enter")
    wait_for(page, lambda: differ(shown(page, "#image"), to_array(G.sample(6, seed=7, classes=[2]))[5]) <= 1)
    page.locator("#mix").fill("0.5")
    wait_for(page, lambda: "between" in page.locator("#caption").inner_text())
    page.locator("#play").click()
    wait_for(page, lambda: float(page.locator("#mix").input_value()) > 0.7)
    page.locator("#play").click()
    with page.expect_download() as download:
        page.locator("#save").click()
    assert Image.open(download.value.path()).size == (16, 16)


@mark
def test_a_picture_is_encoded_and_edited(tmp_path: Path, open_page: Open) -> None:
    ckpt, array = lively(tmp_path, "vae_mlp"), picture(16, 16)
    page, G = open_page(write_page(ckpt, tmp_path / "page.html"), width=390), gancli.load(ckpt)
    Image.fromarray(array).save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.locator("#given").wait_for()
    x = torch.from_numpy(array / 127.5 - 1).float().permute(2, 0, 1)[None]
    expected = to_array(G.generate(encode(G, x, torch.zeros(1, 0)), torch.zeros(1, 0)))[0]
    wait_for(page, lambda: differ(shown(page, "#image"), expected) <= 1)
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    wait_for(page, lambda: "notes.txt is no picture" in page.locator("#note").inner_text())


@mark
def test_pictures_of_any_size_are_enlarged(tmp_path: Path, open_page: Open) -> None:
    ckpt = lively(tmp_path, "sr_compact", "model.scale=2", "model.depth=1")
    page = open_page(write_page(ckpt, tmp_path / "page.html"))
    array = picture(150, 70)
    for name, image in (("a.png", array), ("one.png", array[:1, :1]), ("large.png", array.repeat(58, 0).repeat(20, 1))):
        Image.fromarray(image).save(tmp_path / name)
    page.set_input_files("#file", tmp_path / "a.png")
    page.get_by_text("to 300 x 140 in").wait_for()
    expected = np.asarray(gancli.inference.upscaler.load_upscaler(ckpt, scale=2)(Image.fromarray(array)))
    assert differ(shown(page, "#after"), expected) <= 1 and differ(shown(page, "#before"), array) == 0
    page.set_input_files("#file", tmp_path / "one.png")
    page.get_by_text("1 x 1 pixels to 2 x 2 in").wait_for()
    page.set_input_files("#file", tmp_path / "large.png")  # 12 megapixels
    wait_for(page, lambda: "3000 x 4060 pixels; this page works on 860 x 1163" in page.locator("#note").inner_text())
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    wait_for(page, lambda: "notes.txt is no picture" in page.locator("#note").inner_text())


@mark
def test_a_mask_is_painted_and_the_rest_stays(tmp_path: Path, open_page: Open) -> None:
    page = open_page(write_page(lively(tmp_path, "inpainting"), tmp_path / "page.html"))
    Image.fromarray(picture(32, 32)).save(tmp_path / "a.png")
    page.set_input_files("#file", tmp_path / "a.png")
    page.get_by_text("to 32 x 32 in").wait_for()
    changed = abs(shown(page, "#after").astype(int) - picture(32, 32)).max(2)
    assert changed[8:24, 8:24].mean() > 5 and changed.sum() == changed[8:24, 8:24].sum()
    page.locator("#clear").click()
    box = page.locator("#compare").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.1)
    page.mouse.up()
    wait_for(page, lambda: abs(shown(page, "#after").astype(int) - picture(32, 32)).max(2)[8:24, 8:24].sum() == 0)
    assert abs(shown(page, "#after").astype(int) - picture(32, 32)).max(2)[:8, 24:].sum() > 0
