"""Labels whose names may say that a picture has none: told, and read so with --no-label."""

from __future__ import annotations

import json
import shlex

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_csv

LABEL = "if it means that a picture has no label, --no-label {0!r} reads it so"


def write_table(root, *cells: str):
    rows = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    for shade, _ in enumerate(cells):
        picture(root / "test" / f"{shade}.jpg", shade)
    write(root / "test.csv", "image,labels", *rows)
    return root


@pytest.mark.parametrize(
    "name", ["No Finding", "NoFindings", "no_label", "Background", "normal", "nothing", "NO-CAT", "cat negative"]
)
def test_a_name_for_nothing_is_told_and_read_so_with_the_option(tmp_path, name):
    root = write_table(tmp_path, name, "cat;dog", f"dog;{name}")
    data = load_dataset(root, "test")
    assert name in data.labels
    assert data.notes == (f"{name!r} (2 pictures) is read as a label like any other; {LABEL.format(name)}",)
    without = load_dataset(root, "test", no_label=name)
    check(without, ["cat", "dog"], ["0.jpg", "1.jpg", "2.jpg"], [[0, 0], [1, 1], [0, 1]])
    assert without.notes == (f"{name!r} is no label: 2 pictures with it, 1 of which have others all the same",)


@pytest.mark.parametrize("name", ["nodule", "abnormal", "other", "no smoking", "normal fault", "clear"])
def test_other_names_are_not_told(tmp_path, name):
    assert load_dataset(write_table(tmp_path, name, "cat;dog"), "test").notes == ()


def test_a_name_for_pictures_that_nobody_labelled_is_told_without_the_option(tmp_path):
    (note,) = load_dataset(write_table(tmp_path, "unlabeled", "cat;dog"), "test").notes
    assert note.endswith("if it means that nobody knows a picture's labels, take those pictures out of the files")


def test_unknown_cells_stay_unknown_without_the_label(tmp_path):
    root = write_csv(tmp_path, "path,No Finding,cat,dog", "a.jpg,1,,0", "b.jpg,,1,")
    data = load_dataset(root, "test", no_label=("No Finding",))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[0, 0], [1, 0]], [[1, 0], [0, 1]])


def test_a_folder_may_be_no_label(tmp_path):
    for shade, name in enumerate(("none", "cat", "dog")):
        picture(tmp_path / "test" / name / f"{name}.jpg", shade)
    data = load_dataset(tmp_path, "test", no_label="none")
    check(data, ["cat", "dog"], ["cat.jpg", "dog.jpg", "none.jpg"], [[1, 0], [0, 1], [0, 0]])


def test_a_label_of_labels_txt_is_not_told(tmp_path):
    root = write_table(tmp_path, "none of these", "cat;dog")
    write(root / "labels.txt", "cat", "dog")
    assert "--no-label 'none of these'" in refusal(root)
    write(root / "labels.txt", "cat", "dog", "none of these")
    assert load_dataset(root, "test").notes == ()
    assert load_dataset(root, "test", no_label="none of these").labels.names == ("cat", "dog")


def test_names_that_the_data_set_lacks(tmp_path):
    root = write_table(tmp_path, "No Finding", "cat;dog")
    assert "which --no-label names; did you mean 'No Finding'?" in refusal(root, no_label="no_finding")
    assert "no label 'cow', which --no-label names" in load_dataset(root, "test", no_label="cow").notes
    assert "--no-label names every label, No Finding, cat, dog" in refusal(root, no_label="cat,dog,No Finding")


def test_the_option_is_written_as_a_shell_reads_it(tmp_path):
    root = write_table(tmp_path, '"[""none, of \'these\'""]"', "cat;dog")
    (note,) = (note for note in load_dataset(root, "test").notes if "--no-label" in note)
    option = note.partition("--no-label ")[2].partition(" reads it so")[0]
    (given,) = shlex.split(option)
    assert load_dataset(root, "test", no_label=given).labels.names == ("cat", "dog")


@pytest.mark.parametrize(
    "lines", [["cat,dog"], ['"cat"', '"dog"'], ["0 cat", "1 dog"], ["cat\t0", "dog\t1"], ['["cat"]']]
)
def test_a_line_of_labels_txt_that_is_no_name_is_quoted(tmp_path, lines):
    write(tmp_path / "labels.txt", *lines)
    picture(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "labels": ["cat"]}))
    said = refusal(tmp_path, "train")
    assert (
        f"label 'cat' is not in labels.txt; add it there or correct the line; if {lines[0]!r} there is no name" in said
    )


def test_a_label_that_is_spelt_alike_is_proposed(tmp_path):
    write(tmp_path / "labels.txt", "animal", "people")
    picture(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "labels": ["anmial"]}))
    assert refusal(tmp_path, "train").endswith("add it there or correct the line; did you mean 'animal'?")


def test_a_name_that_begins_as_another_is_not_quoted(tmp_path):
    write(tmp_path / "labels.txt", "cat breed", "category")
    picture(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "labels": ["cat"]}))
    assert refusal(tmp_path, "train").endswith("is not in labels.txt; add it there or correct the line")
