"""Pascal VOC, MS-COCO, NUS-WIDE, tables and folders: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multilabel.datasets import detect_format, list_splits, load_dataset
from multilabel.errors import InputError


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((6, 8, 3), shade, np.uint8))
    return path


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def refusal(root: Path, split: str = "test", **options) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset, labels, names, targets, ignore=None) -> None:
    assert dataset.labels.names == tuple(labels)
    assert [path.name for path in dataset.paths] == names
    assert all(path.is_file() for path in dataset.paths)
    assert (dataset.targets.dtype, dataset.ignore.dtype) == (np.uint8, bool)
    np.testing.assert_array_equal(dataset.targets, targets)
    np.testing.assert_array_equal(dataset.ignore, np.zeros_like(targets) if ignore is None else ignore)


# Pascal VOC


def annotation(*objects: tuple[str, int], part: str = "") -> str:
    inner = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult>{part}</object>" for name, hard in objects
    )
    return f"<annotation><filename>x.jpg</filename>{inner}</annotation>"


VOC = {
    "000005": annotation(("person", 0), ("dog", 1), ("person", 1), part="<part><name>head</name></part>"),
    "000007": annotation(("dog", 1), ("dog", 0)),
    "000009": annotation(),
    "000012": annotation(("cat", 0)),
}
VOC_SPLITS = {"train": ["000012"], "test": ["000009", "000005", "000007"]}
VOC_TARGETS = [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def write_voc(year: Path, *, graded: bool) -> Path:
    for shade, (name, text) in enumerate(VOC.items()):
        picture(year / "JPEGImages" / f"{name}.jpg", shade)
        write(year / "Annotations" / f"{name}.xml", text)
    main = year / "ImageSets" / "Main"
    for split, names in VOC_SPLITS.items():
        write(main / f"{split}.txt", *names)
    if graded:
        values = {"cat": {"000012": 1}, "dog": {"000005": 0, "000007": 1}, "person": {"000005": 1}}
        for label, known in values.items():
            for split, names in VOC_SPLITS.items():
                write(main / f"{label}_{split}.txt", *(f"{name} {known.get(name, -1):2d}" for name in names))
    return year


@pytest.fixture(params=[True, False], ids=["lists", "annotations"])
def voc(tmp_path, request) -> Path:
    return write_voc(tmp_path / "VOCdevkit" / "VOC2007", graded=request.param)


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("format", ["auto", "voc"])
def test_voc_is_read_in_the_lists_order_with_difficult_ignored(voc, format, above):
    root = voc.parent if above else voc
    names = ["000009.jpg", "000005.jpg", "000007.jpg"]
    dataset = load_dataset(root, "test", format=format)
    check(dataset, ["cat", "dog", "person"], names, VOC_TARGETS, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert list_splits(root) == ["test", "train"]
    assert load_dataset(root, "train").labels == dataset.labels


@pytest.mark.parametrize(("difficult", "dog"), [("positive", 1), ("negative", 0)])
def test_difficult_may_count_as_positive_or_negative(voc, difficult, dog):
    dataset = load_dataset(voc, "test", difficult=difficult)
    np.testing.assert_array_equal(dataset.targets, [[0, 0, 0], [0, dog, 1], [0, 1, 0]])
    assert not dataset.ignore.any()


def test_difficult_is_checked_and_never_dropped_in_silence(voc, tmp_path):
    assert "difficult is 'maybe'; expected one of ignore, positive, negative" in refusal(voc, difficult="maybe")
    picture(tmp_path / "d" / "test" / "cat" / "a.jpg")
    assert "difficult='positive' is for Pascal VOC" in refusal(tmp_path / "d", difficult="positive")


def test_the_lists_of_labels_are_believed_before_annotations_and_do_not_need_them(tmp_path):
    year = write_voc(tmp_path / "VOC2012", graded=True)
    shutil.rmtree(year / "Annotations")
    np.testing.assert_array_equal(load_dataset(year, "test").targets, VOC_TARGETS)
    (year / "ImageSets" / "Main" / "dog_test.txt").unlink()
    assert "dog_test.txt: no such file, and no Annotations" in refusal(year)


def test_voc_without_lists_is_one_split(tmp_path):
    year = write_voc(tmp_path / "d", graded=False)
    shutil.rmtree(year / "ImageSets")
    assert list_splits(year) == ["all"]
    targets = [[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]]
    check(load_dataset(year, "all", difficult="negative"), ["cat", "dog", "person"], [f"{n}.jpg" for n in VOC], targets)
    assert refusal(year).endswith("splits here: all")


def test_voc_takes_splits_and_labels_with_underscores_and_png(tmp_path):
    year = write_voc(tmp_path / "d", graded=False)
    (year / "JPEGImages" / "000012.jpg").rename(year / "JPEGImages" / "000012.PNG")
    write(year / "ImageSets" / "Main" / "my_train.txt", "000012")
    write(year / "ImageSets" / "Main" / "big_cat_my_train.txt", "000012 1")
    dataset = load_dataset(year, "my_train")
    check(dataset, ["big_cat"], ["000012.PNG"], [[1]])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("ImageSets/Main/test.txt", "000009\n000009\n", "test.txt, line 2: '000009' stands twice (first on line 1)"),
        ("ImageSets/Main/test.txt", "000009\n../x\n", "test.txt, line 2: the path '../x' leaves"),
        ("ImageSets/Main/test.txt", "/etc/passwd\n", "test.txt, line 1: the path '/etc/passwd' leaves"),
        ("ImageSets/Main/test.txt", "000099\n", "JPEGImages/000099.jpg: no such file, named by"),
        ("ImageSets/Main/test.txt", "\n", "the split 'test' is empty"),
        ("Annotations/000005.xml", "<annotation>", "000005.xml: not XML"),
        ("Annotations/000005.xml", "<a>\0</a>", "000005.xml: not XML"),
        ("Annotations/000005.xml", "<a><object><difficult>0</difficult></object></a>", "object 1 has no name"),
        ("Annotations/000005.xml", annotation(("dog", 7)), "object 1 ('dog') has difficult '7'"),
        ("Annotations/000005.xml", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "declares a DOCTYPE or an ENTITY"),
        ("Annotations/000005.xml", '<!doctype a [<!entity b "c">]><a/>', "declares a DOCTYPE or an ENTITY"),
        ("Annotations/000005.xml", "<a/>" + " " * (4 * 1024 * 1024), "000005.xml: more than 4,194,304 bytes"),
        ("Annotations/000005.xml", "<a>" * 300_000, "000005.xml: not XML"),
    ],
)
def test_what_is_wrong_in_a_voc_folder_is_named(tmp_path, file, text, said):
    year = write_voc(tmp_path / "d", graded=False)
    (year / file).write_text(text)
    message = refusal(year)
    assert said in message
    assert str(year) in message


BOMB = (
    '<!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><object><name>&i;</name></object></annotation>"
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037"])
def test_an_entity_bomb_is_refused_in_every_encoding(tmp_path, encoding):
    year = write_voc(tmp_path / "d", graded=False)
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    whole = (declared + BOMB).encode(encoding)
    for data in {whole, declared.encode() + BOMB.encode(encoding)}:
        (year / "Annotations" / "000005.xml").write_bytes(data)
        message = refusal(year)
        assert "000005.xml" in message
        assert any(said in message for said in ("DOCTYPE", "not XML", "not UTF-8")), message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("000009 -1\n000005 2\n000007 1\n", "dog_test.txt, line 2: '000005 2'; expected a picture id and 1, 0 or -1"),
        ("000009 -1\n000005\n", "dog_test.txt, line 2: '000005'; expected"),
        ("000009 -1\n000005 0\n", "dog_test.txt: no line for picture '000007', which test.txt names"),
        ("000009 -1\n000012 1\n", "dog_test.txt, line 2: picture '000012' is not in test.txt"),
        ("000009 -1\n000009 1\n", "dog_test.txt, line 2: '000009' stands twice (first on line 1)"),
    ],
)
def test_a_bad_list_of_a_label_is_refused_by_file_and_line(tmp_path, text, said):
    year = write_voc(tmp_path / "d", graded=True)
    (year / "ImageSets" / "Main" / "dog_test.txt").write_text(text)
    assert said in refusal(year)


def test_voc_years_splits_and_strange_labels(tmp_path):
    year = write_voc(tmp_path / "kit" / "VOC2007", graded=True)
    assert refusal(year, "val").endswith("no split 'val' (no ImageSets/Main/val.txt); splits here: test, train")
    for split in ("..", "a/b", "/etc", ""):
        assert "split" in refusal(year, split)
    (year / "ImageSets" / "Main" / "dog_test.txt").unlink()
    write(year / "Annotations" / "000009.xml", annotation(("sofa", 0)))
    assert "000009.xml: label 'sofa' has no list" in refusal(year)
    (year / "Annotations" / "000009.xml").unlink()
    assert "Annotations/000009.xml: no such file, named by" in refusal(year)
    write_voc(tmp_path / "kit" / "VOC2012", graded=False)
    assert "several years (VOC2007, VOC2012); give the folder of one" in refusal(tmp_path / "kit")
    assert load_dataset(tmp_path / "kit" / "VOC2012").labels.names == ("cat", "dog", "person")


# MS-COCO

CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
IMAGES = [{"id": 9, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}, {"id": 5, "file_name": "c.jpg"}]
ANNOTATIONS = [
    {"image_id": 2, "category_id": 17, "iscrowd": 0, "segmentation": [[1.0, 2.0]]},
    {"image_id": 5, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": [3]}},
    {"image_id": 2, "category_id": 17},
    {"image_id": 2, "category_id": 1},
]


def write_coco(root: Path, split: str = "val2017", folder: str = "val2017", **changed) -> Path:
    content = {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES} | changed
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for shade, name in enumerate("abc"):
        picture(root / folder / f"{name}.jpg", shade)
    return root


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "images"])
@pytest.mark.parametrize(("format", "split"), [("auto", "val2017"), ("coco", "val")])
def test_coco_is_read_with_crowds_and_pictures_without_labels(tmp_path, folder, format, split):
    dataset = load_dataset(write_coco(tmp_path, folder=folder), split, format=format)
    check(dataset, ["person", "cat", "toothbrush"], ["b.jpg", "a.jpg", "c.jpg"], [[0, 0, 0], [1, 1, 0], [1, 0, 0]])
    assert dataset.paths[0] == tmp_path / folder / "b.jpg"
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("coco", ["val2017"])


def test_a_short_name_of_a_coco_split_must_fit_one_file(tmp_path):
    write_coco(tmp_path, "val2014", "val2014")
    write_coco(tmp_path, "valminus2014", "val2014")
    assert len(load_dataset(tmp_path, "val")) == 3
    write_coco(tmp_path)
    assert "split 'val' may be val2014 or val2017; name one of them" in refusal(tmp_path, "val")
    write_coco(tmp_path, "val", "val")
    assert load_dataset(tmp_path, "val").paths[0] == tmp_path / "val" / "b.jpg"
    assert refusal(tmp_path, "test").endswith(
        "(no annotations/instances_test.json); splits here: val, val2014, val2017, valminus2014"
    )
    assert "split '../val'" in refusal(tmp_path, "../val")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"images": [*IMAGES, {"id": 7, "file_name": "z.jpg"}]}, "val2017/z.jpg: no such file, named by"),
        ({"images": [{"id": 7, "file_name": "../a.jpg"}]}, "images[0]: the path '../a.jpg' leaves"),
        ({"images": [{"id": 7, "file_name": "/etc/hostname"}]}, "images[0]: the path '/etc/hostname' leaves"),
        (
            {"images": [*IMAGES, {"id": 7, "file_name": "./a.jpg"}]},
            "images[3]: 'a.jpg' stands twice (first at images[1",
        ),
        ({"images": [IMAGES[0], IMAGES[1] | {"id": 9}]}, "images[1]: id 9 stands twice (first at images[0])"),
        ({"images": []}, "the split 'val2017' is empty"),
        ({"images": {"id": 1}}, "images is missing or no list"),
        ({"images": [3]}, "images[0]: id is 'None'"),
        ({"images": [{"id": 7}]}, "images[0]: file_name is 'None'; expected text"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, "images[0]: id is '[1]'; expected a whole number or text"),
        ({"annotations": [{"image_id": 77, "category_id": 1}]}, "annotations[0]: no picture has the id 77"),
        ({"annotations": [{"image_id": 2, "category_id": 3}]}, "annotations[0]: no category has the id 3"),
        ({"annotations": [{"image_id": 2, "category_id": True}]}, "annotations[0]: category_id is 'True'"),
        ({"annotations": None}, "annotations is missing or no list"),
        ({"categories": []}, "instances_val2017.json: no labels"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "cat"}]}, "instances_val2017.json: label 'cat' stands twice"),
        ({"categories": [*CATEGORIES, {"id": 1, "name": "dog"}]}, "a category id stands twice"),
    ],
)
def test_what_is_wrong_in_coco_is_named(tmp_path, changed, said):
    message = refusal(write_coco(tmp_path, **changed), "val2017")
    assert said in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("text", ["{", "[" * 200_000, "[]", "\xff", '{"a": ' + "9" * 5000 + "}"])
def test_coco_that_is_no_json_is_refused(tmp_path, text):
    write_coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_bytes(text.encode("latin-1"))
    assert "instances_val2017.json" in refusal(tmp_path, "val")


# NUS-WIDE

NUS = {
    "Train": {"pictures": ["actor\\0001_1.jpg", "dog\\0002_2.jpg"], "sky": "01", "animal": "01"},
    "Test": {"pictures": ["sky\\b.jpg", "actor\\a.jpg", "sky\\c.jpg"], "sky": "101", "animal": "001"},
}


def write_nus(root: Path, folder: str = "Flickr", labels: str = "TrainTestLabels") -> Path:
    write(root / "ConceptsList" / "Concepts81.txt", "sky", "animal")
    for split, rows in NUS.items():
        write(root / "ImageList" / f"{split}Imagelist.txt", *rows["pictures"])
        for concept in ("sky", "animal"):
            write(root / labels / f"Labels_{concept}_{split}.txt", *rows[concept])
        for name in rows["pictures"]:
            picture(root / folder / name.replace("\\", "/"))
    return root


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
        ("ImageList/TestImagelist.txt", "sky\\b.jpg\n..\\..\\x.jpg\n", "line 2: the path '../../x.jpg' leaves"),
        ("ImageList/TestImagelist.txt", "\\etc\\hostname\n", "line 1: the path '/etc/hostname' leaves"),
        ("ImageList/TestImagelist.txt", "sky\\b.jpg\nsky/b.jpg\n", "line 2: 'sky/b.jpg' stands twice"),
        ("ImageList/TestImagelist.txt", "sky\\z.jpg\n", "Flickr/sky/z.jpg: no such file, named by"),
        ("ImageList/TestImagelist.txt", "", "the split 'test' is empty"),
        ("ConceptsList/Concepts81.txt", "sky\nsea\n", "Labels_sea_Test.txt: no such file; expected 0 or 1 a line"),
        ("ConceptsList/Concepts81.txt", "sky\n/../../x\n", "leaves the data set's folder"),
        ("ConceptsList/Concepts81.txt", "sky\na/b\n", "expected a plain name"),
        ("ConceptsList/Concepts81.txt", "sky\nsky\n", "Concepts81.txt: label 'sky' stands twice"),
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
    assert refusal(root, "test").endswith("(no ImageList/TestImagelist.txt); splits here: train")
    (root / "ConceptsList" / "Concepts81.txt").unlink()
    assert "Concepts81.txt: cannot be read" in refusal(root, "train")


# Tables


def write_csv(root: Path, *lines: str, split: str = "test", folder: str = "") -> Path:
    write(root / f"{split}.csv", *lines)
    for shade, name in enumerate("abc"):
        picture(root / folder / f"{name}.jpg", shade)
    return root


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
    assert refusal(root, "val").endswith("no split 'val' (no val.csv); splits here: test")
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


# A folder a label


def test_folders_join_the_same_name_and_content_only(tmp_path):
    picture(tmp_path / "test" / "dog" / "a.jpg", 1)
    picture(tmp_path / "test" / "cat" / "a.jpg", 1)
    picture(tmp_path / "test" / "cat" / "b.png", 2)  # b.png: another content under one name
    picture(tmp_path / "test" / "dog" / "b.png", 3)
    picture(tmp_path / "test" / "dog" / "c.jpg", 1)  # a.jpg's content under another name
    picture(tmp_path / "train" / "emu" / "a.jpg", 1)
    picture(tmp_path / "test" / "loose.jpg", 1)
    picture(tmp_path / "test" / "dog" / "more" / "deep.jpg", 1)
    picture(tmp_path / "test" / ".hidden" / "x.jpg", 1)
    write(tmp_path / "test" / "dog" / "readme.txt", "no picture")
    dataset = load_dataset(tmp_path)
    names = ["a.jpg", "b.png", "b.png", "c.jpg"]
    check(dataset, ["cat", "dog", "emu"], names, [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert dataset.paths[0].parent.name == "cat"
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("folders", ["test", "train"])
    write(tmp_path / "labels.txt", "emu", "dog", "cat")
    assert load_dataset(tmp_path).labels.names == ("emu", "dog", "cat")
    write(tmp_path / "labels.txt", "emu", "cat")
    assert "label 'dog' is not in labels.txt" in refusal(tmp_path)


def test_folders_refuse_what_is_not_there(tmp_path):
    picture(tmp_path / "test" / "dog" / "a.jpg")
    (tmp_path / "val").mkdir()
    assert refusal(tmp_path, "train").endswith("splits here: test")
    assert "the split 'val' is empty" in refusal(tmp_path, "val")
    for split in ("..", "/etc", "test/dog"):
        assert f"split {split!r}" in refusal(tmp_path, split)
    (tmp_path / "test" / "cat").mkdir()
    (tmp_path / "test" / "cat" / "loop.jpg").symlink_to("loop.jpg")
    assert load_dataset(tmp_path).labels.names == ("cat", "dog")


# Which format


def test_the_most_specific_format_wins(tmp_path):
    root = tmp_path
    picture(root / "test" / "cat" / "a.jpg")
    assert detect_format(root) == "folders"
    write_csv(root, "path,labels", "a.jpg,cat")
    assert detect_format(root) == "csv"
    write(root / "labels.txt", "cat")
    assert detect_format(root) == "csv"  # labels.txt belongs to the table
    write(root / "test" / "metadata.jsonl", '{"file_name": "cat/a.jpg", "labels": ["cat"]}')
    assert detect_format(root) == "imagefolder"
    write_nus(root)
    assert detect_format(root) == "nuswide"
    write_coco(root)
    assert detect_format(root) == "coco"
    write_voc(root, graded=True)
    assert detect_format(root) == "voc"
    for format in ("voc", "coco", "nuswide", "imagefolder", "csv", "folders"):
        assert len(load_dataset(root, "val" if format == "coco" else "test", format=format)) >= 1


def test_what_is_no_data_set_is_told_what_was_looked_for(tmp_path):
    message = refusal(tmp_path)
    for said in ("not recognised as a data set", "JPEGImages", "annotations/instances_", "ImageList", "metadata.jsonl",
                 "<split>.csv", "<split>/<label>/"):  # fmt: skip
        assert said in message
    for format, said in {"voc": "JPEGImages", "coco": "instances_", "csv": "<split>.csv"}.items():
        assert f"not recognised as {format}; expected" in refusal(tmp_path, format=format)
        assert said in refusal(tmp_path, format=format)
    assert "expected one of auto, imagefolder, voc, coco, nuswide, csv, folders" in refusal(tmp_path, format="zip")
    write(tmp_path / "labels.txt", "cat")
    assert refusal(tmp_path).endswith("splits here: none")


@pytest.mark.parametrize("target", ["missing", "loop.jpg"])
def test_a_link_that_leads_nowhere_is_a_missing_picture(tmp_path, target):
    write(tmp_path / "test.csv", "path,cat", "loop.jpg,1")
    (tmp_path / "loop.jpg").symlink_to(target)
    assert "loop.jpg: no such file" in refusal(tmp_path)
