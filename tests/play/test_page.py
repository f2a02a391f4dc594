"""Play pages: what is refused, what 8 bits change, and what a stranger's names can do."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from play_pages import HOSTILE, NODE, hostile_labels, lively, needs_node, run_page, write_page
from torch import nn
from torch.nn import functional as f

from gancli.images import to_array
from gancli.inference.generator import noise
from gancli.play import page as play
from gancli.play.graph import OPERATIONS
from gancli.play.weights import pack

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


def test_eight_bits_halve_the_page_and_its_text_says_what_they_change() -> None:
    torch.manual_seed(0)
    pages = [play.build(Squares(torch.tanh), OUTPUT, "x", "", bits) for bits in (16, 8)]
    assert 0 < pages[0].difference < 0.2 < pages[1].difference < 10
    assert f"8 bits, which changes a pixel by at most {pages[1].difference:.1f} of 255 levels" in pages[1].html
    x = {"w": torch.randn(6, 40), "b": torch.randn(6), "zero": torch.zeros(2, 2)}
    (_, half, _), (entries, byte, stored) = pack(x, 16), pack(x, 8)
    assert len(byte) < 0.7 * len(half) and [entry["type"] for entry in entries] == ["i1", "f4", "i1"]
    assert torch.equal(stored["b"], x["b"]) and torch.allclose(stored["w"], x["w"], atol=0.02)


@pytest.mark.parametrize("of", ["classes", "labels"])
def test_names_and_the_policy_of_a_page(of: str, tmp_path: Path) -> None:
    given = {"labels": hostile_labels()} if of == "labels" else {"names": HOSTILE}
    html = write_page(lively(tmp_path, "cgan_mlp", **given), tmp_path / "page.html").read_text()
    assert html.count("<script") == 4 and "alert(1)</script>" not in html and "<img" not in html
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data["classNames"] == given.get("names", []) and str(tmp_path) not in html
    assert [column["values"] for column in data["columns"]] == ([HOSTILE[:3], []] if of == "labels" else [])
    policy = html.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'") and "connect-src" not in policy and "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "http://" not in html and html.count("https://") == 0


def many_operations(x: torch.Tensor) -> torch.Tensor:
    """Return x (N, 192) after what no model of ours does, but one of somebody else may."""
    x = x.unflatten(1, (12, 4, 4))
    x = f.silu(f.group_norm(x, 3)) + torch.sigmoid(x)
    tokens = x.flatten(2).transpose(1, 2)
    tokens = f.scaled_dot_product_attention(tokens, tokens.softmax(-1), tokens)
    x = x + tokens.permute(0, 2, 1).reshape(-1, 12, 4, 4)
    wide = f.interpolate(x, (9, 7), mode="bilinear") + f.interpolate(x, (9, 7), mode="bicubic")
    wide = (
        f.pad(wide, (1, 0, 2, 1), mode="reflect")
        + f.pad(wide, (0, 1, 0, 3))
        - f.pad(wide, (1, 0, 3, 0), mode="replicate")
    )
    wide = f.max_pool2d(wide, 3, 2, 1) + f.avg_pool2d(wide, 3, 2, 1)
    x = f.interpolate(wide, (4, 4), mode="bilinear", antialias=True).exp().sqrt() / (1 + x.pow(2))
    x = x - x.mean(1, keepdim=True) + x.sum((2, 3))[:, :, None, None].tanh() * x[:, 3:4].abs()
    return f.softplus(f.instance_norm(x)).flatten(1) - 1


@needs_node
def test_operations_that_no_model_of_ours_calls_are_computed_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Squares(many_operations).eval()
    page = tmp_path / "page.html"
    page.write_text(play.build(network, OUTPUT, "x", "").html)
    with torch.no_grad():
        expected = to_array(network(noise(range(2), 4, 0)[1:], torch.zeros(1, 0)))[0]
    for [answer] in run_page(page, {"type": "generate", "seed": 0, "images": [1], "c": [[]]}):
        image = np.array(answer["pixels"]).reshape(8, 8, 4)[..., :3]
        assert expected.std() > 20 and abs(image - expected.astype(int)).max() <= 1


@needs_node
def test_the_engine_has_every_operation_that_the_exporter_writes() -> None:
    engine = "\n".join(play.read(name) for name in play.ENGINE)
    names = subprocess.check_output([str(NODE), "-e", f"{engine}\nconsole.log(JSON.stringify(Object.keys(OPS)))"])
    assert {*json.loads(names)} >= OPERATIONS


def test_images_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        play.build(Squares(lambda x: x * float("nan")), OUTPUT, "x", "")
