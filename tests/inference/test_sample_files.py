"""Folders of samples: a kill at any moment leaves one whole generation, or a folder that no command reads."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from gancli.data.listing import walk_images
from gancli.inference.sample_files import check_samples, complete, write_folder

CLASSES = SimpleNamespace(classes=2, class_name=lambda i: ("cat", "dog")[i])
NONE = SimpleNamespace(classes=0, class_name=str)


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def write(folder: Path, value: int, n: int, classes: bool) -> None:
    labels = torch.arange(n) % 2 if classes else None
    write_folder(folder, torch.full((n, 3, 4, 4), value, dtype=torch.uint8), labels, None, CLASSES if classes else NONE)


def generations(folder: Path) -> list[set[int]]:
    """Return the values and the numbers of the images that a command would read."""
    names = walk_images(folder)[0]
    values = {int(np.asarray(Image.open(folder / name))[0, 0, 0]) for name in names}
    return [values, {len(names)}]


@pytest.mark.parametrize("classes", [False, True])
def test_a_kill_at_any_file_event_leaves_the_old_or_the_new_samples(classes, tmp_path, monkeypatch) -> None:
    real = {name: getattr(Path, name) for name in ("replace", "unlink", "mkdir", "rmdir")}
    real_rmtree, real_save = shutil.rmtree, Image.Image.save
    for event in range(1000):
        folder, count = tmp_path / str(event), 0
        write(folder, 1, 5, classes)
        Image.new("RGB", (4, 4), (1, 1, 1)).save(folder / "mine.png")

        def dying(act, event=event):
            def wrapped(*args, **options):
                nonlocal count
                count += 1
                if count > event:  # a dead process does nothing more
                    raise Killed
                return act(*args, **options)

            return wrapped

        with monkeypatch.context() as patch:
            for name, act in real.items():
                patch.setattr(Path, name, dying(act))
            patch.setattr(shutil, "rmtree", dying(real_rmtree))
            patch.setattr(Image.Image, "save", dying(real_save))
            try:
                check_samples(folder, True)
                write(folder, 2, 3, classes)
            except Killed:
                pass
        try:
            found = generations(folder)
        except ValueError as error:
            assert "half way between two generations" in str(error) and "overwrite=true" in str(error)
            complete(folder)
            found = generations(folder)
            assert found == [{1, 2}, {4}], "the new ones, and mine.png"
        assert found in ([{1}, {6}], [{1, 2}, {4}]), (event, found)
        check_samples(folder, True)
        write(folder, 3, 2, classes)
        assert generations(folder) == [{1, 3}, {3}]
        assert not [path for path in folder.iterdir() if path.name.startswith(".")], "no temporary file stays"
        if count <= event:
            break
    assert 20 < event < 999


def test_a_received_list_of_older_samples_removes_nothing_else(tmp_path) -> None:
    folder, outside = tmp_path / "fake", tmp_path / "000001.png"
    write(folder, 1, 2, False)
    for path in (outside, folder / "000007.png"):
        Image.new("RGB", (4, 4)).save(path)
    (folder / ".gan-samples").mkdir()
    (folder / ".gan-samples" / "removed.txt").write_text("../000001.png\n000007.png\n000001.png")
    complete(folder)
    assert outside.exists() and (folder / "000007.png").exists() and not (folder / "000001.png").exists()
