"""Tables: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import numpy as np
import pytest

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
    assert dataset.notes[-1] == "tables from which no split is read: notes.csv"


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
    assert load_dataset(root).notes == ("test.csv: columns that are no labels left out: cat",)
    write(root / "labels.txt", "sky", "cat", "dog")
    assert "test.csv, line 1: no column for label 'dog' of labels.txt" in refusal(root)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["path,cat", "a.jpg,2"], "test.csv, line 2: label 'cat' is '2'; expected 1, 0, or nothing or -1"),
        (["path,cat", "a.jpg,1", "a.jpg,0"], "line 3: label 'cat' of 'a.jpg' is 0, and 1 on line 2"),
        (["path,cat", "a.jpg"], "line 2: 1 cell; the header has 2"),
        (["path,cat", "z.jpg,1"], "z.jpg: no such file, named by"),
        (["path,cat", "z.jpg,1"], "looked for as it is written, in another case or Unicode form in "),
        (["path,cat", "../a.jpg,1"], "line 2: the path '../a.jpg' leaves"),
        (["path,cat", "/etc/hostname,1"], "line 2 (written as '/etc/hostname'); looked for by its last parts"),
        (["path,cat", "..\\a.jpg,1"], "line 2: the path '..\\\\a.jpg' leaves"),
        (["path,cat", ",1"], "line 2: the path '' leaves"),
        (["path,cat", 'a.jpg,"1'], "unexpected end of data"),
        (["path,cat", "a.jpg," + "1" * 200_000], "field larger than field limit"),
        (["path,cat"], "the split 'test' is empty"),
        (["path,cat,cat", "a.jpg,1,1"], "the column 'cat' occurs twice"),
        (["path,,cat", "a.jpg,1,1"], "column 2 has no name"),
        (["path", "a.jpg"], "no column beside path"),
        (["path,image,cat", "a.jpg,b.jpg,1"], "2 columns for the picture"),
        (["path,labels", "a.jpg,"], "no labels"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path, lines, said):
    message = refusal(write_csv(tmp_path, *lines))
    assert said in message
    assert str(tmp_path) in message


def test_tables_without_pictures_and_unknown_tables(tmp_path):
    root = write_csv(tmp_path, "path,cat", "a.jpg,1")
    assert refusal(root, "val").endswith("(no val.csv); a part of one is named as test[90%:]; splits here: test")
    write(root / "other.csv", "name,cat", "a,1")
    write(root / "third.csv", "name,cat", "none,1")
    assert list_splits(root) == ["other", "test"]  # the cells of `name` are pictures
    assert "third.csv, line 1: 0 columns for the picture among name, cat" in refusal(root, "third")
    write(root / "labels.txt", "sky")
    write(root / "test.csv", "path,labels", "a.jpg,sky|cat")
    assert "test.csv, line 2: label 'cat' is not in labels.txt" in refusal(root)
    (root / "test.csv").write_bytes(b"path,cat\n\x81.jpg,1\n")
    assert "test.csv, line 2: not UTF-8, UTF-16 or Windows-1252 text" in refusal(root, format="csv")


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


@pytest.mark.parametrize("column", ["is_valid", "evaluation", "fold", "patient_id", "PatientId", "split", "usage"])
def test_a_column_of_yes_and_no_that_is_named_like_no_label_is_refused_until_chosen(tmp_path, column):
    root = write_csv(tmp_path, f"path,cat,{column}", "a.jpg,1,0", "b.jpg,0,1", "c.jpg,1,0", split="table")
    message = refusal(root, "table")
    assert f"column {column!r}" in message
    assert f"--split-column '{column}'" in message
    assert "--label-columns 'cat'" in message
    chosen = {"split_column": column}
    assert list_splits(root, **chosen) == sorted([column, f"not {column}"])
    assert [path.name for path in load_dataset(root, column, **chosen).paths] == ["b.jpg"]
    assert load_dataset(root, "table", label_columns=("cat",)).labels.names == ("cat",)
    both = load_dataset(root, "table", label_columns=("cat", column))
    np.testing.assert_array_equal(both.targets, [[1, 0], [0, 1], [1, 0]])


def test_a_split_that_is_written_down_is_used(tmp_path):
    root = write_csv(tmp_path, "path,cat,where", "a.jpg,1,train", "b.jpg,0,val", "c.jpg,0,train", split="labels")
    assert list_splits(root) == ["train", "val"]
    check(load_dataset(root, "train"), ["cat"], ["a.jpg", "c.jpg"], [[1], [0]])
    assert refusal(root, "test").endswith("splits here: train, val")


def test_what_is_beside_labels_is_left_out_where_it_is_said(tmp_path):
    root = write_csv(
        tmp_path, ",Path,Sex,No Finding", "0,set/a.jpg,Male,1.0", "1,set/b.jpg,Female,", "2,set/c.jpg,Male,0"
    )
    assert "label 'Sex' is 'Male'" in (message := refusal(root))
    assert "if the labels are 'No Finding' alone: --label-columns 'No Finding'" in message
    read = load_dataset(root, label_columns="No Finding")
    check(read, ["No Finding"], ["a.jpg", "b.jpg", "c.jpg"], [[1], [0], [0]], [[0], [1], [0]])
    assert read.notes == (
        "test.csv: column 1 without a name left out",
        "3 names were read without their leading 'set', which is no folder here",
        "test.csv: columns that are no labels left out: Sex",
    )
    assert "no column 'Findings', which --label-columns names" in refusal(root, label_columns="Findings")
    assert "no column 'photo', which --picture-column names" in refusal(root, picture_column="photo", format="csv")


def test_a_table_in_utf_16_and_one_in_windows_1252_are_told(tmp_path):
    root = write_csv(tmp_path)
    text = "path,chien b\u00e2tard\na.jpg,1\nb.jpg,0\n"
    for encoding, said in (("utf-16", "read as UTF-16"), ("cp1252", "read as Windows-1252")):
        (root / "test.csv").write_bytes(text.encode(encoding))
        read = load_dataset(root)
        check(read, ["chien b\u00e2tard"], ["a.jpg", "b.jpg"], [[1], [0]])
        assert said in read.notes[0]


def test_rows_of_one_picture_are_united(tmp_path):
    root = write_csv(tmp_path, "image,label", "a.jpg,cat", "a.jpg,dog", "b.jpg,cat")
    read = load_dataset(root)
    check(read, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [1, 0]])
    assert read.notes == ("test.csv: 1 row names a picture again; the rows of one picture are united",)
    root = write_csv(tmp_path / "columns", "image,cat,dog", "a.jpg,1,", "a.jpg,,0", "b.jpg,0,0")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 0]])


@pytest.mark.parametrize(("column", "cell"), [("present", "0"), ("Confidence", "0.1"), ("is_positive", "no")])
def test_a_column_that_may_deny_a_rows_label_is_refused_until_told(tmp_path, column, cell):
    root = write_csv(tmp_path, f"path,label,{column}", "a.jpg,cat,1", f"a.jpg,dog,{cell}", "b.jpg,dog,1")
    said = refusal(root)
    assert f"column {column!r} holds {cell!r}, and may say whether a picture has the label in 'label'" in said
    assert "--label-columns label takes every row for a yes" in said
    check(load_dataset(root, label_columns="label"), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    write_csv(tmp_path, f"path,label,{column}", "a.jpg,cat,1", "b.jpg,dog,1")  # what is always yes denies nothing
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


@pytest.mark.parametrize("rows", [["1,0", "0,1", "1,1"], ["cat", "dog", "cat;dog"]])
def test_a_first_row_in_place_of_a_header_is_refused(tmp_path, rows):
    root = write_csv(tmp_path, *(f"{name},{row}" for name, row in zip("abc", rows, strict=True)))
    assert "line 1: 'a' is a picture, so a, " in refusal(root, format="csv")
    assert "is no header; expected the columns' names above the first row" in refusal(root)


def test_splits_that_differ_in_case_alone_are_refused(tmp_path):
    write_csv(tmp_path, "path,cat,split", "a.jpg,1,Train", "b.jpg,0,train", "c.jpg,1,val", split="all")
    assert "the column 'split' names the splits Train and train, which differ in case alone" in refusal(tmp_path)


@pytest.mark.parametrize("other", ["Fire truck", "fire-truck", "FIRE_TRUCK"])
def test_labels_that_are_almost_the_same_are_told(tmp_path, other):
    root = write_csv(tmp_path, f"path,fire_truck,{other},dog", "a.jpg,1,0,0", "b.jpg,0,1,1", "c.jpg,0,0,0")
    dataset = load_dataset(root)
    assert dataset.labels.names == ("fire_truck", other, "dog")
    (note,) = dataset.notes
    assert note.endswith(f"their names are almost the same: 'fire_truck' and {other!r}")


def test_columns_that_name_the_same_pictures_are_one(tmp_path):
    root = write_csv(tmp_path, "image_id,image_path,cat", "a,a.jpg,1", "b,b.jpg,0")
    data = load_dataset(root)
    check(data, ["cat"], ["a.jpg", "b.jpg"], [[1], [0]])
    assert data.notes == ("test.csv: columns that are no labels left out: image_path",)


def test_several_columns_may_each_name_a_label(tmp_path):
    root = write_csv(tmp_path, "file,label1,label2,label3", "a.jpg,boat,dock,", "b.jpg,dock,,", "c.jpg,,,")
    assert "if 'label1', 'label2' and 1 more do: --label-columns 'label1,label2,label3'" in refusal(root)
    data = load_dataset(root, label_columns="label1,label2,label3")
    check(data, ["boat", "dock"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [0, 1], [0, 0]])
    assert [str(value) for value in data.values] == ["empty: 1 cell, taken for no"]


@pytest.mark.parametrize("column", ["is_valid", "test", "subset"])
def test_a_column_of_yes_and_no_beside_a_list_may_be_the_split(tmp_path, column):
    root = write_csv(tmp_path, f"fname,labels,{column}", "a.jpg,cat;dog,True", "b.jpg,cat,False")
    message = refusal(root)
    assert f"column {column!r} holds yes and no, and is named like no label; --split-column {column!r}" in message
    assert set(list_splits(root, split_column=column)) == {column, f"not {column}"}
    assert load_dataset(root, label_columns="labels").notes == (
        f"test.csv: columns that are no labels left out: {column}",
    )


def test_a_split_column_with_an_empty_cell_is_refused(tmp_path):
    root = write_csv(tmp_path, "path,labels,split", "a.jpg,cat;dog,train", "b.jpg,cat,")
    assert "test.csv, line 3: the split column is empty" in refusal(root, "train")


@pytest.mark.parametrize("name", ["usage", "ml_use", "data_split", "Subset"])
def test_other_names_of_a_split_column(tmp_path, name):
    root = write_csv(
        tmp_path, f"path,cat,dog,{name}", "a.jpg,1,0,Training", "b.jpg,0,1,PublicTest", "c.jpg,1,1,Training"
    )
    assert list_splits(root) == ["PublicTest", "Training"]
    check(load_dataset(root, "Training"), ["cat", "dog"], ["a.jpg", "c.jpg"], [[1, 0], [1, 1]])


def test_quoted_names_in_a_cell_are_a_list(tmp_path):
    root = write_csv(tmp_path, "image_url,labels", "a.jpg,\"'cat','hot dog'\"", "b.jpg,\"'cat'\"", 'c.jpg,""')
    check(load_dataset(root), ["cat", "hot dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 0]])


def test_a_separator_that_occurs_nowhere_is_refused_where_another_does(tmp_path):
    root = write_csv(tmp_path, "path,labels", "a.jpg,cat dog", "b.jpg,cat", "c.jpg,dog")
    assert "--separator ';' occurs nowhere: give --separator ' '" in refusal(root, separator=";")
    check(load_dataset(root, separator=" "), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    assert "separator is '': expected what separates labels" in refusal(root, separator="")


@pytest.mark.parametrize(
    "column",
    ["width", "iscrowd", "difficult", "score", "total", "has_labels", "reviewed", "cat_pred", "a_conf", "sex"],
)
def test_a_column_that_says_nothing_of_the_content_is_no_label(tmp_path, column):
    root = write_csv(tmp_path, f"path,cat,{column}", "a.jpg,1,0", "b.jpg,0,1")
    assert f"column {column!r} holds yes and no, and is named like no label" in refusal(root)
    check(load_dataset(root, label_columns=f"cat,{column}"), ["cat", column], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


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


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_excel_may_name_the_separator_on_the_first_line(tmp_path, first):
    root = write_csv(tmp_path, first, "path;labels", "a.jpg;cat,dog", "b.jpg;cat")
    assert "commas would split into 'cat', 'dog'" in refusal(root)
    write_csv(tmp_path, first, "path;cat,dog;bird", "a.jpg;1;0", "b.jpg;0;x")
    assert "test.csv, line 4: label 'bird' is 'x'" in refusal(root)
    write_csv(tmp_path, first, "path;cat,dog;bird", "a.jpg;1;0", "b.jpg;0;1")
    check(load_dataset(root), ["cat,dog", "bird"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
@pytest.mark.parametrize("name", ["cat", "Kätzchen", "猫"])
def test_utf_16_with_and_without_its_mark(tmp_path, encoding, name):
    root = write_csv(tmp_path)
    (root / "test.csv").write_bytes(f"path,{name},dog\r\na.jpg,1,0\r\nb.jpg,0,1\r\n".encode(encoding))
    data = load_dataset(root)
    check(data, [name, "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]])
    assert data.notes == (f"test.csv: read as {encoding.upper()}",)


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


def test_advice_never_makes_a_label_of_what_is_named_like_none(tmp_path):
    root = write_csv(tmp_path, "path,cat,reviewed,cat_pred", "a.jpg,1,1,0", "b.jpg,0,1,1", "c.jpg,1,0,0")
    assert "--label-columns 'cat' leaves it (and cat_pred) out" in refusal(root)


@pytest.mark.parametrize(
    ("column", "yes", "no"),
    [
        ("is_true", "1", "0"),
        ("exclude", "0", "1"),
        ("agree", "yes", "no"),
        ("type", "positive", "negative"),
        ("seen", "+", "-"),
    ],
)
def test_a_column_of_answers_beside_a_row_for_each_label_may_deny_it(tmp_path, column, yes, no):
    rows = ["a.jpg,cat", "a.jpg,dog", "b.jpg,cat", "c.jpg,dog"]
    root = write_csv(tmp_path, f"image,label,{column}", *(f"{row},{no if row == 'a.jpg,dog' else yes}" for row in rows))
    assert f"column {column!r} holds {no!r}, and may say whether a picture has the label in 'label'" in refusal(root)
    data = load_dataset(root, label_columns="label")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    root = write_csv(tmp_path, f"image,label,{column}", *(f"{row},{yes}" for row in rows))
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])


def test_a_denial_far_below_the_rows_that_say_what_columns_are(tmp_path):
    rows = [f"{name}.jpg,{label},1" for _ in range(400) for name, label in (("a", "cat"), ("b", "dog"), ("c", "cat"))]
    root = write_csv(tmp_path, "image,label,present", *rows, "b.jpg,cat,0")
    assert "column 'present' holds '0', and may say whether a picture has the label" in refusal(root)


def test_a_row_number_beside_a_label_denies_nothing(tmp_path):
    root = write_csv(tmp_path, "No,image,label", "0,a.jpg,cat", "1,a.jpg,dog", "2,b.jpg,cat", "3,c.jpg,dog")
    check(load_dataset(root), ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("column", ["negative_labels", "labels_neg", "unsure", "ignore", "no_tags"])
def test_a_second_list_may_be_of_labels_that_are_absent(tmp_path, column):
    root = write_csv(tmp_path, f"image,labels,{column}", "a.jpg,cat,dog", "b.jpg,dog,cat", "c.jpg,cat;dog,")
    assert f"column {column!r} may list labels that a picture does not have, or that nobody knows" in refusal(root)
    data = load_dataset(root, label_columns="labels")
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0], [0, 1], [1, 1]])


def test_a_label_that_joins_the_names_of_others_is_told(tmp_path):
    root = write_csv(tmp_path, '"path","cat, dog",cat,dog', "a.jpg,1,0,0", "b.jpg,0,1,1", "c.jpg,0,0,1")
    said = ("read as labels of their own, though they join the names of others: cat, dog",)
    assert load_dataset(root).notes == said
    assert said[0] in load_dataset(root, label_columns='"cat, dog",cat').notes  # no label is the other part


@pytest.mark.parametrize("column", ["difficult", "iscrowd", "IsOccluded", "is_truncated", "IsGroupOf"])
def test_properties_of_boxes_and_numbers_beside_a_label_deny_nothing(tmp_path, column):
    rows = ["a.jpg,cat,0", "a.jpg,dog,1", "b.jpg,cat,0", "c.jpg,dog,1"]
    data = load_dataset(write_csv(tmp_path, f"image,label,{column}", *rows))
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 1], [1, 0], [0, 1]])
    assert f"test.csv: columns that are no labels left out: {column}" in data.notes


def test_yes_and_no_name_no_pictures_though_they_are_called_0_and_1(tmp_path):
    for shade in range(3):
        picture(tmp_path / "images" / f"{shade}.png", shade)
    write(tmp_path / "test.csv", "ID,cat,dog", "0,1,0", "1,0,0", "2,1,1")
    check(load_dataset(tmp_path), ["cat", "dog"], ["0.png", "1.png", "2.png"], [[1, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ("path,cat,dog,split", "a.jpg,x,1,train", "b.jpg,,0,test"),
            "labels.csv, line 2: label 'cat' is 'x'; expected",
        ),
        (
            ("path,tags,classes,split", "a.jpg,u,v,train", "b.jpg,u,w,test"),
            "may each list labels; --label-columns says",
        ),
        (
            ("path,cat,split,phase", "a.jpg,1,train,test", "b.jpg,0,test,train"),
            "may each name the split; --split-column",
        ),
        (("path,cat,split", "a.jpg,1,train", "b.jpg,0"), "labels.csv, line 3: 2 cells; the header has 3"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_table_that_cannot_be_read_is_not_told_as_a_missing_split(tmp_path, lines, said, split):
    assert said in refusal(write_csv(tmp_path, *lines, split="labels"), split)


def test_the_splits_of_a_table_are_known_though_its_labels_cannot_be_read(tmp_path):
    root = write_csv(tmp_path, "path,cat,split", "a.jpg,x,train", "b.jpg,,test", split="labels")
    assert list_splits(root) == ["test", "train"]
    assert refusal(root, "val").endswith("splits here: test, train")
    write(root / "labels.csv", "path,cat", "a.jpg,x")
    assert "label 'cat' is 'x'" in refusal(root, "val")
    (root / "labels.csv").rename(root / "train.csv")
    assert refusal(root, "val").endswith("splits here: train")
