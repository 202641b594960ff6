"""Texts that are no names: refused in lists of labels, with labels.txt as the way to insist."""

from __future__ import annotations

import json

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_csv

SPLIT = "test"


def write_lines(root, *lists, names: tuple[str, ...] = ()):
    for shade, _ in enumerate(lists):
        picture(root / SPLIT / f"{shade}.jpg", shade)
    rows = [json.dumps({"file_name": f"{number}.jpg", "labels": labels}) for number, labels in enumerate(lists)]
    write(root / SPLIT / "metadata.jsonl", *rows)
    if names:
        write(root / "labels.txt", *names)
    return root


@pytest.mark.parametrize(
    ("cell", "name", "looks"),
    [
        ("cat:0.9", "cat:0.9", "a name and its answer or score"),
        ("cat=1", "cat=1", "a name and its answer or score"),
        ("cat (0.85)", "cat (0.85)", "a name and its answer or score"),
        ("cat: 90%", "cat: 90%", "a name and its answer or score"),
        ("dog;cat:no", "cat:no", "a name and its answer or score"),
        ("cat|0.9", "0.9", "a number with a fraction"),
        ("-cat", "-cat", "a name with a sign before it"),
        ("dog;!cat", "!cat", "a name with a sign before it"),
        ("+cat;dog", "+cat", "a name with a sign before it"),
        ("cat?", "cat?", "a question"),
        ("cat\\;dog", "cat\\", "a part of a name whose separator is escaped"),
        ("cat &amp; kitten", "cat &amp", "a part of a character as HTML writes it"),
        ("cat&#39;s toy", "cat&#39", "a part of a character as HTML writes it"),
        ("set()", "set()", "a list as programs print it"),
        ("N/A", "N/A", "what programs write where nothing is known"),
        ("#REF!", "#REF!", "what programs write where nothing is known"),
        ("-", "-", "no word"),
        ("cat;none", "none", "an empty cell among others"),
        ("(1;0)", "(1", "a part of something in brackets"),
        ("cat(young;dog)", "cat(young", "a part of something in brackets"),
    ],
)
def test_another_notation_is_no_name(tmp_path, cell, name, looks):
    root = write_csv(tmp_path, "path,labels", "a.jpg,dog", f"b.jpg,{cell}", "c.jpg,dog;bird")
    assert f"column 'labels' holds {name!r}, which looks like {looks}; expected names alone" in refusal(root)
    lines = write_lines(tmp_path / "lines", ["dog"], [name], ["dog", "bird"])
    assert f"column 'labels' holds {name!r}" in refusal(lines)
    write(lines / "labels.txt", "bird", "dog", name)
    check(load_dataset(lines), ["bird", "dog", name], ["0.jpg", "1.jpg", "2.jpg"], [[0, 1, 0], [0, 0, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    "name", ["16:9", "C#", "part-time", "No Finding", "grade:3", "t-shirt (red)", "2020", "A+", "π"]
)
def test_a_name_with_signs_in_it_is_a_name(tmp_path, name):
    root = write_csv(tmp_path, "path,labels", "a.jpg,dog", f"b.jpg,{name}", f"c.jpg,dog;{name}")
    data = load_dataset(root)
    hot = [{one for one, on in zip(data.labels, row, strict=True) if on} for row in data.targets]
    assert hot == [{"dog"}, {name}, {"dog", name}]


@pytest.mark.parametrize("mark", [";", "|"])
def test_a_0_or_1_for_each_label_is_no_list_of_names(tmp_path, mark):
    root = write_csv(
        tmp_path, "path,labels", *(f"{one}.jpg,{mark.join(row)}" for one, row in (("a", "10"), ("b", "01")))
    )
    assert "column 'labels' holds 1, 0, a 0 or 1 for each label, and nothing says which" in refusal(root)


@pytest.mark.parametrize("form", ["[{}]", "({})", "{{{}}}"])
@pytest.mark.parametrize("comma", [",", ", ", " "])
@pytest.mark.parametrize("separator", [None, ",", " ", "none"])
def test_a_list_of_numbers_in_brackets_is_never_a_name(tmp_path, form, comma, separator):
    cells = [form.format(comma.join(row)) for row in ("10", "01", "11")]
    root = write_csv(tmp_path, "path,labels", *(f'{one}.jpg,"{cell}"' for one, cell in zip("abc", cells, strict=True)))
    assert "labels" in refusal(root, separator=separator)


def test_digits_side_by_side_are_no_names(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,10", "b.jpg,01", "c.jpg,11")
    assert "a 0 or 1 for each label" in refusal(root)


def test_words_and_answers_are_not_mixed(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat;1", "b.jpg,dog;0", "c.jpg,cat;0")
    assert "column 'labels' holds '0' among names" in refusal(root)


@pytest.mark.parametrize(
    "beside", ["classes.txt", "names.txt", "class_names.txt", "obj.names", "categories.json", "label_map.pbtxt"]
)
def test_numbers_are_no_names_where_a_file_may_say_them(tmp_path, beside):
    root = write_csv(tmp_path, "path,labels", "a.jpg,3", "b.jpg,2;5", "c.jpg,2")
    data = load_dataset(root)
    check(data, ["2", "3", "5"], ["a.jpg", "b.jpg", "c.jpg"], [[0, 1, 0], [1, 0, 1], [1, 0, 0]])
    assert data.notes == ("the labels are numbers, taken for their names: 2, 3, 5",)
    write(root / beside, "cat", "dog", "bird")
    assert f"the labels are the numbers 2, 3, 5, and {beside} may hold their names" in refusal(root)
    write(root / "labels.txt", "2", "3", "5")
    assert load_dataset(root).labels.names == ("2", "3", "5")


@pytest.mark.parametrize("lines", [["0 cat", "1 dog"], ["0: cat", "1: dog"], ["cat,0", "dog,1"], ["1. cat", "2. dog"]])
def test_numbered_lines_of_labels_txt_name_no_numbers(tmp_path, lines):
    root = write_lines(tmp_path, [0], [1], [0, 1], names=tuple(lines))
    assert f"labels.txt: {lines[0]!r} is a name with a number; expected names alone" in refusal(root)


@pytest.mark.parametrize("line", ["# my labels", "## labels", "// labels", "#labels"])
def test_a_comment_in_labels_txt_is_no_label(tmp_path, line):
    root = write_lines(tmp_path, [0], [1], [0, 1], names=(line, "cat", "dog"))
    assert f"{line!r} looks like a comment" in refusal(root)


def test_numbers_of_names_that_hold_numbers(tmp_path):
    root = write_lines(tmp_path, [0], [1], [0, 1, 2], names=("class 1", "class 2", "3d"))
    check(
        load_dataset(root), ["class 1", "class 2", "3d"], ["0.jpg", "1.jpg", "2.jpg"], [[1, 0, 0], [0, 1, 0], [1, 1, 1]]
    )


def test_two_numbers_on_each_line_may_be_a_0_or_1_for_each_of_two_labels(tmp_path):
    root = write_lines(tmp_path, [1, 0], [0, 1], [1, 0], names=("cat", "dog"))
    assert "each line has the numbers 0 and 1, both labels by their numbers, or a 0 or 1 for each" in refusal(root)
    root = write_lines(tmp_path / "single", [1, 0], [0], [], names=("cat", "dog"))
    check(load_dataset(root), ["cat", "dog"], ["0.jpg", "1.jpg", "2.jpg"], [[1, 1], [1, 0], [0, 0]])


def test_a_text_for_nothing_is_told(tmp_path):
    for shade, name in enumerate("abc"):
        picture(tmp_path / SPLIT / f"{name}.jpg", shade)
    texts = ["cat", "None", "cat;dog"]
    rows = [json.dumps({"file_name": f"{name}.jpg", "tags": text}) for name, text in zip("abc", texts, strict=True)]
    write(tmp_path / SPLIT / "metadata.jsonl", *rows)
    data = load_dataset(tmp_path)
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 0], [1, 1]])
    assert data.notes == ("1 line with 'None' for labels is a picture without a label",)


@pytest.mark.parametrize("mark", ["&", " and ", "_", "-", ":", ">", "@", "\t", "\u3001", "\uff0c", "\uff1b", "\u00d7"])
def test_any_mark_between_names_that_stand_alone_elsewhere_is_asked_for(tmp_path, mark):
    root = write_csv(tmp_path, "path,labels", f"a.jpg,cat{mark}dog", "b.jpg,cat", "c.jpg,dog")
    assert f"would split into 'cat', 'dog'; give --separator {'$' * (mark == chr(9))}" in refusal(root)
    check(load_dataset(root, separator=mark), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    whole = load_dataset(root, separator="none")
    assert set(whole.labels) == {"cat", "dog", f"cat{mark}dog"}


def test_a_list_that_shows_its_parts_is_not_split_further(tmp_path):
    root = write_csv(tmp_path, "path,labels", 'a.jpg,"[""hot dog""]"', 'b.jpg,"[""hot"", ""dog""]"', "c.jpg,[]")
    check(load_dataset(root), ["dog", "hot", "hot dog"], ["a.jpg", "b.jpg", "c.jpg"], [[0, 0, 1], [1, 1, 0], [0, 0, 0]])


def test_names_that_differ_in_what_cannot_be_seen_are_told(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat", "b.jpg,cat\u200b;dog", "c.jpg,dog")
    (note,) = load_dataset(root).notes
    assert "almost the same: 'cat' and 'cat\\u200b'" in note
