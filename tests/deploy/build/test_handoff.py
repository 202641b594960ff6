"""What the layouts share: one limit per label that decides as the bundle does, and labels that survive a split."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgepress.deploy.build.handoff import (
    SURE,
    model_info,
    new_folder,
    one_word,
    require_kind,
    require_single_answers,
    yes_above_zero,
)
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.decisions import SILENT, Affine, Decisions, Isotonic
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups

LABELS = ("a", "b", "c", "d")
PLATT = Affine(method="platt", slopes=(1.0, 0.5, 2.0, 1.5), offsets=(0.0, -0.7, 0.3, 1.0))
STEPS = Isotonic(
    slopes=(1.0, 1.0, 0.8, 1.0),
    offsets=(0.0, 0.2, 0.0, 0.0),
    weights=(0.0, 0.5, 0.9, 0.3),
    knots=((), ((-1.0, 0.1), (1.0, 0.6)), ((0.0, 0.2), (0.5, 0.9)), ((-2.0, 0.0), (2.0, 1.0))),
)


@pytest.mark.parametrize("calibrator", [PLATT, STEPS])
@pytest.mark.parametrize("thresholds", [(0.5, 0.11, 0.9, 0.3), (0.0, 1.0, SILENT, 0.02)])
def test_a_score_is_above_zero_where_the_bundle_says_yes(calibrator, thresholds):
    decisions = Decisions(labels=LABELS, thresholds=thresholds, calibrator=calibrator)
    logits = np.random.default_rng(0).normal(0, 4, (4000, 4))
    scale, offset = yes_above_zero(decisions)
    scores = logits * scale + offset
    sure = np.abs(scores) > 1e-9
    assert np.array_equal((scores >= 0)[sure], decisions.decide(logits)[sure])
    assert np.isfinite(scores).all()
    for column, threshold in enumerate(thresholds):
        if threshold == 0:
            assert (scores[:, column] == SURE).all()
        if threshold > 1:
            assert (scores[:, column] == -SURE).all()


def test_an_affine_score_is_the_log_odds_over_those_of_the_threshold():
    decisions = Decisions(labels=LABELS, thresholds=(0.5, 0.5, 0.5, 0.25), calibrator=PLATT)
    scale, offset = yes_above_zero(decisions)
    probabilities = decisions.probabilities(np.array([[0.4, -1.0, 2.0, 0.1]]))[0]
    scores = np.array([0.4, -1.0, 2.0, 0.1]) * scale + offset
    assert 1 / (1 + np.exp(-scores[:3])) == pytest.approx(probabilities[:3])
    assert scores[3] == pytest.approx(np.log(probabilities[3] / (1 - probabilities[3])) + np.log(3))


def test_labels_are_one_word_each_and_stay_apart():
    assert one_word(["hot dog", "hot_dog", "cat", "hot  dog"]) == ["hot_dog_2", "hot_dog", "cat", "hot_dog_3"]
    assert one_word(["a\tb", "c"]) == ["a_b", "c"]


def test_the_models_own_words_are_beside_them(onnx_bundle):
    told = model_info(onnx_bundle)
    assert told["labels"].split() == list(onnx_bundle.labels.names)
    assert json.loads(told["edgepress_labels"]) == list(onnx_bundle.labels.names)
    assert told["resize_type"] == "standard"
    boxed = onnx_bundle.preprocess.model_copy(update={"resize": "letterbox"})
    other = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"preprocess": boxed}), "")
    assert model_info(other)["resize_type"] == "fit_to_window_letterbox"
    assert (told["multilabel"], told["confidence_threshold"]) == ("True", "0.5")


def test_what_a_program_cannot_do_is_refused(onnx_bundle):
    with pytest.raises(InputError, match=r"a bundle of kind onnx, fp32; P serves openvino: int8; litert: fp32"):
        require_kind(onnx_bundle, "P", ("openvino", ("int8",)), ("litert", ("fp32",)))
    require_kind(onnx_bundle, "P", ("onnx", ("fp32",)))
    names = onnx_bundle.labels.names
    grouped = Decisions.plain(names, groups=LabelGroups(one_of=(names[:2],)))
    bundle = Bundle(onnx_bundle.path, onnx_bundle.manifest.model_copy(update={"decisions": grouped}), "")
    with pytest.raises(InputError, match=r"exclude or imply each other .*red, green.* and P decides each label alone"):
        require_single_answers(bundle, "P")
    require_single_answers(onnx_bundle, "P")


def test_a_folder_is_complete_or_absent(tmp_path):
    with pytest.raises(NotADirectoryError), new_folder(tmp_path / "out", "it") as folder:
        (folder / "half" / "x").write_text((folder / "half").write_text("x") * "x")
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "out", "it") as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with (
        pytest.raises(InputError, match="out: not an empty folder; name a new folder for it"),
        new_folder(tmp_path / "out", "it"),
    ):
        pass
