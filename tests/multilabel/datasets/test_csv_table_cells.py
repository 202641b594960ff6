"""Tables: what a cell says, as a value of a label or as a list of labels, and in which encoding."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, refusal, write, write_csv


def test_a_list_in_json(tmp_path):
    root = write_csv(tmp_path, "path,labels", '"b.jpg","[""sky"", ""hot, dog""]"', "a.jpg,[]", 'c.jpg,"[""sky""]"')
    check(load_dataset(root), ["hot, dog", "sky"], ["b.jpg", "a.jpg", "c.jpg"], [[1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ["path,labels", 'a.jpg,"cat,dog"', "b.jpg,cat"],
            "commas would split into 'cat', 'dog'; give --separator ','",
        ),
        (["path,labels", "a.jpg,{'cat': 1}"], "test.csv, line 2: labels \"{'cat': 1}\"; expected"),
        (["path,labels", "a.jpg,[1]"], "test.csv, line 2: labels '[1]'; expected cat;dog, or a JSON list"),
        (["path,labels", "a.jpg,cat dog", "b.jpg,cat", "c.jpg,dog"], "give --separator ' ' where a cell lists labels"),
    ],
)
def test_other_notations_are_no_labels(tmp_path, lines, said):
    assert said in refusal(write_csv(tmp_path, *lines))


def test_a_comma_is_part_of_a_name_where_lists_or_labels_txt_say_so(tmp_path):
    root = write_csv(tmp_path, "path,labels", 'b.jpg,"hot, dog;sky"', "a.jpg,sky")
    assert load_dataset(root).labels.names == ("hot, dog", "sky")
    root = write_csv(tmp_path / "named", "path,labels", 'b.jpg,"hot, dog"', "a.jpg,")
    write(root / "labels.txt", "hot, dog")
    assert load_dataset(root).labels.names == ("hot, dog",)


@pytest.mark.parametrize("separator", [" ", ",", "/", "+", "#"])
def test_a_list_is_split_as_it_is_said(tmp_path, separator):
    root = write_csv(tmp_path, "image;labels", f"a.jpg;cat{separator}dog", "b.jpg;cat", "c.jpg;dog")
    assert f"give --separator '{separator}'" in refusal(root)
    check(
        load_dataset(root, separator=separator), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]]
    )
    assert load_dataset(root, separator="none").labels.names == tuple(sorted(["cat", f"cat{separator}dog", "dog"]))
    write(root / "labels.txt", "cat", "dog")
    assert f"--separator '{separator}' reads it as cat, dog" in refusal(root)


@pytest.mark.parametrize(
    "cell",
    ["['cat', 'dog']", '"[""cat"", ""dog""]"', "['cat' 'dog']", "[cat, dog]", "('cat', 'dog')", "cat;dog", "cat|dog",
     '"{""choices"": [""cat"", ""dog""]}"', '"[{""rectanglelabels"": [""cat""]}, {""rectanglelabels"": [""dog""]}]"'],
)  # fmt: skip
def test_a_list_that_says_itself_what_its_parts_are(tmp_path, cell):
    root = write_csv(tmp_path, "image\tlabels", f"a.jpg\t{cell}", "b.jpg\tnan", "c.jpg\tcat")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 0], [1, 0]])


def test_minus_one_without_a_no_is_refused_until_told(tmp_path):
    root = write_csv(tmp_path, "path,cat,dog", "a.jpg,1,-1", "b.jpg,-1,1", "c.jpg,,1")
    message = refusal(root)
    assert "hold -1 and never 0: 1 in 3, -1 in 2, empty 1" in message
    assert "--values yes=1,no=-1" in message
    names = ["a.jpg", "b.jpg", "c.jpg"]
    targets = [[1, 0], [0, 1], [0, 1]]
    check(load_dataset(root, values="yes=1,no=-1"), ["cat", "dog"], names, targets, [[0, 0], [0, 0], [1, 0]])
    told = load_dataset(root, values="yes=1,unknown=-1,empty=no")
    check(told, ["cat", "dog"], names, targets, [[0, 1], [1, 0], [0, 0]])
    assert [(value.text, value.cells, value.meaning) for value in told.values] == [
        ("1", 3, "yes"),
        ("-1", 2, "unknown"),
        ("", 1, "no"),
    ]


def test_what_is_empty_may_be_told_alone(tmp_path):
    root = write_csv(tmp_path, "path,cat,dog", "a.jpg,1,-1", "b.jpg,,1", "c.jpg,0,")
    names = ["a.jpg", "b.jpg", "c.jpg"]
    check(load_dataset(root, values="empty=no"), ["cat", "dog"], names, [[1, 0], [0, 1], [0, 0]],
          [[0, 1], [0, 0], [0, 0]])  # fmt: skip
    write(root / "test.csv", "path,cat,dog", "a.jpg,1,-1", "b.jpg,,1", "c.jpg,-1,")
    assert "hold -1 and never 0" in refusal(root, values="empty=no")  # of -1 nothing is told


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("yes=1,maybe=2", "'maybe=2'; expected parts such as"),
        ("yes=1,no=1", "'1' is both yes and no"),
        ("no=0", "no value means yes"),
        ("yes", "values is 'yes': expected parts such as"),
    ],
)
def test_values_that_say_nothing_are_refused(tmp_path, values, said):
    assert said in refusal(write_csv(tmp_path, "path,cat", "a.jpg,1"), values=values)


def test_quoted_names_in_a_cell_are_a_list(tmp_path):
    root = write_csv(tmp_path, "image_url,labels", "a.jpg,\"'cat','hot dog'\"", "b.jpg,\"'cat'\"", 'c.jpg,""')
    check(load_dataset(root), ["cat", "hot dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 0]])


def test_a_separator_that_occurs_nowhere_is_refused_where_another_does(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat dog", "b.jpg,cat", "c.jpg,dog")
    assert "--separator ';' occurs nowhere: give --separator ' '" in refusal(root, separator=";")
    check(load_dataset(root, separator=" "), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    for empty in ({"separator": ""}, {"label_columns": ""}, {"no_label": ["cat", ""]}):
        assert "expected a value, and no empty text" in refusal(root, **empty)


@pytest.mark.parametrize("text", ["", "nan", "None", "null", "<NA>", "[]", "[nan]", "[None]"])
def test_one_definition_of_an_empty_cell_in_lists_and_in_columns(tmp_path, text):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat", f"b.jpg,{text}", "c.jpg,cat;dog")
    data = load_dataset(root)
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 0], [1, 1]])
    assert [str(value) for value in data.values] == [f"{text or 'empty'}: 1 cell, taken for no"]
    if "[" not in text:
        write_csv(tmp_path, "path,cat,dog", "a.jpg,1,0", f"b.jpg,0,{text}", "c.jpg,1,1")
        check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 0], [1, 1]],
              [[0, 0], [0, 1], [0, 0]])  # fmt: skip


def test_a_label_that_is_called_none_is_one_where_labels_txt_says_so(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat", "b.jpg,None")
    write(root / "labels.txt", "None", "cat")
    data = load_dataset(root)
    check(data, ["None", "cat"], ["a.jpg", "b.jpg"], [[0, 1], [1, 0]])
    assert data.values == ()


def test_whole_numbers_with_a_decimal_comma(tmp_path):
    root = write_csv(tmp_path, "path;cat;dog", "a.jpg;1,0;0,0", "b.jpg;0,00;1", "c.jpg;-1,0;")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [0, 0]],
          [[0, 0], [0, 0], [1, 1]])  # fmt: skip
    for text in ("1,5", "1,000", "0,1"):
        assert f"is {text!r}" in refusal(write_csv(tmp_path / text, "path;cat;dog", f"a.jpg;{text};0", "b.jpg;0;1"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("no=empty", "no=empty has its sides turned; write empty=no where empty cells mean no"),
        ("yes=1,unknown=Empty", "write empty=unknown where empty cells mean unknown"),
        ("1=yes,0=no", "1=yes has its sides turned; write yes=1 where '1' means yes"),
        ("-1=unknown", "write unknown=-1 where '-1' means unknown"),
    ],
)
def test_the_sides_of_a_value_are_not_turned(tmp_path, values, said):
    assert said in refusal(write_csv(tmp_path, "path,cat", "a.jpg,1", "b.jpg,"), values=values)


def test_numbers_as_numpy_writes_them(tmp_path):
    one, zero = "1.000000000000000000e+00", "0.000000000000000000e+00"
    root = write_csv(tmp_path, "path,cat,dog", f"a.jpg,{one},{zero}", f"b.jpg,{zero},1E0", "c.jpg,1,1")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [1, 1]])


def test_what_databases_export_for_an_unknown_value_is_an_empty_cell(tmp_path):
    root = write_csv(tmp_path, "path,labels", r"a.jpg,\N", "b.jpg,dog", split="train")
    check(load_dataset(root, "train"), ["dog"], ["a.jpg", "b.jpg"], [[0], [1]])
