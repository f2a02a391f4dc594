"""Data sets in one npz file."""

import numpy as np
import pytest
import torch
from helpers import npz_archive, npz_arrays

from gancli.data.npz import npz


def test_npz_archives(tmp_path):
    content = npz_arrays()
    data = npz(str(npz_archive(tmp_path / "a.npz")), split="test")
    assert torch.equal(data.images, torch.from_numpy(content["x_test"]).permute(0, 3, 1, 2))
    assert data.labels.tolist() == content["y_test"].tolist() and data.labels.dtype == torch.int64
    assert data.class_names == ["0", "1", "2"] and data.images.is_contiguous()
    grey = npz_archive(tmp_path / "grey.npz", x_train=content["x_train"][..., 0])
    assert tuple(npz(str(grey)).images.shape) == (6, 1, 8, 8)
    keras = npz_archive(tmp_path / "keras.npz", y_train=content["y_train"][:, None].astype(np.uint8))
    assert npz(str(keras)).labels.tolist() == content["y_train"].tolist()
    unlabelled = npz(str(npz_archive(tmp_path / "x.npz", y_train=None, y_test=None, x_test=None)))
    assert unlabelled.classes == 0 and unlabelled.labels.tolist() == [0] * 6
    fewer = npz_archive(tmp_path / "fewer.npz", y_train=np.zeros(6, int))
    assert npz(str(fewer)).classes == 3, "both splits count"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": None}, "has no x_train, only x_test"),
        ({"x_train": np.zeros((6, 8, 8, 3), np.float32)}, "is float32 of shape .* as uint8"),
        ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, r"channels first; .*transpose\(0, 2, 3, 1\)"),
        ({"x_train": np.zeros((6, 8, 8, 4), np.uint8)}, r"shape \(6, 8, 8, 4\)"),
        ({"x_train": np.zeros((0, 8, 8), np.uint8)}, r"shape \(0, 8, 8\)"),
        ({"x_train": np.zeros((6, 8, 9), np.uint8)}, r"shape \(6, 8, 9\); store square"),
        ({"x_train": np.array([None])}, "not a readable npz"),
        ({"y_train": np.zeros(6)}, "y_train .* is float64"),
        ({"y_train": np.zeros((6, 10), int)}, r"y_train .* shape \(6, 10\)"),
        ({"y_train": np.zeros(5, int)}, "6 images in x_train but 5 labels"),
        ({"y_train": np.full(6, -1)}, "labels from -1 to -1"),
        ({"y_train": np.full(6, 1000)}, "labels up to 1000"),
        ({"y_train": None}, "has no y_train"),
    ],
)
def test_bad_arrays_are_refused_in_one_sentence(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message) as error:
        npz(str(npz_archive(tmp_path / "a.npz", **changed)))
    assert "\n" not in str(error.value)


def test_bad_archives_and_paths_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    cut = npz_archive(tmp_path / "cut.npz")
    cut.write_bytes(cut.read_bytes()[:-100])
    for path in ("text.npz", "bare.npy", "cut.npz"):
        with pytest.raises(ValueError, match="not a readable npz"):
            npz(str(tmp_path / path))
    with pytest.raises(ValueError, match=r"data\.path=FILE\.npz"):
        npz("")
    with pytest.raises(ValueError, match="is not a file"):
        npz(str(tmp_path / "missing.npz"))
    with pytest.raises(ValueError, match=r"data\.split=val"):
        npz(str(cut), split="val")


def test_an_archive_takes_no_more_memory_than_its_size_allows(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", x_train=np.zeros((700_000, 28, 28), np.uint8))
    with pytest.raises(ValueError, match="GB, more than 50 times the file"):
        npz(str(tmp_path / "bomb.npz"))
    labels = np.array([2**32 - 1, 0, 1])
    np.savez(tmp_path / "label.npz", x_train=np.zeros((3, 8, 8), np.uint8), y_train=labels)
    with pytest.raises(ValueError, match="labels up to 4294967295, more than images"):
        npz(str(tmp_path / "label.npz"))


def test_arrays_that_memory_cannot_hold_are_called_that(tmp_path, monkeypatch):
    npz_archive(tmp_path / "x.npz")
    monkeypatch.setattr("gancli.data.npz.free_memory", lambda: 100)
    message = (
        r"x\.npz cannot be read, its arrays take 0\.0 GB of memory, and 0\.0 are free; save fewer or smaller images"
    )
    with pytest.raises(ValueError, match=message):
        npz(str(tmp_path / "x.npz"))
