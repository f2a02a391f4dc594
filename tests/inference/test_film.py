"""Films of walks: how many frames they have, that they end as they began, and that programs play them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from play_pages import lively
from scenes import difference

import gancli
from gancli.data.classes import one_hot
from gancli.images import to_array
from gancli.inference.film import SMALLEST, ease
from gancli.inference.generator import noise
from gancli.inference.latents import write_latent

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def frames_of(path: Path) -> list[np.ndarray]:
    """Return the frames, uint8 (H, W, 3)."""
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as opened:
            assert opened.info["loop"] == 0
            return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened)]
    av = pytest.importorskip("av", reason="needs PyAV: type pip install av")
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == 25
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("form", ["gif", "webp", "mp4", pytest.param("webm", marks=pytest.mark.slow)])
def test_a_film_ends_as_it_began_to_the_byte(form: str, gan: Any, tmp_path: Path) -> None:
    words = ["n=3", "interpolate=5", "seed=[0,1,2,3]", "size=150", f"out=x.{form}"]
    code, out, error = gan("sample", f"ckpt={lively(tmp_path, 'cgan')}", *words)
    assert code == 0 and out == f"x.{form}\n", error
    frames = frames_of(Path(f"x.{form}"))
    assert len(frames) == 3 * 5 + 1 and frames[0].shape == (150, 150, 3)
    assert np.array_equal(frames[0], frames[-1]) and not np.array_equal(frames[0], frames[7])


def test_the_stops_of_a_film_are_the_images_of_each_seed(checkpoints: Any, gan: Any) -> None:
    words = [f"ckpt={checkpoints['cgan']}", "n=2", "interpolate=4", "classes=[1,3]"]
    assert gan("sample", *words, "seed=[5,6]", "out=x.webp", "size=256")[0] == 0
    frames, G = frames_of(Path("x.webp")), gancli.load(checkpoints["cgan"])
    for at, image in ((0, 0), (4, 1), (8, 0)):
        for column, seed in enumerate((5, 6)):
            expected = to_array(G.sample(2, seed, [1, 3]))[image].mean((0, 1))
            shown = frames[at][:, column * 134 : column * 134 + 120].mean((0, 1))
            assert abs(expected - shown).max() < 2
    assert ease(0) == 0 and ease(1) == 1 and ease(0.5) == 0.5 and ease(0.1) < 0.03


def test_a_film_of_given_latents_goes_back_to_the_first(gan: Any, tmp_path: Path) -> None:
    ckpt = lively(tmp_path, "dcgan", "data.channels=1")
    G = gancli.load(ckpt)
    z = noise(range(3), G.z_dim, seed=1)
    for i in range(3):
        write_latent(Path(f"{i}.npz"), z[i : i + 1], torch.zeros(1, 0))
    words = [f"ckpt={ckpt}", "interpolate=4", "images=[0.npz,1.npz,2.npz]"]
    assert gan("sample", *words, "out=x.gif")[0] == 0
    frames = frames_of(Path("x.gif"))
    assert len(frames) == 13 and np.array_equal(frames[0], frames[12])
    side = frames[0].shape[0]
    assert side >= SMALLEST and side % G.size == 0, "small images are enlarged by a whole factor"
    shown = frames[4][:: side // G.size, :: side // G.size, :1]
    assert difference(shown, to_array(G.generate(z[1:2], torch.zeros(1, 0)))[0]) == 0, "greys stay exact"


def test_truncation_moves_an_image_towards_the_mean_of_its_class(checkpoints: Any, gan: Any) -> None:
    G = gancli.load(checkpoints["cgan"])
    for truncation in (0, 0.7):
        words = [f"ckpt={checkpoints['cgan']}", "n=8", f"truncation={truncation}", f"out={truncation}.npz"]
        assert gan("sample", *words)[0] == 0
        expected = to_array(G.generate(truncation * noise(range(8), G.z_dim, 0), one_hot(G.labels(8), G.classes)))
        assert np.array_equal(np.load(f"{truncation}.npz")["images"], expected)
    mean = np.load("0.npz")["images"]
    assert np.array_equal(mean[:4], mean[4:]) and not np.array_equal(mean[0], mean[1]), "one image for each class"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("seed=[0,1]", "seed=[0,1] is for walks side by side in a film; type seed=0, or add interpolate=16 out=x.gif"),
        ("seed=[] interpolate=4 out=x.gif", "seed=[] is for walks"),
        ("truncation=-1", "truncation=-1.0 is out of range, it must be from 0 to 2; type truncation=0.7"),
        ("size=9000 out=x.gif", "size=9000 is out of range"),
        ("size=64 out=x.npz", "size=64 is the width of a film's frames, and x.npz is no film; type out=x.gif"),
        ("n=1 interpolate=4 out=x.gif", "n=1 interpolate=4; type n=8 interpolate=8"),
        ("out=x.mov", "type out=grid.png, out=x.npz, out=x.gif, out=x.mp4 or out=DIR/"),
        ("animate=histroy", "did you mean history?"),
        ("animate=history out=x.webp", "x.webp is no animation; type out=x.gif, out=x.mp4 or out=x.webm"),
    ],
)
def test_mistakes_get_one_sentence_and_write_nothing(words: str, message: str, checkpoints: Any, gan: Any) -> None:
    code, _, error = gan("sample", f"ckpt={checkpoints['cgan']}", *words.split())
    assert code == 1 and message in error and len(error.splitlines()) <= 2, error
    assert not list(Path().iterdir())


def test_a_video_needs_pyav_or_ffmpeg(checkpoints: Any, gan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gancli.inference.video.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    code, _, error = gan("sample", f"ckpt={checkpoints['cgan']}", "n=2", "interpolate=2", "out=x.mp4")
    assert (
        code == 1
        and error == "gan: x.mp4 needs PyAV or ffmpeg; type pip install 'gancli[video]', or out=x.gif for a GIF\n"
    )


def test_the_saved_grids_of_a_run_are_a_film(checkpoints: Any, gan: Any) -> None:
    run = checkpoints["cgan"].parent.parent
    for form in ("gif", "webm"):
        code, out, error = gan("sample", f"ckpt={run}", "animate=history", "size=200", f"out=x.{form}")
        assert code == 0 and out == f"x.{form}\n", error
    frames = frames_of(Path("x.gif"))
    assert len(frames) == len(list((run / "samples").glob("step-*.png"))) and frames[0].shape[1] == 200
    shutil.copy(checkpoints["cgan"], "alone.safetensors")
    code, _, error = gan("sample", "ckpt=alone.safetensors", "animate=history")
    assert code == 1 and "lies in no run, whose grids animate=history shows; type ckpt=RUN" in error


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: type apt-get install chromium")
def test_a_browser_plays_videos(checkpoints: Any, gan: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: type pip install playwright")
    pytest.importorskip("av", reason="needs PyAV: type pip install av")
    for form in ("mp4", "webm"):
        words = ["n=2", "interpolate=4", "size=63", f"out=x.{form}"]
        assert gan("sample", f"ckpt={checkpoints['cgan']}", *words)[0] == 0
        Path(f"{form}.html").write_text(f'<video muted src="x.{form}"></video>')
    with sync_api.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        for form in ("mp4", "webm"):
            page.goto(Path(f"{form}.html").absolute().as_uri())
            found = page.evaluate("""async () => {
                const video = document.querySelector("video");
                const ended = new Promise((resolve, reject) => { video.onended = resolve; video.onerror = reject; });
                await video.play();
                await ended;
                return [video.videoWidth, video.duration, video.currentTime];
            }""")
            assert found == [64, pytest.approx(9 * 0.04, abs=0.02), pytest.approx(found[1])], "a white column is added"
