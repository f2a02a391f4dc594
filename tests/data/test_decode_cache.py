"""The cache of decoded images holds their exact pixels, also when interrupted, damaged, or written by two processes."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from itertools import chain, repeat
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import TINY, assert_same_runs, config
from PIL import Image

from gancli.data import decode_cache
from gancli.data import folder as folder_module
from gancli.data.dataset import ImageDataset
from gancli.data.folder import folder
from gancli.data.image_files import FIT_MODES, decode_image, fit_image
from gancli.runtime import locks
from gancli.training.run import TrainingRun

SIZE = 8
BAD = {
    "cat/empty.jpg": "is empty",
    "dog/text.png": "is not an image that Pillow knows",
    "loose.png": "in no class folder",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Nine good images of two classes, of several modes and sizes, two bad ones, and one without a class."""
    root, rng = tmp_path / "images", np.random.default_rng(0)
    shapes = {"cat/a.png": (8, 8, 3), "cat/b.png": (20, 13), "cat/c.png": (9, 30, 4), "cat/deep/d.jpg": (40, 40, 3)}
    shapes |= {f"dog/{k}.png": (8 + k, 12, 3) for k in range(5)} | {"loose.png": (8, 8, 3)}
    for name, shape in shapes.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=shape, dtype=np.uint8)).save(root / name)
    (root / "cat/empty.jpg").touch()
    (root / "dog/text.png").write_text("no image")
    return root


def load(root: Path, **settings) -> ImageDataset:
    return folder(**{"path": str(root), "size": SIZE, "cache": str(root.parent / "cache"), **settings})


def expected(root: Path, channels: int = 3, fit: str = "crop") -> torch.Tensor:
    """Decode one by one, in the order of the names."""
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.*") if p.is_file())
    images = [fit_image(decode_image(root / n, SIZE)[0], SIZE, channels, fit) for n in names if n not in BAD]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def files(root: Path, suffix: str = "") -> list[Path]:
    return sorted((root.parent / "cache").glob(f"*/[!.]*{suffix}"))


def assert_right(data: ImageDataset, images: torch.Tensor) -> None:
    assert torch.equal(data.images, images) and data.images.is_contiguous()
    assert data.class_names == ["cat", "dog"] and data.labels.tolist() == [0] * 4 + [1] * (len(images) - 4)
    assert [name for name, _ in data.skipped] == sorted(BAD)
    assert all(BAD[name] in reason for name, reason in data.skipped)


@pytest.fixture
def decoder(monkeypatch) -> Mock:
    """Decoder that records its calls."""
    decoder = Mock(side_effect=decode_image)
    monkeypatch.setattr(folder_module, "decode_image", decoder)
    return decoder


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", FIT_MODES)
def test_the_cache_holds_the_pixels_and_is_written_once(fit, channels, root, decoder):
    images = expected(root, channels, fit)
    first = load(root, fit=fit, channels=channels)
    assert_right(first, images)
    assert len(decoder.call_args_list) == 11 and first.memory_mapped and not first.warnings
    assert_right(load(root, fit=fit, channels=channels), images)
    assert len(decoder.call_args_list) == 11, "decoded once"
    assert sum(file.stat().st_size for file in files(root, ".pixels")) == images.numel()


def test_settings_have_caches_of_their_own(root, decoder):
    for settings in ({}, {"size": 4}, {"channels": 1}, {"fit": "pad"}, {"fit": "pad"}):
        load(root, **settings)
    assert len(decoder.call_args_list) == 44 and len(files(root)) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.utime(root / "dog/1.png", ns=(1, 1)),
        lambda root: shutil.copy(root / "dog/1.png", root / "dog/9.png"),
        lambda root: (root / "dog/1.png").unlink(),
        lambda root: Image.new("RGB", (70, 50), "red").save(root / "dog/1.png"),
    ],
    ids=["touched", "added", "removed", "repainted"],
)
def test_a_changed_folder_replaces_its_cache(change, root):
    before = load(root).images
    copy = before.clone()
    change(root)
    assert_right(load(root), expected(root))
    assert len(files(root)) == 2
    if os.name == "posix":
        assert torch.equal(before, copy), "mapped pixels stay valid"


def test_an_image_that_could_not_be_opened_is_decoded_once_it_can(root, monkeypatch):
    with monkeypatch.context() as closed:
        closed.setattr(decode_cache.os, "access", lambda path, mode: not path.endswith("3.png"))
        closed.setattr(os.path, "isfile", lambda path: path.name != "3.png")
        assert len(load(root)) == 8
    assert_right(load(root), expected(root))


