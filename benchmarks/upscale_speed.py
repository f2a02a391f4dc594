"""Seconds and peak memory of `gan upscale`, and of one forward of the same network over the whole image.

    python benchmarks/upscale_speed.py [--repeats 3] [photo.jpg]

Images of 1280x720 and 4000x3000 are cropped from photo.jpg, resized by bicubic where necessary; without one they are
noise of several scales. Every measurement is a separate process, from its start to the written PNG; "network" is the
time that the network takes within it. Run it on an idle machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from gancli.data.decoder import open_image

# Read, one forward over the whole image, write.
SINGLE_FORWARD = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from gancli.data.decoder import open_image
from gancli.inference.upscaler import bundled_network
network = bundled_network("faithful", 4).eval()
x = torch.from_numpy(np.array(open_image(Path(sys.argv[1])).convert("RGB"))).permute(2, 0, 1)[None] / 127.5 - 1
began = time.perf_counter()
with torch.no_grad():
    y = network(torch.zeros(1, 0), x)
seconds = time.perf_counter() - began
array = ((y.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
Image.fromarray(array).save(sys.argv[2], compress_level=4)
print(json.dumps(seconds))
"""
TILED = """
import json, sys, time
from gancli.cli import main as cli
from gancli.inference.upscaler import Upscaler
seconds, run_tile = [], Upscaler._run_tile
def timed(self, *args):
    began = time.perf_counter()
    y = run_tile(self, *args)
    seconds.append(time.perf_counter() - began)
    return y
Upscaler._run_tile = timed
code = cli.main(["upscale", sys.argv[1], f"out={sys.argv[2]}", sys.argv[3]])
print(json.dumps(sum(seconds)))
sys.exit(code)
"""


def test_image(width: int, height: int, photo: str) -> Image.Image:
    if photo:
        return ImageOps.fit(open_image(Path(photo)).convert("RGB"), (width, height), Image.Resampling.BICUBIC)
    rng, layers = np.random.default_rng(0), np.zeros((height, width, 3))
    for side in (4, 16, 64, 256):
        coarse = Image.fromarray(rng.integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8))
        layers += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float) / 4
    return Image.fromarray(layers.astype(np.uint8))


def measure(code: str, *words: str | Path) -> tuple[float, float, float]:
    """Return total seconds, seconds of the network and peak memory in GB of one process."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
    assert process.stdout
    lines = process.stdout.read().decode().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the process failed with {status}")
    kilobytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return time.perf_counter() - began, json.loads(lines[-1]), kilobytes * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", default="")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for width, height in ((1280, 720), (4000, 3000)):
            source = Path(folder) / f"{width}.png"
            test_image(width, height, options.photo).save(source)
            results = []
            for name, code in (("single forward", SINGLE_FORWARD), ("gan upscale", TILED)):
                target = Path(folder) / f"{width} {name}.png"
                try:
                    runs = [measure(code, source, target, "overwrite=true") for _ in range(options.repeats)]
                except SystemExit as error:
                    print(f"{width}x{height}  {name:<14} {error}", flush=True)
                    continue
                results.append(target)
                seconds, network, memory = (statistics.median(column) for column in zip(*runs))
                spread = f"{min(runs)[0]:.1f} to {max(runs)[0]:.1f}"
                times = f"{seconds:6.1f} s in all ({spread}), network {network:6.1f} s"
                print(f"{width}x{height}  {name:<14} {times}, peak {memory:.2f} GB", flush=True)
            if len(results) == 2 and width < 2000:
                single, tiled = (np.asarray(open_image(path)).astype(int) for path in map(Path, results))
                print(f"{width}x{height}  largest difference {abs(tiled - single).max()} grey levels")


if __name__ == "__main__":
    main()
