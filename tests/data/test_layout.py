"""Layouts with images to train on and images held out: found by their names, said, and used by all data of folders."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gancli.data.crops import image_crops
from gancli.data.folder import folder
from gancli.data.image_files import check_folder
from gancli.data.layout import find_layout
from gancli.data.listing import list_folder
from gancli.data.pairs import pairs, unpaired
from gancli.evaluation.image_folder import ImageFolder
from gancli.evaluation.super_resolution import find_pairs


def fill(root: Path, *folders: str, n: int = 2, width: int = 16) -> None:
    """Write n images of 16 rows into each folder, all of one grey level: 10 for the first folder, 20 for the second."""
    for k, name in enumerate(folders, 1):
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(np.full((16, width, 3), 10 * k, np.uint8)).save(root / name / f"{i}.png")


@pytest.mark.parametrize(
    ("folders", "train", "held_out"),
    [
        ("train test", "train", "test"),
        ("Training VALIDATION", "Training", "VALIDATION"),
        ("train valid test", "train", "test"),
        ("train2017 val2017", "train2017", "val2017"),
        ("train test1", "train", "test1"),
        ("DIV2K_train_HR DIV2K_valid_HR", "DIV2K_train_HR", "DIV2K_valid_HR"),
        ("training_set/training_set/cat test_set/test_set/cat", "training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train/a seg_test/seg_test/a seg_pred", "seg_train/seg_train", "seg_test/seg_test"),
        ("archive/chest/train/a archive/chest/test/a", "archive/chest/train", "archive/chest/test"),
        ("my_test/train my_test/val", "my_test/train", "my_test/val"),
        ("trainA trainB testA testB", "trainA trainB", "testA testB"),
        ("train_a train_b", "train_a train_b", ""),
        ("train", "train", ""),
        ("val test", "val", "test"),
        ("bus car train", None, None),
        ("freight_train bullet_train", None, None),
        ("trainer tester", None, None),
        ("invalid valid", None, None),
        ("cat dog", None, None),
        ("one/two/three/four/five", None, None),
    ],
)
def test_layouts_are_found_by_the_names_of_folders(folders, train, held_out):
    layout = find_layout([f"{name}/{i}.png" for name in folders.split() for i in "ab"])
    if train is None:
        assert layout is None
        return
    assert layout is not None
    found = {split: [f.path for f in layout.folders if f.split == split] for split in (layout.trained, layout.held_out)}
    assert found[layout.trained] == train.split() and found[layout.held_out] == held_out.split()


def test_images_next_to_one_folder_belong_to_it_even_if_it_is_called_test():
    assert find_layout(["a.png", "test/b.png"]) is None


@pytest.mark.parametrize("load", [folder, image_crops, pairs])
def test_every_kind_of_folder_is_trained_on_train_and_evaluated_on_what_is_held_out(load, tmp_path):
    fill(tmp_path, "train", "val", "test", "notes", n=2, width=32)
    sentence = (
        f"{tmp_path} has train/ 2, val/ 2, test/ 2 images: train/ is trained on, test/ is held out, val/ is not used, "
        "2 outside left out, such as notes/0.png"
    )
    for split, chosen, level in (("train", "train", 10), ("test", "test", 30)):
        data = load(str(tmp_path), size=16, split=split)
        assert data.split == chosen and data.notes == [sentence] and data.classes == 0
        images = data.pixels[: data.ends[-1] * 256] if load is image_crops else data.images
        assert len(data) == (4 if load is image_crops else 2) and (images == level).sum() >= images.numel() / 2
        assert [reason for _, reason in data.skipped] == ["is in no folder of the layout"] * 2


def test_classes_that_each_have_a_training_set_stay_classes(tmp_path):
    fill(tmp_path, "w/cat/train", "w/cat/test", "w/dog/train", "w/dog/test")
    for split, levels in (("train", [10, 30]), ("test", [20, 40])):
        data = folder(str(tmp_path), size=16, split=split)
        assert data.class_names == ["cat", "dog"] and data.images[::2, 0, 0, 0].tolist() == levels
    assert "*/train/ 4, */test/ 4 images: */train/ is trained on, */test/ is held out" in data.notes[0]


def test_held_out_folders_that_are_no_class_of_train_are_used_without_classes(tmp_path):
    fill(tmp_path, "train/n01/images", "train/n02/images", "val/images")
    data = folder(str(tmp_path), size=16, split="test")
    assert len(data) == 2 and data.classes == 0 and not data.skipped


def test_two_sets_in_one_folder_are_sources_and_targets(tmp_path):
    fill(tmp_path, "trainA", "trainB", "testA", "testB")
    for load in (unpaired, pairs):
        for split, a, b in (("train", 10, 20), ("test", 30, 40)):
            data = load(str(tmp_path), size=16, split=split)
            assert data.sources.unique().tolist() == [a] and data.images.unique().tolist() == [b]
            assert "trainA/ and trainB/ are trained on, testA/ and testB/ are held out" in data.notes[0]
    data = folder(str(tmp_path), size=16)
    assert len(data) == 4 and data.classes == 0, "they are no classes"
    (tmp_path / "other").mkdir()
    Image.new("L", (16, 16)).save(tmp_path / "other" / "a.png")
    assert unpaired(str(tmp_path / "trainB"), str(tmp_path / "other"), 16).sources.unique().tolist() == [0]
    with pytest.raises(ValueError, match="or data\\.path=DIR of a folder with trainA, the sources, and trainB"):
        unpaired(str(tmp_path / "other"))


def test_pairs_in_two_folders_with_the_same_layout_match_by_their_names_below_it(tmp_path):
    fill(tmp_path, "photos/train", "photos/test", "maps/train", "maps/test")
    data = pairs(str(tmp_path / "photos"), str(tmp_path / "maps"), size=16, split="test")
    assert data.images.unique().tolist() == [20] and data.sources.unique().tolist() == [40]


def test_evaluated_folders_give_what_is_held_out(tmp_path, capsys):
    fill(tmp_path, "train/cat", "test/cat")
    Image.new("RGB", (16, 16)).save(tmp_path / "test" / "cat" / "1.png", icc_profile=b"damaged")
    images = ImageFolder("reference", str(tmp_path), 0, 0, 10, 0)
    assert images.split == "test" and images.files == [tmp_path / "test" / "cat" / f"{i}.png" for i in range(2)]
    assert "gan: reference=: " in (err := capsys.readouterr().err) and "test/ is held out" in err
    assert "gan: reference=: 1 image: its ICC profile is damaged" in err
    assert [name for name, _, _ in find_pairs(str(tmp_path), "train")] == ["train/cat/0.png", "train/cat/1.png"]


def test_the_report_decodes_all_splits_and_counts_the_classes_that_are_trained_on(tmp_path):
    fill(tmp_path, "w/train/cat", "w/train/dog", "w/test/cat", "w/test/fox")
    (tmp_path / "w" / "test" / "cat" / "torn.png").write_bytes(b"no image")
    report = check_folder(str(tmp_path))
    assert len(report.infos) == 8 and report.classes == {"cat": 2, "dog": 2}
    assert report.bad == [("w/test/cat/torn.png", "is not an image that Pillow knows")]
    held_out = list_folder(str(tmp_path), "test")
    assert held_out.class_names == ["cat", "dog"] and {*held_out.classes} == {"cat"}
    assert {reason for _, reason in held_out.skipped} == {"is of class fox, which is not in train"}