def test_strict_refuses_bad_images_of_the_cache_too(root):
    (root / "loose.png").unlink()
    message = r"cat/empty\.jpg cannot be used \(is empty\).*data\.strict=false"
    with pytest.raises(ValueError, match=message):
        load(root, strict=True)
    load(root)
    with pytest.raises(ValueError, match=message):
        load(root, strict=True)


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_decoding_continues_after_a_kill_between_pixels_and_lines(after, root, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(decode_cache, "FLUSH_SECONDS", -1.0)
        fsync = Mock(side_effect=chain(repeat(None, after), repeat(KeyboardInterrupt)))
        killed.setattr(decode_cache.os, "fsync", fsync)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    assert len(files(root, ".index")[0].read_text().splitlines()) == after + 1
    assert_right(load(root), expected(root))


@pytest.mark.slow
def test_a_process_that_dies_loses_only_what_it_had_not_flushed(root, decoder):
    code = f"""
import os
from gancli.data import decode_cache, folder
decode_cache.FLUSH_SECONDS, decode = -1.0, folder.decode_image
folder.decode_image = lambda path, side: os._exit(9) if path.name == "2.png" else decode(path, side)
decode_cache.map_parallel = lambda read, paths: (read(p) if p.stat().st_size > 10 else "bad" for p in paths)
folder.folder({str(root)!r}, {SIZE}, cache={str(root.parent / "cache")!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    lines = files(root, ".index")[0].read_text().splitlines()
    assert len(lines) == 8 and json.loads(lines[5]) == "bad"
    assert torch.equal(load(root).images, expected(root))
    assert sorted(call.args[0].name for call in decoder.call_args_list) == ["2.png", "3.png", "4.png", "text.png"]


JUNK = [b"\0" * 20, b"[8,", b"[3, 8, 8", b"17\n", b'{"a": 1}\n', b"\xff\xfe\n", b"[3, 99, 99]\n"]


@pytest.mark.parametrize(
    ("suffix", "fraction", "junk"),
    [
        *((suffix, fraction, b"") for suffix in ("pixels", "index") for fraction in (None, 0.0, 0.2, 0.5, 0.99)),
        *(("index", 0.5, junk) for junk in JUNK),
    ],
)
def test_a_file_that_is_cut_missing_or_damaged_is_completed(suffix, fraction, junk, root):
    load(root)
    file = files(root, f".{suffix}")[0]
    content = file.read_bytes()
    if fraction is None:
        file.unlink()
    else:
        complete = content[: int(fraction * len(content))]
        file.write_bytes(complete[: complete.rfind(b"\n") + 1] + junk if junk else complete)
    assert_right(load(root), expected(root))
    assert file.read_bytes() == content


@pytest.mark.parametrize("with_locks", [True, False])
def test_two_that_decode_at_once_get_the_same(with_locks, root, decoder, monkeypatch, capsys):
    results: list[ImageDataset] = []
    decoder.side_effect = lambda path, side: time.sleep(0.02) or decode_image(path, side)
    monkeypatch.setattr(decode_cache, "FLUSH_SECONDS", -1.0)
    if not with_locks:
        error = OSError(errno.ENOLCK, "No locks available")
        monkeypatch.setattr(locks, "lock_file", Mock(side_effect=error))
    threads = [threading.Thread(target=lambda: results.append(load(root))) for _ in range(2)]
    for method in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            method(thread)
    assert len(results) == 2 and len(files(root)) == 2
    for data in results:
        assert_right(data, expected(root))
    if with_locks:
        assert len(decoder.call_args_list) == 11 and "another process decodes" in capsys.readouterr().err


def test_without_a_writable_folder_images_are_in_memory(root, decoder, monkeypatch):
    (root.parent / "file").touch()
    unwritable = str(root.parent / "file" / "cache")
    for _ in range(2):
        data = load(root, cache=unwritable)
        assert_right(data, expected(root))
        assert not data.memory_mapped
        assert "are in memory" in data.warnings[0] and "type data.cache=DIR" in data.warnings[0]
    assert len(decoder.call_args_list) == 22
    monkeypatch.setattr(decode_cache, "free_memory", lambda: 1000.0)
    message = (
        r"^the 11 decoded images of \S+ take 0 MB, 0 MB of memory are free, and \S+ cannot be written to \(.*; type"
    )
    with pytest.raises(ValueError, match=message) as error:
        load(root, cache=unwritable)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory's size from /proc")
def test_a_file_larger_than_memory_can_be_mapped(tmp_path):
    size = 2 * int(Path("/proc/meminfo").read_text().split()[1]) * 1024 + (1 << 36)
    with (tmp_path / "sparse").open("w+b") as file:
        try:
            file.truncate(size)
        except OSError:
            pytest.skip("this file system has no sparse files")
        pixels = decode_cache.memory_map(file, size)
    assert len(pixels) == size and not pixels[-1]


def test_a_complete_cache_needs_no_write_access(root, monkeypatch):
    load(root)
    for owner, name in ((Path, "mkdir"), (Path, "touch"), (locks, "lock_file")):
        monkeypatch.setattr(owner, name, Mock(side_effect=PermissionError))
    assert load(root).memory_mapped


def test_images_that_lacked_a_decoder_are_tried_again_with_it(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    for heif, reason in ((None, "pip install 'gancli[heif]'"), (Mock(), "is damaged")):
        with monkeypatch.context() as installed:
            installed.setitem(sys.modules, "pillow_heif", heif)
            installed.setattr("importlib.util.find_spec", lambda name, heif=heif: heif)
            assert reason in folder(str(tmp_path), size=8).skipped[0][1]


def test_a_full_disk_is_one_sentence(root, monkeypatch):
    full = Mock(return_value=shutil.disk_usage("/")._replace(free=1000))
    no_space = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    for owner, name, fake, why in (
        (shutil, "disk_usage", full, "0 MB are needed for 11 images"),
        (decode_cache.os, "fsync", no_space, "No space left on device"),
    ):
        message = rf"^the decoded images of \S+ cannot be written to \S+ \({why}, [\d,]+ MB .*data\.cache=DIR"
        with monkeypatch.context() as disk, pytest.raises(ValueError, match=message) as error:
            disk.setattr(owner, name, fake)
            load(root)
        assert "\n" not in str(error.value)
    assert_right(load(root), expected(root))


@pytest.mark.slow
def test_a_run_on_a_mapped_folder_resumes_to_the_bit(tmp_path):

    rng = np.random.default_rng(0)
    for name in ("images/a", "images/b", "a", "b", "memory"):
        (tmp_path / name).mkdir(parents=True)
    for k in range(20):
        pixels = rng.integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "ab"[k % 2] / f"{k}.png")
    (tmp_path / "file").touch()

    def begin(name: str, cache: str = "cache") -> TrainingRun:
        words = ["model=cgan", "data=folder", f"data.path={tmp_path}/images", f"data.cache={tmp_path}/{cache}"]
        tiny = [word for word in TINY if word not in ("data=synthetic", "data.n=64")]
        return TrainingRun(config(*tiny, *words, "data.flip=true", tiny=False), tmp_path / name, [])

    runs = {"a": begin("a"), "b": begin("b"), "memory": begin("memory", "file/cache")}
    assert runs["a"].trainer.batches.streamed and not runs["memory"].trainer.batches.streamed
    step = runs["b"].trainer.train_step

    def dies(progress: float) -> None:
        if runs["b"].trainer.step == 3:
            raise MemoryError
        step(progress)

    runs["b"].trainer.train_step = dies  # type: ignore[method-assign]
    with pytest.raises(Exception):  # noqa: B017
        runs["b"].train()
    for run in (begin("b"), runs["a"], runs["memory"]):
        run.train()
    for other in ("b", "memory"):
        assert_same_runs(tmp_path / "a", tmp_path / other)
    assert "the decoded images are in memory" in (tmp_path / "memory" / "log.txt").read_text()
    assert "are in memory" not in (tmp_path / "a" / "log.txt").read_text()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("change", ["header", "owner"])
def test_a_cache_that_is_not_believed_is_made_again(change, root, capfd):
    if change == "owner" and os.geteuid():
        pytest.skip("only root can give files away")
    whole = load(root)
    file = files(root, ".index")[0]
    text = file.read_bytes()
    if change == "header":
        file.write_bytes(text.replace(b'"bytes_each"', b'"bytes_EACH"', 1))
    else:
        os.chown(file, 54321, -1)
    capfd.readouterr()
    assert load(root).images.equal(whole.images)
    error = capfd.readouterr().err
    assert ("its header was changed" if change == "header" else "another user made it") in error, error
    assert files(root, ".index")[0].read_bytes() == text
