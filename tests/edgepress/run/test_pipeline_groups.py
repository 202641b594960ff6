"""A run whose data set has label groups: every stage learns, decides and reports by them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml

from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset

GROUPS = "one_of: [red, green]\nat_most_one_of: [circle, bars]\n"
COLOURS, SHAPES = ["red", "green"], ["circle", "bars"]


@pytest.fixture(scope="module")
def ran(edgepress, run_folder, micro, tiny_data, tmp_path_factory):
    """The folder of a run that begins with the teacher of the session's run, and what it printed."""
    folder = tmp_path_factory.mktemp("groups")
    data = shutil.copytree(tiny_data, folder / "data")
    (data / "labels.yaml").write_text(GROUPS)
    engines = ["onnx-fp32", "onnx-int8-onnxruntime"]
    given = {"data": str(data), "out": str(folder / "run"), "teacher": str(run_folder / "teacher")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**micro, **given, "engines": engines}))
    answer = edgepress("run", "--recipe", folder / "recipe.yaml")
    assert answer.code in (0, 1), answer.err
    return folder, answer


def test_it_says_that_labels_break_the_groups(ran):
    assert "labels break label groups (edgepress data lists the pictures)" in ran[1].err


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-int8-onnxruntime"])
def test_no_engine_contradicts_them(ran, name):
    bundle, test = Bundle.open(ran[0] / "run" / name), load_dataset(ran[0] / "data", "test")
    assert bundle.decisions.groups == test.groups
    with open_engine(bundle, unproven=True) as engine:
        answers = bundle.decisions.decide(predict_split(engine, test))
    one, most_one = (
        answers[:, [bundle.labels.index(label) for label in group]].sum(axis=1) for group in (COLOURS, SHAPES)
    )
    assert (one == 1).all()
    assert np.isin(most_one, (0, 1)).all()


def test_the_report_tells_each_groups_accuracy(ran):
    report = json.loads((ran[0] / "run" / "report.json").read_text())
    rows = [row for row in report["engines"] if row.get("verification")]
    assert [row["engine"] for row in rows] == ["onnx-fp32", "onnx-int8-onnxruntime"]
    for row in rows:
        groups = row["verification"]["groups"]
        assert [group["labels"] for group in groups] == [COLOURS, SHAPES]
        assert all(0 <= group["accuracy"] <= 1 for group in groups)
    html = (ran[0] / "run" / "report.html").read_text()
    assert "red, green" in html


def test_data_lists_the_pictures_and_does_not_send_to_itself(data, edgepress):
    (data / "labels.yaml").write_text(GROUPS)
    answer = edgepress("data", data)
    assert "several true: one of red, green" in answer.out
    assert "edgepress data lists" not in answer.out + answer.err
