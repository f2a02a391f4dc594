"""Texts of files that are given away hold no absolute path and no name of the user or the machine."""

import json
import re
import socket
from pathlib import Path

import pytest
from helpers import TINY

from gancli.runtime.publish import published, publishing

TEXTS = {
    "gan train data.path=/data/x run.dir='/data/my runs/a b'": "gan train data.path=…/x run.dir='…/a b'",
    "cannot read /data/a/b.png: no such file": "cannot read …/b.png: no such file",
    "file:///data/a (/data/b), error:/data/c": "file:…/a (…/b), error:…/c",
    "C:\\Users\\joe\\x and \\\\server\\share\\y": "…/x and …/y",
    "/home/joe/runs/a and /home/joe": "~/runs/a and ~",
    "/home/joey/runs": "…/runs",
    "~ann/runs": "~/runs",
    "joe on desk7, joe@desk7.lab, joey": "USER on HOST, USER@HOST, joey",
    "D/loss, images/s, 1 / 2, and/or, ../x, outputs/x": "D/loss, images/s, 1 / 2, and/or, ../x, outputs/x",
    "https://arxiv.org/abs/1704.00028": "https://arxiv.org/abs/1704.00028",
    "<b>text</b>": "<b>text</b>",
}


@pytest.fixture
def joe(monkeypatch) -> None:
    """A user joe with a home, on the machine desk7.lab."""
    monkeypatch.setenv("HOME", "/home/joe")
    monkeypatch.setenv("LOGNAME", "joe")
    monkeypatch.setattr(socket, "gethostname", lambda: "desk7.lab")


@pytest.mark.parametrize("text", TEXTS)
def test_paths_and_names_are_cut_inside_texts(text, joe):
    assert published(text) == TEXTS[text]
    assert published({"a": [text]}) == {"a": [TEXTS[text]]}
    with publishing(True):
        assert published(text) == text


def texts_of(folder: Path) -> dict[str, str]:
    """Return what is given away: pages, tables, exports and contact sheets, with the images in pages left out."""
    files = [*folder.rglob("*.html"), *folder.rglob("leaderboard*"), *folder.rglob("contact.png"), *folder.glob("g.*")]
    texts = {str(file): file.read_bytes().decode(errors="replace") for file in files}
    return {name: re.sub(r"base64,[\w+/=]+", "", text) for name, text in texts.items()}


@pytest.mark.parametrize("paths", [False, True])
@pytest.mark.slow
def test_no_path_and_no_name_of_this_machine_reaches_pages_tables_and_exports(paths, gan, joe, tmp_path):
    from PIL import Image

    data = tmp_path / "my data"
    data.mkdir()
    for i in range(8):
        Image.new("RGB", (8, 8), (i, i, i)).save(data / f"{i}.png")
    small = [word for word in TINY if not word.startswith(("data=", "data.n="))]
    words = [*small, "model=mlp", "data=folder", f"data.path={data}", f"publish.paths={str(paths).lower()}"]
    code, _, error = gan("train", "-m", *words, "trainer.steps=1", "seed=0,1", f"run.dir={tmp_path}/joe-sweep")
    assert code == 0, error
    (tmp_path / "joe-sweep" / "1" / "metrics.jsonl").open("a").write(
        json.dumps({"event": "failed", "message": f"{data}/0.png is damaged on desk7"}) + "\n"
    )
    shown = [] if not paths else ["publish.paths=true"]
    assert gan("report", f"{tmp_path}/joe-sweep", *shown)[0] == 0
    for suffix in ("safetensors", "onnx") if not paths else ("safetensors",):
        code, _, error = gan("export", f"ckpt={tmp_path}/joe-sweep/0", f"out=g.{suffix}", *shown)
        assert code == 0, error
    texts = texts_of(tmp_path)
    assert len(texts) > 6
    names = {str(tmp_path), "desk7", "joe"}
    found = {(name, word) for name, text in texts.items() for word in names if word in text}
    assert bool(found) == paths, found
