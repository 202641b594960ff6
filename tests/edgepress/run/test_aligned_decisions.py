"""Decisions of an INT8 bundle follow those of its parent."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.multilabel.bundle import Bundle, rewrite_bundle
from edgepress.run.aligned_decisions import align_decisions_to, split_logits


@pytest.fixture(scope="module")
def reference(onnx_bundle, splits) -> np.ndarray:
    return split_logits(onnx_bundle, splits.val)


def test_answers_that_are_all_higher_change_fewer_decisions_once_they_are_aligned(
    onnx_bundle, splits, reference, tmp_path
):
    fitted = fit_decisions(reference, splits.val, "f1", "platt")
    parent = Bundle.open(shutil.copytree(onnx_bundle.path, tmp_path / "onnx-fp32"))
    parent = rewrite_bundle(parent, parent.path, decisions=fitted)
    decisions, facts = align_decisions_to(parent, reference, reference + 8, splits.val)
    changed = facts.decisions
    theirs = fitted.decide(reference)
    assert changed.val_changed_refitted == (decisions.decide(reference + 8) != theirs).mean()
    assert changed.val_changed_kept == (fitted.decide(reference + 8) != theirs).mean()
    assert changed.val_changed_refitted < changed.val_changed_kept
    assert decisions.refitted_from == fitted


def test_nothing_is_aligned_where_nothing_was_fitted(onnx_bundle, splits, reference):
    assert onnx_bundle.manifest.decisions is None
    decisions, facts = align_decisions_to(onnx_bundle, reference, reference + 8, splits.val)
    assert (decisions, facts.decisions) == (None, None)
