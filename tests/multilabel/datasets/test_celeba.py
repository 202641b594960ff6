"""CelebA's attributes: a number, the labels, and 1 or -1 for each picture; splits in the partition."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

LABELS = ["5_o_Clock_Shadow", "Bald", "Wavy_Hair"]
ROWS = ["000001.jpg -1  1  1", "000002.jpg  1 -1 -1", "000003.jpg -1 -1  1", "000004.jpg -1 -1 -1"]
NAMES = [row.split()[0] for row in ROWS]


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(NAMES):
        picture(tmp_path / "img_align_celeba" / name, shade)
    write(tmp_path / "list_attr_celeba.txt", "4", f"{' '.join(LABELS)} ", *ROWS)
    write(tmp_path / "list_eval_partition.txt", *(f"{name} {split}" for name, split in zip(NAMES, "0012", strict=True)))
    write(tmp_path / "identity_CelebA.txt", *(f"{name} 28{number}" for number, name in enumerate(NAMES)))
    return tmp_path


def test_the_partition_is_the_splits_and_minus_one_is_a_no(root):
    assert (detect_format(root), list_splits(root)) == ("celeba", ["test", "train", "val"])
    data = load_dataset(root, "train")
    check(data, LABELS, NAMES[:2], [[0, 1, 1], [1, 0, 0]])
    assert data.notes == ("2 pictures were found by their names alone, in img_align_celeba/",)
    check(load_dataset(root, "test"), LABELS, NAMES[3:], [[0, 0, 0]])


def test_the_tables_may_lie_in_folders_as_they_are_downloaded(root):
    (root / "Anno").mkdir()
    (root / "Eval").mkdir()
    (root / "list_attr_celeba.txt").rename(root / "Anno" / "list_attr_celeba.txt")
    (root / "list_eval_partition.txt").rename(root / "Eval" / "list_eval_partition.txt")
    check(load_dataset(root, "val"), LABELS, NAMES[2:3], [[0, 0, 1]])


def test_kaggles_tables(root):
    for name in ("list_attr_celeba", "list_eval_partition"):
        (root / f"{name}.txt").unlink()
    write(root / "list_attr_celeba.csv", ",".join(["image_id", *LABELS]), *(",".join(row.split()) for row in ROWS))
    splits = zip(NAMES, "0001", strict=True)
    write(root / "list_eval_partition.csv", "image_id,partition", *(f"{name},{number}" for name, number in splits))
    write(root / "list_bbox_celeba.csv", "image_id,x_1", *(f"{name},95" for name in NAMES))
    assert (detect_format(root), list_splits(root)) == ("celeba", ["train", "val"])
    check(load_dataset(root, "val"), LABELS, NAMES[3:], [[0, 0, 0]])


def test_without_a_partition_there_is_one_split(root):
    (root / "list_eval_partition.txt").unlink()
    assert list_splits(root) == ["train"]
    assert len(load_dataset(root, "train")) == 4


TABLE, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
HEAD = ["4", " ".join(LABELS)]


@pytest.mark.parametrize(
    ("file", "lines", "said"),
    [
        (TABLE, ["5", *HEAD[1:], *ROWS], "4 pictures; line 1 says 5"),
        (TABLE, [*HEAD, *ROWS[:3], "000004.jpg 1 1"], "line 6: 2 values; line 2 names 3"),
        (TABLE, [*HEAD, *ROWS[:3], "000004.jpg 1 1 0"], "line 6: label 'Wavy_Hair' is '0'"),
        (TABLE, [*HEAD, *ROWS, ROWS[0]], "line 7: '000001.jpg' occurs twice (first on line 3)"),
        (PARTITION, ["000001.jpg 3"], "line 1: '000001.jpg 3'; expected a picture and 0, 1 or 2"),
        (PARTITION, [f"{NAMES[0]} 0", f"{NAMES[3]} 2"], "line 4: '000002.jpg' has no line in list_eval_partition"),
    ],
)
def test_what_is_wrong_is_named(root, file, lines, said):
    write(root / file, *lines)
    assert said in refusal(root, "test")
