"""The file of decoded pictures has their very pixels: interrupted, damaged, or made by two at once, too."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY, assert_same, config, learned, without_clocks
from PIL import Image

from gancli.data import decode_cache as module
from gancli.data import folder as reader
from gancli.data.dataset import ImageDataset
from gancli.data.folder import folder
from gancli.data.image_files import FITS, decode, fitted
from gancli.runtime import locks
from gancli.training.run import Run

SIZE = 8
BAD = {"cat/empty.jpg": "is empty", "dog/text.png": "is not a picture that Pillow knows", "loose.png": "lies beside"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Nine good pictures of two classes, of several modes and extents, two bad ones, and one that has no class."""
    root, rng = tmp_path / "pictures", np.random.default_rng(0)
    shapes = {"cat/a.png": (8, 8, 3), "cat/b.png": (20, 13), "cat/c.png": (9, 30, 4), "cat/deep/d.jpg": (40, 40, 3)}
    shapes |= {f"dog/{k}.png": (8 + k, 12, 3) for k in range(5)} | {"loose.png": (8, 8, 3)}
    for name, shape in shapes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(root / name)
    (root / "cat/empty.jpg").touch()
    (root / "dog/text.png").write_text("no picture")
    return root


def load(root: Path, **settings) -> ImageDataset:
    return folder(**{"path": str(root), "size": SIZE, "cache": str(root.parent / "cache"), **settings})


def expected(root: Path, channels: int = 3, fit: str = "crop") -> torch.Tensor:
    """Read one by one, in the order of the names."""
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.*") if p.is_file())
    read = [fitted(decode(root / n, SIZE)[0], SIZE, channels, fit) for n in names if n not in BAD]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2)


def files(root: Path, suffix: str = "") -> list[Path]:
    return sorted((root.parent / "cache").glob(f"*/[!.]*{suffix}"))


def assert_right(data: ImageDataset, images: torch.Tensor) -> None:
    assert torch.equal(data.images, images) and data.images.is_contiguous()
    assert data.class_names == ["cat", "dog"] and data.labels.tolist() == [0] * 4 + [1] * (len(images) - 4)
    assert [name for name, _ in data.skipped] == sorted(BAD)
    assert all(BAD[name] in reason for name, reason in data.skipped)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files that have been decoded."""
    names: list[str] = []

    def told(path: Path, side: int | None = None):
        names.append(path.name)
        return decode(path, side)

    monkeypatch.setattr(reader, "decode", told)
    return names


# --- what it holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", FITS)
def test_the_file_has_the_pixels_of_the_pictures(fit, channels, pictures, read):
    images = expected(pictures, channels, fit)
    first = load(pictures, fit=fit, channels=channels)
    assert_right(first, images)
    assert len(read) == 11 and first.mapped and not first.warnings
    assert_right(load(pictures, fit=fit, channels=channels), images)
    assert len(read) == 11, "decoded once"
    assert sum(file.stat().st_size for file in files(pictures, ".pixels")) == images.numel()


def test_settings_have_files_of_their_own(pictures, read):
    for settings in ({}, {"size": 4}, {"channels": 1}, {"fit": "pad"}):
        load(pictures, **settings)
    assert len(read) == 44 and len(files(pictures)) == 8
    load(pictures, fit="pad")
    assert len(read) == 44


def touched(root: Path) -> None:
    os.utime(root / "dog/1.png", ns=(1, 1))


def added(root: Path) -> None:
    shutil.copy(root / "dog/1.png", root / "dog/9.png")


def removed(root: Path) -> None:
    (root / "dog/1.png").unlink()


def repainted(root: Path) -> None:
    Image.new("RGB", (70, 50), "red").save(root / "dog/1.png")


@pytest.mark.parametrize("change", [touched, added, removed, repainted])
def test_pictures_that_changed_are_decoded_and_nothing_is_left_of_the_old(change, pictures):
    before = load(pictures).images
    held = before.clone()
    change(pictures)
    assert_right(load(pictures), expected(pictures))
    assert len(files(pictures)) == 2
    if os.name == "posix":
        assert torch.equal(before, held), "whoever uses the old ones has them still"


def test_one_that_could_not_be_opened_is_read_once_it_can(pictures, monkeypatch):
    with monkeypatch.context() as closed:
        closed.setattr(module.os, "access", lambda path, mode: not str(path).endswith("3.png"))
        closed.setattr(
            reader, "decode", lambda path, side: decode(path.parent / path.name.replace("3.", "none."), side)
        )
        assert len(load(pictures)) == 8
    assert_right(load(pictures), expected(pictures))


# --- interrupted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 5, 10])
def test_it_goes_on_where_it_was_interrupted(at, pictures, read, monkeypatch):
    order = [Path(n).name for n in sorted(str(p) for p in pictures.rglob("*.*") if p.is_file()) if "loose" not in n]
    with monkeypatch.context() as broken:

        def breaks(path: Path, side: int | None = None):
            if path.name == order[at]:
                raise KeyboardInterrupt
            return decode(path, side)

        broken.setattr(reader, "decode", breaks)
        with pytest.raises(KeyboardInterrupt):
            load(pictures)
    assert_right(load(pictures), expected(pictures))
    assert len(order) == 11 and sorted(read) == sorted(order[at:])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_it_goes_on_where_it_was_killed(after, pictures, monkeypatch):
    """Between a writing of pixels and that of their lines, after so many of them; from then on nothing is written."""
    with monkeypatch.context() as broken:
        written = []

        def sync(file: int) -> None:
            written.append(file)
            if len(written) > after:
                raise Killed

        broken.setattr(module, "PAUSE", -1.0)
        broken.setattr(module.os, "fsync", sync)
        with pytest.raises(Killed):
            load(pictures)
    assert len(files(pictures, ".index")[0].read_text().splitlines()) == after
    assert_right(load(pictures), expected(pictures))


def test_a_process_that_is_killed_loses_what_it_had_not_told(pictures, read):
    """A real one, which ends without a word after six pictures."""
    code = f"""
