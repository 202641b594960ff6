"""A teacher of other labels: adopted as it is, matched by name and by a map, refused before anything is trained."""

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
from edgepress.multilabel.metrics import average_precision

THEIRS = ("Red", "lawn", "Blue", "ring", "Bars")
"""What the teacher calls red, green, blue, circle and bars."""
MAP = "green: lawn\ncircle: null\n"
FLAGS = ("--backbone", "test_efficientnet", "--size", 32, "--width", 32, "--weights", "none", "--epochs", 1)


@pytest.fixture(scope="module")
def big(edgepress, run_folder, tiny_data, tmp_path_factory):
    """The run's own student, as an ONNX file whose labels have other names, adopted with these."""
    folder = tmp_path_factory.mktemp("adopted")
    shutil.copyfile(run_folder / "onnx-fp32" / "model.onnx", folder / "big.onnx")
    (folder / "tags.txt").write_text("\n".join(THEIRS))
    asked = (
        "adopt",
        folder / "big.onnx",
        "--data",
        tiny_data,
        "--labels",
        folder / "tags.txt",
        "--out",
        folder / "big",
    )
    refused = edgepress("--quiet", *asked)
    assert refused.code == 2
    assert "(adopt: --keep-labels; Python: keep_labels=True)" in refused.err
    answer = edgepress(*asked, "--keep-labels")
    assert answer.code == 0, answer.err
    assert "none of its labels has the name of one of the data set's" in answer.err
    assert Bundle.open(folder / "big").labels.names == THEIRS
    return folder / "big"


@pytest.fixture
def labels(tmp_path):
    (tmp_path / "map.yaml").write_text(MAP)
    return tmp_path / "map.yaml"


def test_labels_are_found_and_told_and_what_is_lacking_is_not_taught(edgepress, big, tiny_data, tmp_path, labels):
    settings = ("--teacher", big, "--teacher-labels", labels, "--teacher-weak", "keep", "--mld", 1, "--review-kd", 0)
    answer = edgepress("distill", tiny_data, *settings, *FLAGS, "--out", tmp_path / "student")
    assert answer.code == 0, answer.err
    told = (
        f"the teacher {big}: 4 of 5 labels are found, 3 by name but for case and separators (red = Red, blue = Blue, "
        f"bars = Bars), 1 by {labels}; it does not teach circle, which it lacks; 1 of its 5 labels are not used"
    )
    assert answer.err.count(told) == 1
    facts = Bundle.open(tmp_path / "student").manifest.facts
    assert facts.untaught == ("circle",)
    val = load_dataset(tiny_data, "val")
    with open_engine(big) as engine:
        own = average_precision(val.targets, predict_split(engine, val))
    assert facts.teacher_val_mAP == pytest.approx(np.delete(own, 3).mean(), abs=1e-6)


def test_a_run_measures_the_teacher_on_the_labels_that_it_has(edgepress, big, micro, tiny_data, tmp_path, labels):
    own = {"teacher": str(big), "teacher_labels": str(labels), "teacher_weak": "keep"}
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "engines": ["onnx-fp32"], **own}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    answer = edgepress("run", "--recipe", tmp_path / "recipe.yaml")
    assert answer.code in (0, 1), answer.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    row = report["engines"][0]
    test = load_dataset(tiny_data, "test")
    with open_engine(big) as engine:
        precision = average_precision(test.targets, predict_split(engine, test))
    assert row["mAP"] == pytest.approx(np.delete(precision, 3).mean())
    assert [one["AP"] is None for one in row["labels"]] == [False, False, False, True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grean: lawn", "'grean' is no label of the data set"),
        ("green: meadow", "'meadow', for 'green', is no label of the teacher"),
        ("green: lawn\ncircle: lawn", "'lawn' is mapped twice, to 'green' and to 'circle'"),
        ("red: null\ngreen: null\nblue: null\nbars: null", "none of its 5 labels"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "distill"])
def test_a_wrong_map_stops_every_verb_in_one_line(bad, big, micro, tiny_data, tmp_path, verb, text, words):
    (tmp_path / "map.yaml").write_text(text)
    own = ("--teacher", big, "--teacher-labels", tmp_path / "map.yaml")
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    arguments = {
        "run": ("--recipe", tmp_path / "recipe.yaml"),
        "distill": (tiny_data, "--out", tmp_path / "run", *FLAGS),
    }
    assert words in bad(verb, *arguments[verb], *own)
    assert {path.name for path in tmp_path.iterdir()} == {"map.yaml", "recipe.yaml"}


def test_as_many_maps_as_teachers(bad, big, tiny_data, tmp_path, labels):
    own = ("--teacher", big, "--teacher-labels", labels, "--teacher-labels", labels)
    line = bad("distill", tiny_data, "--out", tmp_path / "run", *FLAGS, *own)
    assert "teacher_labels: 2 maps of labels for 1 teachers; expected one for each" in line


def test_a_teacher_that_knows_a_label_too_badly_stops_if_asked(bad, edgepress, big, tiny_data, tmp_path):
    """Its blue is the data set's red: where that is no better than chance, the line says so and how to go on."""
    (tmp_path / "map.yaml").write_text("red: Blue\nblue: Red\ngreen: ring\ncircle: lawn\n")
    own = ("--teacher", big, "--teacher-labels", tmp_path / "map.yaml", "--mld", 1, "--review-kd", 0)
    line = bad("distill", tiny_data, "--out", tmp_path / "run", *FLAGS, *own, "--teacher-weak", "stop")
    assert "is at or below prevalence for" in line
    assert "set teacher_weak to mask" in line
    assert not (tmp_path / "run").exists()
    answer = edgepress("distill", tiny_data, "--out", tmp_path / "run", *FLAGS, *own)
    assert answer.code == 0, answer.err
    assert "at or below prevalence, not taught: " in answer.err
