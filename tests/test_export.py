"""gan export: what other programs read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import TINY

import gancli
from gancli import checkpoint


@pytest.mark.parametrize("half", ["false", "true"])
def test_a_safetensors_file_rebuilds_the_network(gan, half):
    assert gan("train", "model=dcgan", *TINY, "run.dir=run")[0] == 0
    code, out, _ = gan("export", "ckpt=run", "out=made/g.safetensors", f"half={half}")
    assert (code, out) == (0, "made/g.safetensors\n")
    with safe_open("made/g.safetensors", "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert "dcgan on synthetic, 6 steps, 48 images" in metadata["trained"]
    network = checkpoint.rebuild(json.loads(metadata["network"])).eval()
    network.load_state_dict(state)
    z, c = torch.randn(4, 100), torch.zeros(4, 0)
    expected = gancli.load("run").network(z, c)
    assert torch.allclose(network(z, c), expected, atol=1e-2 if half == "true" else 0)
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.half if half == "true" else torch.float}


def test_what_cannot_be_written_is_said_and_nothing_is_overwritten(gan):
    assert gan("train", "model=dcgan", *TINY, "run.dir=run")[0] == 0
    code, _, err = gan("export", "ckpt=run", "out=g.pickle")
    assert code == 1 and "type out=generator.safetensors" in err
    Path("g.safetensors").write_text("mine")
    code, _, err = gan("export", "ckpt=run", "out=g.safetensors")
    assert code == 1 and "is there already" in err and Path("g.safetensors").read_text() == "mine"
    code, _, err = gan("export", "out=h.safetensors")
    assert code == 1 and "no checkpoint was given" in err
