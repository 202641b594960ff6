"""Plots that are files: well-formed SVG with a mark for each thing that it tells of, whatever the names hold."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.manifest import NodeNoise, Quantization
from edgepress.report import plots
from edgepress.report.figures import draw_sensitivity
from edgepress.report.plots import draw_reliability, draw_thresholds

SVG = "{http://www.w3.org/2000/svg}"


def marks(data: bytes) -> int:
    """How many marks stand in a file that must be XML; those of the legend are counted as well."""
    root = ElementTree.fromstring(data)  # noqa: S314 # we have just written it
    return sum("mark" in (one.get("class") or "").split() for one in root.iter())


@pytest.fixture(scope="module")
def pictures(tiny_data):
    return load_dataset(tiny_data, "test")


@pytest.fixture(scope="module")
def logits(pictures) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (2.0 * pictures.targets - 1 + rng.normal(0, 1.5, pictures.targets.shape)).astype(np.float32)


def test_reliability_has_a_mark_a_bin_and_a_label(pictures, logits):
    decisions = Decisions.plain(pictures.labels.names)
    drawn = draw_reliability(logits, decisions.probabilities(logits), pictures, "a<b>\x00")
    bins = marks(drawn) - len(pictures.labels.names) - 2
    assert bins > 2
    assert bins % 2 == 0  # as many of the sigmoid as calibrated: here both are one
    title = ElementTree.fromstring(drawn).find(f"{SVG}title")  # noqa: S314
    assert title is not None
    assert title.text == f"a<b> on test, {len(pictures)} pictures"


def test_thresholds_have_a_curve_and_two_marks_a_label(pictures, logits):
    drawn = draw_thresholds(Decisions.plain(pictures.labels.names), logits, pictures, "onnx-fp32")
    labels = len(pictures.labels.names)
    assert marks(drawn) == 2 * labels + 2
    assert drawn.count(b'class="thin"') == labels


def test_where_no_picture_shows_a_label_there_is_no_f1(pictures, logits):
    nothing = pictures.subset(np.flatnonzero(~pictures.targets.any(axis=1)))
    with pytest.raises(ValueError, match="F1 is not defined"):
        draw_thresholds(Decisions.plain(pictures.labels.names), logits[: len(nothing)], nothing, "onnx-fp32")


@pytest.mark.parametrize(
    ("target", "told"), [("onnxruntime", False), ("openvino", True), ("litert", True), ("ncnn", True)]
)
def test_whose_sensitivities_these_are_is_said(target, told):
    """Only ONNX Runtime is asked node by node."""
    nodes = (NodeNoise(node="/conv", sqnr=12.0, macs=0.5),)
    quantised = {"pictures": 8, "sha256": "", "split": "train", "method": "min-max", "products": 9}
    figure = draw_sensitivity("an-engine", Quantization(**quantised, target=target, sensitivity=nodes))
    assert figure is not None
    assert ("Measured in ONNX Runtime's INT8 graph" in figure.caption) is told


def test_of_very_many_labels_the_most_frequent_have_curves(pictures, logits, monkeypatch):
    monkeypatch.setattr(plots, "MOST_CURVES", 2)
    drawn = draw_thresholds(Decisions.plain(pictures.labels.names), logits, pictures, "onnx-fp32")
    assert drawn.count(b'class="thin"') == 2
    assert b"the 2 most frequent of 5 labels above" in drawn
