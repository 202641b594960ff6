"""Tables: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write, write_csv


@pytest.mark.parametrize("column", ["path", "file", "file_name", "image", "filename"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("folder", ["", "test", "images"])
def test_a_table_with_a_column_a_label(tmp_path, column, mark, folder):
    rows = [["sky", column, "cat"], ["1", "b.jpg", "0"], ["-1", "a.jpg", ""], ["0.0", "c.jpg", "1.0"]]
    root = write_csv(tmp_path, *(mark.join(row) for row in rows), folder=folder)
    names = ["b.jpg", "a.jpg", "c.jpg"]
    check(load_dataset(root), ["sky", "cat"], names, [[1, 0], [0, 0], [0, 1]], [[0, 0], [1, 1], [0, 0]])
    assert (detect_format(root), list_splits(root)) == ("csv", ["test"])


@pytest.mark.parametrize("order", [None, ["sky", "dog", "cat"]])
@pytest.mark.parametrize("mark", [";", "|", " ; "])
def test_a_table_with_lists_of_labels(tmp_path, order, mark):
    root = write_csv(tmp_path, "path,width,labels", f"b.jpg,8,sky{mark}cat", "a.jpg,8,", "c.jpg,8,cat")
    write(root / "train.csv", "path,labels", "a.jpg,dog")
    write(root / "notes.csv", "a,b", "1,2")
    if order:
        write(root / "labels.txt", *order)
    dataset = load_dataset(root, format="csv" if mark == "|" else "auto")
    assert dataset.labels.names == tuple(order or ["cat", "dog", "sky"])
    hot = [{name for name, on in zip(dataset.labels, row, strict=True) if on} for row in dataset.targets]
    assert hot == [{"sky", "cat"}, set(), {"cat"}]
    assert load_dataset(root, "train").labels == dataset.labels
    assert list_splits(root) == ["test", "train"]


def test_a_list_in_json(tmp_path):
    root = write_csv(tmp_path, "path,labels", '"b.jpg","[""sky"", ""hot, dog""]"', "a.jpg,[]", 'c.jpg,"[""sky""]"')
    check(load_dataset(root), ["hot, dog", "sky"], ["b.jpg", "a.jpg", "c.jpg"], [[1, 1], [0, 0], [0, 1]])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,labels", 'a.jpg,"cat,dog"', "b.jpg,cat"], "label 'cat,dog', and no row has two: labels are separated"),
        (
            ["path,labels", "a.jpg,\"['cat', 'dog']\""],
            "test.csv, line 2: labels \"['cat', 'dog']\"; expected",
        ),
        (["path,labels", "a.jpg,[1]"], "test.csv, line 2: labels '[1]'; expected cat;dog, or a JSON list"),
        (["path,labels,split", "a.jpg,cat,test", "b.jpg,dog,val"], "line 3: split 'val' in the table of 'test'"),
    ],
)
def test_other_notations_are_no_labels(tmp_path, lines, said):
    assert said in refusal(write_csv(tmp_path, *lines))


def test_a_comma_is_part_of_a_name_where_lists_or_labels_txt_say_so(tmp_path):
    root = write_csv(tmp_path, "path,labels", 'b.jpg,"hot, dog;sky"', "a.jpg,sky")
    assert load_dataset(root).labels.names == ("hot, dog", "sky")
    root = write_csv(tmp_path / "named", "path,labels", 'b.jpg,"hot, dog"')
    write(root / "labels.txt", "hot, dog")
    assert load_dataset(root).labels.names == ("hot, dog",)


def test_quotes_a_byte_order_mark_windows_ends_and_empty_rows(tmp_path):
    root = write_csv(tmp_path)
    (root / "test.csv").write_bytes('\ufeff"path","big, cat","é"\r\n"b.jpg",1,0\r\n\r\n"a.jpg",0,x\r\n'.encode())
    assert "test.csv, line 4: label 'é' is 'x'; expected 1, 0" in refusal(root)
    (root / "test.csv").write_bytes('\ufeff"path","big, cat","é"\r\n"b.jpg",1,0\r\n\r\n"a.jpg",0,1\r\n'.encode())
    check(load_dataset(root), ["big, cat", "é"], ["b.jpg", "a.jpg"], [[1, 0], [0, 1]])


def test_columns_follow_labels_txt(tmp_path):
    root = write_csv(tmp_path, "path,cat,sky", "a.jpg,1,0")
    write(root / "labels.txt", "sky", "cat")
    check(load_dataset(root), ["sky", "cat"], ["a.jpg"], [[0, 1]])
    write(root / "labels.txt", "sky")
    assert "test.csv, header: label 'cat' is not in labels.txt" in refusal(root)
    write(root / "labels.txt", "sky", "cat", "dog")
    assert "test.csv: no column for label 'dog' of labels.txt" in refusal(root)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,cat", "a.jpg,2"], "test.csv, line 2: label 'cat' is '2'; expected 1, 0, or nothing or -1"),
        (["path,cat", "a.jpg,1", "a.jpg,0"], "line 3: 'a.jpg' stands twice (first on line 2)"),
        (["path,cat", "a.jpg"], "line 2: 1 cells; the header has 2"),
        (["path,cat", "z.jpg,1"], "z.jpg: no such file, named by"),
        (["path,cat", "../a.jpg,1"], "line 2: the path '../a.jpg' leaves"),
        (["path,cat", "/etc/hostname,1"], "line 2: the path '/etc/hostname' leaves"),
        (["path,cat", "..\\a.jpg,1"], "line 2: the path '..\\\\a.jpg' leaves"),
        (["path,cat", ",1"], "line 2: the path '' leaves"),
        (["path,cat", 'a.jpg,"1'], "unexpected end of data"),
        (["path,cat", "a.jpg," + "1" * 200_000], "field larger than field limit"),
        (["path,cat"], "the split 'test' is empty"),
        (["path,cat,cat", "a.jpg,1,1"], "the column 'cat' stands twice"),
        (["path,,cat", "a.jpg,1,1"], "column 2 has no name"),
        (["path", "a.jpg"], "no column beside 'path'"),
        (["path,image,cat", "a.jpg,a.jpg,1"], "2 columns for the picture"),
        (["path,labels", "a.jpg,"], "no labels"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path, lines, said):
    message = refusal(write_csv(tmp_path, *lines))
    assert said in message
    assert str(tmp_path) in message


def test_tables_without_pictures_and_unknown_tables(tmp_path):
    root = write_csv(tmp_path, "path,cat", "a.jpg,1")
    assert refusal(root, "val").endswith("(no val.csv); a part of one is named as train[90%:]; splits here: test")
    write(root / "other.csv", "name,cat", "a.jpg,1")
    assert "other.csv: 0 columns for the picture among name, cat" in refusal(root, "other")
    write(root / "labels.txt", "sky")
    write(root / "test.csv", "path,labels", "a.jpg,sky|cat")
    assert "test.csv, line 2: label 'cat' is not in labels.txt" in refusal(root)
    (root / "test.csv").write_bytes(b"path,cat\n\xff.jpg,1\n")
    assert "test.csv: not UTF-8" in refusal(root, format="csv")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for number in range(6):
        picture(root / f"{number}.jpg", number)
    return root


NAMES = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=",;|\t\"'"), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(NAMES.filter(lambda name: name not in ("path", "file", "file_name", "image", "filename", "labels")),
             min_size=1, max_size=4, unique=True),
    st.data(),
)  # fmt: skip
def test_columns_and_lists_say_the_same(many, names, data):
    """Any labels and any targets: one column a label and the list of labels give one data set."""
    rows = data.draw(
        st.lists(st.lists(st.booleans(), min_size=len(names), max_size=len(names)), min_size=1, max_size=6)
    )
    write(many / "labels.txt", *names)
    write(
        many / "a.csv",
        ",".join(["path", *names]),
        *(f"{i}.jpg,{','.join(str(int(on)) for on in row)}" for i, row in enumerate(rows)),
    )
    lists = (";".join(name for name, on in zip(names, row, strict=True) if on) for row in rows)
    write(many / "b.csv", "path,labels", *(f"{i}.jpg,{names}" for i, names in enumerate(lists)))
    columns, listed = load_dataset(many, "a"), load_dataset(many, "b")
    assert columns.labels.names == listed.labels.names == tuple(names)
    np.testing.assert_array_equal(columns.targets, np.array(rows, np.uint8))
    np.testing.assert_array_equal(columns.targets, listed.targets)
    assert columns.paths == listed.paths
