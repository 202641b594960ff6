"""compare: same conditions for every method, test read with the epoch that val picked, and nothing done twice."""

from __future__ import annotations

import json

import cv2
import numpy as np
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
    own = {"soft": {"mld": 2.0, "reduction": "mean"}}
    file.write_text(yaml.safe_dump({"data": str(tiny_data), "out": str(folder / "run"), "methods": own, **micro}))
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
    assert row["training"]["id"] == 1000
    trained = Bundle.open(student).manifest.facts["training"]
    alone = Bundle.open(student.with_name("alone-seed0")).manifest.facts["training"]
    differ = {name for name in trained if trained[name] != alone[name]}
    assert differ == {"preset", "reduction", "mld", "cd", "id"}  # not the published epochs, size or learning rate

    before = {row["digest"] for row in record["students"]}
    assert record["teacher_leads_points"] == pytest.approx(
        100 * Bundle.open(student).manifest.facts["teacher_val_mAP"] - record["methods"][0]["val_mAP_points"]
    )

    answer = edgepress("compare", "--recipe", recipe, "--methods", "l2d,ours,soft", "--seeds", "0")
    assert answer.code == 0, answer.err
    record = json.loads((recipe.parent / "run" / "compare.json").read_text())
    assert before < {row["digest"] for row in record["students"]}
    assert [row["method"] for row in record["methods"]] == ["alone", "l2d", "ours", "soft"]
    soft = record["students"][-1]["training"]
    assert (soft["mld"], soft["cd"], soft["id"], soft["reduction"], soft["preset"]) == (2.0, 0, 0, "mean", None)
    picture = cv2.imread(str(recipe.parent / "run" / "compare.png"))
    assert picture.shape[1] == 960
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # something is drawn
    assert Bundle.open(student).digest == row["digest"]
    assert "ours" in answer.out


def test_a_changed_method_does_not_stand_beside_its_older_self(edgepress, recipe, tmp_path):
    """Two seeds under one weight, then one seed under another: the row of the other seed is gone."""
    values = yaml.safe_load(recipe.read_text()) | {"out": str(tmp_path / "run")}
    file = tmp_path / "recipe.yaml"
    for weight, seeds, expected in ((2.0, "0,1", 2), (3.0, "0", 1)):
        values["methods"] = {"mine": {"mld": weight}}
        file.write_text(yaml.safe_dump(values))
        assert edgepress("compare", "--recipe", file, "--methods", "mine", "--seeds", seeds).code == 0
        record = json.loads((tmp_path / "run" / "compare.json").read_text())
        assert [row["training"]["mld"] for row in record["students"]] == [weight] * expected
        assert record["methods"][0]["seeds"] == expected


def test_a_method_s_unlabelled_pictures_are_not_those_of_test(edgepress, recipe, tiny_data, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {"more": {"mld": 1.0, "unlabelled": str(tiny_data / "test")}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", "alone,more")
    assert answer.code == 2
    assert "is unlabelled and stands in the split 'test' as well" in answer.err


@pytest.mark.parametrize(("name", "code"), [("mld", 2), ("mine", 0)])
def test_a_method_of_one_s_own_needs_a_name_of_its_own(edgepress, recipe, tmp_path, name, code):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {name: {"mld": 1.0}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", name)
    assert answer.code == code, answer.err
    assert ("preset's name already" in answer.err) == (code == 2)


def test_a_wrong_setting_of_one_s_own_method_is_named(edgepress, recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {"mine": {"mldd": 1.0}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", "alone,mine")
    assert answer.code == 2
    assert "method mine: unknown key 'mldd'" in answer.err


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
