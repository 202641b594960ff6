"""LabelSpace: what names it takes, and what it says when two differ."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no labels"),
        (("cat", "dog", "cat"), r"'cat' occurs twice \(as number 1 and 3\)"),
        (("cat", ""), "label 2 is ''"),
        (("  ",), "label 1 is '  '"),
        ((" cat",), "without outer spaces"),
        (("cat\n",), "one line"),
        (("ca\nt",), "one line"),
        (("cat", 3), "label 2 is 3"),
    ],
)
def test_bad_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        LabelSpace(names)


def test_a_name_is_one_label_in_both_of_its_unicode_forms():
    composed, decomposed = "Z\u00fcrich", "Zu\u0308rich"
    labels = LabelSpace(("cat", decomposed))
    assert labels == LabelSpace(("cat", composed))
    assert composed in labels
    assert decomposed in labels
    assert labels.index(decomposed) == labels.index(composed) == 1
    np.testing.assert_array_equal(labels.encode([decomposed]), [0, 1])
    with pytest.raises(InputError, match="occurs twice"):
        LabelSpace((composed, decomposed))
    decisions = Decisions.plain((decomposed,))
    assert decisions.ordered((composed,)).labels == (composed,)


def test_readers_take_both_unicode_forms_for_one_label(tmp_path):
    """As a folder that macOS wrote and one that Linux wrote, and a table whose header another editor wrote."""
    composed, decomposed = "Z\u00fcrich", "Zu\u0308rich"
    for number, (split, name) in enumerate((("train", composed), ("test", decomposed))):
        for place, label in enumerate((name, "cat")):
            folder = tmp_path / "folders" / split / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / f"{label}{split}.png"), np.full((8, 8, 3), 40 * number + 90 * place, np.uint8))
    for split in ("train", "test"):
        data = load_dataset(tmp_path / "folders", split)
        assert (data.labels.names, data.targets.sum(axis=0).tolist()) == ((composed, "cat"), [1, 1])
    (tmp_path / "table").mkdir()
    for place in range(2):
        cv2.imwrite(str(tmp_path / "table" / f"{place}.png"), np.full((8, 8, 3), 90 * place, np.uint8))
    (tmp_path / "table" / "labels.txt").write_text(f"cat\n{composed}\n", encoding="utf-8")
    (tmp_path / "table" / "train.csv").write_text(f"file,cat,{decomposed}\n0.png,0,1\n1.png,1,0\n", encoding="utf-8")
    data = load_dataset(tmp_path / "table", "train")
    assert (data.labels.names, data.targets.tolist()) == (("cat", composed), [[0, 1], [1, 0]])


def test_names_keep_their_order_and_encode_to_their_columns():
    labels = LabelSpace(["dog", "cat", "Zürich at night"])
    assert list(labels) == ["dog", "cat", "Zürich at night"]
    assert len(labels) == 3
    assert "cat" in labels
    assert "Cat" not in labels
    assert labels.index("Zürich at night") == 2
    row = labels.encode(["cat", "cat", "Zürich at night"])
    assert row.dtype == np.uint8
    np.testing.assert_array_equal(row, [0, 1, 1])
    np.testing.assert_array_equal(labels.encode([]), [0, 0, 0])
    with pytest.raises(InputError, match="unknown label 'bird': expected one of dog, cat, Zürich at night"):
        labels.encode(["dog", "bird"])


def test_equality_is_of_names_and_order():
    assert LabelSpace(("a", "b")) == LabelSpace(["a", "b"])
    assert hash(LabelSpace(("a", "b"))) == hash(LabelSpace(["a", "b"]))
    assert LabelSpace(("a", "b")) != LabelSpace(("b", "a"))
    LabelSpace(("a", "b")).require_equal(LabelSpace(("a", "b")), "teacher", "student")


@pytest.mark.parametrize(
    ("mine", "others", "message"),
    [
        ("abc", "acb", r"teacher \(3\) and student \(3\) differ: same names, other order, first at 2: 'b' against 'c'"),
        ("ab", "abc", r"teacher \(2\) and student \(3\) differ: only in teacher: none; only in student: c"),
        ("abx", "aby", "only in teacher: x; only in student: y"),
    ],
)
def test_a_difference_is_told_with_both_owners(mine, others, message):
    with pytest.raises(InputError, match=message):
        LabelSpace(tuple(mine)).require_equal(LabelSpace(tuple(others)), "teacher", "student")


def test_a_long_difference_is_shortened():
    many = LabelSpace(tuple(f"label {i}" for i in range(100)))
    with pytest.raises(InputError, match=r"label 7, … \(100 in all\)") as caught:
        many.require_equal(LabelSpace(("other",)), "model", "data set")
    assert "label 8" not in str(caught.value)


def test_from_file_reads_one_name_a_line(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("dog\r\n\n  cat  \nStraße".encode())
    assert LabelSpace.from_file(file).names == ("dog", "cat", "Straße")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "no labels"), (b"\n \n", "no labels"), (b"a\na\n", "twice"), (b"a\xff\n", "UTF-8")],
)
def test_from_file_names_the_file_in_every_error(tmp_path, content, message):
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        LabelSpace.from_file(file)
    assert str(file) in str(caught.value)


def test_a_text_is_no_list_of_labels(tmp_path):
    for given in ("cat", None, 3):
        with pytest.raises(InputError, match="expected a list of names"):
            LabelSpace(given)
    with pytest.raises(InputError, match="unknown label 3: expected one of cat"):
        LabelSpace(("cat",)).index(3)
    (tmp_path / "labels.txt").write_text("cat\n")
    assert LabelSpace.from_file(str(tmp_path / "labels.txt")).names == ("cat",)


def test_the_keys_of_a_dict_have_an_order():
    assert LabelSpace({"dog": 1, "cat": 0}.keys()).names == ("dog", "cat")


@pytest.mark.parametrize("given", [{"cat", "dog"}, frozenset(("cat",)), {"dog": 1, "cat": 0}])
def test_names_without_an_order_are_refused(given):
    with pytest.raises(InputError, match=r"labels are a .*; expected a list of names in their order"):
        LabelSpace(given)


def test_one_text_is_not_several_names():
    with pytest.raises(InputError, match="names of labels are 'ab'; expected a list"):
        LabelSpace(("a", "b")).encode("ab")