import os
from pathlib import Path
from gancli.data import decode_cache as decoded
from gancli.data import folder
decoded.PAUSE, decode = -1.0, folder.decode
def dies(path, side):
    return os._exit(9) if path.name == "2.png" else decode(path, side)
folder.decode = dies
decoded.each = lambda read, paths: (read(path) if path.stat().st_size > 10 else "bad" for path in paths)
folder.folder({str(pictures)!r}, {SIZE}, cache={str(pictures.parent / "cache")!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    told = files(pictures, ".index")[0].read_text().splitlines()
    assert len(told) == 7 and json.loads(told[4]) == "bad"
    data = load(pictures)
    assert torch.equal(data.images, expected(pictures)) and sorted(read) == ["2.png", "3.png", "4.png", "text.png"]


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("what", ["pixels", "index"])
def test_half_a_file_is_made_whole(what, share, pictures):
    load(pictures)
    file = files(pictures, f".{what}")[0]
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert_right(load(pictures), expected(pictures))
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "junk", [b"\0" * 20, b"[8,", b"[3, 8, 8", b"17\n", b'{"a": 1}\n', b"\xff\xfe\n", b"[3, 99, 99]\n"]
)
def test_junk_at_the_end_of_an_index_is_not_believed(junk, pictures):
    """As a power cut may leave it."""
    load(pictures)
    file = files(pictures, ".index")[0]
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:6]) + junk)
    assert_right(load(pictures), expected(pictures))
    assert file.read_bytes() == whole


@pytest.mark.parametrize("gone", ["pixels", "index"])
def test_a_file_that_is_gone_is_made_again(gone, pictures):
    load(pictures)
    files(pictures, f".{gone}")[0].unlink()
    assert_right(load(pictures), expected(pictures))


# --- several at once, and where it cannot be written --------------------------------------------------------------


