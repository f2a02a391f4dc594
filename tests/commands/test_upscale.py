from pathlib import Path

import pytest
import torch
from helpers import write_generator
from PIL import Image
from safetensors.torch import save_file
from scenes import difference, scene
from torch import nn

from gancli.inference.styles import upscale

pytestmark = pytest.mark.usefixtures("weights")


def test_a_checkpoint_and_a_file_of_weights_are_used_at_their_own_scale(gan, weights, checkpoints):
    scene(6, 5).save("a.png")
    assert gan("upscale", "a.png", f"ckpt={checkpoints['sr_compact']}", "scale=2")[:2] == (0, "a_x2.png\n")
    assert Image.open("a_x2.png").size == (12, 10)
    model = weights / "sr_compact-x2-sharp.safetensors"
    assert gan("upscale", "a.png", f"ckpt={model}", "scale=2", "overwrite=true")[0] == 0
    assert difference("a_x2.png", upscale(scene(6, 5), 2, "sharp")) == 0
    code, _, error = gan("upscale", "a.png", f"ckpt={model}")
    assert code == 1 and "enlarges 2 times, but scale=4; type scale=2" in error


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_community_model_is_used_or_says_what_to_install(gan, suffix, monkeypatch):
    scene(40, 36).save("a.png")
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8)]
    network = nn.Sequential(*layers, nn.Conv2d(8, 12, 3, padding=1))  # as of Real-ESRGAN's compact models
    state = {f"body.{name}": x for name, x in network.state_dict().items()}
    if suffix == ".pth":
        torch.save({"params": state}, "model.pth")
    else:
        save_file(state, "model.safetensors")
    with monkeypatch.context() as without:
        without.setitem(__import__("sys").modules, "spandrel", None)
        code, _, error = gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2")
        assert code == 1 and "pip install 'gancli[spandrel]'" in error
    pytest.importorskip("spandrel")
    assert gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2", "tile=11")[0] == 0
    assert gan("upscale", "a.png", f"ckpt=model{suffix}", "scale=2", "out=whole.png")[0] == 0
    assert Image.open("whole.png").size == (80, 72) and difference("a_x2.png", "whole.png") <= 1


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_an_untrusted_model_runs_no_code(gan):
    pytest.importorskip("spandrel")
    scene(5, 5).save("a.png")
    torch.save({"params": Bomb()}, "model.pth")
    Path("other.safetensors").write_bytes(b"nothing")
    save_file({"x": torch.zeros(2)}, "unknown.safetensors")
    write_generator(Path("call.safetensors"), {"_target_": "os.getcwd"}, {"x": torch.zeros(2)})
    for name in ("model.pth", "other.safetensors", "unknown.safetensors", "call.safetensors", "absent.pth"):
        code, out, error = gan("upscale", "a.png", f"ckpt={name}")
        assert code == 1 and ("os.getcwd" if name == "call.safetensors" else name) in error
        assert not out and len(error.strip().splitlines()) == 1
    assert not Path("touched").exists()


@pytest.mark.parametrize("command", ["upscale a.png scale=2", "sample n=640"])
def test_no_network_runs_before_the_output_is_known_to_be_writable(command, gan, checkpoints, monkeypatch):
    scene(6, 5).save("a.png")
    words = [*command.split(), *([f"ckpt={checkpoints['dcgan']}"] if command.startswith("sample") else [])]
    monkeypatch.setattr("torch.nn.Module.__call__", lambda *args, **options: pytest.fail("the network ran"))
    code, _, error = gan(*words, "out=/proc/x/")
    assert code == 1 and "out=/proc/x" in error and "cannot be written" in error and "type another out=" in error
