"""What a report keeps of a model: AP a label with its interval, reliability, the answers that INT8 changed."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.decisions import Decisions
from edgepress.run.evidence import label_intervals, label_scores, reliability_bins
from edgepress.run.flips import MOST_PICTURES, THUMBNAIL, find_flips, name_of, shown_flips, thumbnail
from edgepress.run.result import EngineResult
from tests.edgepress.conftest import typed


@pytest.fixture(scope="module")
def pictures(tiny_data):
    return load_dataset(tiny_data, "test")


@pytest.fixture(scope="module")
def logits(pictures) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (2.0 * pictures.targets - 1 + rng.normal(0, 1.5, pictures.targets.shape)).astype(np.float32)


def test_ap_by_label_is_scikit_learns_and_lies_in_its_interval(pictures, logits):
    for column, row in enumerate(label_scores(logits, pictures)):
        expected = average_precision_score(pictures.targets[:, column], logits[:, column])
        assert pytest.approx(expected) == row.AP
        assert row.positives == pictures.targets[:, column].sum()
        low, high = row.interval
        assert 0 <= low <= row.AP <= high <= 1
        assert low < high


def test_an_interval_is_the_quantiles_of_resampled_aps(pictures, logits):
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(800):
        rows = rng.integers(0, len(pictures), len(pictures))
        if pictures.targets[rows, 0].any():
            drawn.append(average_precision_score(pictures.targets[rows, 0], logits[rows, 0]))
    expected = np.quantile(drawn, [0.025, 0.975])
    assert label_intervals(logits, pictures)[pictures.labels.names[0]] == pytest.approx(expected, abs=0.05)


def test_too_few_pictures_have_no_interval(pictures, logits):
    few = pictures.subset(np.arange(9))
    assert set(label_intervals(logits[:9], few).values()) == {None}


def test_reliability_counts_every_cell(pictures, logits):
    found = reliability_bins(Decisions.plain(pictures.labels.names), logits, pictures)
    for bins in (found.sigmoid, found.calibrated):
        assert sum(count for _, _, count in bins) == pictures.targets.size
        assert sum(share * count for _, share, count in bins) == pytest.approx(pictures.targets.sum())
    assert found.sigmoid == found.calibrated  # a plain sigmoid is what it was


def test_flips_are_the_cells_that_changed_the_surest_first(pictures):
    names = pictures.labels.names
    reference = np.full(pictures.targets.shape, -3.0, np.float32)
    engine = reference.copy()
    engine[4, 2], engine[7, 0], engine[7, 1] = 0.5, 4.0, 0.1
    found = find_flips(Decisions.plain(names), engine, reference, pictures)
    assert (found.decisions, found.flipped, found.pictures) == (60, 3, 2)
    assert [one.index for one in found.shown] == [7, 4]
    assert [flip.label for flip in found.shown[0].flips] == [names[0], names[1]]
    assert [name for name, _ in found.shown[0].after] == [names[0], names[1]]
    assert found.shown[0].before == ()
    assert found.shown[1].flips[0].after == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert found.right == pictures.targets[4, 2] + pictures.targets[7, 0] + pictures.targets[7, 1]
    none = find_flips(Decisions.plain(names), reference, reference, pictures)
    assert (none.flipped, none.shown) == (0, ())


def test_no_more_than_twelve_pictures_are_kept_and_each_is_a_small_jpeg(pictures):
    reference = np.full(pictures.targets.shape, -3.0, np.float32)
    found = find_flips(Decisions.plain(pictures.labels.names), -reference, reference, pictures)
    assert len(found.shown) == min(MOST_PICTURES, len(pictures))
    one = EngineResult(engine="x", precision="int8", flips=found.model_copy(update={"shown": found.shown[:1]}))
    shown = shown_flips(one, pictures)
    data = base64.b64decode(shown.shown[0].jpeg)
    assert data.startswith(b"\xff\xd8")
    assert max(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]) <= THUMBNAIL
    assert shown_flips(None, pictures) is None


def test_a_wide_picture_keeps_its_shape_and_odd_names_stay_text(tmp_path):
    data = base64.b64decode(thumbnail(np.zeros((10, 1920, 3), np.uint8)))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (1, 192, 3)
    assert name_of(tmp_path / "a" / "b.jpg", tmp_path) == "a/b.jpg"
    name_of(Path("/x/\udcff.jpg"), Path("/x")).encode()


def test_every_engine_of_the_run_keeps_its_evidence(report):
    for row in report["engines"]:
        if row["verdict"] in ("teacher", "reference") or row["precision"] == "int8":
            assert all(label["interval"][0] <= label["AP"] <= label["interval"][1] for label in row["labels"])
        if row["verdict"] not in ("teacher", "reference"):
            assert row["flips"]["flipped"] == round(row["flip_rate"] * row["flips"]["decisions"])
        assert (row["int8"] is not None) == (row["precision"] == "int8")
    assert [one["model"] for one in report["training"]] == ["teacher", "student"]
    assert report["training"][1]["terms"].keys() == {"asl", "review_kd"} or report["training"][1]["terms"]
    assert report["flips"]["engine"] == typed(report).telling.engine


# Plots and Markdown.
