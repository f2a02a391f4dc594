"""Training on a folder of one's own images: names, places that are refused, held-out images, start from another run."""

from pathlib import Path

import numpy as np
import pytest
from helpers import TINY
from PIL import Image

SMALL = [word for word in TINY if not word.startswith(("data=", "data.n=", "run.dir="))]


def write_images(folder: Path, n: int = 12, size: tuple[int, int] = (12, 10), classes: tuple[str, ...] = ()) -> Path:
    """Write n PNG images of noise, in turn into a folder a class."""
    rng = np.random.default_rng(0)
    for i in range(n):
        inner = folder / classes[i % len(classes)] if classes else folder
        inner.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(inner / f"{i:04d}.png")
    return folder


def own(folder: Path | str, *words: str) -> list[str]:
    return ["train", *SMALL, "model=dcgan", "data=folder", f"data.path={folder}", "trainer.steps=2", *words]


@pytest.mark.parametrize(
    ("name", "said"), [("mycats", "mycats"), ("my cats (1)=é,{b} ${x}", "my-cats-1-é-b-x"), ("!?", "folder")]
)
def test_a_run_is_called_after_its_folder(gan, tmp_path, name, said):
    code, out, error = gan(*own(write_images(tmp_path / name)))
    assert code == 0 and f"training: dcgan on {name}, 12 images" in error
    run = Path(out.strip())
    assert run.name.startswith(f"dcgan-{said}-20")
    page = (run / "index.html").read_text()
    assert "<title>dcgan on " in page and "on folder" not in page


@pytest.mark.parametrize(("model", "instead"), [("cgan", "dcgan"), ("sngan_proj", "sngan"), ("acgan", "sngan")])
def test_a_model_of_classes_needs_classes(gan, tmp_path, model, instead):
    code, _, error = gan(*own(write_images(tmp_path / "cats"), f"model={model}", "run.dir=out"))
    assert code == 1 and not Path("out").exists()
    assert f"model={model} learns to generate classes, but data=cats has none" in error and f"model={instead}" in error


@pytest.mark.slow
def test_nothing_is_written_among_the_images_that_are_trained_on(gan, tmp_path):
    images = write_images(tmp_path / "images")
    code, _, error = gan(*own(images, f"run.dir={images}/run"))
    assert code == 1 and "its samples would be trained on; type run.dir=DIR" in error
    assert gan(*own(images, "run.dir=run"))[0] == 0
    before = sorted(images.rglob("*"))
    for words in (
        ["upscale", str(images), f"out={images}"],
        ["upscale", str(images / "0000.png"), f"out={images}/new/"],
        ["sample", "ckpt=run", f"out={images}/samples.png"],
        ["project", str(images / "0000.png"), "ckpt=run"],
    ):
        code, _, error = gan(*words)
        assert code == 1, (words, error)
        assert f"would add to {images}, which a run was trained on; type out=DIR" in error
    assert sorted(images.rglob("*")) == before
    assert gan("sample", "ckpt=run", "n=2", "out=elsewhere.png")[0] == 0
