"""Atomic files, texts, checks of typed values, devices, cached tensors, seeds and memory."""

import math
import os

import pytest
import torch

from gancli.runtime import bundled, cache
from gancli.runtime.checks import check_choice, check_number
from gancli.runtime.device import choose_device
from gancli.runtime.files import write_atomically, write_text
from gancli.runtime.hardware import free_memory, in_batches, is_out_of_memory, peak_memory
from gancli.runtime.seeding import derive_seed
from gancli.runtime.text import code_span, csv_cell, markdown, one_line, plural, printable, table, without_nan


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(durable, tmp_path):
    file = write_text(tmp_path / "folder" / ("n" * 240 + ".txt"), "old")

    def fail(partial):
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(file, fail, durable)
    assert file.read_text() == "old" and [*file.parent.iterdir()] == [file]
    write_atomically(file, lambda partial: partial.write_text("new"), durable)
    assert file.read_text() == "new" and [*file.parent.iterdir()] == [file]


def test_texts_and_tables():
    assert one_line("a\n\tb\x1b[2J \ud800") == "a b [2J \\ud800"
    assert one_line(ValueError()) == "ValueError" and one_line("x" * 10, limit=4) == "xxx…"
    assert printable("\udcff.png") == "\\udcff.png"
    assert [plural(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert without_nan({"a": [math.nan, 1.0, (math.inf,)]}) == {"a": [None, 1.0, [None]]}
    rows = [["model", "fd"], ["dcgan", "12.5"]]
    assert table(rows) == "model    fd\ndcgan  12.5"
    assert table(rows, markdown=True) == "| model |   fd |\n|-------|-----:|\n| dcgan | 12.5 |"


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, {"least": 1}, "k=0 is out of range, it must be 1 or more; type k=1"),
        (2, {"least": 0, "most": 1}, "k=2 is out of range, it must be from 0 to 1; type k=1"),
        (0, {"above": 0, "example": 0.5}, "k=0 is out of range, it must be above 0; type k=0.5"),
        (0, {"above": 0, "most": 1}, "k=0 is out of range, it must be above 0, at most 1; type k=1"),
        (True, {"least": 0}, "k=True is out of range"),
        ("1", {"least": 0}, "k=1 is out of range"),
        (math.nan, {}, "k=nan is out of range"),
        (2.5, {"least": 1, "whole": True}, "it must be a whole number, 1 or more"),
    ],
)
def test_numbers_out_of_range_say_what_to_type(value, bounds, message):
    with pytest.raises(ValueError) as error:
        check_number("k", value, **bounds)
    assert message in str(error.value)


def test_values_in_range_and_known_choices_pass():
    check_number("k", 1, least=1, most=1)
    check_number("k", 2.0, whole=True)
    assert check_choice("k", "a", ["a", "b"]) == "a"
    with pytest.raises(ValueError, match=r"k=applee is not one of apple, pear; did you mean apple\?"):
        check_choice("k", "applee", ["apple", "pear"])


def test_devices_that_are_unknown_or_missing_say_what_to_type(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device=gpu is unknown; type device=auto"):
        choose_device("gpu")
    with pytest.raises(ValueError, match="device=cuda:1 is not on this machine; type device=auto"):
        choose_device("cuda:1")


def test_a_cache_that_was_changed_is_made_again_and_an_unwritable_one_is_no_error(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(cache, "FOLDER", tmp_path)
    file = cache.cache_path("sets", "mnist", 28)
    assert file == cache.cache_path("sets", "mnist", 28) != cache.cache_path("sets", "mnist", 32)
    assert cache.read_cached("sets", "mnist", 28) == {} and not capfd.readouterr().err
    cache.write_cached({"x": torch.eye(2).T, "none": torch.empty(0, 3)}, "sets", "mnist", 28)
    whole = file.read_bytes()
    assert cache.read_cached("sets", "mnist", 28)["x"].equal(torch.eye(2)) and not capfd.readouterr().err
    for damaged in (whole[:-3], whole[:-1] + b"\1", b"", whole.replace(b"mnist", b"other")):
        file.write_bytes(damaged)
        assert cache.read_cached("sets", "mnist", 28) == {}
        assert "is not used, since it was changed; it is made again" in capfd.readouterr().err
    file.write_bytes(whole)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    if os.geteuid() == 0:
        os.chown(file, 54321, -1)
        assert cache.read_cached("sets", "mnist", 28) == {} and "another user made it" in capfd.readouterr().err
    monkeypatch.setattr(cache, "FOLDER", file)
    cache.write_cached({"x": torch.zeros(1)}, "sets")
    assert file.is_file()


def test_bundled_files_are_those_of_this_version(tmp_path, monkeypatch):
    bundled_files = [file for name in bundled.SHA256 for file in bundled.PACKAGE.rglob(name)]
    assert len(bundled_files) == len(bundled.SHA256)
    for file in bundled_files:
        assert bundled.verified(file) == file
    (tmp_path / "mnist10k.npz").write_bytes(b"other digits")
    monkeypatch.setattr(bundled, "PACKAGE", tmp_path)
    with pytest.raises(ValueError, match="is not the file that belongs to this version and was not opened"):
        bundled.verified(tmp_path / "mnist10k.npz")


def test_seeds_and_memory():
    assert derive_seed(0, "z", 0) == 6765408965447103262 != derive_seed(0, "z", 1)
    assert 0 <= derive_seed(-1, "x") < 2**63
    assert peak_memory(torch.device("cpu")) > 0 and free_memory() > 0
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(RuntimeError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ")) and not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_rows_are_computed_by_halves_where_memory_ends(error):
    sizes = []

    def compute(x, y):
        sizes.append(len(x))
        if len(x) > 3:
            raise error
        return x + y

    x, y = torch.arange(10), torch.ones(10)
    assert torch.equal(torch.cat(in_batches(compute, x, y, size=8)), x + y) and sizes == [8, 4, 2, 2, 2, 2, 2]
    assert torch.equal(torch.cat(in_batches(lambda x: x, x)), x) and len(in_batches(len, x)) == 1
    assert in_batches(len, x[:0]) == [0]
    with pytest.raises(type(error)):
        in_batches(lambda x: compute(torch.zeros(4), 0), x)
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(lambda x: (_ for _ in ()).throw(RuntimeError("shapes differ")), x)


def test_text_of_names_is_inert_in_csv_and_markdown():
    cells = ["=1+1", "+cmd", "-x", "@SUM(A1)", "\tx", "-1.5", "1e-4", "mlp"]
    assert [csv_cell(cell) for cell in cells] == ["'=1+1", "'+cmd", "'-x", "'@SUM(A1)", "'\tx", *cells[5:]]
    assert markdown("![x](http://y) <b>`a`*|") == r"!\[x\](http://y) &lt;b&gt;\`a\`\*\|"
    assert code_span("gan") == "`gan`" and code_span("a`b``c") == "``` a`b``c ```"
