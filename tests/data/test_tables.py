"""Parquet files and folders of the library `datasets` as sources: splits, classes, bytes, and what is refused."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gancli.commands.data import main as check
from gancli.data import archive
from gancli.data.contents import describe_files
from gancli.data.folder import folder
from gancli.runtime import cache
from gancli.runtime.files import user_folder

datasets = pytest.importorskip("datasets", reason="needs the extra: type pip install 'gancli[datasets]'")
KINDS = ["cat", "big dog"]
OTHER = datasets.ClassLabel(names=["x", "y"])
IMAGE, CLASS, TEXT = datasets.Image(), datasets.ClassLabel(names=KINDS), datasets.Value("string")


def encoded(value: int, form: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, form)
    return file.getvalue()


def table(n: int = 6, label: Any = CLASS, image: Any = IMAGE, **more: Any) -> Any:
    """Return a table of n images, every other one a big dog."""
    labels = [i % 2 if isinstance(label, datasets.ClassLabel) else KINDS[i % 2] for i in range(n)]
    rows = [{"bytes": encoded(20 * i, "jpeg" if i == 1 else "png"), "path": None} for i in range(n)]
    columns = {"image": (image, rows), "label": (label, labels)}
    columns |= {name: (feature, [value] * n) for name, (feature, value) in more.items()}
    features = {name: feature for name, (feature, _) in columns.items() if feature}
    return datasets.Dataset.from_dict({name: columns[name][1] for name in features}, datasets.Features(features))


def snapshot(root: Path, **splits: Any) -> Path:
    """Write parquet files as a repository of a hub has them, with the files that lie beside them."""
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text("cats and dogs")
    (root / "load.py").write_text("raise SystemExit('a script of a data set was run')")
    for split, rows in splits.items():
        for i in range(2):
            rows.shard(2, i).to_parquet(root / "data" / f"{split}-0000{i}-of-00002-9f8e.parquet")
    return root


def test_every_form_of_a_table_is_read_with_its_classes_and_bytes(tmp_path):
    table().to_parquet(tmp_path / "a.parquet")
    table(label=TEXT).to_parquet(tmp_path / "names.parquet")
    table().save_to_disk(tmp_path / "one")
    undeclared = {"bytes": datasets.Value("binary"), "path": TEXT}
    table(image=undeclared).to_parquet(tmp_path / "undeclared.parquet")
    for path in (*tmp_path.glob("*.parquet"), tmp_path / "one", snapshot(tmp_path / "hub", train=table())):
        data = folder(str(path), 8)
        assert data.class_names == ["big_dog", "cat"] and data.labels.tolist() == [0, 0, 0, 1, 1, 1], path
        assert data.images[:, 0, 0, 0].tolist() == pytest.approx([20, 60, 100, 0, 40, 80], abs=2), path
    found = {file.name: file.read_bytes() for file in archive.unpacked(path, sorted(path.glob("*/*"))).rglob("*.*")}
    assert found["000001.jpg"] == encoded(20, "jpeg") and found["000000.png"] == encoded(0)


def test_splits_are_those_of_a_folder(tmp_path):
    splits = {"train": table(6), "validation": table(2), "test": table(4), "unsupervised": table(3)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "all")
    for path in (tmp_path / "all", snapshot(tmp_path / "hub", **splits)):
        data = folder(str(path), 8)
        assert (len(data), data.split, data.class_names) == (6, "train", ["big_dog", "cat"])
        assert len(folder(str(path), 8, split="test")) == 4
        assert "3 outside left out, such as other/" in data.notes[0]


def test_a_tenth_of_one_split_is_held_out_and_contents_follow_the_images(tmp_path, capsys):
    path = snapshot(tmp_path / "hub", train=table(200))
    data = folder(str(path), 8, hold_out=0.1)
    assert (len(data), len(folder(str(path), 8, hold_out=0.1, split="test"))) == (180, 20)
    assert check("check", str(path)) == 0 and f"data.path={path}/ " in capsys.readouterr().out
    before = describe_files(path)
    assert before["count"] == 200 and before == describe_files(path)
    table(200).to_parquet(tmp_path / "same.parquet")
    assert describe_files(tmp_path / "same.parquet")["count"] == 200
    table(198).to_parquet(path / "data" / "train-00001-of-00002-9f8e.parquet")
    assert describe_files(path)["count"] == 298, "tables that have changed are unpacked again"


def test_several_columns_of_classes_are_labels(gan, tmp_path):
    rows = table(8, constant=(OTHER, 0)).rename_column("label", "kind").to_dict()
    rows["size"] = [i // 4 for i in range(8)]
    features = datasets.Features({"image": IMAGE, "kind": CLASS, "size": datasets.ClassLabel(names=["big", "small"])})
    features["constant"] = OTHER
    whole = datasets.Dataset.from_dict(rows, features)
    whole.save_to_disk(tmp_path / "one")
    splits = snapshot(tmp_path / "hub", train=whole, test=whole.select(range(4)))
    for path, split in ((tmp_path / "one", "train"), (splits, "train"), (splits, "test")):
        data = folder(str(path), 8, split=split)
        assert [str(column) for column in data.columns] == ["kind (big dog, cat)", "size (big, small)"], path
        c = data.condition(data.labels, data.classes)
        assert c[:2].tolist() == [[0, 1, 1, 0], [1, 0, 1, 0]] and len(c) == (8 if split == "train" else 4)
    words = ["train", "data=folder", f"data.path={tmp_path / 'one'}", "data.size=8", "model=cgan", "model.width=2"]
    assert gan(*words, "data.batch_size=2", "trainer.steps=1", "run.dir=run")[0] == 0
    assert gan("sample", "ckpt=run", "labels.kind=cat", "n=2", "out=cats.png")[0] == 0 and Path("cats.png").is_file()
    assert "classes   none, but a table of labels" in gan("data", "check", str(tmp_path / "one"))[1]
    rows["size"][3] = -1
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", r"a row without a class in its column size; leave such rows out by table\.filter")


def test_a_row_without_a_class_or_an_image_is_left_out(tmp_path):
    rows = table(4).to_dict()
    rows["label"][0], rows["image"][1] = -1, None
    datasets.Dataset.from_dict(rows, table().features).to_parquet(tmp_path / "a.parquet")
    data = folder(str(tmp_path / "a.parquet"), 8)
    assert len(data) == 2 and {name for name, _ in data.skipped} == {"000000.png", "big_dog/000001.png"}


def test_an_image_beside_tables_makes_it_a_folder_of_images(tmp_path):
    path = snapshot(tmp_path / "hub", train=table())
    (path / "kept").mkdir()
    Image.new("RGB", (8, 8)).save(path / "kept" / "a.png")
    assert len(folder(str(path), 8)) == 1


BAD = {
    "no image": (lambda: table().remove_columns("image"), "has no column of images, only label; save a table with"),
    "two images": (lambda: table(mask=(IMAGE, None)), "has the image columns image, mask; save a table with one"),
    "paths": (
        lambda: datasets.Dataset.from_dict({"image": [{"path": "/etc/passwd"}]}, datasets.Features(image=IMAGE)),
        "holds no image itself, at most paths of images",
    ),
}


@pytest.mark.parametrize(("rows", "said"), BAD.values(), ids=list(BAD))
def test_a_table_that_does_not_fit_is_one_sentence(tmp_path, rows, said):
    rows().to_parquet(tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", said)


def refused(path: Path, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        folder(str(path), 8)
    assert "\n" not in str(error.value) and ";" in str(error.value)


def test_damaged_tables_are_one_sentence(tmp_path):
    table(40).to_parquet(tmp_path / "a.parquet")
    table(40).save_to_disk(tmp_path / "arrow")
    whole, arrow = (tmp_path / "a.parquet").read_bytes(), next((tmp_path / "arrow").glob("*.arrow"))
    for n in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.parquet").write_bytes(whole[:n])
        refused(tmp_path / "a.parquet", "a.parquet is damaged or no table")
    (tmp_path / "a.parquet").write_bytes(whole[:4] + bytes(60) + whole[64:])
    refused(tmp_path / "a.parquet", "a.parquet is damaged or no table")
    arrow.write_bytes(arrow.read_bytes()[:1000])
    refused(tmp_path / "arrow", "arrow is damaged or no table")


def test_verify_reads_a_table(gan, tmp_path):
    table().to_parquet(tmp_path / "a.parquet")
    code, out, _ = gan("verify", str(tmp_path / "a.parquet"))
    assert code == 0 and "6 rows of image, label" in out
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert gan("verify", str(tmp_path / "a.parquet"))[0] == 1


def test_tables_that_do_not_belong_together_are_one_sentence(tmp_path):
    refused(snapshot(tmp_path / "kinds", train=table(), test=table(label=OTHER)), "have different columns; type data.p")
    refused(snapshot(tmp_path / "splits", train=table(), extra=table()), "has the splits other, train; type data.path=")


def test_a_table_may_not_take_more_than_a_zip(tmp_path, monkeypatch):
    path = snapshot(tmp_path / "hub", train=table(20))
    monkeypatch.setattr(archive, "SMALL", 16 * 4096)
    monkeypatch.setattr(archive, "LARGEST_RATIO", 0)
    refused(path, "hub unpacks to 0 MB, more than it may; unpack it yourself and type the folder")
    assert not list(user_folder(cache.FOLDER).rglob(f".{os.getpid()}-*"))


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    table().to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(tmp_path / "a.parquet", r"is a table, which needs the package datasets; type pip install 'gancli\[datasets")
