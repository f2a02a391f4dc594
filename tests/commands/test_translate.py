import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import difference, scene

import gancli
from gancli.data.image_modes import array_to_tensor, image_to_array
from gancli.inference.tiling import pad_to_multiple
from gancli.inference.translator import Translator, load_translator


def test_the_command_gives_what_python_gives_tiled_or_not(gan, checkpoints):
    image, ckpt = scene(150, 40, "L"), checkpoints["pix2pix"]
    image.save("a.png")
    for words in (["out=whole.png"], ["tile=16", "out=tiled.png"], ["ema=false", "out=trained.png"]):
        assert gan("translate", "a.png", f"ckpt={ckpt}", *words)[0] == 0
    assert difference("whole.png", load_translator(ckpt)(image)) == 0
    assert difference("trained.png", load_translator(ckpt, ema=False)(image)) == 0
    assert difference("whole.png", "tiled.png") <= 1
    G = gancli.load(ckpt).network
    x = array_to_tensor(pad_to_multiple(image_to_array(image), G.multiple))
    expected = ((G(torch.zeros(1, 0), x)[0, :, :40, :150] + 1) * 127.5).permute(1, 2, 0).numpy()
    assert abs(expected - np.asarray(Image.open("whole.png"))).max() <= 0.51


def test_both_directions(gan, checkpoints):
    scene(20, 12).save("a.png")
    for direction in ("there", "back"):
        words = [f"ckpt={checkpoints['cyclegan']}", f"direction={direction}", f"out={direction}.png"]
        assert gan("translate", "a.png", *words)[0] == 0
        G = getattr(gancli.load(checkpoints["cyclegan"]).network, direction)
        assert difference(f"{direction}.png", Translator(G)(scene(20, 12))) == 0


COMMANDS = {"translate": [], "inpaint": ["mask=centre"], "reconstruct": [], "upscale": ["scale=2"]}
RIGHT_COMMAND = {
    **{"cyclegan": "translate", "grey": "translate", "inpainting": "inpaint"},
    **{"vae": "reconstruct", "sr_compact": "upscale", "dcgan": "sample"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_for_another_command_is_refused_with_what_to_type(gan, checkpoints, command):
    scene(8, 8).save("a.png")
    for name, right in RIGHT_COMMAND.items():
        if right == command:
            continue
        code, out, error = gan(command, "a.png", f"ckpt={checkpoints[name]}", *COMMANDS[command], "overwrite=true")
        assert code == 1 and not out and len(error.strip().splitlines()) == 1
        suggested = "project" if (command, name) == ("reconstruct", "dcgan") else right
        typed = error.partition("; type ")[2].partition(",")[0]
        assert ("pix2pix on task=denoise" if name == "grey" else name) in error
        assert typed.startswith(f"gan {suggested} ")
        if suggested in COMMANDS:
            words = shlex.split(typed.replace(" IN ", " a.png "))[1:]
            assert gan(*words, "overwrite=true")[0] == 0, f"the suggestion works: {typed}"
