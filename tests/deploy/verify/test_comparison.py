"""What is computed over parts of files is what is computed over whole arrays in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.deploy.verify.comparison import Comparison
from edgepress.deploy.verify.decision_gate import BOUNDS
from edgepress.multilabel import cells
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Affine, Decisions, Fit, Promise
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.labels import LabelSpace

PICTURES, LABELS = 120, 70
NAMES = tuple(f"l{column}" for column in range(LABELS))
SUMMED = ("mean_abs_diff", "sqnr_db")
"""Sums of floats, whose last digit depends on what was added first."""
GROUPS = LabelGroups.model_validate(
    {"one_of": [["l0", "l1", "l69"]], "at_most_one_of": [["l3", "l40"]], "implies": {"l5": ["l60"]}}
)


def decisions(kind: str) -> Decisions:
    plain = Decisions.plain(NAMES, [0.4] * LABELS, GROUPS if kind == "groups" else LabelGroups())
    if kind != "refitted":
        return plain
    promise = Promise(
        kind="recall", level=0.5, confidence=0.9, scope="each", method="m", counted=(9,) * LABELS, errors=(0,) * LABELS
    )
    fit = Fit(
        thresholds="recall=0.5@90%",
        probabilities="platt",
        split="val",
        fingerprint="0",
        pictures=9,
        positives=(9,) * LABELS,
        ece_before=0,
        ece_after=0,
        promise=promise,
    )
    moved = Affine(method="platt", slopes=(1.1,) * LABELS, offsets=(0.1,) * LABELS)
    return plain.model_copy(update={"refitted_from": plain, "calibrator": moved, "fit": fit})


def found(compared: Comparison) -> dict[str, Any]:
    return {
        "agreement": compared.agreement,
        "drop": compared.drop_interval,
        "gate": compared.gate(BOUNDS["int8"]),
        "promise": compared.promise_kept,
        "labels": compared.labels(),
        "by_frequency": compared.by_frequency(),
        "groups": compared.groups(),
        "f1": compared.f1(),
    }


@pytest.mark.parametrize("kind", ["plain", "groups", "refitted"])
def test_parts_of_files_are_worth_the_whole(kind, monkeypatch, tmp_path):
    monkeypatch.setattr("edgepress.deploy.verify.comparison.RESAMPLES", 40)
    rng = np.random.default_rng(0)
    targets = (rng.random((PICTURES, LABELS)) < 0.2).astype(np.uint8)
    ignore = rng.random(targets.shape) < 0.1
    reference = (3.0 * targets - 2 + rng.normal(size=targets.shape)).round(1).astype(np.float32)
    logits = reference + rng.normal(scale=0.3, size=targets.shape).astype(np.float32)
    data = MultiLabelDataset(
        root=Path("made"),
        split="test",
        labels=LabelSpace(NAMES),
        paths=[Path(str(row)) for row in range(PICTURES)],
        targets=targets,
        ignore=ignore,
    )
    whole = found(Comparison.on(data, logits, reference, decisions(kind)))
    monkeypatch.setattr(cells, "LARGE", 1)
    monkeypatch.setattr(cells, "_ROW_CELLS", 13 * LABELS)
    monkeypatch.setattr(cells, "_COLUMN_CELLS", 11 * PICTURES)
    compared = Comparison.on(data, logits, reference, decisions(kind), tmp_path)
    parts = found(compared)
    assert isinstance(compared.answers, np.memmap)
    assert isinstance(compared.scores, np.memmap) == (kind == "groups")
    before, after = whole.pop("agreement"), parts.pop("agreement")
    assert parts == whole
    for name, value in before.model_dump().items():
        assert getattr(after, name) == (pytest.approx(value, rel=1e-12) if name in SUMMED else value), name
    assert list(tmp_path.iterdir()) == []


def test_a_logit_that_is_not_finite_costs_its_own_labels_ap_alone(monkeypatch):
    rng = np.random.default_rng(1)
    targets = (rng.random((40, 7)) < 0.4).astype(np.uint8)
    reference = targets + rng.normal(size=targets.shape)
    logits = reference.copy()
    logits[3, 5] = np.nan
    names = NAMES[:7]
    data = MultiLabelDataset(
        root=Path("made"),
        split="test",
        labels=LabelSpace(names),
        paths=[Path(str(row)) for row in range(40)],
        targets=targets,
        ignore=np.zeros(targets.shape, bool),
    )
    monkeypatch.setattr(cells, "_COLUMN_CELLS", 3 * 40)
    compared = Comparison.on(data, logits, reference, Decisions.plain(names))
    assert np.flatnonzero(np.isnan(compared.precisions)).tolist() == [5]
    kept = [0, 1, 2, 3, 4, 6]
    np.testing.assert_array_equal(compared.precisions[kept], compared.reference_precisions[kept])
    assert (compared.agreement.not_finite, compared.agreement.mAP, compared.f1()) == (1, None, None)
