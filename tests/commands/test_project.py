from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import difference, scene

import gancli
from gancli import images
from gancli.inference.latents import read_latent


@pytest.fixture(autouse=True)
def photos(gan) -> None:
    """Two images of the model's size, one of another, one damaged."""
    Path("in").mkdir()
    for i, side in enumerate((16, 16, 20)):
        scene(side, side, seed=i).save(f"in/{i}.png")
    Path("in/3.png").write_bytes(b"damaged")


def test_an_image_and_its_latent_are_written(gan, checkpoints):
    code, out, error = gan("project", "in/", f"ckpt={checkpoints['cgan']}", "steps=5")
    assert code == 1 and "gan: 2 of 4 images failed: see above" in error
    paths = [Path(line) for line in out.splitlines()]
    assert [p.name for p in paths] == [f"{i}_projected.{suffix}" for i in (0, 1) for suffix in ("npz", "png")]
    assert paths[0].parent == Path("in_projected") and all(p.is_file() for p in paths)
    assert "0.png: PSNR " in error and " dB, class " in error
    assert "2.png: is 20x20" in error and "3.png: is not an image" in error
    G = gancli.load(checkpoints["cgan"])
    sheet = np.asarray(Image.open(paths[1]))
    assert difference(sheet[:, :48], np.asarray(Image.open("in/0.png")).repeat(3, 0).repeat(3, 1)) == 0
    assert difference(sheet[::3, 50::3], images.to_array(G.generate(*read_latent(paths[0], G)))[0]) <= 1


def test_an_existing_latent_is_replaced_only_with_overwrite(gan, checkpoints):
    words = ("project", "in/0.png", f"ckpt={checkpoints['dcgan']}", "steps=0")
    code, out, error = gan(*words)
    assert code == 0 and len(out.splitlines()) == 2 and "class" not in error
    Path("in/0_projected.png").unlink()
    code, _, error = gan(*words)
    assert code == 1 and "0_projected.npz exists already; type overwrite=true" in error
    assert gan(*words, "overwrite=true")[0] == 0
