"""What is said of the data set beside a verdict: the sentences, and when there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepress.deploy.verify.cautions import label_checks, other_groups, weak_proof
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace


@pytest.fixture
def many(splits) -> MultiLabelDataset:
    """100 pictures of which each label has 20."""
    data = splits.test
    targets = np.tile(np.eye(len(data.labels), dtype=np.uint8), (20, 1))
    paths = [data.paths[row % len(data)] for row in range(len(targets))]
    return replace(data, paths=paths, targets=targets, ignore=np.zeros(targets.shape, bool))


def logits_of(data: MultiLabelDataset) -> np.ndarray:
    return np.random.default_rng(0).normal(size=data.targets.shape)


def test_enough_pictures_of_every_label_are_no_weak_proof(many):
    assert weak_proof(many, logits_of(many)) == ()


def test_few_pictures_and_labels_without_a_positive_or_a_negative_are_told(many):
    few = replace(many, paths=many.paths[:99], targets=many.targets[:99].copy(), ignore=many.ignore[:99])
    few.targets[:, 1], few.targets[:, 3] = 0, 1
    assert weak_proof(few, logits_of(few)) == (
        "only 99 pictures: with fewer than 100 a drop in mAP says little",
        f"1 of 5 labels have no positive picture and are not proven by mAP: {few.labels.names[1]}",
        f"1 of 5 labels have no negative picture and are not proven by mAP: {few.labels.names[3]}",
    )


def test_a_constant_logit_is_told_by_its_label(many):
    logits = logits_of(many)
    logits[:, 2] = 1.5
    (said,) = weak_proof(many, logits)
    assert many.labels.names[2] in said
    logits[0, 2] = np.nan  # the verdict speaks of that
    assert weak_proof(many, logits) == ()


def test_changed_cells_are_counted_by_picture(onnx_bundle, splits):
    data = splits.test
    assert label_checks(onnx_bundle, data, data.targets, data.ignore) == []
    targets, ignore = data.targets.copy(), data.ignore.copy()
    targets[2], ignore[2, 0], ignore[5, 1] = 1 - targets[2], True, True
    (reason,) = label_checks(onnx_bundle, data, targets, ignore)
    assert reason.kind == "labels"
    assert reason.text.startswith("the labels of 2 pictures have changed since the reference was made")


def test_another_order_counts_only_where_the_data_set_gives_one(onnx_bundle, splits, tmp_path):
    turned = LabelSpace(onnx_bundle.labels.names[::-1])
    data = replace(splits.test, labels=turned, root=tmp_path)
    assert label_checks(onnx_bundle, data, data.targets, data.ignore) == []
    (tmp_path / "labels.txt").write_text("\n".join(turned.names) + "\n")
    (reason,) = label_checks(onnx_bundle, data, data.targets, data.ignore)
    assert reason.text.startswith("the data set has the bundle's labels in another order")


def test_groups_that_the_bundle_lacks_are_told(onnx_bundle, splits):
    grouped = replace(splits.test, groups=LabelGroups(one_of=(("red", "green", "blue"),)))
    assert other_groups(onnx_bundle, splits.test) is None
    said = other_groups(onnx_bundle, grouped)
    assert said is not None
    assert said.startswith("the bundle has no label groups than the data set")
