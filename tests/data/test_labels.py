"""Tables of labels: what becomes of their columns, and what is refused."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from gancli.commands.data import main as check
from gancli.data import archive
from gancli.data.folder import folder
from gancli.data.labels import Column, column_of, describe_code, from_output, to_output, typed_codes
from gancli.losses.drifting import alike

NAMES = [f"{i}.png" for i in range(6)]
ROWS = [("circle", "red", 0.5), ("square", "red", 1.5), ("circle", "blue", 2.5), ("square", "blue", 0.5)] * 2


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def table(images: Path, text: str, name: str = "labels.csv") -> str:
    file = images.parent / name
    file.write_text(text)
    return str(file)


def lines(*rows: str, header: str = "file,shape,colour,size") -> str:
    return "\n".join([header, *(rows or (f"{n},{s},{c},{r}" for n, (s, c, r) in zip(NAMES, ROWS)))])


def test_c_is_the_concatenation_of_classes_and_scaled_numbers(images):
    for path in (
        table(images, lines()),
        table(images, "\ufeff" + lines().replace(",", ";")),
        table(
            images, json.dumps({n: dict(zip(("shape", "colour", "size"), r)) for n, r in zip(NAMES, ROWS)}), "a.json"
        ),
    ):
        data = folder(str(images), 8, labels=path)
        assert [str(column) for column in data.columns] == [
            "shape (circle, square)",
            "colour (blue, red)",
            "size (0.5 to 2.5)",
        ]
        assert data.classes == 5 and data.class_names == [] and len(data.codes) == 4
        c = data.condition(data.labels, 5)
        assert c[:3].tolist() == [[1, 0, 0, 1, 0], [0, 1, 0, 1, 0.5], [1, 0, 1, 0, 1]]
        assert data.condition(data.labels, 0).shape == (6, 0), "a model that takes none"
        assert data.notes == ["labels: shape (circle, square); colour (blue, red); size (0.5 to 2.5)"]


def test_one_column_of_classes_is_classes(images):
    rows = [f"{name},{i % 3 * 5}" for i, name in enumerate(NAMES)]
    stylegan = json.dumps({"labels": [[name, i % 3 * 5] for i, name in enumerate(NAMES)]})
    for path in (table(images, lines(*rows, header="file,kind")), table(images, stylegan, "dataset.json")):
        data = folder(str(images), 8, labels=path)
        assert data.class_names == ["0", "5", "10"] and data.codes is None
        assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]


BAD = {
    "images without a line": (lines(*lines().split("\n")[1:4]), "3 images of 6 have no line in .*, such as 3.png"),
    "lines without an image": (lines() + "\nx.png,circle,red,1", "1 line of .* without a file in .*, such as x.png"),
    "one value": (lines().replace("square", "circle"), "column shape of .* has one value, circle, for every image"),
    "nan": (lines().replace("1.5", "nan"), "column size of .* has 'nan' for an image"),
    "nothing": (lines().replace("blue", ""), "column colour of .* has no value for an image"),
    "a name twice": (lines() + "\n0.png,circle,red,1", "names 0.png twice"),
    "no column": ("file\n0.png", "has no column of labels"),
    "nothing at all": ("", "is no table; a .csv begins with"),
    "short lines": (lines("0.png,circle"), "is no table"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=list(BAD))
def test_a_table_that_does_not_fit_is_one_sentence(images, text, said):
    with pytest.raises(ValueError, match=said) as error:
        folder(str(images), 8, labels=table(images, text))
    assert "\n" not in str(error.value)


def test_typed_labels_replace_those_of_the_table(images):
    data = folder(str(images), 8, labels=table(images, lines()))
    columns, codes = from_output(json.loads(json.dumps(to_output(data.columns, data.codes))))
    assert columns == data.columns and torch.equal(codes.unique(dim=0), data.codes)
    chosen = typed_codes(columns, codes, {"shape": "square", "size": "1.0"})
    assert chosen.tolist() == [[0, 1, 0, 1, 0.25], [0, 1, 1, 0, 0.25]]
    assert [describe_code(columns, code) for code in chosen] == [
        "shape square, colour red, size 1",
        "shape square, colour blue, size 1",
    ]
    for typed, said in (
        ({"shape": "squares"}, "labels.shape=squares is none of circle, square; did you mean square"),
        ({"size": "3"}, "labels.size=3 is not possible; type a number from 0.5 to 2.5"),
        ({"colr": "red"}, r"no label colr; did you mean colour\?; the labels are shape \(circle, square\); colour"),
    ):
        with pytest.raises(ValueError, match=said):
            typed_codes(columns, codes, typed)
    with pytest.raises(ValueError, match="do not fit each other"):
        from_output({"columns": [{"name": "a", "values": ["x"], "low": 0, "high": 1}], "codes": [[1, 0]]})


def test_a_few_rows_in_turn_differ_in_all_columns():
    columns = [Column("shape", ["a", "b"]), Column("size")]
    codes = torch.tensor([[k, 1 - k, i / 31] for k in (0, 1) for i in range(32)]).float()
    first = from_output(to_output(columns, codes))[1][:8]
    assert 0 < first[:, 0].sum() < 8 and first[:, 2].min() < 0.3 and first[:, 2].max() > 0.7


def test_whole_numbers_are_classes_where_they_are_few():
    assert column_of("x.csv", "age", [str(n) for n in range(30)]) == Column("age", low=0, high=29)
    assert column_of("x.csv", "age", [str(n % 4) for n in range(30)]) == Column("age", ["0", "1", "2", "3"])


def test_conditions_are_of_one_class_where_all_labels_agree():
    one_hot = torch.eye(3)[torch.tensor([0, 1, 0, 2])]
    assert torch.equal(alike(one_hot), one_hot @ one_hot.T > 0.5)
    c = torch.tensor([[1, 0, 0.5], [1, 0, 0.6], [0, 1, 0.5], [1, 0, 0.9]])
    assert alike(c).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert alike(torch.zeros(2, 0)).all()


def zipped(images: Path, name: str, **files: str) -> str:
    with zipfile.ZipFile(images.parent / name, "w") as archive:
        for i, image in enumerate(NAMES):
            archive.write(images / image, f"0000{i % 2}/{image}")
        for file, text in files.items():
            archive.writestr(f"{file}.json", text)
    return str(images.parent / name)


def test_a_zip_of_the_stylegan_tools_is_read_with_its_labels(images, capsys):
    kinds = json.dumps({"labels": [[f"0000{i % 2}/{name}", i // 2] for i, name in enumerate(NAMES)]})
    with_labels = folder(zipped(images, "a.zip", dataset=kinds), 8)
    assert with_labels.class_names == ["0", "1", "2"] and with_labels.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert folder(zipped(images, "b.zip", dataset='{"labels": null}'), 8).classes == 0, "folders for order alone"
    plain = zipped(images, "c.zip")
    assert folder(plain, 8).class_names == ["00000", "00001"]
    assert check("check", plain) == 0 and f"data.path={plain} " in capsys.readouterr().out
    (images / NAMES[5]).unlink()
    Image.new("RGB", (8, 8)).save(images / NAMES[5])
    zipped(images, "c.zip")
    assert folder(plain, 8).images[5].max() == 0, "a zip that has changed is unpacked again"


def test_processes_that_unpack_at_once_leave_each_other_alone(images, monkeypatch):
    path, unpack = Path(zipped(images, "a.zip")), archive.unpack
    folder = archive.unpacked(path)
    shutil.rmtree(folder)
    (other := folder.parent / f".{os.getppid()}-12345678.partial").mkdir()

    def slower(file: Path, partial: Path) -> None:
        unpack(file, partial)
        unpack(file, folder)

    monkeypatch.setattr(archive, "unpack", slower)
    monkeypatch.chdir(images.parent)
    assert archive.unpacked(Path("a.zip")) == folder and len(list(folder.rglob("*.png"))) == 6
    assert list(folder.parent.glob(".*")) == [other], "a living process is at it"


def test_a_broken_zip_is_one_sentence(images):
    whole = Path(zipped(images, "a.zip")).read_bytes()
    with zipfile.ZipFile(images.parent / "out.zip", "w") as archive:
        archive.writestr("../a.png", b"")
    for name, content, said in (
        (
            "bits.zip",
            whole[:70] + bytes([whole[70] ^ 255]) + whole[71:],
            r"is damaged: its 00000/0\.png cannot be read",
        ),
        ("none.zip", b"text", "is damaged: it is no zip"),
        ("out.zip", b"", "a name that leads out of it"),
    ):
        if content:
            (images.parent / name).write_bytes(content)
        with pytest.raises(ValueError, match=said) as error:
            folder(str(images.parent / name), 8)
        assert "\n" not in str(error.value)
