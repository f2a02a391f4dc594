"""Tiny checkpoints with images that differ, their pages, and the engine of a page run by Node.js."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import start
from torch import nn

from gancli.checkpoint import format as checkpoint
from gancli.checkpoint.rebuild import restore
from gancli.commands import export
from gancli.data.classes import one_hot
from gancli.data.labels import Column, to_output

# Class names of a stranger.
HOSTILE = ["</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "<!--", "a\u2028b & ${c}"]
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(not NODE, reason="needs Node.js: type apt-get install nodejs")


def lively(
    folder: Path, model: str, *overrides: str, names: list[str] | None = None, labels: dict[str, Any] | None = None
) -> Path:
    """Write a tiny generator with random weights and fitting statistics: an untrained one returns a uniform grey.

    Args:
        names: other class names.
        labels: several labels in place of the classes, as a checkpoint holds them.
    """
    run = start(folder / "run", model, *overrides)
    run.save()
    content = checkpoint.read(folder / "run" / "checkpoints" / "last.safetensors")
    G, output = content["networks"]["G"], content["output"]
    network = restore(G["config"], G["state"], output).train()
    torch.manual_seed(0)
    merged = hasattr(network, "merge")  # its branches multiply each other, and the last layer alone begins as zero
    for parameter in [network.last.weight] if merged else network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
        else:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    for _ in range(40):
        forward(network, output)
    output |= {"class_names": names} if names else {}
    output |= {"class_names": [], **labels} if labels else {}
    changes = {name: content[name] for name in ("config", "step", "images", "seconds", "versions")}
    state = network.eval().state_dict()
    networks = {"G": {"config": G["config"], "state": state}}
    return checkpoint.write(folder / f"{model}.safetensors", {**changes, "output": output, "networks": networks})


@torch.no_grad()
def forward(network: Any, output: dict[str, Any], n: int = 16) -> None:
    """Run every part of a network once on random inputs."""
    size, channels = output["size"], output["channels"]
    if network.z_dim:
        c = one_hot(torch.arange(n) % max(network.classes, 1), network.classes)
        network(torch.randn(n, network.z_dim), c)
        if hasattr(network, "encode"):
            network.encode(torch.rand(n, channels, size, size) * 2 - 1, c)
        return
    for part in (getattr(network, "there", network), getattr(network, "back", None)):
        if part is not None:
            x = torch.rand(n, getattr(part, "source_channels", channels), size, size) * 2 - 1
            part(x[:, :, :0, 0].flatten(1), x)


def hostile_labels() -> dict[str, Any]:
    """Return a label of three classes and a number, with the names of a stranger, for a model of four classes."""
    columns = [Column(HOSTILE[1], HOSTILE[:3]), Column("size", low=-1.5, high=7.0)]
    codes = torch.tensor([[*one_hot(torch.tensor([i % 3]), 3)[0].tolist(), i / 6] for i in range(7)])
    return to_output(columns, codes.unique(dim=0))


def write_page(ckpt: Path, out: Path, **changes: Any) -> Path:
    """Export a checkpoint as a page."""
    words = {"half": False, "blend": "", "blend_weight": 0.5, "ema": True} | changes
    export.main(str(ckpt), str(out), **words)
    return out


def run_page(page: Path, *jobs: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the answers of each job, first those of the fast kernel, then those of plain JavaScript."""
    file = page.with_suffix(".jobs.json")
    file.write_text(json.dumps([{"channel": "image", "id": 1, **job} for job in jobs]))
    script = Path(__file__).with_suffix(".js")
    done = subprocess.run([str(NODE), str(script), str(page), str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return smooth colours, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 110 * np.sin(x / (4 + i) + i) * np.cos(y / (6 - i)) for i in range(3)]
    return (np.stack(waves, 2) + rng.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)


def rgba(image: np.ndarray) -> dict[str, Any]:
    """Return uint8 (H, W, 3) as a picture of server.js."""
    height, width = image.shape[:2]
    pixels = np.concatenate([image, np.full((height, width, 1), 255, np.uint8)], 2)
    return {"pixels": pixels.flatten().tolist(), "width": width, "height": height}


def assembled(answers: list[dict[str, Any]], width: int, height: int) -> np.ndarray:
    """Return the image that the tiles of a picture form, uint8 (height, width, 3)."""
    result = np.zeros((height, width, 3), np.uint8)
    for tile in answers:
        assert tile["type"] == "answer", tile
        left, top, w, h = (tile[key] for key in ("left", "top", "width", "height"))
        result[top : top + h, left : left + w] = np.array(tile["pixels"], np.uint8).reshape(h, w, 4)[..., :3]
    assert answers[-1]["done"] == 1
    return result
