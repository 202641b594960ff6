"""The names of numbered labels in a data set's card."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

NAMES = ["cat", "dog", "bird"]
MAPPED = "names:\n          '2': bird\n          '0': cat\n          '1': dog"
LISTED = "names: [cat, dog, bird]"


def card(root, names: str, ends: str = "\n"):
    features = f"  features:\n  - name: label\n    dtype:\n      class_label:\n        {names}\n"
    text = f"---\ndataset_info:\n{features}---\n# Birds\n"
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.md").write_bytes(text.replace("\n", ends).encode())
    for shade, name in enumerate("abc"):
        picture(root / "train" / f"{name}.jpg", shade)
    return root


@pytest.mark.parametrize("names", [MAPPED, LISTED])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_numbers_in_json_lines_have_the_names_of_the_card(tmp_path, names, ends):
    root = card(tmp_path, names, ends=ends)
    rows = [{"file_name": f"{name}.jpg", "label": number} for name, number in zip("abc", (2, 0, 1), strict=True)]
    write(root / "train" / "metadata.jsonl", *map(json.dumps, rows))
    check(load_dataset(root, "train"), NAMES, ["a.jpg", "b.jpg", "c.jpg"], [[0, 0, 1], [1, 0, 0], [0, 1, 0]])


def test_a_number_in_quotes_is_told_from_a_name(tmp_path):
    root = card(tmp_path, LISTED)
    write(root / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "labels": ["0", "2"]}))
    said = "label '0' is a text; README.md names the labels by their numbers: expected 0 without quotes, or a name"
    assert said in refusal(root, "train")


def test_numbers_in_a_table_have_the_names_of_the_card(tmp_path):
    root = card(tmp_path, MAPPED)
    write(root / "train" / "metadata.csv", "file_name,label", "a.jpg,2", "b.jpg,0", "c.jpg,2")
    data = load_dataset(root, "train")
    check(data, NAMES, ["a.jpg", "b.jpg", "c.jpg"], [[0, 0, 1], [1, 0, 0], [0, 0, 1]])
    assert data.notes == ()
    write(root / "train" / "metadata.csv", "file_name,label", "a.jpg,3", "b.jpg,0", "c.jpg,2")
    assert "metadata.csv: label number 3; there are 3 names in README.md, from 0 on" in refusal(root, "train")


@pytest.mark.parametrize("text", ["# no head\n", "---\n: [\n---\n", "---\nlicense: mit\n---\n"])
def test_a_card_without_names_names_nothing(tmp_path, text):
    root = card(tmp_path, LISTED)
    (root / "README.md").write_text(text)
    write(root / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "label": 1}))
    assert "label 1 is a number, and nothing says its name" in refusal(root, "train")


def test_a_name_is_what_the_card_has_written(tmp_path):
    root = card(tmp_path, "names: {'0': no, '1': 1e5, '2': null}")
    rows = [{"file_name": f"{name}.jpg", "label": number} for name, number in zip("abc", (2, 0, 1), strict=True)]
    write(root / "train" / "metadata.jsonl", *map(json.dumps, rows))
    assert load_dataset(root, "train").labels.names == ("no", "1e5", "null")


@pytest.mark.parametrize("names", ["names: {'0': cat, '2': dog}", "names: {'1': cat, '2': dog}", "names: {a: cat}"])
def test_names_whose_numbers_are_not_counted_from_0_are_refused(tmp_path, names):
    root = card(tmp_path, names)
    write(root / "train" / "metadata.jsonl", json.dumps({"file_name": "a.jpg", "label": 1}))
    assert "README.md: names of class_label have the numbers" in refusal(root, "train")


def test_a_key_given_twice_is_told_with_its_line(tmp_path):
    root = card(tmp_path, LISTED)
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("---\n", "---\ntags: [a]\ntags: [b]\n", 1))
    write(root / "train" / "metadata.csv", "file_name,label", "a.jpg,2", "b.jpg,0", "c.jpg,1")
    assert "README.md: not YAML (line 3 (tags: [b]): the key 'tags' is given twice" in refusal(root, "train")


def test_a_gap_in_the_numbers_of_another_feature_is_nobody_s_fault(tmp_path):
    root = card(tmp_path, LISTED)
    other = "  - name: camera\n    dtype:\n      class_label:\n        names: {'1': left, '3': right}\n"
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("  features:\n", f"  features:\n{other}", 1))
    write(root / "train" / "metadata.csv", "file_name,label", "a.jpg,2", "b.jpg,0", "c.jpg,1")
    assert load_dataset(root, "train").labels.names == tuple(NAMES)


def test_a_number_of_a_label_beside_another_0_or_1_is_read(tmp_path):
    root = card(tmp_path, LISTED)
    text = (root / "README.md").read_text().replace("name: label", "name: labels")
    (root / "README.md").write_text(text)
    rows = [{"file_name": f"{name}.jpg", "species": number, "outdoor": 0} for number, name in enumerate("abc")]
    write(root / "train" / "metadata.jsonl", *map(json.dumps, rows))
    data = load_dataset(root, "train", label_columns="species")
    check(data, NAMES, ["a.jpg", "b.jpg", "c.jpg"], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
