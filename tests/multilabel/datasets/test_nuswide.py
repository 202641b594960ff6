"""NUS-WIDE: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, refusal, write, write_nus


@pytest.mark.parametrize("folder", ["Flickr", "images"])
@pytest.mark.parametrize("labels", ["TrainTestLabels", "Groundtruth/TrainTestLabels"])
@pytest.mark.parametrize("format", ["auto", "nuswide"])
def test_nuswide_is_read_in_the_lists_order(tmp_path, folder, labels, format):
    root = write_nus(tmp_path, folder, labels)
    check(
        load_dataset(root, "test", format=format),
        ["sky", "animal"],
        ["b.jpg", "a.jpg", "c.jpg"],
        [[1, 0], [0, 0], [1, 1]],
    )
    check(load_dataset(root, "train"), ["sky", "animal"], ["0001_1.jpg", "0002_2.jpg"], [[0, 0], [1, 1]])
    assert list_splits(root) == ["test", "train"]


def test_nuswide_takes_windows_line_ends_and_concepts_in_the_root(tmp_path):
    root = write_nus(tmp_path)
    (root / "ConceptsList" / "Concepts81.txt").rename(root / "Concepts81.txt")
    for path in root.rglob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b" \r\n"))
    np.testing.assert_array_equal(load_dataset(root, "test").targets, [[1, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("TrainTestLabels/Labels_sky_Test.txt", "1\n2\n0\n", "Labels_sky_Test.txt, line 2: b'2' for label 'sky'"),
        ("TrainTestLabels/Labels_sky_Test.txt", "1\n\n10\n0\n", "Labels_sky_Test.txt, line 3: b'10' for label 'sky'"),
        ("TrainTestLabels/Labels_sky_Test.txt", "1\n0\n", "2 values for label 'sky'; the list has 3 pictures"),
        ("TrainTestLabels/Labels_sky_Test.txt", "", "0 values for label 'sky'; the list has 3 pictures"),
        ("ImageList/TestImagelist.txt", "sky\\b.jpg\n..\\..\\x.jpg\n", "line 2: the path '..\\\\..\\\\x.jpg' leaves"),
        ("ImageList/TestImagelist.txt", "\\etc\\hostname\n", "line 1: the path '\\\\etc\\\\hostname' leaves"),
        ("ImageList/TestImagelist.txt", "sky\\b.jpg\nsky/b.jpg\n", "line 2: 'sky/b.jpg' occurs twice"),
        ("ImageList/TestImagelist.txt", "sky\\z.jpg\n", "Flickr/sky/z.jpg: no such file, named by"),
        ("ImageList/TestImagelist.txt", "", "the split 'test' is empty"),
        ("ConceptsList/Concepts81.txt", "sky\nsea\n", "Labels_sea_Test.txt: no such file; expected 0 or 1 a line"),
        ("ConceptsList/Concepts81.txt", "sky\n/../../x\n", "leaves the data set's folder"),
        ("ConceptsList/Concepts81.txt", "sky\na/b\n", "expected a plain name"),
        ("ConceptsList/Concepts81.txt", "sky\nsky\n", "Concepts81.txt: label 'sky' occurs twice"),
    ],
)
def test_what_is_wrong_in_nuswide_is_named(tmp_path, file, text, said):
    root = write_nus(tmp_path)
    (root / file).write_text(text)
    assert said in refusal(root)


def test_nuswide_has_two_splits(tmp_path):
    root = write_nus(tmp_path)
    assert refusal(root, "val").endswith("splits here: test, train")
    (root / "ImageList" / "TestImagelist.txt").unlink()
    assert refusal(root, "test").endswith(
        "(no ImageList/TestImagelist.txt); a part of one is named as train[90%:]; splits here: train"
    )
    (root / "ConceptsList" / "Concepts81.txt").unlink()
    assert "Concepts81.txt: cannot be read" in refusal(root, "train")


def write_cleaned(root: Path, folder: str = "") -> Path:
    """The lists that others cleaned, with a line of every concept for each picture."""
    write_nus(root, "images")
    shutil.rmtree(root / "ImageList")
    shutil.rmtree(root / "TrainTestLabels")
    (root / "ConceptsList" / "Concepts81.txt").rename(root / "Concepts81.txt")
    write(root / folder / "nus_wide_train_imglist.txt", "actor\\0001_1.jpg 3", "dog/0002_2.jpg")
    write(root / folder / "nus_wide_train_label.txt", "0 1", "0 0 ")
    write(root / folder / "nus_wide_test_imglist.txt", "sky\\b.jpg")
    write(root / folder / "nus_wide_test_label.txt", "1 0")
    return root


@pytest.mark.parametrize("folder", ["", "clean"])
def test_lists_that_others_cleaned_are_read(tmp_path, folder):
    root = write_cleaned(tmp_path, folder)
    assert (detect_format(root), list_splits(root)) == ("nuswide", ["test", "train"])
    check(load_dataset(root, "train"), ["sky", "animal"], ["0001_1.jpg", "0002_2.jpg"], [[0, 1], [0, 0]])
    check(load_dataset(root, "test"), ["sky", "animal"], ["b.jpg"], [[1, 0]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 0 1\n", "nus_wide_test_label.txt, line 1: b'1 0 1'; expected 2 times 0 or 1"),
        ("1 2\n", "nus_wide_test_label.txt, line 1: b'1 2'; expected 2 times 0 or 1"),
        ("1 0\n0 0\n", "nus_wide_test_label.txt: 2 lines; the list has 1 picture"),
    ],
)
def test_what_is_wrong_in_cleaned_lists_is_named(tmp_path, text, said):
    root = write_cleaned(tmp_path)
    (root / "nus_wide_test_label.txt").write_text(text)
    assert said in refusal(root)


def test_two_lists_of_one_split_are_refused(tmp_path):
    root = write_cleaned(tmp_path)
    write(root / "ImageList" / "TestImagelist.txt", "sky\\b.jpg")
    assert "nus_wide_test_imglist.txt list the split 'test'; expected one of them" in refusal(root)
