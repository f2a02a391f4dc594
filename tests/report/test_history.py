from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_fixtures import FINISHED, metric_row, write_run

from gancli.commands import report
from gancli.report.history import LARGEST_GIF, write_history
from gancli.report.logger import RunLogger
from gancli.report.run_folder import read_run
from gancli.runtime.terminal import Terminal


def write_grids(folder: Path, n: int, side: int, mode: str) -> Path:
    """Write a run of n grids of noise, which compresses worse than any image."""
    folder = write_run(folder, [metric_row(10 * i) for i in range(1, n)], steps=(), ending=FINISHED)
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 256, (side, side) if mode == "L" else (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"step-{10 * i:07d}.png")
    return folder


def frames_of(path: Path) -> list[tuple[int, Image.Image]]:
    """Return milliseconds and image of each frame."""
    with Image.open(path) as gif:
        assert gif.info["loop"] == 0
        frames = []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append((gif.info["duration"], gif.convert("RGB")))
    return frames


def test_a_gif_shows_first_to_last_grid_and_rests_on_the_last(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    path = write_history(run)
    frames = frames_of(path)
    assert path == tmp_path / "run" / "samples" / "history.gif"
    assert [time for time, _ in frames] == [500, 500, 2500]
    colours = [image.getpixel((30, 30)) for _, image in frames]
    assert [abs(red - step) <= 8 for (red, _, _), step in zip(colours, (0, 100, 200))] == [True] * 3
    assert frames[0][1].height > 66, "a label is below the grid"
    before = path.read_bytes()
    assert write_history(run).read_bytes() == before


def test_black_white_and_grey_stay_what_they_are(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=())
    for i, value in enumerate((0, 255, 130)):
        Image.new("L", (64, 64), value).save(folder / "samples" / f"step-{i:07d}.png")
    frames = frames_of(write_history(read_run(folder)))
    shown = [image.getpixel((9, 9)) for _, image in frames]
    assert shown[:2] == [(0, 0, 0), (255, 255, 255)] and len(set(shown[2])) == 1 and abs(shown[2][0] - 130) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_gif_of_a_long_run_of_large_grids_stays_small(tmp_path: Path, mode: str) -> None:
    path = write_history(read_run(write_grids(tmp_path / "run", 60, 700, mode)))
    assert path.stat().st_size < 1.2 * LARGEST_GIF
    assert 10 <= len(frames_of(path)) <= 40


def test_broken_grids_and_other_sizes_are_no_obstacle(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "samples" / "step-0000100.png").write_bytes(b"half a fi")
    Image.new("L", (40, 90)).save(folder / "samples" / "step-0000050.png")
    assert len(frames_of(write_history(read_run(folder)))) == 3
    empty = write_run(tmp_path / "empty", steps=())
    with pytest.raises(ValueError, match=r"empty' has no grid in samples/ to animate"):
        write_history(read_run(empty))


def test_a_history_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", steps=())
    RunLogger(folder, Terminal(quiet=True)).history()
    assert "history.gif was not written" in (folder / "log.txt").read_text()


def test_the_command_animates_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name) for name in ("a b", "c")]
    report.main([str(runs[0])], gif=True)
    assert capsys.readouterr().out.splitlines()[-1] == str(runs[0] / "samples" / "history.gif")
    report.main([str(runs[1])], out=str(tmp_path / "new" / "x.GIF"))
    assert len(frames_of(tmp_path / "new" / "x.GIF")) == 3 and not (runs[1] / "index.html").exists()
    report.main([str(tmp_path)], gif=True)
    assert (runs[1] / "samples" / "history.gif").exists()
    with pytest.raises(ValueError, match=r"is the animation of one run, but 2 were given; type gif=true"):
        report.main([str(tmp_path)], out="x.gif")


def test_an_mp4_needs_a_library_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(write_run(tmp_path / "run"))
    monkeypatch.setattr("gancli.inference.video.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"type pip install 'gancli\[video\]', or out=x.gif"):
        write_history(run, tmp_path / "x.mp4")
    assert not list(tmp_path.glob("*.mp4"))
    ffmpeg = tmp_path / "ffmpeg"
    ffmpeg.write_text('#!/bin/sh\nfor last; do :; done\n/bin/cat > "$last"\n')
    ffmpeg.chmod(0o755)
    assert write_history(run, tmp_path / "x.mp4").stat().st_size % (66 * 88 * 3) == 0


def test_an_mp4_rests_on_the_last_grid(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: type pip install av")
    path = write_history(read_run(write_run(tmp_path / "run")), tmp_path / "x.mp4")
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert [round(int(frame[30, 30, 0]), -2) for frame in frames] == [0, 100, *[200] * 6]
