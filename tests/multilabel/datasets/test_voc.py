"""Pascal VOC: what is read, in what order, and how each refusal reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset
from edgepress.multilabel.errors import InputError
from tests.multilabel.layouts import VOC, VOC_TARGETS, annotation, check, picture, refusal, write, write_voc


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
    assert "difficult is 'maybe': input should be 'ignore', 'positive' or 'negative'" in refusal(voc, difficult="maybe")
    picture(tmp_path / "d" / "test" / "cat" / "a.jpg")
    assert "difficult='positive' is for Pascal VOC" in refusal(tmp_path / "d", difficult="positive")


def test_the_lists_of_labels_do_not_need_annotations(tmp_path):
    year = write_voc(tmp_path / "VOC2012", graded=True)
    shutil.rmtree(year / "Annotations")
    np.testing.assert_array_equal(load_dataset(year, "test").targets, VOC_TARGETS)
    (year / "ImageSets" / "Main" / "dog_test.txt").unlink()
    assert "dog_test.txt: no such file, and no Annotations" in refusal(year)


def test_an_object_that_the_lists_deny_is_read_and_told(tmp_path):
    """Datumaro's export: labels of whole pictures in the lists, boxes in the annotations alone."""
    year = write_voc(tmp_path / "VOC2012", graded=True)
    assert load_dataset(year, "test").notes == ()
    write(year / "Annotations" / "000009.xml", annotation(("cat", 0), ("dog", 1), ("boat", 0)))
    dataset = load_dataset(year, "test")
    check(dataset, ["cat", "dog", "person"], ["000009.jpg", "000005.jpg", "000007.jpg"],
          [[1, 0, 0], *VOC_TARGETS[1:]], [[0, 1, 0], [0, 1, 0], [0, 0, 0]])  # fmt: skip
    assert dataset.notes == (
        "2 cells follow an object in Annotations/ where the label's list in ImageSets/ says less",
        "1 label of objects in Annotations/ has no list in ImageSets/, and is left out: boat (1 picture)",
    )


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
    write(year / "ImageSets" / "Main" / "my_train.txt", "000012", "000005")
    write(year / "ImageSets" / "Main" / "big_cat_my_train.txt", "000012 1", "000005 -1")
    dataset = load_dataset(year, "my_train")
    check(dataset, ["big_cat"], ["000012.PNG", "000005.jpg"], [[1], [0]])


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("ImageSets/Main/test.txt", "000009\n../x\n", "test.txt, line 2: the path '../x' leaves"),
        ("ImageSets/Main/test.txt", "/etc/passwd\n", "test.txt, line 1: the path '/etc/passwd' leaves"),
        ("ImageSets/Main/test.txt", "000099\n", "JPEGImages/000099: no such file, named by"),
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
        ("000009 -1\n000005 0\n", "dog_test.txt: no line for picture '000007', which the lists of other labels name"),
        ("000009 -1\n000012 1\n", "dog_test.txt, line 2: picture '000012' is not in test.txt"),
        ("000009 -1\n000009 1\n", "dog_test.txt, line 2: '000009' occurs twice (first on line 1)"),
    ],
)
def test_a_bad_list_of_a_label_is_refused_by_file_and_line(tmp_path, text, said):
    year = write_voc(tmp_path / "d", graded=True)
    (year / "ImageSets" / "Main" / "dog_test.txt").write_text(text)
    assert said in refusal(year)


def test_voc_years_splits_and_strange_labels(tmp_path):
    year = write_voc(tmp_path / "kit" / "VOC2007", graded=True)
    assert refusal(year, "val").endswith("a part of one is named as test[90%:]; splits here: test, train")
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


