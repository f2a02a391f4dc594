"""One reading of class names and numbers."""

import pytest
import torch

from gancli.data.classes import class_folders, class_index, how_read, one_hot, printable_names


def test_a_name_wins_then_the_number():
    assert [class_index(c, ["cat", "dog"], 2) for c in ("dog", "0", 1)] == [1, 0, 1]
    assert [class_index(c, ["2", "0", "1"], 3) for c in (2, "2", 0, "1")] == [0, 0, 1, 2]
    assert [class_index(c, ["8", "cat"], 2) for c in (8, 1, "0")] == [0, 1, 0]
    assert class_index(3, [], 4) == 3


@pytest.mark.parametrize(
    ("name", "names", "message"),
    [
        ("cta", ["cat", "dog"], r"^there is no class 'cta'; did you mean cat\?; the classes are cat, dog$"),
        (2, ["cat", "dog"], "^class 2 is outside 0 to 1; the classes are cat, dog$"),
        ("-1", ["cat", "dog"], "^class -1 is outside 0 to 1"),
        (2, [], "^class 2 is outside 0 to 1$"),
        ("x", [str(i) for i in range(25)], "18, 19 and 5 more$"),
    ],
)
def test_unknown_classes_are_refused(name, names, message):
    with pytest.raises(ValueError, match=message):
        class_index(name, names, max(len(names), 2))


def test_one_hot():
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(torch.tensor([0, 0]), 0).shape == (2, 0)


def test_a_position_is_typed_as_a_plain_number():
    for typed in ("007", "1_0", "+1", "\u0661"):
        with pytest.raises(ValueError, match="there is no class"):
            class_index(typed, ["cat"] * 12, 12)


def test_the_answer_says_whether_a_name_or_a_position_was_taken():
    assert how_read(["3", "cat"], ["8", "3", "cat"]) == ["class 3 is the class of this name, at position 1"]
    assert how_read([0], ["cat", "dog"]) == ["class 0 is the one at this position, cat"]
    assert not how_read(["1"], ["0", "1"]) and not how_read([1], [])


def test_folders_of_classes_stay_apart():
    folders = class_folders(["<=50K", ">50K", "A", "a", "字" * 80, "_50K_1", "/"])
    assert len({folder.casefold() for folder in folders}) == 7
    assert all(len(folder.encode()) <= 255 and "/" not in folder for folder in folders)


def test_a_class_of_undecodable_bytes_is_found_by_its_name_and_stays_apart():
    names = printable_names(["a\\udcff", "a\udcff", "b"])
    assert names == ["a\\udcff", "a\\udcff_1", "b"]
    assert class_index("b\udcff", ["b", "b\\udcff"], 2) == 1
