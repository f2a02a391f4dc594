import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import difference, save_scenes, scene

import gancli
from gancli import images
from gancli.commands.reconstruct import psnr
from gancli.data.classes import one_hot
from gancli.data.image_modes import array_to_tensor, standardize


def test_psnr_is_that_of_visible_pixels_in_the_results_channels():
    a, b = Image.new("L", (10, 10), 100), Image.new("L", (10, 10), 110)
    deep, expected = Image.new("I;16", (10, 10), 100 * 257), pytest.approx(10 * math.log10(255**2 / 100), abs=1e-3)
    for image, result in ((a, b), (a, b.convert("RGB")), (a.convert("RGB"), b), (deep, b), (deep, b.convert("RGB"))):
        assert psnr(image, result) == expected
    assert psnr(a, a) == math.inf
    half = Image.new("L", (10, 10), 255)
    half.paste(0, (0, 0, 5, 10))
    for mode in ("RGB", "L"):
        image, result = a.convert(mode), b.convert(mode)
        result.paste("white", (0, 0, 5, 10))
        image.putalpha(half)
        result.putalpha(half)
        assert psnr(image, result) == expected


@pytest.mark.filterwarnings("ignore::gancli.data.image_modes.ImageWarning")
@pytest.mark.parametrize("model", ["aegan", "vae"])
def test_every_file_gets_a_line_with_its_psnr(gan, checkpoints, model):
    files = save_scenes()
    code, out, error = gan("reconstruct", *files, f"ckpt={checkpoints[model]}", "out=again/")
    assert code == 0 and len(out.splitlines()) == len(files), error
    printed = dict(re.findall(r"^gan: (.*): PSNR ([\d.]+|inf) dB$", error, re.M))
    small = [name for name, size in files.items() if min(size) < 16]
    assert error.count("is smaller than the model's 16x16 pixels") == 2, "one image is named, the others are counted"
    assert any(f"gan: {name}: is smaller" in error for name in small)
    assert f"the same of {len(small) - 1} other image" in error
    for name in files:
        with Image.open(f"again/{Path(name).stem}_reconstructed.png") as result:
            assert float(printed[name]) == pytest.approx(psnr(standardize(Image.open(name)), result), abs=0.006)


def test_the_command_gives_what_the_network_gives_by_number_and_name_of_the_class(gan, checkpoints):
    image, G = scene(16, 16), gancli.load(checkpoints["vae_classes"])
    image.save("a.png")
    x = array_to_tensor(np.array(image))
    for k, name in enumerate(G.class_names):
        c = one_hot(torch.tensor([k]), G.classes)
        expected = G.generate(G.network.encode(x, c), c)
        for word in (k, name):
            words = [f"ckpt={checkpoints['vae_classes']}", f"classes=[{word}]", f"out={word}.png"]
            assert gan("reconstruct", "a.png", *words)[0] == 0
            assert difference(f"{word}.png", images.to_array(expected)[0]) <= 1
