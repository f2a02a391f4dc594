"""Play pages in a real browser, offline: what they show, what they refuse, and that they fetch nothing."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from play_pages import HOSTILE, hostile_labels, lively, picture, write_page

import gancli
from gancli.images import to_array
from gancli.inference.latents import encode
from gancli.inference.upscaler import load_upscaler

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
Open = Callable[..., Any]
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: type pip install playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: type apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
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
    for _ in range(1200):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("what was waited for did not happen in a minute")


def differ(a: np.ndarray, b: np.ndarray) -> int:
    return int(abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("missing", ["", "delete window.Worker", "delete window.WebAssembly; delete window.Worker"])
def test_a_page_of_classes_in_a_browser(missing: str, tmp_path: Path, open_page: Open) -> None:
    ckpt = lively(tmp_path, "cgan", names=HOSTILE)
    page, G = open_page(write_page(ckpt, tmp_path / "page.html"), missing), gancli.load(ckpt)
    expected = to_array(G.sample(24))
    wait_for(page, lambda: differ(shown(page, "#grid button:last-child canvas"), expected[23]) <= 1)
    assert differ(shown(page, "#image"), expected[0]) <= 1
    said = page.locator("#environment").inner_text()
    assert ("no workers" in said) == ("Worker" in missing) and ("four times as long" in said) == ("Assembly" in missing)
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
    page.locator("#sliders select").select_option("1")
    page.get_by_label("towards", exact=True).fill("1")
    wait_for(page, lambda: differ(shown(page, "#image"), to_array(G.sample(6, classes=[1]))[5]) <= 1)
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


def test_a_page_of_several_labels_in_a_browser(tmp_path: Path, open_page: Open) -> None:
    ckpt = lively(tmp_path, "cgan", labels=hostile_labels())
    page = open_page(write_page(ckpt, tmp_path / "page.html"), width=390)

    def asked(n: int = 24, **typed: str) -> np.ndarray:
        G = gancli.load(ckpt)
        G.choose({HOSTILE[1] if name == "shape" else name: value for name, value in typed.items()})
        return to_array(G.sample(n))

    def shows(expected: np.ndarray) -> None:
        wait_for(page, lambda: differ(shown(page, "#grid button:last-child canvas"), expected[23]) <= 1)
        assert differ(shown(page, "#image"), expected[0]) <= 1

    shows(asked())
    assert page.locator("#labels span").all_inner_texts() == [HOSTILE[1], "size"]
    assert page.locator("#labels option").all_inner_texts() == ["any", *HOSTILE[:3]]
    assert page.locator("#labels output").inner_text() == "any"
    page.locator("#labels select").select_option("1")
    shows(asked(shape=HOSTILE[1]))
    page.locator("#labels input").fill("3.14")
    shows(asked(shape=HOSTILE[1], size="3.14"))
    assert page.locator("#caption").inner_text() == f"image 0 of seed 0, {HOSTILE[1]} {HOSTILE[1]}, size 3.14"
    assert page.locator("#grid-note").inner_text().endswith("labels.size=3.14 generates them")
    page.locator("#labels select").select_option("-1")
    shows(asked(size="3.14"))
    page.locator("#any").click()
    shows(asked())
    assert page.locator("#labels output").inner_text() == "any"


def test_the_policy_of_a_page_refuses_requests_and_other_scripts(browser: Any, tmp_path: Path) -> None:
    path, page, sent = write_page(lively(tmp_path, "cgan_mlp"), tmp_path / "page.html"), browser.new_page(), []
    page.on("response", lambda response: sent.append(response.url))
    page.goto(path.as_uri())
    page.locator("body[data-ready]").wait_for()
    refused = page.evaluate("""async () => {
        const refused = [];
        document.addEventListener("securitypolicyviolation", event => refused.push(event.effectiveDirective));
        const add = (name, facts) => document.body.append(Object.assign(document.createElement(name), facts));
        fetch("http://127.0.0.1:9/").catch(() => {});
        add("img", {src: "http://127.0.0.1:9/x.png"});
        add("script", {src: "http://127.0.0.1:9/x.js"});
        add("script", {textContent: "document.title = 'changed'"});
        await new Promise(resolve => setTimeout(resolve, 300));
        return refused.sort();
    }""")
    assert refused == ["connect-src", "img-src", "script-src-elem", "script-src-elem"]
    assert page.title() != "changed" and [url for url in sent if not url.startswith(("file:", "data:", "blob:"))] == []
    page.close()


def test_a_picture_is_encoded_and_edited(tmp_path: Path, open_page: Open) -> None:
    ckpt, array = lively(tmp_path, "vae_mlp"), picture(16, 16)
    page, G = open_page(write_page(ckpt, tmp_path / "page.html"), width=390), gancli.load(ckpt)
    Image.fromarray(array).save(tmp_path / "mine.png")
    page.set_input_files("#file", tmp_path / "mine.png")
    page.locator("#given").wait_for()
    x = torch.from_numpy(array / 127.5 - 1).float().permute(2, 0, 1)[None]
    expected = to_array(G.generate(encode(G, x, torch.zeros(1, 0)), torch.zeros(1, 0)))[0]
    wait_for(page, lambda: differ(shown(page, "#image"), expected) <= 1)
    for name, image in (("one.png", array[:1, :1]), ("large.png", array.repeat(188, 0).repeat(250, 1))):
        Image.fromarray(image).save(tmp_path / name)
        page.set_input_files("#file", tmp_path / name)
        size = f"{image.shape[1]} x {image.shape[0]} pixels was fitted to 16 x 16"  # 1 and 12 million
        wait_for(page, lambda size=size: size in page.locator("#fidelity").inner_text())
    drop(page, "notes.txt", "text/plain")
    wait_for(page, lambda: "notes.txt is no picture" in page.locator("#note").inner_text())
    drop(page, "<img src=x onerror=alert(1)>.png", "image/png")
    wait_for(page, lambda: "<img src=x onerror=alert(1)>.png is no picture" in page.locator("#note").inner_text())
    drop(page)
    wait_for(page, lambda: "What was dropped is no file" in page.locator("#note").inner_text())
    assert size in page.locator("#fidelity").inner_text(), "the picture before it stays"


def drop(page: Any, name: str = "", mime: str = "") -> None:
    """Drop a file that is no picture on a page, or a text without a file."""
    page.evaluate(
        """([name, type]) => {
            const dataTransfer = new DataTransfer();
            if (name) dataTransfer.items.add(new File(["no picture"], name, {type}));
            else dataTransfer.setData("text/plain", "a text");
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
        }""",
        [name, mime],
    )


def test_pictures_of_any_size_are_enlarged(tmp_path: Path, open_page: Open) -> None:
    ckpt = lively(tmp_path, "sr_compact", "model.scale=2", "model.depth=1")
    page = open_page(write_page(ckpt, tmp_path / "page.html"))
    array = picture(150, 70)
    for name, image in (("a.png", array), ("one.png", array[:1, :1]), ("large.png", array.repeat(58, 0).repeat(20, 1))):
        Image.fromarray(image).save(tmp_path / name)
    page.set_input_files("#file", tmp_path / "a.png")
    page.get_by_text("to 300 x 140 in").wait_for()
    expected = np.asarray(load_upscaler(ckpt, scale=2)(Image.fromarray(array)))
    assert differ(shown(page, "#after"), expected) <= 1 and differ(shown(page, "#before"), array) == 0
    page.set_input_files("#file", tmp_path / "one.png")
    page.get_by_text("1 x 1 pixels to 2 x 2 in").wait_for()
    page.set_input_files("#file", tmp_path / "large.png")  # 12 megapixels
    wait_for(page, lambda: "3000 x 4060 pixels; this page works on 860 x 1163" in page.locator("#note").inner_text())
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    wait_for(page, lambda: "notes.txt is no picture" in page.locator("#note").inner_text())


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