def test_a_label_list_whose_split_cannot_be_told_is_refused(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.jpg")
    write(tmp_path / "ImageSets" / "Main" / "tree_house_night.txt", "a 1")
    said = "tree_house_night.txt: holds values of a label, and its split may be 'house_night' or 'night'"
    assert said in refusal(tmp_path, "night")
    write(tmp_path / "ImageSets" / "Main" / "night.txt", "a")
    write(tmp_path / "ImageSets" / "Main" / "cat_night.txt", "a -1")
    check(load_dataset(tmp_path, "night"), ["cat", "tree_house"], ["a.jpg"], [[0, 1]])


def test_a_line_that_is_an_id_and_also_an_id_and_a_value_is_read_by_the_lists_name(tmp_path):
    for name in ("img", "img 1"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        write(tmp_path / "Annotations" / f"{name}.xml", annotation(("dock", 0)))
    main = tmp_path / "ImageSets" / "Main"
    write(main / "my_set.txt", "img 1")
    assert "my_set.txt, line 1: 'img 1' may be a picture, or a picture and a value" in refusal(tmp_path, "my_set")
    (main / "my_set.txt").unlink()
    write(main / "test.txt", "img")
    write(main / "boat_test.txt", "img 1")
    write(main / "dock_test.txt", "img -1")
    check(load_dataset(tmp_path, "test"), ["boat", "dock"], ["img.jpg"], [[1, 1]])


def test_an_id_is_no_other_id_in_another_case_and_a_value(tmp_path):
    """`IMG 0` was taken for `img` and 0 as well, and refused."""
    for name in ("img", "IMG 0"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        write(tmp_path / "Annotations" / f"{name}.xml", annotation(("dock" if name == "img" else "boat", 0)))
    write(tmp_path / "ImageSets" / "Main" / "set_1.txt", "IMG 0")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "img")
    check(load_dataset(tmp_path, "set_1"), ["boat", "dock"], ["IMG 0.jpg"], [[1, 0]])


def test_objects_are_found_in_any_xml_namespace(tmp_path):
    write(
        tmp_path / "Annotations/a.xml",
        annotation(("cat", 0), ("dog", 1)).replace("<annotation>", '<annotation xmlns="urn:x">'),
    )
    write(tmp_path / "Annotations/b.xml", annotation(("dog", 0)))
    write(tmp_path / "ImageSets/Main/train.txt", "a", "b")
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "JPEGImages" / name)
    check(load_dataset(tmp_path, "train"), ["cat", "dog"], ["a.jpg", "b.jpg"], [[1, 0], [0, 1]], [[0, 1], [0, 0]])


@pytest.mark.parametrize(("key", "score", "dogs"), [("confidence", "1.0", 1), ("score", "0", 0), ("score", "", 1)])
def test_the_score_of_an_object_says_whether_it_is_there(tmp_path, key, score, dogs):
    def scored(score: str) -> str:
        return f"<annotation><object><name>dog</name><{key}>{score}</{key}></object></annotation>"

    for shade, name in enumerate("ab"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg", shade)
    write(tmp_path / "Annotations" / "a.xml", scored(score))
    write(tmp_path / "Annotations" / "b.xml", annotation(("cat", 0), ("bird", 0)))
    data = load_dataset(tmp_path, "all")
    assert data.labels.names == ("bird", "cat", "dog")[: 2 + dogs]
    assert data.targets[0].tolist() == [0, 0, 1][: 2 + dogs]
    write(tmp_path / "Annotations" / "a.xml", scored("0.3"))
    assert "a.xml: object 1 ('dog'): score is '0.3'; expected 1 (yes), 0 (verified no)" in refusal(tmp_path, "all")


def test_lists_whose_names_differ_in_case_alone_are_no_two_splits(tmp_path):
    for shade, name in enumerate("ab"):
        picture(tmp_path / "JPEGImages" / f"{name}.jpg", shade)
        write(tmp_path / "Annotations" / f"{name}.xml", annotation((("cat", "dog")[shade], 0)))
    for name, one in (("train", "a"), ("Train", "b")):
        write(tmp_path / "ImageSets" / "Main" / f"{name}.txt", one)
    with pytest.raises(InputError, match="names the splits Train and train, which differ in case alone"):
        list_splits(tmp_path)


def test_attributes_of_objects_are_told_where_the_lists_say_the_labels(tmp_path):
    year = write_voc(tmp_path / "VOC2012", graded=True)
    told = "<attributes><attribute><name>rusty</name><value>1</value></attribute></attributes>"
    dog = f"<annotation><object><name>dog</name>{told}</object></annotation>"
    write(year / "Annotations" / "000007.xml", dog)
    data = load_dataset(year, "test")
    np.testing.assert_array_equal(data.targets, VOC_TARGETS)
    assert data.notes == ("attributes of objects are no labels, and are left out: rusty",)
    assert load_dataset(year, "train").notes == ()  # the picture is in the other split


@pytest.mark.parametrize("difficult", ["ignore", "positive", "negative"])
def test_an_object_to_be_ignored_is_unknown_where_a_list_denies_it(tmp_path, difficult):
    year = write_voc(tmp_path / "VOC2012", graded=True)
    write(year / "Annotations" / "000009.xml",
          "<annotation><object><name>dog</name><ignore>1</ignore></object></annotation>")  # fmt: skip
    data = load_dataset(year, "test", difficult=difficult)
    assert (data.targets[0].tolist(), data.ignore[0].tolist()) == ([0, 0, 0], [False, True, False])
