"""Measure play pages in Chromium: megabytes, milliseconds an image, and their difference from what `gan` computes.

    python benchmarks/play.py RUN|FILE ... [--out docs/results/play.json]

Each checkpoint is exported by `gan export out=play.html` and opened from file://, once as it is, and once with the CPU
throttled six times by Chromium's own emulation, which reaches the page alone: there the worker is left out. A page that
takes pictures gets one of 256x256 pixels. Needs Chromium and playwright.
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from gancli.cli import main as cli
from gancli.images import to_array
from gancli.inference.generator import Generator, command_for, load
from gancli.inference.inpainter import centre_mask, load_inpainter
from gancli.inference.translator import load_translator
from gancli.inference.upscaler import load_upscaler
from gancli.runtime.text import table

THROTTLE = 6
SIDE = 256  # of a picture
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# Notes when the page draws an image; a page draws nothing else.
CLOCK = """const put = CanvasRenderingContext2D.prototype.putImageData; window.drawn = [];
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
  put.apply(this, given); window.drawn.push(performance.now()); };"""
IMAGES = 27  # that a page of noise draws first: the large one, two to mix, and the grid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for i, checkpoint in enumerate(options.checkpoints):
            html = Path(folder) / f"{i}.html"
            if cli.main(["export", f"ckpt={checkpoint}", f"out={html}"]):
                return 1
            rows.append(measure(browser, html, load(checkpoint), checkpoint))
        version = browser.version
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(table([columns, *([str(row.get(key, "")) for key in columns] for row in rows)]))
    if options.out:
        facts = {"chromium": version, "machine": platform.machine(), "date": time.strftime("%Y-%m-%d")}
        command = f"python benchmarks/play.py {' '.join(c.name for c in options.checkpoints)}"
        options.out.write_text(json.dumps({"command": command, **facts, "pages": rows}, indent=1) + "\n")
    return 0


def measure(browser: Browser, html: Path, G: Generator, checkpoint: Path) -> dict[str, Any]:
    """Return the figures of a page."""
    title = html.read_text().split("<title>")[1].split("<")[0]
    row: dict[str, Any] = {"model": title, "MB": round(html.stat().st_size / 1e6, 2)}
    row["million weights"] = round(sum(x.numel() for x in G.network.parameters()) / 1e6, 2)
    for name, throttle in (("", 1), (" throttled", THROTTLE)):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.add_init_script(CLOCK + ("delete window.Worker;" if throttle > 1 else ""))
        context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": throttle})
        page.goto(html.as_uri())
        page.locator("body[data-ready]").wait_for()
        if G.z_dim:
            times = drawn(page, IMAGES)
            row[f"first image ms{name}"] = round(times[0])
            row[f"ms an image{name}"] = round((times[-1] - times[0]) / (IMAGES - 1), 1)
        else:
            row[f"s a picture{name}"] = translated(page, html)
        if throttle == 1:
            row["difference"] = difference(page, G, checkpoint, html)
        context.close()
    return row


def drawn(page: Page, n: int) -> list[float]:
    """Return when the page's first n images were drawn, in milliseconds after it was opened."""
    while len(times := page.evaluate("window.drawn")) < n:
        page.wait_for_timeout(100)
    return times[:n]


def picture() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = [127 + 110 * np.sin(x / (9 + i) + i) * np.cos(y / (14 - i)) for i in range(3)]
    return np.stack(waves, 2).astype(np.uint8)


def translated(page: Page, html: Path) -> float:
    """Give the page a picture; return the seconds until its result is complete."""
    file = html.with_suffix(".png")
    Image.fromarray(picture()).save(file)
    page.set_input_files("#file", file)
    page.get_by_text("pixels to").filter(has_text=" in ").wait_for(timeout=600_000)
    return float(page.locator("#sizes").inner_text().split(" in ")[1].removesuffix(" s"))


def difference(page: Page, G: Generator, checkpoint: Path, html: Path) -> int:
    """Return the largest difference of what the page shows from what `gan` computes, in levels of 8 bits."""
    if G.z_dim:
        shown, expected = pixels(page, "#grid canvas"), to_array(G.sample(24))
        return int(abs(shown[..., : G.channels].astype(int) - expected).max())
    image, command = Image.fromarray(picture()), command_for(G.network)
    if command == "inpaint":
        result = load_inpainter(checkpoint)(image, centre_mask(image.size))
    elif command == "upscale":
        upscaler = load_upscaler(checkpoint, scale=G.network.scale)
        upscaler.bf16 = False  # as in the page
        result = upscaler(image)
    else:
        result = load_translator(checkpoint)(image)
    return int(abs(pixels(page, "#after")[0].astype(int) - np.asarray(result.convert("RGB"))).max())


def pixels(page: Page, selector: str) -> np.ndarray:
    """Return the pixels of canvases of one size, uint8 (N, H, W, 3)."""
    script = (
        """all => all.map(c => [c.height, c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data])"""
    )
    arrays = [np.array(values) for values in page.locator(selector).evaluate_all(script)]
    return np.stack([a[2:].reshape(a[0], a[1], 4)[..., :3].astype(np.uint8) for a in arrays])


if __name__ == "__main__":
    sys.exit(main())
