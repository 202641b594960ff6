"""compare: same conditions for every method, test read with the epoch that val picked, and nothing done twice."""

from __future__ import annotations

import json

import pytest
import yaml

from compress.checkpoint import load_model
from edgepress.compare import summarise
from multilabel.bundle import Bundle
from multilabel.datasets import load_dataset
from multilabel.metrics import mean_average_precision


@pytest.fixture(scope="module")
def recipe(tiny_data, micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({"data": str(tiny_data), "out": str(folder / "run"), **micro}))
    return file


def test_it_compares_continues_and_appends(edgepress, recipe, tiny_data):
    import torch

    answer = edgepress("compare", "--recipe", recipe, "--methods", "alone,l2d", "--seeds", "0,1")
    assert answer.code == 0, answer.err
    record = json.loads((recipe.parent / "run" / "compare.json").read_text())
    assert [(row["method"], row["seed"]) for row in record["students"]] == [
        ("alone", 0),
        ("l2d", 0),
        ("alone", 1),
        ("l2d", 1),
    ]
    test = load_dataset(tiny_data, "test")
    row = record["students"][1]
    student = recipe.parent / "run" / "compare" / "l2d-seed0"
    model = load_model(student)
    images = torch.stack([torch.from_numpy(model.preprocess.load(path)) for path in test.paths])
    with torch.inference_mode():
        expected = mean_average_precision(test.targets, model.logits(images).numpy())
    assert row["test_mAP"] == pytest.approx(expected, abs=1e-6)
    assert row["weights"]["id"] == 1000

    before = {row["digest"] for row in record["students"]}
    answer = edgepress("compare", "--recipe", recipe, "--methods", "l2d,ours", "--seeds", "0")
    assert answer.code == 0, answer.err
    record = json.loads((recipe.parent / "run" / "compare.json").read_text())
    assert before < {row["digest"] for row in record["students"]}
    assert [row["method"] for row in record["methods"]] == ["alone", "l2d", "ours"]
    assert Bundle.open(student).digest == row["digest"]
    assert "ours" in answer.out


def test_an_unknown_method_is_named(edgepress, recipe):
    answer = edgepress("--quiet", "compare", "--recipe", recipe, "--methods", "alone,best")
    assert answer.code == 2
    assert "'best'" in answer.err
    assert "l2d" in answer.err


def test_mean_and_deviation_by_hand():
    students = [
        {"method": "a", "seed": seed, "test_mAP": value, "val_mAP": 0.5}
        for seed, value in enumerate((0.30, 0.32, 0.34))
    ]
    (row,) = summarise(students)
    assert row["test_mAP_points"] == pytest.approx(32.0)
    assert row["deviation"] == pytest.approx(2.0)
    assert summarise(students[:1])[0]["deviation"] is None
