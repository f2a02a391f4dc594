"""Every model's page generates what gan sample, translate, upscale and inpaint do, to one grey level."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MODELS, config
from PIL import Image
from play_pages import assembled, hostile_labels, lively, needs_node, picture, rgba, run_page, write_page

import gancli
from gancli.images import to_array
from gancli.inference.inpainter import centre_mask, load_inpainter
from gancli.inference.latents import encode
from gancli.inference.translator import load_translator
from gancli.inference.upscaler import load_upscaler

pytestmark = needs_node
FROM_PICTURES = {name for name in MODELS if name.startswith("sr") or name in ("pix2pix", "inpainting", "cyclegan")}
SIZE = (45, 38)  # of a picture, no multiple of anything


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    """Assert that images are equal to one level of 8 bits, and that they are no uniform grey."""
    assert a.shape == b.shape and b.std() > 5
    assert abs(a.astype(int) - b.astype(int)).max() <= 1


def check_noise(page: Path, ckpt: Path) -> None:
    G = gancli.load(ckpt)
    n, seed = 70, 5  # more than a block of noise
    chosen = [0, 1, 63, 64, 69]
    expected = to_array(G.sample(n, seed))[chosen]
    job = {"type": "generate", "seed": seed, "images": chosen, "c": G.condition(G.labels(n)[chosen]).tolist()}
    for answers in run_page(page, job):
        images = np.array([answer["pixels"] for answer in answers], np.uint8).reshape(-1, G.size, G.size, 4)
        assert_close(images[..., : G.channels], expected)


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in MODELS if name not in FROM_PICTURES])
def test_images_of_a_seed_are_those_of_gan_sample(model: str, tmp_path: Path) -> None:
    ckpt = lively(tmp_path, model)
    check_noise(write_page(ckpt, tmp_path / "page.html"), ckpt)


def test_the_page_of_a_conditional_model_is_equal(tmp_path: Path) -> None:
    ckpt = lively(tmp_path, "cgan")
    check_noise(write_page(ckpt, tmp_path / "page.html"), ckpt)


def test_the_page_of_several_labels_is_equal(tmp_path: Path) -> None:
    ckpt = lively(tmp_path, "cgan", labels=hostile_labels())
    check_noise(write_page(ckpt, tmp_path / "page.html"), ckpt)


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(FROM_PICTURES))
def test_pictures_become_those_of_the_command(model: str, tmp_path: Path) -> None:
    ckpt, array = lively(tmp_path, model), picture(*SIZE)
    page, image, mask = write_page(ckpt, tmp_path / "page.html"), Image.fromarray(array), centre_mask(SIZE)
    request = {"type": "translate", "graph": "image", "picture": rgba(array)}
    jobs, expected = [request], []
    if model == "inpainting":
        request["picture"]["mask"] = (np.asarray(mask).flatten() > 0).astype(int).tolist()
        expected = [load_inpainter(ckpt)(image, mask)]
    elif model in ("pix2pix", "cyclegan"):
        expected = [load_translator(ckpt)(image)]
        if model == "cyclegan":
            jobs.append(request | {"graph": "back"})
            expected.append(load_translator(ckpt, "back")(image))
    else:
        scale = config(f"model={model}").model.scale
        expected = [load_upscaler(ckpt, scale=scale)(image)]
    for answers, result in zip(run_page(page, *jobs), 2 * expected):
        assert_close(assembled(answers, *result.size), np.asarray(result))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["aegan", "vae", "vae_mlp", "vaegan"])
def test_the_latent_of_a_picture_is_the_encoders(model: str, tmp_path: Path) -> None:
    ckpt = lively(tmp_path, model, "model.classes=${data.classes}") if model == "vae" else lively(tmp_path, model)
    G, array = gancli.load(ckpt), picture(16, 16)
    candidates = torch.eye(G.classes) if G.classes else torch.zeros(1, 0)
    job = {"type": "encode", "picture": rgba(array), "candidates": candidates.tolist()}
    x = torch.from_numpy(array / 127.5 - 1).float().permute(2, 0, 1)[None]
    for [answer] in run_page(write_page(ckpt, tmp_path / "page.html"), job):
        c = torch.tensor(answer["latent"]["c"], dtype=torch.float).view(1, -1)
        z = torch.tensor(answer["latent"]["z"]).view(1, -1)
        assert torch.allclose(z, encode(G, x, c), atol=0.02)
        errors = [(G.generate(encode(G, x, row[None]), row[None]) - x).square().mean().item() for row in candidates]
        assert answer["latent"]["error"] == pytest.approx(min(errors), rel=0.01)


@pytest.mark.slow
def test_a_tile_at_a_time_equals_the_whole_picture(tmp_path: Path) -> None:
    ckpt, array = lively(tmp_path, "sr_compact", "model.scale=2", "model.depth=1"), picture(210, 100)
    page = write_page(ckpt, tmp_path / "page.html")
    job = {"type": "translate", "graph": "image", "picture": rgba(array)}
    answers = run_page(page, job)[0]
    assert len(answers) == 6
    assert_close(assembled(answers, 420, 200), np.asarray(load_upscaler(ckpt, scale=2)(Image.fromarray(array))))
