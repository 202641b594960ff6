"""Tables: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, refusal, write, write_csv


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


@pytest.mark.parametrize("rows", [["1,0", "0,1", "1,1"], ["cat", "dog", "cat;dog"]])
def test_a_first_row_in_place_of_a_header_is_refused(tmp_path, rows):
    root = write_csv(tmp_path, *(f"{name},{row}" for name, row in zip("abc", rows, strict=True)))
    assert "line 1: 'a' is a picture, so a, " in refusal(root, format="csv")
    assert "is no header; expected the columns' names above the first row" in refusal(root)


@pytest.mark.parametrize("other", ["Fire truck", "fire-truck", "FIRE_TRUCK"])
def test_labels_that_are_almost_the_same_are_told(tmp_path, other):
    root = write_csv(tmp_path, f"path,fire_truck,{other},dog", "a.jpg,1,0,0", "b.jpg,0,1,1", "c.jpg,0,0,0")
    dataset = load_dataset(root)
    assert dataset.labels.names == ("fire_truck", other, "dog")
    (note,) = dataset.notes
    assert note.endswith(f"their names are almost the same: 'fire_truck' and {other!r}")


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


def test_a_label_that_joins_the_names_of_others_is_told(tmp_path):
    root = write_csv(tmp_path, '"path","cat, dog",cat,dog', "a.jpg,1,0,0", "b.jpg,0,1,1", "c.jpg,0,0,1")
    said = ("read as labels of their own, though they join the names of others: cat, dog",)
    assert load_dataset(root).notes == said
    assert said[0] in load_dataset(root, label_columns='"cat, dog",cat').notes  # no label is the other part


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


@pytest.mark.parametrize("column", ["label2", "label_2", "Tags 2", "secondary_label", "other_classes"])
def test_a_second_list_of_labels_is_not_left_out_by_itself(tmp_path, column):
    root = write_csv(tmp_path, f"image,label,{column}", "a.jpg,cat,dog", "b.jpg,dog,", "c.jpg,cow,cat")
    assert f"column {column!r} may list labels as well as 'label'" in (said := refusal(root))
    assert f"--label-columns 'label,{column}' reads them together" in said
    both = load_dataset(root, label_columns=f"label,{column}")
    check(both, ["cat", "cow", "dog"], ["a.jpg", "b.jpg", "c.jpg"], [[1, 0, 1], [0, 0, 1], [1, 1, 0]])
    assert load_dataset(root, label_columns="label").targets.sum() == 3


@pytest.mark.parametrize("options", [{}, {"label_columns": "labels"}])
def test_a_table_without_labels_leaves_the_others_readable(tmp_path, options):
    """As a competition's test.csv, which has every column of train.csv but the labels."""
    root = write_csv(tmp_path, "image,site,labels", "a.jpg,A,cat;dog", "b.jpg,B,dog", split="train")
    write(root / "test.csv", "image,site", "c.jpg,A")
    data = load_dataset(root, "train", **options)
    check(data, ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 1], [0, 1]])
    assert "tables from which no split is read: test.csv" in data.notes
    assert list_splits(root, **options) == ["train"]
    assert "test.csv" in refusal(root, "test", **options)


def test_lists_say_the_splits_of_a_table_beside_one_of_boxes_alone(tmp_path):
    """As NIH's ChestX-ray14 is published."""
    root = write_csv(
        tmp_path, "Image Index,Finding Labels", "a.jpg,Mass|Edema", "b.jpg,Edema", "c.jpg,Mass", split="entry"
    )
    write(root / "boxes.csv", "Image Index,Finding Label,Bbox", "a.jpg,Mass,3")
    write(root / "train_val_list.txt", "a.jpg", "b.jpg")
    write(root / "test_list.txt", "c.jpg")
    assert list_splits(root) == ["test", "train_val"]
    check(load_dataset(root, "test"), ["Edema", "Mass"], ["c.jpg"], [[0, 1]])


def test_a_table_with_the_same_columns_and_a_cell_that_cannot_be_read_is_refused(tmp_path):
    root = write_csv(tmp_path, "path,cat,dog", "a.jpg,1,0", "b.jpg,0,1", split="train")
    write(root / "val.csv", "path,cat,dog", "c.jpg,maybe,1")
    assert list_splits(root) == ["train", "val"]
    assert "label 'cat' is 'maybe'" in refusal(root, "val")
