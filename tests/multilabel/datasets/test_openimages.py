"""Open Images' tables of image-level labels: a verified yes, a verified no, and what nobody has looked at."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

HEADER = "ImageID,Source,LabelName,Confidence"
ROWS = [
    "0001eeaf4aed83f9,verification,/m/0cmf2,1",
    "0001eeaf4aed83f9,verification,/m/019jd,0",
    "000595fe6fee6369,verification,/m/019jd,1",
    "0001eeaf4aed83f9,verification,/m/01bjv,0",
]
TEST = ["00a1,crowdsource-verification,/m/01bjv,1", "00a1,verification,/m/0cmf2,0"]


def table(root, split: str, *rows: str):
    return write(root / f"{split}-annotations-human-imagelabels.csv", HEADER, *rows)


@pytest.fixture
def root(tmp_path):
    table(tmp_path, "validation", *ROWS)
    table(tmp_path, "test", *TEST)
    write(tmp_path / "class-descriptions.csv", "/m/0cmf2,Airplane", "/m/019jd,Boat", '/m/01bjv,"Bus, coach"')
    for split, name in (("validation", "0001eeaf4aed83f9"), ("validation", "000595fe6fee6369"), ("test", "00a1")):
        picture(tmp_path / split / f"{name}.jpg", ord(name[-1]))
    return tmp_path


def test_a_verified_no_is_a_no_and_no_row_is_unknown(root):
    assert (detect_format(root), list_splits(root)) == ("openimages", ["test", "validation"])
    data = load_dataset(root, "validation")
    labels, names = ["Airplane", "Boat", "Bus, coach"], ["0001eeaf4aed83f9.jpg", "000595fe6fee6369.jpg"]
    check(data, labels, names, [[1, 0, 0], [0, 1, 0]], [[0, 0, 0], [1, 0, 1]])
    assert [str(value) for value in data.values] == [
        "Confidence 1: 2 cells, taken for yes", "Confidence 0: 2 cells, taken for no",
        "no row: 2 cells, taken for unknown"]  # fmt: skip
    check(load_dataset(root, "test"), labels, ["00a1.jpg"], [[0, 0, 1]], [[0, 1, 0]])


def test_the_codes_are_the_labels_where_nothing_describes_them(root):
    (root / "class-descriptions.csv").unlink()
    data = load_dataset(root, "validation")
    assert data.labels.names == ("/m/019jd", "/m/01bjv", "/m/0cmf2")
    np.testing.assert_array_equal(data.targets, [[0, 0, 1], [1, 0, 0]])


def test_the_table_of_verified_labels_is_read_among_several(root):
    write(root / "validation-annotations-machine-imagelabels.csv", HEADER, "0001eeaf4aed83f9,machine,/m/019jd,0.9")
    write(root / "validation-annotations-bbox.csv", f"{HEADER},XMin", "0001eeaf4aed83f9,xclick,/m/019jd,1,0.5")
    assert list_splits(root) == ["test", "validation"]
    data = load_dataset(root, "validation")
    np.testing.assert_array_equal(data.targets, [[1, 0, 0], [0, 1, 0]])
    beside = "validation-annotations-human-imagelabels.csv"
    assert data.notes == (f"validation-annotations-bbox.csv is not read beside {beside}",
                          f"validation-annotations-machine-imagelabels.csv is not read beside {beside}")  # fmt: skip


def test_the_tables_of_datumaro_lie_in_annotations(root):
    (root / "annotations").mkdir()
    for name in ("validation-annotations-human-imagelabels.csv", "class-descriptions.csv"):
        (root / name).rename(root / "annotations" / name)
    (root / "test-annotations-human-imagelabels.csv").unlink()
    assert (detect_format(root), list_splits(root)) == ("openimages", ["validation"])
    assert load_dataset(root, "validation").labels.names == ("Airplane", "Boat", "Bus, coach")


def test_fiftyones_download_has_a_folder_a_split(tmp_path):
    for split, rows in {"train": ROWS, "test": TEST}.items():
        write(tmp_path / split / "labels" / "classifications.csv", HEADER, *rows)
        write(tmp_path / split / "labels" / "detections.csv", f"{HEADER},XMin", "0001eeaf4aed83f9,x,/m/0cmf2,1,0.5")
        write(tmp_path / split / "metadata" / "classes.csv", "/m/0cmf2,Airplane", "/m/019jd,Boat", "/m/01bjv,Bus")
        for name in {row.split(",")[0] for row in rows}:
            picture(tmp_path / split / "data" / f"{name}.jpg", ord(name[-1]))
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("openimages", ["test", "train"])
    check(load_dataset(tmp_path, "test"), ["Airplane", "Boat", "Bus"], ["00a1.jpg"], [[0, 0, 1]], [[0, 1, 0]])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("000595fe6fee6369,machine,/m/0cmf2,0.8", "line 6: Confidence is '0.8'; expected 1 (yes) or 0 (verified no)"),
        ("0001eeaf4aed83f9,verification,/m/0cmf2,0", "label 'Airplane' of '0001eeaf4aed83f9' is both 0 and 1"),
        ("0000,verification,/m/0cmf2,1", "0000: no such file"),
    ],
)
def test_what_is_refused(root, row, said):
    table(root, "validation", *ROWS, row)
    assert said in refusal(root, "validation")


def test_a_code_that_nothing_describes_is_told(root):
    write(root / "class-descriptions.csv", "/m/0cmf2,Airplane", "/m/019jd,Boat")
    assert load_dataset(root, "validation").notes == (
        "codes without a name in class-descriptions, read as labels: /m/01bjv",
    )