def both(call: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("with_locks", [True, False])
def test_two_that_begin_at_once_have_the_same(with_locks, pictures, monkeypatch, capsys):
    """Where there are locks one waits for the other; where there are none both write the same to the same place."""
    read: list[str] = []

    def slow(path: Path, side: int | None = None):
        time.sleep(0.02)
        read.append(path.name)
        return decode(path, side)

    def no_locks(file: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(reader, "decode", slow)
    monkeypatch.setattr(module, "PAUSE", -1.0)
    if not with_locks:
        monkeypatch.setattr(locks, "hold", no_locks)
    made: list[ImageDataset] = []
    both(lambda: made.append(load(pictures)))
    for data in made:
        assert_right(data, expected(pictures))
    assert len(made) == 2 and len(files(pictures)) == 2
    if locks:
        assert len(read) == 11 and "another process decodes" in capsys.readouterr().err


def test_without_a_folder_to_write_to_all_is_done_in_memory(pictures, read):
    (pictures.parent / "file").touch()
    for _ in range(2):
        data = load(pictures, cache=str(pictures.parent / "file" / "cache"))
        assert_right(data, expected(pictures))
        assert not data.mapped and "held in memory" in data.warnings[0] and "type data.cache=DIR" in data.warnings[0]
    assert len(read) == 22


def test_what_fits_neither_on_the_disk_nor_into_memory_is_refused(pictures, monkeypatch):
    (pictures.parent / "file").touch()
    monkeypatch.setattr(module, "free_memory", lambda: 1000.0)
    said = (
        r"^the decoded pictures of \S+ are 0 MB, 0 MB of memory are free, and \S+ cannot be written to \(.*: type data"
    )
    with pytest.raises(ValueError, match=said) as error:
        load(pictures, cache=str(pictures.parent / "file" / "cache"))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells how much memory there is")
def test_a_file_larger_than_memory_can_be_mapped(tmp_path):
    size = 2 * int(Path("/proc/meminfo").read_text().split()[1]) * 1024 + (1 << 36)
    with (tmp_path / "sparse").open("w+b") as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("this file system has no such files")
        pixels = module.mapped(file, size)
    assert len(pixels) == size and not pixels[-1]


def test_pixels_that_are_read_only_are_not_warned_of(pictures, recwarn):
    load(pictures)
    assert load(pictures).mapped and not recwarn.list


def test_what_is_whole_needs_nobody_to_write(pictures, monkeypatch):
    load(pictures)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(locks, "hold", refuse)
    assert load(pictures).mapped


def test_a_full_disk_is_one_sentence(pictures, monkeypatch):
    sentence = (
        r"^the decoded pictures of \S+ cannot be written to \S+ \({}, [\d,]+ MB are free there\): .*data\.cache=DIR"
    )
    full = shutil.disk_usage("/")._replace(free=1000)
    with monkeypatch.context() as disk:
        disk.setattr(shutil, "disk_usage", lambda path: full)
        with pytest.raises(ValueError, match=sentence.format("0 MB are needed")) as error:
            load(pictures)
        assert "\n" not in str(error.value)

    def no_space(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(module.os, "fsync", no_space)
        with pytest.raises(ValueError, match=sentence.format("No space left on device")):
            load(pictures)
    assert_right(load(pictures), expected(pictures))


def test_strict_refuses_from_the_file_too(pictures):
    (pictures / "loose.png").unlink()
    said = r"cat/empty\.jpg cannot be used \(is empty\).*data\.strict=false"
    for _ in range(2):
        with pytest.raises(ValueError, match=said):
            load(pictures, strict=True)
    load(pictures)
    with pytest.raises(ValueError, match=said):
        load(pictures, strict=True)


# --- in a run -----------------------------------------------------------------------------------------------------


def test_a_run_on_a_mapped_folder_goes_on_to_the_bit(tmp_path):
    """As one that was never interrupted, and as one whose pictures are in memory; and no thread is left behind."""
    rng = np.random.default_rng(0)
    for k in range(20):
        path = tmp_path / "pictures" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(path)
    (tmp_path / "file").touch()

    def begin(name: str, cache: str = "cache") -> Run:
        (tmp_path / name).mkdir(exist_ok=True)
        words = ["model=cgan", "data=folder", f"data.path={tmp_path}/pictures", f"data.cache={tmp_path}/{cache}"]
        tiny = [word for word in TINY if word not in ("data=synthetic", "data.n=64")]
        return Run(config(*tiny, *words, "data.flip=true", tiny=False), tmp_path / name, [], quiet=True)

    runs = {"a": begin("a"), "b": begin("b"), "memory": begin("memory", "file/cache")}
    assert runs["a"].trainer.batches.streamed and not runs["memory"].trainer.batches.streamed
    play = runs["b"].trainer.round

    def dies(progress: float) -> None:
        if runs["b"].trainer.step == 3:
            raise MemoryError
        play(progress)

    runs["b"].trainer.round = dies  # type: ignore[method-assign]
    with pytest.raises(Exception):  # noqa: B017
        runs["b"].train()
    for run in (begin("b"), runs["a"], runs["memory"]):
        run.train()
    for other in ("b", "memory"):
        a, b = (learned(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("a", other))
        assert_same(a, b)
        assert without_clocks(tmp_path / "a" / "metrics.jsonl") == without_clocks(tmp_path / other / "metrics.jsonl")
    assert "remark: the decoded pictures are held in memory" in (tmp_path / "memory" / "log.txt").read_text()
    assert "remark" not in (tmp_path / "a" / "log.txt").read_text()
    assert "batches" not in [thread.name for thread in threading.enumerate()]
