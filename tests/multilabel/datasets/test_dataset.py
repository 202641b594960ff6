"""One split in memory: its parts, and what its fingerprint notices."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

ROWS = [
    {"file_name": "b.png", "labels": ["dog", "cat"]},
    {"file_name": "a.png", "labels": [], "ignore": ["sky"]},
    {"file_name": "more/c.png", "labels": ["sky"]},
]


@pytest.fixture
def root(tmp_path):
    """Three labels, three pictures in the split `test`."""
    root = tmp_path / "set"
    (root / "test" / "more").mkdir(parents=True)
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    for shade, row in enumerate(ROWS):
        cv2.imwrite(str(root / "test" / row["file_name"]), np.full((4, 4, 3), shade, np.uint8))
    write(root, ROWS)
    return root


def write(root, rows) -> None:
    (root / "test" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_subset_follows_its_indices(root):
    dataset = load_dataset(root)
    subset = dataset.subset(np.array([2, 0]))
    assert subset.paths == [dataset.paths[2], dataset.paths[0]]
    np.testing.assert_array_equal(subset.targets, dataset.targets[[2, 0]])
    np.testing.assert_array_equal(subset.ignore, dataset.ignore[[2, 0]])
    assert subset.hashes() == [dataset.hashes()[2], dataset.hashes()[0]]
    assert subset.labels == dataset.labels


def test_the_fingerprint_notices_every_change_and_nothing_else(root, tmp_path):
    before = load_dataset(root).fingerprint()
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    assert load_dataset(moved).fingerprint() == before
    root = moved
    seen = {before}

    def changed(what: str) -> None:
        now = load_dataset(root).fingerprint()
        assert now not in seen, what
        seen.add(now)

    write(root, [ROWS[0] | {"labels": ["dog"]}, *ROWS[1:]])
    changed("a label")
    write(root, [ROWS[0], ROWS[1] | {"ignore": []}, ROWS[2]])
    changed("the ignore mask")
    write(root, [ROWS[0], ROWS[1] | {"ignore": [], "labels": ["sky"]}, ROWS[2]])
    changed("ignored became positive")
    write(root, [ROWS[1], ROWS[0], ROWS[2]])
    changed("the order")
    write(root, ROWS[:2])
    changed("a picture less")
    write(root, ROWS)
    assert load_dataset(root).fingerprint() == before
    (root / "labels.txt").write_text("dog\ncat\nsky\nsea\n")
    changed("a label more")
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    file = root / "test" / "a.png"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    changed("one byte of a picture")


def test_labels_txt_orders_the_labels_that_are_left(root):
    data = load_dataset(root, no_label="cat")
    assert data.labels.names == ("dog", "sky")
    assert data.orders_labels
    with pytest.raises(InputError, match="same names, other order, first at 1: 'sky' against 'dog': give "):
        data.in_order_of(LabelSpace(("sky", "dog")), "the bundle", "the data set")
    assert not data.with_labels(LabelSpace(("sky", "dog"))).orders_labels
    (root / "labels.txt").unlink()
    assert not load_dataset(root, no_label="cat").orders_labels
